"""What Apache Kafka needs to run: a Java that is there, and its jars, fetched by Maven once and kept in the user's cache."""

import asyncio
import os
import re
import secrets
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from agent.errors import EnvironmentUnfit

POM = Path(__file__).with_name("pom.xml")
OLDEST_JAVA = 17  # Kafka 4's brokers need it
RESOLVE_TIMEOUT_S = 600.0
ELSEWHERE = "or name a broker of yours in BACKWRIGHT_KAFKA__BOOTSTRAP_SERVERS"


async def resolve(cache: Path, progress: Callable[[str], None] = lambda _line: None) -> Path:
    """The folder with the jars, fetched by Maven if it is not there yet. Raises EnvironmentUnfit."""
    target = cache / f"kafka-{pinned_version()}"
    if (target / "complete").exists():
        return target / "jars"
    maven = shutil.which("mvn")
    if maven is None:
        raise EnvironmentUnfit(
            "Kafka's jars are not cached and Maven is not installed",
            remedy=f"install it (Debian, Ubuntu: apt install maven), {ELSEWHERE}",
        )
    progress(f"fetching Apache Kafka {pinned_version()} with Maven (about 44 MB, once, into {target})")
    fresh = _new_folder(cache)
    try:
        shutil.copyfile(POM, fresh / "pom.xml")
        await _fetch(maven, fresh)
        (fresh / "complete").touch()
        if not (target / "complete").exists():  # two runs may have fetched at once: the first one stays
            shutil.rmtree(target, ignore_errors=True)
            fresh.rename(target)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return target / "jars"


def _new_folder(cache: Path) -> Path:
    folder = cache / f".kafka-{secrets.token_hex(4)}"
    folder.mkdir(parents=True)
    return folder


def cache_folder() -> Path:
    """Where jars are kept: the user's cache; where we are root, a place that others may enter."""
    if os.geteuid() == 0:
        return Path("/var/cache/backwright")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "backwright"


def pinned_version() -> str:
    """The version of Kafka that the POM names."""
    space = "{http://maven.apache.org/POM/4.0.0}"
    for dependency in ElementTree.parse(POM).iter(f"{space}dependency"):  # noqa: S314 - our own file
        if dependency.findtext(f"{space}groupId") == "org.apache.kafka":
            return dependency.findtext(f"{space}version") or ""
    raise AssertionError("the POM names Kafka")


async def _fetch(maven: str, folder: Path) -> None:
    """Run Maven, with strict checksums, as ourselves: it needs our settings and mirrors, and runs nothing it fetches."""
    process = await asyncio.create_subprocess_exec(
        maven, "-q", "-B", "-C", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={folder}/jars",
        cwd=folder, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(), RESOLVE_TIMEOUT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
        raise
    if process.returncode != 0:
        lines = re.sub(r"\x1b\[[0-9;]*m", "", output.decode(errors="replace")).strip().splitlines() or [
            "it says nothing"
        ]
        reason = lines[0].removeprefix("[ERROR] ")[:600]
        raise EnvironmentUnfit(
            f"Maven could not fetch Kafka: {reason}", remedy=f"check that Maven reaches its repository, {ELSEWHERE}"
        )


async def java_path() -> str:
    """The path of a Java that is new enough. Raises EnvironmentUnfit."""
    home = os.environ.get("JAVA_HOME")
    found = (shutil.which("java", path=f"{home}/bin") if home else None) or shutil.which("java")
    remedy = f"install it (Debian, Ubuntu: apt install default-jre-headless), {ELSEWHERE}"
    if found is None:
        raise EnvironmentUnfit(f"no Java {OLDEST_JAVA} to run Kafka on", remedy=remedy)
    process = await asyncio.create_subprocess_exec(
        found, "-version", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
    )
    _, said = await process.communicate()
    version = re.search(rb'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise EnvironmentUnfit(f"{found} is not Java {OLDEST_JAVA} or newer", remedy=remedy)
    return await asyncio.to_thread(os.path.realpath, found)
