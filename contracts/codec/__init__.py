"""Bytes of Kafka ⇄ typed messages: a strict CloudEvents codec of our own.

The official SDK invents a missing `id`, which would break deduplication; it is the oracle of the tests instead.

Rules for editors: `decode` raises ContractError and nothing else, whatever the bytes are; a new refusal gets a code
in `refusals.REMEDIES`, and a row in tests/unit/contracts/test_refusals.py. The hot path does dictionary look-ups only:
what can be computed once stands in a table at module level.
"""

from contracts.codec.decoding import REQUIRED, SPEC_VERSION, Headers, Message, decode
from contracts.codec.encoding import (
    ATTRIBUTES,
    SEQUENCE_DIGITS,
    Encoded,
    attributes,
    encode,
    rfc3339,
    sequence_text,
    with_sequence,
)
from contracts.codec.identity import TASK_NAMESPACE, task_id
from contracts.codec.refusals import MAX_ATTRIBUTE_LENGTH, REMEDIES

__all__ = [
    "ATTRIBUTES",
    "MAX_ATTRIBUTE_LENGTH",
    "REMEDIES",
    "REQUIRED",
    "SEQUENCE_DIGITS",
    "SPEC_VERSION",
    "TASK_NAMESPACE",
    "Encoded",
    "Headers",
    "Message",
    "attributes",
    "decode",
    "encode",
    "rfc3339",
    "sequence_text",
    "task_id",
    "with_sequence",
]
