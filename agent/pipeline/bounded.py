"""The compiler in a process of its own, with a bound on processor time and memory.

A document within every limit on its size can still cost minutes: a hostile one must hold neither the agent's event loop
nor its lease. What is bounded is the cost, not the trust: the child is our own code under our own user, so its answer is
a pickle, and what it says goes no further than what the compiler would say in this process.
"""

import asyncio
import contextlib
import ctypes
import math
import os
import pickle
import resource
import signal
import sys
import time
from typing import Any

from agent.compiler.compile import Compilation, compile_document
from agent.compiler.diagnostics import reject
from agent.compiler.ir import Api
from agent.compiler.understand import understand
from agent.errors import PermanentError, SpecRejected, TransientError
from agent.formatting import ruff_format
from agent.settings import CompilerSettings
from contracts.status import Diagnostic
from contracts.tasks import Target

OUT_OF_MEMORY = 3  # exit code of the child
START_S = 30  # to start, on a machine that is busy with other things; and then
PATIENCE = 5  # seconds on the clock for each second of processor time
PR_SET_PDEATHSIG = 1
KEPT = ("PATH", "TMPDIR", "LANG", "LC_ALL")  # of our environment; secrets stay here


async def understand_bounded(given: bytes, settings: CompilerSettings) -> tuple[Api, tuple[Diagnostic, ...]]:
    """`understand`, in a child. Raises SpecRejected, also for a document that costs too much."""
    found: tuple[Api, tuple[Diagnostic, ...]] = await _ask("understand", (given, settings), settings)
    return found


async def compile_bounded(
    given: bytes, *, service: str | None, target: Target, settings: CompilerSettings
) -> Compilation:
    """`compile_document` with the pinned formatter, in a child.

    Raises SpecRejected, also for a document that costs too much; PermanentError for a target that does not exist yet.
    """
    found: Compilation = await _ask("compile", (given, service, target, settings), settings)
    return found


async def _ask(job: str, arguments: tuple[Any, ...], settings: CompilerSettings) -> Any:
    """What the child answers. It ends with us, also when we are cancelled.

    Raises TransientError where the machine had no time for it.
    """
    limit_s = START_S + settings.cpu_s * PATIENCE
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={name: os.environ[name] for name in KEPT if name in os.environ},
        start_new_session=True,  # Ctrl-C is ours to hear
    )
    try:
        async with asyncio.timeout(limit_s):
            answer, said = await child.communicate(
                pickle.dumps((job, arguments, settings.cpu_s, settings.memory_bytes))
            )
    except TimeoutError as exc:
        raise TransientError(f"the compiler had no time in {limit_s:g} s: the machine is busy") from exc
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    if child.returncode == -signal.SIGXCPU:
        raise reject("document.too_expensive", cost=f"{settings.cpu_s:g} s of processor time", setting="CPU_S")
    if child.returncode == OUT_OF_MEMORY:
        cost = f"{settings.memory_bytes} bytes of memory"
        raise reject("document.too_expensive", cost=cost, setting="MEMORY_BYTES")
    if child.returncode != 0:
        told = said.decode(errors="replace").strip().splitlines()
        raise RuntimeError(f"the compiler ended with {child.returncode}: {told[-1] if told else 'it said nothing'}")
    kind, value = pickle.loads(answer)  # noqa: S301 - of our own code, see above
    if kind == "rejected":
        raise SpecRejected(value)
    if kind == "permanent":
        raise PermanentError(value)
    return value


def main() -> int:
    """The child: an order on stdin, an answer on stdout."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    job, arguments, cpu_s, memory_bytes = pickle.load(sys.stdin.buffer)  # noqa: S301 - of our parent
    _limit(cpu_s, memory_bytes)
    try:
        answer = pickle.dumps(_answer(job, arguments))
    except MemoryError:
        return OUT_OF_MEMORY
    with contextlib.suppress(BrokenPipeError):  # nobody waits any more
        sys.stdout.buffer.write(answer)
        sys.stdout.buffer.flush()
    return 0


def _limit(cpu_s: float, memory_bytes: int) -> None:
    whole = math.ceil(time.process_time() + cpu_s)  # what the imports took is not the document's
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (whole, whole + 1))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _answer(job: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    try:
        if job == "understand":
            return "made", understand(*arguments)
        given, service, target, settings = arguments
        return "made", compile_document(given, service=service, target=target, settings=settings, format=ruff_format)
    except SpecRejected as exc:
        return "rejected", exc.diagnostics
    except PermanentError as exc:
        return "permanent", str(exc)


if __name__ == "__main__":
    sys.exit(main())
