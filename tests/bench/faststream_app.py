"""The peer: FastStream in its idiomatic shape, in an environment of its own (it is no dependency of ours).

`python faststream_app.py BOOTSTRAP IN OUT GROUP RECORDS`: validate one request, publish one status, and acknowledge after
the handler. No journal, no deduplication: it does less than we do, and loses what was in flight when it dies.
"""

import asyncio
import json
import logging
import sys
import time

from faststream import AckPolicy  # type: ignore[import-not-found]  # the peer lives in an environment of its own
from faststream.kafka import KafkaBroker  # type: ignore[import-not-found]
from pydantic import BaseModel


class Specification(BaseModel):
    content: str


class Request(BaseModel):
    kind: str
    service: str
    specification: Specification


async def main(bootstrap: str, source: str, target: str, group: str, records: int) -> None:
    logging.disable(logging.WARNING)  # it would log each record; ours logs each batch
    broker = KafkaBroker(bootstrap, acks="all", enable_idempotence=True, logger=None)
    seen, began, done = 0, 0.0, asyncio.Event()

    @broker.subscriber(  # type: ignore[untyped-decorator]
        source, group_id=group, auto_offset_reset="earliest", ack_policy=AckPolicy.ACK, max_poll_interval_ms=300_000
    )
    async def handle(request: Request) -> None:
        nonlocal seen, began
        if seen >= records:
            return
        began = began or time.perf_counter()
        status = {
            "agent": "backend-developer",
            "status": "queued",
            "phase": "x",
            "service": request.service,
            "message": "x" * 220,
        }
        await broker.publish(status, target, key=request.service.encode())
        seen += 1
        if seen == records:
            done.set()

    await broker.start()
    await asyncio.wait_for(done.wait(), 120)
    rate = seen / (time.perf_counter() - began)
    await broker.stop()
    sys.stdout.write(json.dumps({"records": seen, "rate": rate}) + "\n")


if __name__ == "__main__":
    _, _bootstrap, _source, _target, _group, _records = sys.argv
    asyncio.run(main(_bootstrap, _source, _target, _group, int(_records)))
