"""Bytes of Kafka ⇄ typed messages: a strict CloudEvents codec of our own.

The official SDK invents a missing `id`, which would break deduplication; it is the oracle of the tests instead.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from contracts.base import Payload
from contracts.envelope import Envelope, MessageType

Headers = Sequence[tuple[str, bytes | None]]
TASK_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/task")


@dataclass(frozen=True, slots=True)
class Message:
    """A decoded record: attributes, the row of the contract, the validated payload and its raw JSON bytes."""

    envelope: Envelope
    message_type: MessageType
    payload: Payload
    data: bytes


@dataclass(frozen=True, slots=True)
class Encoded:
    """What is handed to a producer; `topic` has no prefix yet."""

    topic: str
    key: bytes
    value: bytes
    headers: tuple[tuple[str, bytes], ...]


def task_id(source: str, key: str) -> str:
    """UUIDv5 of (source, idempotency key): the same request always has the same task id."""
    return str(uuid5(TASK_NAMESPACE, f"{len(source)}:{source}{key}"))


def decode(topic: str, headers: Headers, key: bytes | None, value: bytes | None) -> Message:
    """Decode a record of `topic` (without prefix) in binary or structured mode; bare origin shapes where allowed.

    Raises ContractError with a code, a place and a remedy.
    """
    raise NotImplementedError


def encode(message_type: MessageType, envelope: Envelope, data: Mapping[str, object] | Payload, *, key: str) -> Encoded:
    """Encode in binary mode: `ce_*` headers, `content-type`, JSON value. Deterministic for equal input."""
    raise NotImplementedError
