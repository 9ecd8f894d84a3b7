"""What a person publishes: a payload becomes a record in the name of whoever types, and is sent."""

import getpass
import os
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import pydantic

from agent import app as root
from agent.bus.port import Outgoing
from agent.cli.common import Exit, fail
from agent.clock import Clock
from agent.settings import Settings
from contracts.base import Payload
from contracts.codec import encode
from contracts.envelope import Envelope, MessageType

P = TypeVar("P", bound=Payload)
SOURCE = "/backwright/cli"


async def send(settings: Settings, record: Outgoing) -> None:
    """Publish one record and wait for the acknowledgement. Raises BusUnavailable, RecordTooLarge."""
    producer = root.bus(settings).producer()
    await producer.start()
    try:
        await producer.send([record])
    finally:
        await producer.stop()


def command_record(message_type: MessageType, payload: Payload, *, about: str, clock: Clock) -> tuple[str, Outgoing]:
    """(event id, record) of a command about a task or a dead letter. Its source names the person, for the audit."""
    attributes = Envelope(
        id=str(uuid4()), source=f"{SOURCE}/{_person()}", type=message_type.wire, subject=about, time=clock.now()
    )
    return attributes.id, outgoing(message_type, payload, key=about, attributes=attributes)


def outgoing(message_type: MessageType, payload: Payload, *, key: str, attributes: Envelope) -> Outgoing:
    """The record of a message, under `key`."""
    encoded = encode(message_type, attributes, payload, key=key)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


def valid(model: type[P], **fields: Any) -> P:
    """A payload of what a person typed. Ends with exit code 2 where the contract does not allow it."""
    try:
        return model(**fields)
    except pydantic.ValidationError as exc:
        first = exc.errors(include_url=False, include_input=False)[0]
        fail(Exit.BAD_INPUT, f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _person() -> str:
    """Login name of whoever runs this; a container may have none, but it has a number."""
    try:
        return quote(getpass.getuser(), safe="")
    except (KeyError, OSError):
        return str(os.getuid())
