"""An embedded context manager: answers context queries on the bus from a file of facts.

The file (YAML or JSON) maps a facet to its facts, either `key: value` or a list of `{key, value, source, …}`:

    data_stores:
      orders-db: {engine: PostgreSQL, version: "17"}
    auth_providers:
      - {key: issuer, value: "https://login.example.org", confidence: high}

It is read again for each query, so an edit counts at once. What it does not say is answered as unknown.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import structlog
import yaml
from pydantic import ValidationError

from agent.bus.port import Bus, Consumer, Outgoing, Producer, Record
from agent.clock import Clock, SystemClock
from agent.errors import BusUnavailable, EnvironmentUnfit
from contracts import codec
from contracts.context import AnswerStatus, ContextAnswer, ContextQuery, Facet, Fact
from contracts.envelope import CONTEXT_ANSWER, Envelope
from contracts.errors import ContractError
from contracts.topics import CONTEXT_QUERIES

log = structlog.get_logger()
GROUP = "backwright-context-manager"
SOURCE = "/backwright/context-manager"
POLL_S = 0.5
RECONNECT_S = 2.0
MAX_FILE_BYTES = 1024**2
MAX_REMEMBERED = 10_000  # answered ids; an older query that comes again gets the same answer under the same event id
_NAMESPACE = uuid5(NAMESPACE_URL, "https://backwright.dev/context")


class FactsUnreadable(Exception):
    """The facts file is missing or is not what it should be; the text says where."""


class ContextManager:
    """Answers each query once per id until it is told to stop."""

    def __init__(self, bus: Bus, facts_file: Path | None, *, group: str = GROUP, clock: Clock | None = None) -> None:
        self._bus = bus
        self._facts_file = facts_file
        self._group = group
        self._clock = clock or SystemClock()
        self._answered: OrderedDict[str, None] = OrderedDict()

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`. Raises EnvironmentUnfit at the start if the facts file cannot be read."""
        try:
            read_facts(self._facts_file)
        except FactsUnreadable as exc:
            raise EnvironmentUnfit(str(exc), remedy="mend the file, or start without one") from exc
        while not stop.is_set():
            try:
                await self._serve(stop)
            except BusUnavailable as exc:
                log.warning("context_manager.disconnected", error=str(exc), retry_after_s=RECONNECT_S)
                await self._pause(stop)

    async def _serve(self, stop: asyncio.Event) -> None:
        consumer = self._bus.consumer([CONTEXT_QUERIES.name], group=self._group)
        producer = self._bus.producer()
        try:
            await producer.start()
            await consumer.start()
            await self._answer_until(stop, consumer, producer)
        finally:
            await consumer.stop()
            await producer.stop()

    async def _answer_until(self, stop: asyncio.Event, consumer: Consumer, producer: Producer) -> None:
        while not stop.is_set():
            records = await consumer.poll(timeout_s=POLL_S)
            if not records:
                continue
            answers = dict(answer for record in records if (answer := self._answer(record)) is not None)
            await producer.send(list(answers.values()))
            # Commit and remember after the acknowledgement: a repeated answer is harmless, a lost one is not.
            await consumer.commit(records)
            for identity in answers:
                self._remember(identity)

    def _answer(self, record: Record) -> tuple[str, Outgoing] | None:
        """The record that answers `record`; None if it is no query or has its answer already."""
        try:
            message = codec.decode(record.topic, record.headers, record.key, record.value, place=_place(record))
        except ContractError as exc:
            log.warning("context_query.refused", code=exc.code, topic=record.topic, offset=record.offset)
            return None
        query = message.payload
        if not isinstance(query, ContextQuery):
            return None
        identity = query.query_id or message.envelope.id  # of a bare query: its place on the bus
        if identity in self._answered:
            return None
        answer = answer_to(query, identity, self._known())
        envelope = Envelope(
            id=str(uuid5(_NAMESPACE, identity)),  # fixed: an answer that is sent twice is dropped by its id
            source=SOURCE,
            type=CONTEXT_ANSWER.wire,
            subject=identity,
            time=self._clock.now(),
            correlationid=message.envelope.correlationid or message.envelope.id,
            causationid=message.envelope.id,
            traceparent=message.envelope.traceparent,
            tracestate=message.envelope.tracestate,
        )
        encoded = codec.encode(CONTEXT_ANSWER, envelope, answer, key=identity)
        log.info("context_query.answered", query_id=identity, status=answer.status.value, facts=len(answer.facts))
        return identity, Outgoing(encoded.topic, encoded.key, encoded.value, encoded.headers)

    def _known(self) -> Sequence[Fact]:
        try:
            return read_facts(self._facts_file)
        except FactsUnreadable as exc:
            log.warning("facts.unreadable", error=str(exc))
            return ()

    def _remember(self, identity: str) -> None:
        self._answered[identity] = None
        if len(self._answered) > MAX_REMEMBERED:
            self._answered.popitem(last=False)

    async def _pause(self, stop: asyncio.Event) -> None:
        waiting = [asyncio.ensure_future(stop.wait()), asyncio.ensure_future(self._clock.sleep(RECONNECT_S))]
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()


def answer_to(query: ContextQuery, identity: str, known: Sequence[Fact]) -> ContextAnswer:
    """What `known` says about the facets of the query (all six, if it names none). Pure."""
    asked = query.facets or tuple(Facet)
    facts = tuple(fact for fact in known if fact.facet in asked)
    missing = tuple(facet.value for facet in asked if not any(fact.facet == facet for fact in facts))
    status = AnswerStatus.COMPLETE if not missing else AnswerStatus.PARTIAL if facts else AnswerStatus.UNKNOWN
    return ContextAnswer(query_id=identity, status=status, facts=facts, missing=missing)


def read_facts(path: Path | None) -> tuple[Fact, ...]:
    """The facts of a file, in its order; none without a file. Raises FactsUnreadable with the place of the fault."""
    if path is None:
        return ()
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise FactsUnreadable(f"{path} is longer than {MAX_FILE_BYTES} bytes")
        loaded = yaml.safe_load(path.read_bytes())
    except OSError as exc:
        raise FactsUnreadable(f"{path} cannot be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise FactsUnreadable(f"{path} is neither YAML nor JSON: {' '.join(str(exc).split())}") from exc
    if loaded is None:
        return ()
    if not isinstance(loaded, Mapping) or not set(loaded) <= set(Facet):
        raise FactsUnreadable(f"{path}: the top level maps facets to facts; facets are {', '.join(Facet)}")
    return tuple(fact for facet, given in loaded.items() for fact in _facts_of(path, str(facet), given))


def _facts_of(path: Path, facet: str, given: Any) -> list[Fact]:
    try:
        if isinstance(given, Mapping):
            return [Fact(facet=facet, key=str(key), value=_plain(value)) for key, value in given.items()]
        if isinstance(given, list):
            return [Fact.model_validate({**fact, "facet": facet, "value": _plain(fact.get("value"))}) for fact in given]
    except (ValidationError, TypeError, AttributeError) as exc:
        raise FactsUnreadable(f"{path}: {facet}: every fact has a key and a value") from exc
    raise FactsUnreadable(f"{path}: {facet}: give `key: value` pairs, or a list of facts")


def _plain(value: Any) -> Any:
    """YAML knows dates; JSON does not."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def _place(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"
