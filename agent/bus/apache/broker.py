"""A real Apache Kafka 4 (KRaft, one node, loopback only), started from its jars in the sandbox; its data are thrown away."""

import asyncio
import base64
import os
import secrets
import shutil
import signal
import socket
import uuid
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from agent.bus.apache.jars import cache_folder, java_path, pinned_version, resolve
from agent.errors import EnvironmentUnfit
from agent.sandbox.local import LocalRunning, LocalSandbox
from agent.sandbox.port import Command, Leash, Limits
from agent.settings import KafkaSettings, SandboxSettings

READY_LINE = "Kafka Server started"
READY_TIMEOUT_S = 120.0
ATTEMPTS = 3
USER, STORE_PASSWORD = "backwright", "changeit-throwaway"
# Small and quick to start: the broker serves one agent on one machine. Reserved address space is not memory used.
JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.net.preferIPv4Stack=true")
LIMITS = Limits(time_s=86_400, memory_bytes=32 * 1024**3, open_files=16_384, processes=1_000, output_bytes=512 * 1024)

# A broker that was killed may register again only after its session: 9 s by default, which is the time of a restart.
PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=CONTROLLER://127.0.0.1:{controller},PLAINTEXT://127.0.0.1:{plain}{secure_listeners}
advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}{secure_listeners}
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
num.partitions={partitions}
auto.create.topics.enable={auto_create}
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
"""
SECURE_PROPERTIES = """\
ssl.keystore.type=PKCS12
ssl.keystore.location={folder}/broker.p12
ssl.keystore.password={store_password}
ssl.key.password={store_password}
sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
"""
LOGGING = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1} %m%n
rootLogger.level = warn
rootLogger.appenderRef.out.ref = out
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = info
"""


@dataclass(frozen=True, slots=True)
class SecureAccess:
    """How to reach the encrypted listeners. Username and password are for `sasl_ssl` only."""

    ssl: str  # host:port
    sasl_ssl: str  # host:port
    ca_file: Path
    username: str
    password: str

    def settings(self, base: KafkaSettings, *, mechanism: str = "SCRAM-SHA-512") -> KafkaSettings:
        """`base` for the SASL_SSL listener."""
        changes = {
            "bootstrap_servers": self.sasl_ssl,
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "sasl_username": self.username,
            "sasl_password": self.password,
            "ssl_ca_file": self.ca_file,
        }
        return KafkaSettings.model_validate(base.model_dump() | changes)


class LocalKafka:
    """`async with LocalKafka() as bootstrap_servers:` — one broker of our own.

    `kill`, `stop`, `start`, `pause` and `resume` make its faults; data and ports survive them. Raises EnvironmentUnfit
    without Java 17 or, the first time, Maven.
    """

    def __init__(
        self,
        *,
        partitions: int = 6,
        secure: bool = False,
        auto_create: bool = True,
        advertised: int | None = None,
        cache: Path | None = None,
        progress: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`partitions` of topics that are made on demand. `secure` adds SSL and SASL_SSL listeners (`secure` below).

        `advertised`: the port that clients are sent to, of a proxy in front of the broker."""
        self._partitions = partitions
        self._with_security = secure
        self._auto_create = auto_create
        self._advertised = advertised
        self._cache = cache or cache_folder()
        self._progress = progress
        self._sandbox = LocalSandbox(
            SandboxSettings(memory_bytes=LIMITS.memory_bytes, processes=LIMITS.processes), self._cache / "packages"
        )
        self._stack = AsyncExitStack()
        self._running: LocalRunning | None = None
        self._folder = Path()
        self._command = Command(("java",), cwd=Path("/"))
        self.bootstrap_servers = ""
        self.secure: SecureAccess | None = None

    @property
    def version(self) -> str:
        """Of the jars, for example 4.3.0."""
        return pinned_version()

    async def __aenter__(self) -> str:
        java = await java_path()
        jars = await resolve(self._cache, self._progress)
        try:
            self._stack.callback(self._sandbox.close)
            self._folder = await self._stack.enter_async_context(self._sandbox.scratch("kafka-"))
            jars = await asyncio.to_thread(self._sandbox.readable, jars)
            await self._first_start(java, jars)
        except BaseException:
            await self._stack.aclose()
            raise
        return self.bootstrap_servers

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.kill()
        finally:
            await self._stack.aclose()

    async def start(self) -> None:
        """Start (again) with the same ports and data; returns when it serves. Raises EnvironmentUnfit."""
        running = await self._sandbox.start(self._command, leash=Leash())
        try:
            await _until_ready(running)
        except BaseException:
            await running.kill()
            raise
        self._running = running

    async def stop(self, *, grace_s: float = 20.0) -> None:
        """SIGTERM: a controlled shutdown."""
        if self._running is not None:
            self._signal(signal.SIGCONT)
            await self._running.stop(grace_s=grace_s)
            self._running = None

    async def kill(self) -> None:
        """SIGKILL: what was acknowledged is on disk or in the page cache, and log recovery follows at the next start."""
        if self._running is not None:
            await self._running.kill()
            self._running = None

    def pause(self) -> None:
        """SIGSTOP: connections stay open, nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def output(self) -> str:
        """Tail of the broker's log."""
        return "" if self._running is None else self._running.output()

    def _signal(self, number: int) -> None:
        if self._running is not None and self._running.exit_code() is None:
            os.kill(self._running.pid, number)

    async def _first_start(self, java: str, jars: Path) -> None:
        """Configure, format and start; once more with other ports if one was taken meanwhile."""
        for attempt in range(1, ATTEMPTS + 1):
            self._progress(f"starting Apache Kafka {self.version}")
            await self._configure(java, jars)
            try:
                await self.start()
            except EnvironmentUnfit as fault:
                if attempt == ATTEMPTS or "in use" not in str(fault):
                    raise
                await asyncio.to_thread(shutil.rmtree, self._folder / "data")
            else:
                return

    async def _configure(self, java: str, jars: Path) -> None:
        folder = self._folder
        plain, controller, ssl, sasl = _free_ports(4)
        password = secrets.token_hex(16)
        text = PROPERTIES.format(
            plain=plain,
            advertised=self._advertised or plain,
            controller=controller,
            folder=folder,
            partitions=self._partitions,
            auto_create=str(self._auto_create).lower(),
            secure_listeners=f",SSL://127.0.0.1:{ssl},SASL_SSL://127.0.0.1:{sasl}" if self._with_security else "",
        )
        if self._with_security:
            text += SECURE_PROPERTIES.format(folder=folder, store_password=STORE_PASSWORD)
            await self._make_certificate(str(Path(java).with_name("keytool")))
            self.secure = SecureAccess(
                ssl=f"127.0.0.1:{ssl}",
                sasl_ssl=f"127.0.0.1:{sasl}",
                ca_file=folder / "ca.pem",
                username=USER,
                password=password,
            )
        (folder / "server.properties").write_text(text)
        (folder / "log4j2.properties").write_text(LOGGING)
        self._sandbox.share(folder)
        base = (java, "-cp", f"{jars}/*", *JVM, f"-Dlog4j2.configurationFile={folder}/log4j2.properties")
        self.bootstrap_servers = f"127.0.0.1:{plain}"
        self._command = Command((*base, "kafka.Kafka", f"{folder}/server.properties"), cwd=folder, limits=LIMITS)
        scram = [f"SCRAM-SHA-{bits}=[name={USER},password={password}]" for bits in (256, 512)]
        await self._run(
            *base, "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={_cluster_id()}",  # an id may begin with a dash
            "-c", f"{folder}/server.properties",
            *(part for line in scram if self._with_security for part in ("--add-scram", line)),
        )  # fmt: skip

    async def _make_certificate(self, keytool: str) -> None:
        """A self-signed certificate of a day for 127.0.0.1, by the JDK's own tool; it is its own authority."""
        folder = self._folder
        store = ("-keystore", f"{folder}/broker.p12", "-storepass", STORE_PASSWORD, "-alias", "broker")
        if (folder / "ca.pem").exists():
            return
        await self._run(
            keytool, "-genkeypair", *store, "-storetype", "PKCS12", "-keyalg", "EC", "-groupname", "secp256r1",
            "-dname", "CN=localhost", "-ext", "san=ip:127.0.0.1,dns:localhost", "-ext", "bc=ca:true", "-validity", "2",
        )  # fmt: skip
        await self._run(keytool, "-exportcert", *store, "-rfc", "-file", f"{folder}/ca.pem")

    async def _run(self, *argv: str) -> None:
        done = await self._sandbox.run(Command(argv, cwd=self._folder, limits=LIMITS), leash=Leash())
        if done.exit_code != 0:
            raise EnvironmentUnfit(f"{Path(argv[0]).name} failed ({done.exit_code}): {done.output.strip()[-800:]}")


async def _until_ready(running: LocalRunning) -> None:
    end = asyncio.ensure_future(running.wait())
    deadline = asyncio.get_running_loop().time() + READY_TIMEOUT_S
    try:
        while READY_LINE not in running.output():
            if end.done() or asyncio.get_running_loop().time() > deadline:
                raise EnvironmentUnfit(f"Kafka does not start: {running.output().strip()[-1500:]}")
            await asyncio.wait({end}, timeout=0.05)
    finally:
        end.cancel()


def _cluster_id() -> str:
    """22 characters, as Kafka wants it."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _free_ports(count: int) -> list[int]:
    """Different ones: all are held until all are found."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()
