"""A TCP relay in front of a server, whose connections a storm cuts and holds."""

import asyncio
import contextlib
from types import TracebackType

CHUNK_BYTES = 65_536
Pair = tuple[asyncio.StreamWriter, asyncio.StreamWriter]


class Proxy:
    """`async with Proxy() as proxy:` listens on `port` and relays to `target` (a port here), which may be set later."""

    def __init__(self, target: int = 0) -> None:
        self.target = target
        self.port = 0
        self._pairs: set[Pair] = set()
        self._flow = asyncio.Event()
        self._flow.set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "Proxy":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    def cut(self) -> int:
        """End every connection at once, whatever is on its way; how many there were."""
        pairs = list(self._pairs)
        for writer in (writer for pair in pairs for writer in pair):
            writer.transport.abort()
        return len(pairs)

    async def hold(self, seconds: float) -> int:
        """Let nothing pass for a while; how many connections were held."""
        self._flow.clear()
        await asyncio.sleep(seconds)
        self._flow.set()
        return len(self._pairs)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:  # the server is away: so is its proxy
            writer.transport.abort()
            return
        pair = (writer, onward)
        self._pairs.add(pair)
        ways = [asyncio.ensure_future(self._relay(reader, onward)), asyncio.ensure_future(self._relay(there, writer))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._pairs.discard(pair)
            for way in ways:
                way.cancel()
            for end in pair:
                end.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._flow.wait()
                writer.write(data)
                await writer.drain()
