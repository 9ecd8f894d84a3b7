"""container: the image is built where a container engine answers; elsewhere it is said that it was not."""

from agent.gates.trial import Trial, last_line, measured
from contracts.delivery import Evidence

ENGINES = ("docker", "podman")
PROBE_S = 10.0


@measured("container")
async def check(trial: Trial) -> Evidence:
    """Build the Dockerfile with the first engine that answers the user who runs checks."""
    if not (trial.project / "Dockerfile").is_file():
        return await trial.evidence(False, "no Dockerfile in the project")
    engine, version = await _engine(trial)
    if engine is None:
        return await trial.skipped("no container engine (docker, podman) answers here")
    trial.tools.progress(f"container: {engine} build")
    tag = f"backwright-check:{trial.subject.digest.removeprefix('sha256:')[:12]}"
    built = await trial.run(engine, "build", "--tag", tag, ".")
    await trial.run(engine, "image", "rm", "--force", tag, time_s=PROBE_S, aside=True)
    if built.exit_code and await _base_missing(trial, engine):
        return await trial.skipped("the base image cannot be fetched here")
    return await trial.evidence(
        built.exit_code == 0,
        f"built by {engine} {version}" if built.exit_code == 0 else f"{engine} build ended with {built.exit_code}: {last_line(built.output)}",
        value=built.exit_code == 0,
        threshold=True,
        tool=engine,
        tool_version=version,
    )  # fmt: skip


async def _engine(trial: Trial) -> tuple[str | None, str]:
    for engine in ENGINES:
        # Through env: an engine that is not installed is an answer, not an error of the sandbox.
        probe = await trial.run(
            "/usr/bin/env", engine, "info", "--format", "json", time_s=PROBE_S, quiet=True, aside=True
        )
        if probe.exit_code == 0 and '"ServerErrors"' not in probe.output:
            shown = await trial.run(engine, "--version", time_s=PROBE_S, aside=True)
            return engine, last_line(shown.output).split(",")[0].rsplit(" ", 1)[-1]
    return None, ""


async def _base_missing(trial: Trial, engine: str) -> bool:
    """Whether the first FROM names an image that this machine neither has nor gets."""
    lines = (trial.project / "Dockerfile").read_text().splitlines()
    image = next((words[1] for words in map(str.split, lines) if len(words) > 1 and words[0].upper() == "FROM"), "")
    if (await trial.run(engine, "image", "inspect", image, time_s=PROBE_S, quiet=True, aside=True)).exit_code == 0:
        return False
    return (await trial.run(engine, "pull", image, time_s=120, quiet=True, aside=True)).exit_code != 0
