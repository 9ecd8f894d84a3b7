"""Security requirements → schemes and alternatives; what the service cannot check is refused by name. Rule 19."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agent.compiler.diagnostics import child, diagnostic, shown
from agent.compiler.ir import Place, SchemeKind, SecurityScheme
from agent.compiler.schemas.document import Document, RawOperation
from contracts.status import Diagnostic

Json = Any

_PLACES = {"header": Place.HEADER, "query": Place.QUERY, "cookie": Place.COOKIE}


class Security:
    """The security of one document."""

    def __init__(self, document: Document) -> None:
        self._document = document
        self._schemes: dict[str, SecurityScheme] = {}
        self._problems: dict[str, str] = {}  # name → why the service cannot check it
        for name in document.tree.get("components", {}).get("securitySchemes", {}):
            _, node = document.follow(f"/components/securitySchemes/{name}")
            try:
                self._schemes[name] = _scheme(name, node if isinstance(node, dict) else {})
            except _Unsupported as problem:
                self._problems[name] = str(problem)

    def requirements(self, operation: RawOperation) -> tuple[Mapping[str, tuple[str, ...]], ...]:
        """The alternatives that a caller has; () means open. What the operation says replaces what the document says."""
        given = operation.node.get("security", self._document.tree.get("security", []))
        alternatives = [{name: tuple(scopes) for name, scopes in one.items()} for one in given]
        return tuple(alternatives) if any(alternatives) else ()

    def problem(self, operation: RawOperation) -> str | None:
        """Why an operation cannot be protected as the document demands; None if it can."""
        alternatives = self.requirements(operation)
        reasons = [self._unsupported(one) for one in alternatives]
        usable = [one for one in reasons if one is None]
        return None if usable or not reasons else reasons[0]

    def supported(self, operation: RawOperation) -> tuple[Mapping[str, tuple[str, ...]], ...]:
        """The alternatives that the service can check: leaving one out denies more, never less."""
        return tuple(one for one in self.requirements(operation) if self._unsupported(one) is None)

    def unchecked(self, operations: Iterable[RawOperation]) -> Iterator[Diagnostic]:
        """The schemes that operations name and the service cannot check: a caller with nothing else stays out."""
        named = (name for one in operations for alternative in self.requirements(one) for name in alternative)
        for name in dict.fromkeys(named):
            if name not in self._schemes:
                pointer = child("/components/securitySchemes", name) if name in self._problems else ""
                yield diagnostic("security.unchecked", pointer, scheme=shown(name), reason=self._reason(name))

    def _reason(self, name: str) -> str:
        return self._problems.get(name, "it is not declared")

    def schemes(self, used: set[str]) -> tuple[SecurityScheme, ...]:
        """The supported schemes among `used`, in the order of the document."""
        return tuple(one for name, one in self._schemes.items() if name in used)

    def _unsupported(self, alternative: Mapping[str, tuple[str, ...]]) -> str | None:
        for name in alternative:
            if name not in self._schemes:
                return f"the security scheme `{name[:60]}` cannot be checked: {self._reason(name)}"
        return None


class _Unsupported(Exception):
    """Why the service cannot check a scheme."""


def _scheme(name: str, node: Mapping[str, Json]) -> SecurityScheme:
    kind = str(node.get("type"))
    if kind == "http":
        return SecurityScheme(name, _http(str(node.get("scheme", "")).lower()))
    if kind == "apiKey":
        place = _PLACES.get(str(node.get("in")))
        parameter = node.get("name")
        if place is None or not isinstance(parameter, str) or not parameter:
            raise _Unsupported("an API key needs `in` and `name`")
        return SecurityScheme(name, SchemeKind.API_KEY, place, parameter)
    if kind == "oauth2":
        return SecurityScheme(name, SchemeKind.BEARER, scopes=_scopes(node))
    if kind == "openIdConnect":
        return SecurityScheme(name, SchemeKind.BEARER)
    if kind == "mutualTLS":
        raise _Unsupported("who ends the TLS connection sees the certificate, the service does not")
    raise _Unsupported(f"type {kind[:30]!r} is not supported")


def _http(scheme: str) -> SchemeKind:
    if scheme not in ("basic", "bearer"):
        raise _Unsupported(f"HTTP scheme {scheme[:30]!r} is not supported")
    return SchemeKind.BASIC if scheme == "basic" else SchemeKind.BEARER


def _scopes(node: Mapping[str, Json]) -> tuple[str, ...]:
    flows = node.get("flows")
    found: dict[str, None] = {}
    for flow in flows.values() if isinstance(flows, dict) else ():
        scopes = flow.get("scopes") if isinstance(flow, dict) else None
        found |= dict.fromkeys(scope for scope in scopes if isinstance(scope, str)) if isinstance(scopes, dict) else {}
    return tuple(found)
