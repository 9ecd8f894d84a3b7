"""From the moment at which a request should leave its sender to its first status at a consumer.

An open model: the schedule does not wait for answers, and a request that leaves late counts from its scheduled moment.
The agent is a process of its own; sender and consumer share ours.
"""

import asyncio
import random
import secrets
import time
from collections.abc import Sequence

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from agent.testing.waiting import until
from contracts import topics
from tests.bench.figures import Figure, figure, percentile
from tests.bench.requests import identity_of, request
from tests.bench.stage import Child, Lost, Stage

FETCH_MAX_WAIT_MS = 2  # the embedded broker lets an empty fetch sleep for all of it, so it would be all that we see
LOADS = {"idle": 8.0, "100": 100.0, "500": 500.0}  # requests per second; idle: one at a time
WARM_UP = 20


async def run(stage: Stage, quick: bool) -> Sequence[Figure]:
    """Both journals, three loads each."""
    figures: list[Figure] = []
    await stage.fresh_broker()
    for kind in ("sqlite", "postgres"):
        journal, folder = await stage.journal(kind)
        order = {"journal": journal, "folder": folder, "fetch_max_wait_ms": FETCH_MAX_WAIT_MS}
        async with Child(stage, "life", **order) as agent, _Ends(stage.bootstrap) as ends:
            await agent.ready()
            await ends.load(50.0, WARM_UP / 50)
            for name, rate in LOADS.items():
                stage.say(f"{kind}, {name}")
                spent = await ends.load(rate, 2.0 if quick else 4.0)
                for percent in (50, 95, 99):
                    value = percentile(spent, percent)
                    figures.append(figure(f"first_status.{kind}.{name}.p{percent}", "ms", value))
    return figures


class _Ends:
    """Sender and consumer of one run."""

    def __init__(self, bootstrap: str) -> None:
        self._producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0)
        self._consumer = AIOKafkaConsumer(
            topics.STATUS.name, bootstrap_servers=bootstrap, auto_offset_reset="latest", fetch_max_wait_ms=FETCH_MAX_WAIT_MS
        )  # fmt: skip
        self._due: dict[str, float] = {}
        self._spent: dict[str, float] = {}

    async def __aenter__(self) -> "_Ends":
        await self._producer.start()
        await self._consumer.start()
        await self._consumer.seek_to_end()
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)
        await self._consumer.stop()
        await self._producer.stop()

    async def _read(self) -> None:
        while True:
            for batch in (await self._consumer.getmany(timeout_ms=100)).values():
                now = time.perf_counter()
                for record in batch:
                    about = record.key.decode()
                    if about in self._due:
                        self._spent.setdefault(about, (now - self._due[about]) * 1000)

    async def load(self, rate: float, seconds: float) -> list[float]:
        """Milliseconds of each request. Raises Lost when one was never answered."""
        number = max(10, int(rate * seconds))
        requests = [request(f"{secrets.token_hex(8)}") for _ in range(number)]
        identities = [identity_of(dict(given.headers)["ce_id"].decode()) for given in requests]
        dice = random.Random(number)
        acknowledged = []
        due = time.perf_counter() + 0.05
        for given, about in zip(requests, identities, strict=True):
            due += dice.expovariate(rate)  # arrivals of independent senders
            if (left := due - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            self._due[about] = due
            acknowledged.append(
                await self._producer.send(given.topic, given.value, given.key, headers=list(given.headers))
            )
        await asyncio.gather(*acknowledged)
        await until(lambda: all(about in self._spent for about in identities), "the status of each request", limit_s=30)
        if len(set(identities)) != number:
            raise Lost("two requests shared an identity")
        return [self._spent[about] for about in identities]
