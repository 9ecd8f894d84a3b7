"""What there is to say about the operations of a document when every verdict stands."""

from collections.abc import Iterator, Sequence

from agent.compiler.diagnostics import diagnostic, shown
from agent.compiler.ir import Operation, Verdict
from contracts.status import Diagnostic

NAMED = 20  # operations that one remark names


def about_verdicts(operations: Sequence[Operation]) -> Iterator[Diagnostic]:
    """What is hooked or refused, and why; parameters without effect."""
    for one in operations:
        if one.verdict in (Verdict.HOOKED, Verdict.REFUSED):
            code = f"operation.{one.verdict.value}"
            yield diagnostic(code, one.pointer, operation=shown(one.id), reason=one.reason)
        for name in one.plan.ignored if one.plan else ():
            yield diagnostic("parameter.ignored", one.pointer, operation=shown(one.id), parameter=shown(name))


def about_security(operations: Sequence[Operation]) -> Iterator[Diagnostic]:
    """What anybody may call, and where security that the document calls optional is demanded."""
    live = [one for one in operations if one.verdict is not Verdict.REFUSED]
    free = [one for one in live if not one.security]
    optional = [one for one in live if not all(one.security)]
    if len(free) == len(live):
        yield diagnostic("security.open", "")
    elif free:
        more = " …" if len(free) > NAMED else ""
        yield diagnostic("security.partly-open", "", operations=_names(free) + more)
    if optional:
        yield diagnostic("security.optional-only", "", operations=_names(optional))


def _names(operations: Sequence[Operation]) -> str:
    return ", ".join(shown(one.id) for one in operations[:NAMED])
