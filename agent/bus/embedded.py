"""An embedded Kafka-protocol broker: librdkafka's mock cluster, from the confluent-kafka wheel, in a process of its own.

For the demo, tests and a first look; nothing is kept when it ends. Its limits (measured): one
member per consumer group, hollow transactions, no CreateTopics, 5 MiB per partition, an empty fetch is not woken by
new data. `embedded_settings` holds what a client has to know about that.

The process obeys lines on its standard input and ends when that closes, so it cannot outlive its parent:
`down`, `up`, `rtt MILLISECONDS`. `python -m agent.bus.embedded` is that process.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from agent.errors import EnvironmentUnfit
from agent.settings import KafkaSettings
from contracts import topics

START_TIMEOUT_S = 20.0
INITIAL_REBALANCE_MS = 50  # the mock's own default lets the first join wait for 3 s


def embedded_settings(bootstrap_servers: str, base: KafkaSettings | None = None) -> KafkaSettings:
    """`base` with the values that a client of the mock needs; see the limits above."""
    changes = {
        "bootstrap_servers": bootstrap_servers,
        "security_protocol": "PLAINTEXT",
        "session_timeout_ms": 6_000,
        "heartbeat_interval_ms": 1_000,
        "rebalance_timeout_ms": 6_000,
        "fetch_max_wait_ms": 10,
    }
    return (base or KafkaSettings.model_validate({})).model_copy(update=changes)


class EmbeddedBroker:
    """`async with EmbeddedBroker() as bootstrap_servers:` — a broker on a loopback port, with our topics in it.

    `port=0` takes any free one. Raises EnvironmentUnfit when the port is taken or the wheel is not installed.
    """

    def __init__(self, port: int = 0, *, topic_prefix: str = "", extra_topics: Sequence[str] = ()) -> None:
        self._port = port
        self._topics = [f"{topic_prefix}{topic.name}={topic.partitions}" for topic in topics.ALL]
        self._topics += [f"{name}=1" for name in extra_topics]
        self._process: asyncio.subprocess.Process | None = None
        self.bootstrap_servers = ""

    async def __aenter__(self) -> str:
        await self.start()
        return self.bootstrap_servers

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def start(self) -> None:
        """Start the process and wait until it listens."""
        if importlib.util.find_spec("confluent_kafka") is None:
            raise EnvironmentUnfit(
                "the embedded broker needs the package confluent-kafka",
                remedy="install backwright[embedded], or name a broker in BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS",
            )
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent.bus.embedded", str(self._port), *self._topics,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            # A Ctrl-C in the terminal is for the program that started us; it ends the broker last.
            start_new_session=True,
            # The packages may be importable because of the working directory only.
            env={**os.environ, "PYTHONPATH": _python_path()},
        )  # fmt: skip
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), START_TIMEOUT_S)
        except TimeoutError:
            line = b""
        word, _, rest = line.decode().strip().partition(" ")
        if word != "ready":
            await self.stop()
            raise EnvironmentUnfit(
                f"the embedded broker did not start: {rest or 'no answer'}",
                remedy="choose another port, or use a real Kafka with BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS",
            )
        self.bootstrap_servers = rest

    async def tell(self, line: str) -> None:
        """Send a command (`down`, `up`, `rtt 3`) and wait until it is done. For tests of outages."""
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line.encode() + b"\n")
        await process.stdin.drain()
        await asyncio.wait_for(process.stdout.readline(), START_TIMEOUT_S)

    @property
    def pid(self) -> int | None:
        """Process id, for tests that stop it."""
        return self._process.pid if self._process else None

    async def stop(self) -> None:
        """End the process; nothing that it held survives."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), 3)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


def _python_path() -> str:
    root = str(Path(__file__).resolve().parents[2])
    return os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])


# ── the child process ──────────────────────────────────────────────────────────────────────────────────────────────


class MockCluster:
    """librdkafka's mock cluster by ctypes. The library calls this interface unstable: keep every use in this class."""

    def __init__(self) -> None:
        self._library = _load_library()
        error = ctypes.create_string_buffer(512)
        configuration = self._library.rd_kafka_conf_new()
        self._handle = self._library.rd_kafka_new(0, configuration, error, ctypes.sizeof(error))
        if not self._handle:
            raise EnvironmentUnfit(f"librdkafka did not start: {error.value.decode(errors='replace')}")
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 1)
        if not self._cluster:
            raise EnvironmentUnfit("librdkafka did not start its mock cluster")
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, INITIAL_REBALANCE_MS)

    @property
    def address(self) -> tuple[str, int]:
        """Where the only broker listens."""
        text = str(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())
        host, _, port = text.rpartition(":")
        return host, int(port)

    def create_topic(self, name: str, partitions: int) -> None:
        """Create a topic with its final number of partitions."""
        code = self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1)
        if code:
            raise EnvironmentUnfit(f"the embedded broker refused topic {name!r} (code {code})")

    def advertise(self, host: str, port: int) -> None:
        """Tell clients another address (a proxy's)."""
        self._library.rd_kafka_mock_broker_set_host_port(self._cluster, 1, host.encode(), port)

    def set_down(self, down: bool) -> None:
        """Refuse connections, or take them again."""
        change = self._library.rd_kafka_mock_broker_set_down if down else self._library.rd_kafka_mock_broker_set_up
        change(self._cluster, 1)

    def set_round_trip_ms(self, milliseconds: int) -> None:
        """Delay every answer."""
        self._library.rd_kafka_mock_broker_set_rtt(self._cluster, 1, milliseconds)


def _load_library() -> ctypes.CDLL:
    specification = importlib.util.find_spec("confluent_kafka")
    if specification is None or specification.origin is None:
        raise EnvironmentUnfit("confluent-kafka is not installed")
    # auditwheel puts the library beside the package and mangles its name with a hash.
    folder = Path(specification.origin).resolve().parent.parent / "confluent_kafka.libs"
    found = sorted(folder.glob("librdkafka*.so*"))
    if not found:
        raise EnvironmentUnfit("the confluent-kafka wheel of this platform carries no librdkafka of its own")
    __import__("confluent_kafka")  # loads what librdkafka itself links against (OpenSSL, zlib, …)
    library = ctypes.CDLL(str(found[0]))
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("rd_kafka_conf_new", pointer, []),
        ("rd_kafka_new", pointer, [number, pointer, text, ctypes.c_size_t]),
        ("rd_kafka_mock_cluster_new", pointer, [pointer, number]),
        ("rd_kafka_mock_cluster_bootstraps", text, [pointer]),
        ("rd_kafka_mock_topic_create", number, [pointer, text, number, number]),
        ("rd_kafka_mock_group_initial_rebalance_delay_ms", None, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_host_port", None, [pointer, ctypes.c_int32, text, number]),
        ("rd_kafka_mock_broker_set_down", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_up", number, [pointer, ctypes.c_int32]),
        ("rd_kafka_mock_broker_set_rtt", number, [pointer, ctypes.c_int32, number]),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def main(arguments: Sequence[str]) -> int:
    """`PORT TOPIC=PARTITIONS …`: run until standard input closes. Prints `ready HOST:PORT` or `failed REASON`."""
    try:
        port = int(arguments[0])
        listener = _listen(port) if port else None
        cluster = MockCluster()
        for item in arguments[1:]:
            name, _, partitions = item.rpartition("=")
            cluster.create_topic(name, int(partitions))
        host, real_port = cluster.address
        if listener is not None:
            cluster.advertise("127.0.0.1", port)
            threading.Thread(target=_forward, args=(listener, (host, real_port)), daemon=True).start()
    except (EnvironmentUnfit, OSError) as exc:
        _say(f"failed {exc}")
        return 3
    _say(f"ready 127.0.0.1:{port or real_port}")
    for line in sys.stdin:
        _obey(cluster, line.split())
        _say("done")
    os._exit(0)  # destroying the cluster waits for its threads; there is nothing to keep


def _obey(cluster: MockCluster, words: Sequence[str]) -> None:
    match words:
        case ["down"]:
            cluster.set_down(True)
        case ["up"]:
            cluster.set_down(False)
        case ["rtt", milliseconds]:
            cluster.set_round_trip_ms(int(milliseconds))
        case _:
            pass


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _listen(port: int) -> socket.socket:
    try:
        return socket.create_server(("127.0.0.1", port), backlog=128)
    except OSError as exc:
        raise EnvironmentUnfit(f"port {port} is taken: {exc.strerror}") from exc


def _forward(listener: socket.socket, target: tuple[str, int]) -> None:
    """The mock chooses its own port; for a port of our choice, bytes go through here."""
    while True:
        near, _ = listener.accept()
        try:
            far = socket.create_connection(target)
        except OSError:
            near.close()
            continue
        for one, other in ((near, far), (far, near)):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=_pump, args=(one, other), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for end in (source, sink):
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
