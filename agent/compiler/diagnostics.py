"""Faults and remarks about a document: one table of codes; the value is contracts.status.Diagnostic.

To add one: a line in CODES. Messages are `str.format` templates; facts that come from a document pass through `shown`,
so that a hostile name can neither forge a line nor flood a log.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from agent.errors import SpecRejected
from contracts.status import Diagnostic

ERROR, WARNING, INFO = "error", "warning", "info"
_SHOWN_LENGTH = 80
LISTED = 100  # diagnostics of one code; the others are counted


@dataclass(frozen=True, slots=True)
class Code:
    """How a kind of fault is told."""

    severity: str
    message: str
    remedy: str


_LIMIT_REMEDY = "Make the document smaller, or raise the setting BACKWRIGHT_COMPILER__{setting}."

CODES: dict[str, Code] = {
    # bytes → tree
    "document.empty": Code(ERROR, "The document is empty.", "Give an OpenAPI 3.0 or 3.1 document in YAML or JSON."),
    "document.encoding": Code(ERROR, "The document is not UTF-8: {detail}.", "Save it as UTF-8."),
    "document.syntax": Code(
        ERROR, "The document is neither JSON nor YAML: {detail}.", "Correct it at the place that is named."
    ),
    "document.not-a-mapping": Code(
        ERROR, "The document is a {kind}, not a mapping.", "Its top level must hold `openapi`, `info` and `paths`."
    ),
    "document.duplicate-key": Code(
        ERROR, "The key {key} stands twice.", "Remove or rename one: parsers disagree about which one counts."
    ),
    "document.key": Code(ERROR, "A key is not a text: {detail}.", "Use plain texts as keys."),
    "document.tag": Code(
        ERROR, "The YAML tag {tag} is not supported.", "Remove the tag: an OpenAPI document needs none."
    ),
    "document.alias": Code(ERROR, "The YAML alias {alias} {detail}.", "Write the value out, or use `$ref`."),
    "document.value": Code(ERROR, "The value cannot be expressed in JSON: {detail}.", "Use a JSON value."),
    "document.several": Code(ERROR, "The stream holds several YAML documents.", "Give one document per file."),
    "limit.bytes": Code(ERROR, "The document has {found} bytes; {setting} allows {allowed}.", _LIMIT_REMEDY),
    "limit.depth": Code(ERROR, "The document is nested deeper than {allowed} levels ({setting}).", _LIMIT_REMEDY),
    "limit.nodes": Code(
        ERROR, "The document has more than {allowed} values, aliases expanded ({setting}).", _LIMIT_REMEDY
    ),
    "limit.aliases": Code(ERROR, "The document uses more than {allowed} YAML aliases ({setting}).", _LIMIT_REMEDY),
    "limit.operations": Code(ERROR, "The document has {found} operations; {setting} allows {allowed}.", _LIMIT_REMEDY),
    "limit.name": Code(ERROR, "A name has {found} characters; {setting} allows {allowed}.", _LIMIT_REMEDY),
    "limit.pattern": Code(ERROR, "A pattern has {found} characters; {setting} allows {allowed}.", _LIMIT_REMEDY),
    "document.too_expensive": Code(
        ERROR,
        "The document is within every limit on its size, and yet takes more than {cost} ({setting}).",
        _LIMIT_REMEDY,
    ),
    # the kind of document
    "document.swagger2": Code(
        ERROR,
        "This is a Swagger 2.0 document.",
        "Convert it to OpenAPI 3, for example with `npx swagger2openapi` or https://converter.swagger.io.",
    ),
    "document.asyncapi": Code(
        ERROR,
        "This is an AsyncAPI document; it describes messages, not an HTTP API.",
        "Give the OpenAPI document of the service.",
    ),
    "document.not-openapi": Code(
        ERROR, "This is not an OpenAPI document: {detail}.", "Begin with `openapi: 3.1.0`, `info` and `paths`."
    ),
    "document.version": Code(
        ERROR, "OpenAPI {version} is not supported.", "Use OpenAPI 3.0.x or 3.1.x and set `openapi` accordingly."
    ),
    "document.no-paths": Code(ERROR, "The document has no operation: {detail}.", "Describe at least one operation."),
    "document.all-refused": Code(
        ERROR, "Every operation of the document is refused.", "See the other diagnostics; correct at least one."
    ),
    # references
    "reference.dangling": Code(
        ERROR, "The reference {reference} leads nowhere.", "Define what it names, or correct the reference."
    ),
    "reference.loop": Code(
        ERROR,
        "The reference {reference} leads back to itself.",
        "Let it end at a definition, or put a property in between.",
    ),
    "reference.chain": Code(
        ERROR, "More than {allowed} schemas refer to one another in a chain.", "Shorten the chain of references."
    ),
    "reference.external": Code(
        WARNING,
        "The reference {reference} leaves the document; it is never fetched and counts as {instead}.",
        "Bundle the document first (for example `redocly bundle`), so that it holds what it needs.",
    ),
    "reference.unsupported": Code(
        WARNING,
        "The reference {reference} is not a JSON pointer; it counts as {instead}.",
        "Write it as `#/components/…`.",
    ),
    # normalisation
    "normalised": Code(INFO, "{change}", "Nothing to do; it was read as meant."),
    "dropped": Code(WARNING, "Left out: {what} ({why}).", "Correct or remove it."),
    # inference
    "security.open": Code(
        WARNING,
        "The document declares no security: every operation is open to everybody.",
        "Declare `components.securitySchemes` and `security`, if this is not what you want.",
    ),
    "security.partly-open": Code(
        WARNING, "Operations without security: {operations}.", "Declare `security` for them, if this is not meant."
    ),
    "security.unchecked": Code(
        WARNING,
        "The security scheme {scheme} lets nobody in: {reason}.",
        "Beside it, accept what a service can check by itself: basic, bearer, an API key, OAuth 2 or OpenID Connect.",
    ),
    "security.optional-only": Code(
        WARNING,
        "Operations that also accept no credential: {operations}.",
        "Remove the empty alternative `{{}}`, if this is not meant.",
    ),
    "server.path": Code(
        WARNING, "The path of the first server, {url}, cannot be used; {instead} is served.", "Give a plain URL path."
    ),
    "parameter.ignored": Code(
        WARNING,
        "{operation}: the parameter {parameter} has no effect: no rule knows its meaning.",
        "Name it after a property that it filters by, or implement it in the service.",
    ),
    "operation.hooked": Code(
        INFO, "{operation} is not derivable: {reason}.", "It answers 501 until its hook is implemented."
    ),
    "operation.refused": Code(
        WARNING, "{operation} is refused: {reason}.", "Change the document so that the feature is not needed."
    ),
    "error.shape": Code(
        INFO,
        "{operation}: no valid body for status {status} could be made from its schema; a problem document is sent.",
        "Give the error schema an example, or loosen it.",
    ),
    # instead of the rest; as severe as they are
    "diagnostics.more": Code(
        INFO,
        "{number} more of `{told}` are not listed.",
        "Correct those that are listed: the same faults tend to have the same cause.",
    ),
}


def shown(text: object) -> str:
    """Text from a document as it may stand in a message: one line, quoted, at most 80 characters."""
    clean = "".join(c if c.isprintable() else "�" for c in str(text))
    return f"`{clean[:_SHOWN_LENGTH]}…`" if len(clean) > _SHOWN_LENGTH else f"`{clean}`"


def diagnostic(code: str, pointer: str, **facts: object) -> Diagnostic:
    """One diagnostic of the table. `pointer` is a JSON pointer into the given document ("": the whole)."""
    entry = CODES[code]
    return Diagnostic(
        pointer=_storable(pointer),
        code=code,
        severity=entry.severity,
        message=_storable(entry.message.format(**facts)),
        remedy=_storable(entry.remedy.format(**facts)),
    )


class Told:
    """What there is to say about a document, in order. Bounded: of each code the first hundred, then their number.

    A document of two megabytes can ask for 20,000 diagnostics, one of 10 KB for half a million; nobody reads on.
    """

    def __init__(self) -> None:
        self._listed: list[Diagnostic] = []
        self._number: Counter[str] = Counter()

    def tell(self, code: str, pointer: str, **facts: object) -> None:
        """One more of the table; made only if it is listed."""
        self._number[code] += 1
        if self._number[code] <= LISTED:
            self._listed.append(diagnostic(code, pointer, **facts))

    def extend(self, more: Iterable[Diagnostic]) -> None:
        """Several more."""
        for one in more:
            self._number[one.code] += 1
            if self._number[one.code] <= LISTED:
                self._listed.append(one)

    def all(self) -> tuple[Diagnostic, ...]:
        """Those that are listed, then one for each code that has more."""
        return (
            *self._listed,
            *(_more(code, number - LISTED) for code, number in self._number.items() if number > LISTED),
        )


def _more(code: str, number: int) -> Diagnostic:
    one = diagnostic("diagnostics.more", "", number=number, told=code)
    return one.model_copy(update={"severity": CODES[code].severity})


def reject(code: str, pointer: str = "", **facts: object) -> SpecRejected:
    """An exception that refuses the whole document for one fault."""
    return SpecRejected((diagnostic(code, pointer, **facts),))


def limit(code: str, pointer: str, setting: str, allowed: int, found: int | None = None) -> SpecRejected:
    """An exception that names the limit that a document exceeds."""
    return reject(code, pointer, setting=setting.upper(), allowed=allowed, found=found)


def child(pointer: str, *tokens: object) -> str:
    """Extend a JSON pointer (RFC 6901)."""
    return pointer + "".join("/" + str(token).replace("~", "~0").replace("/", "~1") for token in tokens)


def tokens(pointer: str) -> list[str]:
    """The unescaped tokens of a JSON pointer."""
    return [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]


def _storable(text: str) -> str:
    # A lone surrogate cannot be encoded: no event could carry it.
    return text.encode("utf-8", "replace").decode("utf-8")
