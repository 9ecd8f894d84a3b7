"""Requests of about 1 kB, as a sender makes them, and as the inbox stores them."""

import hashlib
from typing import Any
from uuid import uuid4

import orjson

from agent.bus.port import Outgoing
from agent.journal.port import NewTask, Origin
from contracts import topics
from contracts.codec import encode, task_id
from contracts.envelope import TASK_REQUESTED, Envelope

SOURCE = "/bench/sender"
CONTENT = "openapi: 3.1.0\ninfo: {title: Bench, version: 1.0.0}\npaths: {}\n" + "# padding of the document\n" * 33


def request(identity: str, **fields: Any) -> Outgoing:
    """A request for a service of its own, so that no ordering key holds another up."""
    service = f"s-{identity[:38]}"
    data = {"kind": "build", "service": service, "specification": {"content": CONTENT}, **fields}
    encoded = encode(TASK_REQUESTED, Envelope(id=identity, source=SOURCE, type=TASK_REQUESTED.wire), data, key=service)
    return Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)


def identity_of(request_id: str) -> str:
    """The task id that a sender knows beforehand."""
    return task_id(SOURCE, request_id)


def new_task(number: int) -> NewTask:
    """What the inbox makes of such a request, for journals without a bus."""
    request_id = f"{number}-{uuid4().hex[:20]}"
    given = request(request_id)
    origin = Origin(topics.TASKS.name, 0, number, 0, given.key, tuple(given.headers), given.value)
    return NewTask(
        task_id=identity_of(request_id), source=SOURCE, idempotency_key=request_id, kind="build",
        payload_digest=hashlib.sha256(given.value).hexdigest(), ordering_key=orjson.loads(given.value)["service"],
        request=given.value, attributes={"id": request_id, "source": SOURCE}, origin=origin,
    )  # fmt: skip
