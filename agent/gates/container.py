"""container: the image is built where a container engine answers; elsewhere it is said that it was not.

Nothing is fetched that nobody asked for: the base image must be on the machine. A build that ends for want of a network
is not the project's fault and is no evidence either way.
"""

import re

from agent.gates.trial import Trial, last_line, measured, read_report
from agent.sandbox.port import Completed
from contracts.delivery import Evidence

ENGINES = ("docker", "podman")
PROBE_S = 20.0
# What builders and installers inside them say when they cannot fetch.
UNREACHABLE = re.compile(
    r"temporary failure in name resolution|could not resolve|network is unreachable|connection (refused|timed out|reset)"
    r"|certificate verify failed|failed to establish a new connection|no such host|i/o timeout|proxyerror",
    re.IGNORECASE,
)


@measured("container")
async def check(trial: Trial) -> Evidence:
    """Build the Dockerfile with the first engine that answers the user who runs checks."""
    dockerfile = read_report(trial.project / "Dockerfile")
    if not dockerfile:
        return await trial.evidence(False, "no Dockerfile in the project")
    engine = await _engine(trial)
    if engine is None:
        return await trial.skipped("no container engine (docker, podman) answers here")
    for image in base_images(dockerfile):
        if (await _ask(trial, engine, "image", "inspect", image)).exit_code:
            return await trial.skipped(f"{engine} answers, but the base image {image} is not on this machine")
    trial.tools.progress(f"container: {engine} build")
    version = last_line((await _ask(trial, engine, "--version")).output).split(",")[0].rsplit(" ", 1)[-1]
    tag = f"backwright-check:{trial.subject.digest.removeprefix('sha256:')[:12]}"
    built = await trial.run(engine, "build", "--tag", tag, ".")
    await _ask(trial, engine, "image", "rm", "--force", tag)
    if built.exit_code and UNREACHABLE.search(built.output):
        return await trial.skipped("the build needs packages that cannot be fetched from inside a container here")
    return await trial.evidence(
        built.exit_code == 0,
        f"built by {engine} {version}" if built.exit_code == 0
        else f"{engine} build ended with {built.exit_code}: {last_line(built.output)}",
        value=built.exit_code == 0,
        threshold=True,
        tool=engine,
        tool_version=version,
    )  # fmt: skip


def base_images(dockerfile: str) -> list[str]:
    """Images that the FROM lines name, build stages left out; a default of an ARG before them is filled in."""
    arguments = dict(re.findall(r"^ARG\s+(\w+)=[\"']?([^\s\"']+)", dockerfile, re.MULTILINE | re.IGNORECASE))
    stages: set[str] = set()
    images: list[str] = []
    for line in dockerfile.splitlines():
        match = re.match(r"FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?", line, re.IGNORECASE)
        if not match:
            continue
        image = re.sub(r"\$\{?(\w+)\}?", lambda m: arguments.get(m[1], m[0]), match[1])
        if image not in stages and image != "scratch" and image not in images:
            images.append(image)
        stages.add(match[2] or "")
    return images


async def _engine(trial: Trial) -> str | None:
    for engine in ENGINES:
        probe = await _ask(trial, engine, "info", "--format", "json")
        if probe.exit_code == 0 and '"ServerErrors"' not in probe.output:
            return engine
    return None


async def _ask(trial: Trial, *words: str) -> Completed:
    # Through env: an engine that is not installed is an answer, not an error of the sandbox.
    return await trial.run("/usr/bin/env", *words, time_s=PROBE_S, quiet=True, aside=True)
