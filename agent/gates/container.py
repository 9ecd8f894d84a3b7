"""container: the image is built where a container engine answers; elsewhere it is said that it was not.

The engine is asked by the agent, with its own rights: who may speak to one owns the machine, so the code under test may
not. It comes to the engine as data and runs in its containers only.

Nothing is fetched that nobody asked for: images must be on the machine. A build that ends for want of a network is not
the project's fault and is no evidence either way.
"""

import re

from agent.gates.trial import Trial, last_line, measured, read_report
from agent.sandbox.port import Completed
from contracts.delivery import Evidence

# What an engine that works answers with its version; a client may be of another one.
ENGINES = {
    "docker": ("version", "--format", "{{.Server.Version}}"),
    "podman": ("info", "--format", "{{.Version.Version}}"),
}
PROBE_S = 20.0
# What builders and installers inside them say when they cannot fetch.
UNREACHABLE = re.compile(
    r"temporary failure in name resolution|could not resolve|network is unreachable|connection (refused|timed out|reset)"
    r"|certificate verify failed|failed to establish a new connection|no such host|i/o timeout|proxyerror",
    re.IGNORECASE,
)


@measured("container")
async def check(trial: Trial) -> Evidence:
    """Build the Dockerfile with the first engine that answers us."""
    dockerfile = read_report(trial.project / "Dockerfile")
    if not dockerfile:
        return await trial.evidence(False, "no Dockerfile in the project")
    found = await _engine(trial)
    if found is None:
        return await trial.skipped("no container engine (docker, podman) answers here")
    engine, version = found
    for image in images_of(dockerfile):
        if (await _ask(trial, engine, "image", "inspect", image)).exit_code:
            return await trial.skipped(f"{engine} answers, but the image {image} is not on this machine")
    trial.tools.progress(f"container: {engine} build")
    tag = f"backwright-check:{trial.subject.digest.removeprefix('sha256:')[:12]}"
    built = await trial.engine(engine, "build", "--force-rm", "--tag", tag, ".")
    await _ask(trial, engine, "image", "rm", "--force", tag)
    if built.exit_code and UNREACHABLE.search(built.output):
        return await trial.skipped("the build needs packages that cannot be fetched from inside a container here")
    return await trial.evidence(
        built.exit_code == 0,
        f"built by {engine} {version}" if built.exit_code == 0
        else f"{engine} build ended with {built.exit_code}: {reason(built.output)}",
        value=built.exit_code == 0,
        threshold=True,
        tool=engine,
        tool_version=version,
    )  # fmt: skip


def reason(output: str) -> str:
    """Why a build ended: its last word on an error, else its last word (which may be where to look at it)."""
    return last_line("\n".join(re.findall(r"^\s*error\b.*", output, re.MULTILINE | re.IGNORECASE)) or output)


def images_of(dockerfile: str) -> list[str]:
    """Images that a build fetches where they are not: of FROM, COPY --from, mounts, and the syntax that is asked for.

    Build stages are left out; a default of an ARG is filled in.
    """
    arguments = dict(re.findall(r"^ARG\s+(\w+)=[\"']?([^\s\"']+)", dockerfile, re.MULTILINE | re.IGNORECASE))
    stages = {"scratch"}
    images: list[str] = re.findall(r"\A(?:#.*\n)*#\s*syntax\s*=\s*(\S+)", dockerfile, re.IGNORECASE)
    for line in re.sub(r"\\\n", " ", dockerfile).splitlines():
        name = r"(?:[^\s,]+)"
        named = re.match(rf"\s*FROM\s+(?:--\S+\s+)*({name})(?:\s+AS\s+(\S+))?", line, re.IGNORECASE)
        found = [named[1]] if named else []
        if re.match(r"\s*(COPY|RUN)\s", line, re.IGNORECASE):
            found = re.findall(rf"\s--(?:from=|mount=\S*?\bfrom=)({name})", line)
        for image in (re.sub(r"\$\{?(\w+)\}?", lambda m: arguments.get(m[1], m[0]), each) for each in found):
            if image.lower() not in stages and not image.isdigit() and image not in images:
                images.append(image)
        if named and named[2]:
            stages.add(named[2].lower())
    return images


async def _engine(trial: Trial) -> tuple[str, str] | None:
    """The first that answers, and its version."""
    for engine, question in ENGINES.items():
        probe = await _ask(trial, engine, *question)
        if probe.exit_code == 0:
            return engine, last_line(probe.output)
    return None


async def _ask(trial: Trial, *words: str) -> Completed:
    # Through env: an engine that is not installed is an answer, not an error of the sandbox.
    return await trial.engine("/usr/bin/env", *words, time_s=PROBE_S, aside=True)
