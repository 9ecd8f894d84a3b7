"""Apache Kafka for tests, by two means: our own from its jars (`Local`), Apache's image in a container (`Contained`).

Both have the same properties, listeners, users and faults, so that a test does not know which one it is on.
"""

import asyncio
import secrets
import shlex
import socket
import tempfile
import threading
from collections.abc import Coroutine
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

from agent.bus.apache import LocalKafka, SecureAccess, pinned_version
from agent.bus.apache.broker import (
    ATTEMPTS,
    JVM,
    PROPERTIES,
    READY_LINE,
    READY_TIMEOUT_S,
    SECURE_PROPERTIES,
    STORE_PASSWORD,
    USER,
)
from agent.errors import EnvironmentUnfit
from agent.testing.waiting import eventually

T = TypeVar("T")
PARTITIONS = 6
IMAGE = f"apache/kafka:{pinned_version()}"
PROBE_S = 5
HOME = "/var/lib/kafka"  # in the image; its `data` is a volume, which goes with the container
TOOLS = "/opt/kafka/bin"
CLUSTER_ID = "QmFja3dyaWdodC10ZXN0cw"
CONTROLLER_PORT = 29093
PORT_IS_TAKEN = ("already allocated", "in use")  # by another container, by another process


class Broker(Protocol):
    """One broker. Everything blocks; data and ports survive the faults."""

    name: str

    @property
    def secure(self) -> SecureAccess | None:
        """The encrypted listeners, where they were asked for."""

    def open(self) -> str:
        """Start; the bootstrap servers. Raises EnvironmentUnfit."""

    def close(self) -> None:
        """End it; nothing of it stays."""

    def kill(self) -> None:
        """SIGKILL."""

    def stop(self) -> None:
        """SIGTERM: a controlled shutdown."""

    def start(self) -> None:
        """Start again after `kill` or `stop`; returns when it serves."""

    def pause(self) -> None:
        """Connections stay open, nothing answers."""

    def resume(self) -> None:
        """The end of `pause`."""


class Local:
    """A LocalKafka on an event loop in a thread of its own: fixtures outlive the loops of single tests."""

    name = f"Apache Kafka {pinned_version()} from its jars"

    def __init__(self, *, secure: bool = False) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="kafka", daemon=True)
        self._thread.start()
        self._kafka = LocalKafka(partitions=PARTITIONS, secure=secure)

    @property
    def secure(self) -> SecureAccess | None:
        return self._kafka.secure

    def open(self) -> str:
        try:
            return self._run(self._kafka.__aenter__())
        except BaseException:
            self._end_loop()
            raise

    def close(self) -> None:
        try:
            self._run(self._kafka.__aexit__(None, None, None))
        finally:
            self._end_loop()

    def kill(self) -> None:
        self._run(self._kafka.kill())

    def stop(self) -> None:
        self._run(self._kafka.stop())

    def start(self) -> None:
        self._run(self._kafka.start())

    def pause(self) -> None:
        self._kafka.pause()

    def resume(self) -> None:
        self._kafka.resume()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(300)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


class Contained:
    """Apache's image by testcontainers, whose Ryuk removes the container also when pytest is killed.

    Ports are those of the host: a client must reach the broker under the name that it advertises.
    """

    name = f"container {IMAGE}"

    def __init__(self, *, secure: bool = False) -> None:
        self._with_security = secure
        self._stack = ExitStack()
        self._container: Any = None
        self._starts = 0
        self.secure: SecureAccess | None = None

    def open(self) -> str:
        import docker  # comes with testcontainers; only where an engine may answer
        import requests
        from testcontainers.core.docker_client import DockerClient

        attempt = 1
        try:
            DockerClient(timeout=PROBE_S).client.ping()
            while True:
                try:
                    return self._first_start()
                except docker.errors.APIError as fault:
                    if attempt == ATTEMPTS or not any(words in str(fault) for words in PORT_IS_TAKEN):
                        raise
                    attempt += 1
        except (docker.errors.DockerException, requests.RequestException, EnvironmentUnfit) as fault:
            raise EnvironmentUnfit(f"no {self.name}: {' '.join(str(fault).split())[:400]}") from fault

    def close(self) -> None:
        self._stack.close()

    def kill(self) -> None:
        self._container.kill()
        self._container.wait()

    def stop(self) -> None:
        self._container.stop(timeout=20)

    def start(self) -> None:
        self._container.start()
        self._until_ready()

    def pause(self) -> None:
        self._container.pause()

    def resume(self) -> None:
        self._container.unpause()

    def _first_start(self) -> str:
        from testcontainers.core.container import DockerContainer

        container = DockerContainer(IMAGE)
        host = container.get_docker_client().host().replace("localhost", "127.0.0.1")
        ports = _free_ports(3 if self._with_security else 1)
        password = secrets.token_hex(16)
        container.with_env("KAFKA_JVM_PERFORMANCE_OPTS", shlex.join(JVM))
        container.with_copy_into_container(_properties(host, *ports).encode(), f"{HOME}/server.properties")
        container.with_command(["bash", "-c", _script(host, password if self._with_security else None)])
        # A broker that asks for no password is for this machine only, unless the engine is on another one.
        binding: dict[str, Any] = {str(port): ("127.0.0.1", port) if host == "127.0.0.1" else port for port in ports}
        container.ports = binding
        with ExitStack() as stack:
            stack.enter_context(container)
            self._container, self._starts = container.get_wrapped_container(), 0
            self._until_ready()
            if self._with_security:
                folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
                container.copy_from_container(f"{HOME}/ca.pem", folder / "ca.pem")
                ssl, sasl = (f"{host}:{port}" for port in ports[1:])
                self.secure = SecureAccess(ssl, sasl, folder / "ca.pem", USER, password)
            self._stack = stack.pop_all()
        return f"{host}:{ports[0]}"

    def _until_ready(self) -> None:
        """One more of its lines than before, or its end."""
        self._starts += 1
        eventually(lambda: self._has_started() or not self._runs(), self.name, limit_s=READY_TIMEOUT_S, every_s=0.1)
        if not self._has_started():
            raise EnvironmentUnfit(f"Kafka does not start: {self._log().strip()[-1500:]}")

    def _has_started(self) -> bool:
        return self._log().count(READY_LINE) >= self._starts

    def _runs(self) -> bool:
        self._container.reload()
        return bool(self._container.status == "running")

    def _log(self) -> str:
        return str(self._container.logs().decode(errors="replace"))


def _properties(host: str, plain: int, *encrypted: int) -> str:
    """Those of LocalKafka, for a process that is reached from outside its network."""
    listeners = [f"{name}://127.0.0.1:{port}" for name, port in zip(("SSL", "SASL_SSL"), encrypted, strict=False)]
    text = PROPERTIES.format(
        plain=plain, advertised=plain, controller=CONTROLLER_PORT, folder=HOME, partitions=PARTITIONS,
        auto_create="true", secure_listeners="".join(f",{each}" for each in listeners),
    )  # fmt: skip
    if encrypted:
        text += SECURE_PROPERTIES.format(folder=HOME, store_password=STORE_PASSWORD)
    lines = dict(line.split("=", 1) for line in text.splitlines())
    lines["listeners"] = lines["listeners"].replace("//127.0.0.1", "//0.0.0.0")
    lines["advertised.listeners"] = lines["advertised.listeners"].replace("//127.0.0.1", f"//{host}")
    return "".join(f"{name}={value}\n" for name, value in lines.items())


def _script(host: str, password: str | None) -> str:
    """What LocalKafka does before it starts, with the tools of the image; the next start finds it done."""
    properties = f"{HOME}/server.properties"
    prepare = [[f"{TOOLS}/kafka-storage.sh", "format", "--standalone", f"--cluster-id={CLUSTER_ID}", "-c", properties]]
    if password is not None:
        for bits in (256, 512):
            prepare[0] += ["--add-scram", f"SCRAM-SHA-{bits}=[name={USER},password={password}]"]
        kind = "dns" if any(letter.isalpha() for letter in host) else "ip"
        store = ["-keystore", f"{HOME}/broker.p12", "-storepass", STORE_PASSWORD, "-alias", "broker"]
        prepare.append(
            ["keytool", "-genkeypair", *store, "-storetype", "PKCS12", "-keyalg", "EC", "-groupname", "secp256r1",
             "-dname", "CN=localhost", "-ext", f"san={kind}:{host}", "-ext", "bc=ca:true", "-validity", "2"]
        )  # fmt: skip
        prepare.append(["keytool", "-exportcert", *store, "-rfc", "-file", f"{HOME}/ca.pem"])
    once = " && ".join(shlex.join(words) for words in [*prepare, ["touch", f"{HOME}/prepared"]])
    return f"[ -e {HOME}/prepared ] || {{ {once}; }} && exec {TOOLS}/kafka-server-start.sh {properties}"


def _free_ports(count: int) -> list[int]:
    """Different ones: all are held until all are found."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [int(probe.getsockname()[1]) for probe in probes]
