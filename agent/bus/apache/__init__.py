"""Apache Kafka of our own, from its published jars on the Java that is present (44 MB, fetched once).

For the demo (`BROKER=kafka`) and for tests that the mock broker cannot carry: groups of several members, faults of the
broker, TLS and SCRAM. `jars` gets what is needed, `broker` runs it. It ends with us, whatever ends us.
"""

from agent.bus.apache.broker import LocalKafka, SecureAccess
from agent.bus.apache.jars import pinned_version

__all__ = ["LocalKafka", "SecureAccess", "pinned_version"]
