"""What a person publishes: a payload becomes a record in the name of whoever types, and is sent."""

import getpass
import os
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

import pydantic

from agent import app as root
from agent.bus.port import Outgoing, RecordTooLarge
from agent.cli.common import Exit, fail
from agent.clock import Clock, SystemClock
from agent.settings import Settings
from contracts import envelope
from contracts.base import Payload
from contracts.codec import encode, task_id
from contracts.envelope import Envelope, MessageType
from contracts.tasks import Kind, Specification, TaskRequested

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


def request_for(document: bytes, *, service: str | None, media_type: str) -> TaskRequested:
    """The payload that carries a document. Ends with exit code 2 where it cannot be text in JSON."""
    try:
        content = document.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        fail(Exit.BAD_INPUT, f"the document is not UTF-8 (byte {exc.start})", "save it as UTF-8")
    return TaskRequested(
        kind=Kind.BUILD, service=service, specification=Specification(media_type=media_type, content=content)
    )


async def request(settings: Settings, payload: TaskRequested, *, idempotency_key: str | None = None) -> str:
    """Publish a request; returns the id of its task. Ends with exit code 2 where no record can hold the document."""
    attributes = Envelope(
        id=str(uuid4()),
        source=SOURCE,
        type=envelope.TASK_REQUESTED.wire,
        time=SystemClock().now(),
        idempotencykey=idempotency_key,
    )
    key = payload.service or attributes.id
    try:
        await send(settings, outgoing(envelope.TASK_REQUESTED, payload, key=key, attributes=attributes))
    except RecordTooLarge as exc:
        fail(
            Exit.BAD_INPUT,
            f"the document is too large for the bus: a {exc}, and at most {settings.kafka.max_request_bytes} are allowed",
            "raise BACKWRIGHT_KAFKA__MAX_REQUEST_BYTES, and max.message.bytes of the topic if the broker refuses it",
        )
    return task_id(*attributes.idempotency)


def media_type_of(path: Path) -> str:
    """By the file's ending; a hint, the content decides."""
    return "application/json" if path.suffix == ".json" else "application/yaml"


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
