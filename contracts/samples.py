"""One valid record per message type: the source of contracts/examples, of tests and of documentation.

Ids and times are fixed, so that the files are the same on every machine. The request carries no correlation,
idempotency key or expiry: it can be sent again under a new id.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from contracts import codec
from contracts.base import Payload
from contracts.context import AnswerStatus, ContextAnswer, ContextQuery, Facet, Fact
from contracts.control import (
    CommandRefused,
    DeadLetterDiscard,
    DeadLetterReplay,
    OperatorActed,
    Outcome,
    TaskCancel,
    TaskReprioritise,
)
from contracts.delivery import (
    DeliveredService,
    Evidence,
    GateVerdict,
    OperationReport,
    ReadinessItem,
    TaskDelivered,
)
from contracts.envelope import (
    COMMAND_REFUSED,
    CONTEXT_ANSWER,
    CONTEXT_QUERY,
    DEAD_LETTER_DISCARD,
    DEAD_LETTER_REPLAY,
    OPERATOR_ACTED,
    TASK_CANCEL,
    TASK_DEAD_LETTERED,
    TASK_DELIVERED,
    TASK_REPRIORITISE,
    TASK_REQUESTED,
    TASK_STATUS,
    Envelope,
    MessageType,
)
from contracts.failures import OriginalRecord, TaskDeadLettered
from contracts.status import Budget, ErrorReport, Phase, Status, StepReport, TaskState, TaskStatus
from contracts.tasks import Specification, TaskRequested

REQUESTER = "/examples/team-shelf"
AGENT = "/backwright/agent"
REQUEST_ID = "7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c01"
TASK = codec.task_id(REQUESTER, REQUEST_ID)
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
DIGEST = "sha256:9f2b5c1de0f3a4b7c86d2e915f70ab3c4d5e6f708192a3b4c5d6e7f8091a2b3c"

# Small, but whole: one resource, its five operations, paging; nothing that a rule cannot derive.
DOCUMENT = """\
openapi: 3.1.0
info:
  title: Shelf
  version: 1.0.0
  description: The books of a small library.
security: []
paths:
  /books:
    get:
      operationId: listBooks
      summary: List books
      parameters:
        - {name: limit, in: query, schema: {type: integer, minimum: 1, maximum: 100, default: 20}}
        - {name: cursor, in: query, schema: {type: string}}
      responses:
        "200":
          description: A page of books
          content:
            application/json:
              schema: {$ref: "#/components/schemas/BookPage"}
        "422": {$ref: "#/components/responses/Problem"}
    post:
      operationId: createBook
      summary: Add a book
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/BookInput"}
      responses:
        "201":
          description: The new book
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Book"}
        "422": {$ref: "#/components/responses/Problem"}
  /books/{bookId}:
    parameters:
      - {name: bookId, in: path, required: true, schema: {type: string, format: uuid}}
    get:
      operationId: getBook
      summary: Read a book
      responses:
        "200":
          description: The book
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Book"}
        "404": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
    put:
      operationId: replaceBook
      summary: Replace a book
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: "#/components/schemas/BookInput"}
      responses:
        "200":
          description: The book as it is now
          content:
            application/json:
              schema: {$ref: "#/components/schemas/Book"}
        "404": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
    delete:
      operationId: deleteBook
      summary: Remove a book
      responses:
        "204": {description: The book is gone}
        "404": {$ref: "#/components/responses/Problem"}
        "422": {$ref: "#/components/responses/Problem"}
components:
  responses:
    Problem:
      description: What went wrong (RFC 9457)
      content:
        application/problem+json:
          schema: {$ref: "#/components/schemas/Problem"}
  schemas:
    BookInput:
      type: object
      required: [title, author]
      properties:
        title: {type: string, minLength: 1, maxLength: 200}
        author: {type: string, minLength: 1, maxLength: 200}
        pages: {type: integer, minimum: 1, maximum: 100000}
        lent: {type: boolean, default: false}
    Book:
      allOf:
        - {$ref: "#/components/schemas/BookInput"}
        - type: object
          required: [id]
          properties:
            id: {type: string, format: uuid, readOnly: true}
    BookPage:
      type: object
      required: [items]
      properties:
        items:
          type: array
          items: {$ref: "#/components/schemas/Book"}
        next_cursor: {type: [string, "null"]}
    Problem:
      type: object
      properties:
        type: {type: string}
        title: {type: string}
        status: {type: integer}
        detail: {type: string}
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """A record before encoding."""

    message_type: MessageType
    envelope: Envelope
    payload: Payload
    key: str


def samples() -> tuple[Sample, ...]:
    """One per message type, in the order of the table of types."""
    return (
        _request(), _cancel(), _reprioritise(), _replay(), _discard(), _status(), _refused(), _acted(), _delivered(),
        _dead_lettered(), _query(), _answer(),
    )  # fmt: skip


def _request() -> Sample:
    payload = TaskRequested(
        service="shelf", specification=Specification(media_type="application/yaml", content=DOCUMENT)
    )
    envelope = Envelope(REQUEST_ID, REQUESTER, TASK_REQUESTED.wire, subject="shelf", time=START)
    return Sample(TASK_REQUESTED, envelope, payload, "shelf")


def _cancel() -> Sample:
    payload = TaskCancel(task_id=TASK, reason="The document changes tomorrow.")
    envelope = Envelope(
        "7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c02", REQUESTER, TASK_CANCEL.wire, subject=TASK, time=_after(30)
    )
    return Sample(TASK_CANCEL, envelope, payload, TASK)


def _reprioritise() -> Sample:
    return _command("08", TASK_REPRIORITISE, TaskReprioritise(task_id=TASK, priority=9), TASK)


def _replay() -> Sample:
    payload = DeadLetterReplay(dead_letter_id=_LETTER_ID, reason="The database is back.")
    return _command("09", DEAD_LETTER_REPLAY, payload, _LETTER_ID)


def _discard() -> Sample:
    payload = DeadLetterDiscard(dead_letter_id=_LETTER_ID, reason="The sender has published it again.")
    return _command("10", DEAD_LETTER_DISCARD, payload, _LETTER_ID)


def _command(suffix: str, message_type: MessageType, payload: Payload, about: str) -> Sample:
    envelope = Envelope(REQUEST_ID[:-2] + suffix, REQUESTER, message_type.wire, subject=about, time=_after(30))
    return Sample(message_type, envelope, payload, about)


def _status() -> Sample:
    payload = TaskStatus(
        status=Status.DEVELOPING,
        phase=Phase.DEVELOP,
        completed=("Data models", "Business logic", "Auth layer"),
        pending=("Cache integration", "Queue setup", "Performance tuning"),
        task_id=TASK,
        service="shelf",
        attempt=1,
        sequence=7,
        state=TaskState.WORKING,
        step=StepReport(name="weave", state="finished", duration_s=0.8, done=4, total=18),
        budget=Budget(seconds_spent=3.2, seconds_limit=3600),
    )
    return Sample(TASK_STATUS, _caused("03", TASK_STATUS, 4, sequence=7), payload, TASK)


def _refused() -> Sample:
    payload = CommandRefused(
        task_id=TASK,
        command_id="7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c02",
        command="task.cancel",
        state="completed",
        reason="The task was delivered before the command came.",
    )
    return Sample(COMMAND_REFUSED, _caused("04", COMMAND_REFUSED, 61), payload, TASK)


def _acted() -> Sample:
    payload = OperatorActed(
        command_id="7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c10",
        command="dead_letter.discard",
        dead_letter_id=_LETTER_ID,
        outcome=Outcome.DISCARDED,
        reason="The sender has published it again.",
        who=REQUESTER,
        at=_after(31),
    )
    envelope = Envelope(REQUEST_ID[:-2] + "11", AGENT, OPERATOR_ACTED.wire, time=_after(31))
    return Sample(OPERATOR_ACTED, envelope, payload, _LETTER_ID)


def _delivered() -> Sample:
    payload = TaskDelivered(
        task_id=TASK,
        attempt=1,
        service=DeliveredService(
            name="shelf",
            target="python-fastapi",
            path="services/shelf",
            branch="main",
            commit="4f0c1d2e3b5a69788796a5b4c3d2e1f001122334",
            digest=DIGEST,
            features=("PostgreSQL persistence", "Keyset pagination"),
        ),
        summary="Service shelf (python-fastapi) lies in services/shelf: 5 of 5 operations derived, branch coverage 91.2 %, p95 12.4 ms at 50 requests/s.",
        evidence=(_load_evidence(),),
        readiness=(
            ReadinessItem(item="Load tests run", state="passed", evidence=("load",)),
            ReadinessItem(item="Images built", state="not performed", note="no container engine on this machine"),
        ),
        operations=(
            OperationReport(
                operation="listBooks", method="GET", path="/books", verdict="derived", rule="collection-list"
            ),
        ),
        assumptions=("The context manager did not answer within 5 s: one PostgreSQL database is assumed.",),
        start_command="backwright serve workspace/services/shelf",
    )
    return Sample(TASK_DELIVERED, _caused("05", TASK_DELIVERED, 60), payload, "shelf")


def _load_evidence() -> Evidence:
    return Evidence(
        gate="load",
        verdict=GateVerdict.PASS,
        value=12.4,
        unit="ms",
        threshold=100.0,
        summary="p95 12.4 ms at 50 requests/s for 10 s, no error",
        tool="backwright-load",
        tool_version="0.1.0",
        command=("backwright", "verify", "services/shelf"),
        exit_code=0,
        started_at=_after(45),
        duration_s=11.9,
        subject_digest=DIGEST,
        isolation="user nobody, loopback only, 4 GiB",
        details={"requests": 500, "errors": 0, "issued_percent": 100.0},
    )


def _dead_lettered() -> Sample:
    payload = TaskDeadLettered(
        dead_letter_id=_LETTER_ID,
        reason=ErrorReport(kind="permanent", code="payload.not_json", message="Invalid JSON: expected value"),
        original=OriginalRecord(
            topic="backend.tasks.v1",
            partition=2,
            offset=41,
            timestamp=START,
            key="c2hlbGY=",
            headers=(("content-type", "YXBwbGljYXRpb24vanNvbg=="),),
            value="bm90IGEgdGFzaw==",
            size_bytes=10,
            sha256=sha256(b"not a task").hexdigest(),
        ),
        code_version="0.1.0",
        dead_lettered_at=_after(1),
    )
    envelope = Envelope(_LETTER_ID, AGENT, TASK_DEAD_LETTERED.wire, time=_after(1))
    return Sample(TASK_DEAD_LETTERED, envelope, payload, "shelf")


def _query() -> Sample:
    payload = ContextQuery(query_id=_QUERY_ID, task_id=TASK, facets=tuple(Facet), deadline=_after(6))
    return Sample(CONTEXT_QUERY, _caused("06", CONTEXT_QUERY, 1), payload, _QUERY_ID)


def _answer() -> Sample:
    payload = ContextAnswer(
        query_id=_QUERY_ID,
        status=AnswerStatus.PARTIAL,
        facts=(
            Fact(
                facet=Facet.DATA_STORES,
                key="postgresql.version",
                value="18",
                source="facts.yaml",
                observed_at=START,
                confidence="high",
            ),
        ),
        missing=(Facet.API_GATEWAY, Facet.MESSAGE_BROKERS),
    )
    envelope = Envelope(
        "7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c07",
        "/backwright/context-manager",
        CONTEXT_ANSWER.wire,
        subject=_QUERY_ID,
        time=_after(2),
        correlationid=REQUEST_ID,
        causationid="7d9f2c7e-4b1a-4c55-9a53-0d2f6b8f1c06",
    )
    return Sample(CONTEXT_ANSWER, envelope, payload, _QUERY_ID)


_LETTER_ID = "0f6c9c0e-2b0d-5d6c-8a4f-6a1f3f1b7a10"
_QUERY_ID = codec.task_id(AGENT, f"context:{TASK}")


def _after(seconds: int) -> datetime:
    return START + timedelta(seconds=seconds)


def _caused(suffix: str, message_type: MessageType, seconds: int, *, sequence: int | None = None) -> Envelope:
    """Envelope of an event of ours that the request caused."""
    return Envelope(
        id=REQUEST_ID[:-2] + suffix,
        source=AGENT,
        type=message_type.wire,
        subject=TASK,
        time=_after(seconds),
        correlationid=REQUEST_ID,
        causationid=REQUEST_ID,
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        sequence=None if sequence is None else codec.sequence_text(sequence),
    )
