"""The bus as the runtime sees it: records in by batch, records out acknowledged. Topic names carry no prefix here."""

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol


class Record(NamedTuple):
    """A consumed record, byte for byte. A named tuple like all that is made for each record: in half the time."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    topic_id: str = ""  # survives deletion and re-creation of a topic where the broker tells it


class Outgoing(NamedTuple):
    """A record to publish."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


class RecordTooLarge(Exception):
    """The broker will never take this record; sending it again is useless."""


class Consumer(Protocol):
    """One member of a group. Only runtime/inbox.py (and the context client and manager) touch it."""

    async def start(self) -> None:
        """Join the group. Raises BusUnavailable (nothing is left open then)."""

    async def poll(self, *, timeout_s: float) -> Sequence[Record]:
        """Up to a batch of records, in offset order per partition; empty after `timeout_s`.

        Raises BusUnavailable when the client is broken or stalled: the caller closes and makes a new consumer.
        """

    async def commit(self, records: Sequence[Record]) -> None:
        """Commit the offsets after `records`, explicitly, for partitions still assigned; a lost assignment is no error."""

    def pause(self, topics: Collection[str]) -> None:
        """Stop fetching these topics; survives rebalances until `resume`."""

    def resume(self, topics: Collection[str]) -> None:
        """Fetch them again."""

    def lag(self) -> Mapping[str, int]:
        """Records behind the high water, per topic, as last seen."""

    def health(self) -> "ConsumerHealth":
        """For readiness and metrics."""

    async def stop(self) -> None:
        """Leave the group. Never raises; bounded in time."""


@dataclass(frozen=True, slots=True)
class ConsumerHealth:
    """What probes look at."""

    joined: bool
    poll_age_s: float
    assigned_partitions: int


class Producer(Protocol):
    """Idempotent, acks=all."""

    async def start(self) -> None:
        """Connect. Raises BusUnavailable."""

    async def send(self, records: Sequence[Outgoing]) -> None:
        """Return once every record is acknowledged, order kept per key.

        Raises RecordTooLarge if the first unsent record can never be taken, BusUnavailable otherwise; in both cases a
        prefix of each topic and key may have been acknowledged, so a repeat must be harmless (event ids are fixed).
        """

    async def stop(self) -> None:
        """Flush and close. Never raises; bounded in time."""


class Bus(Protocol):
    """Factory of consumers and producers, and the topics' administrator."""

    def consumer(self, topics: Collection[str], *, group: str | None) -> Consumer:
        """A consumer of `topics`, `earliest` for a new group; `group=None` reads all partitions without a group."""

    def producer(self) -> Producer:
        """A new producer."""

    def ensure_topics(self) -> AsyncIterator[str]:
        """Create missing topics with their final partition count; yields one line per topic. Raises BusUnavailable."""

    async def check_topics(self) -> Sequence[str]:
        """Faults of the topics as they are (missing, partitions, retention); empty if all is well. Raises BusUnavailable."""
