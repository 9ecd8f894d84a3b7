"""The contract: validators compiled once, at start, from the document that the service publishes.

Stricter than a JSON Schema validator where the difference would reach the database or another client:
the text of a parameter is checked before it is converted; JSON is decoded without NaN, infinities, lone surrogates
and byte order marks; U+0000 is refused; dates and times must exist in Python and in PostgreSQL; `int32` and `int64`
are ranges. Properties that are `readOnly` are not required in a request.
"""

import copy
import math
import re
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote

import jsonschema_rs
import msgspec
import structlog

from app.errors import Fault, Kind, Problem

Json = Any
log = structlog.get_logger()

METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
FAULTS_MAX = 10  # a hostile body can be wrong in a million places
ROOT = "urn:contract"
# Headers that OpenAPI takes from elsewhere; a parameter of that name is ignored (OpenAPI 3.1, 4.8.12.1).
IGNORED_HEADERS = ("accept", "content-type", "authorization")

_INTEGER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})\Z")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,399})(?:\.[0-9]{1,400})?(?:[eE][+-]?[0-9]{1,4})?\Z")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_DATE_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?(Z|[+-][0-9]{2}:[0-9]{2})\Z")
_UUID = re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}\Z")


def is_date(text: str) -> bool:
    """`YYYY-MM-DD` that exists; year 1 to 9999."""
    try:
        return bool(_DATE.match(text) and date.fromisoformat(text))
    except ValueError:
        return False


def is_date_time(text: str) -> bool:
    """RFC 3339 in upper case that Python and timestamptz can hold in UTC; no leap second."""
    match = _DATE_TIME.match(text)
    if not match:
        return False
    try:
        datetime.fromisoformat(_six_digits(text)).astimezone(UTC)
    except (ValueError, OverflowError):
        return False
    return True


def parse_date_time(text: str) -> datetime:
    """A date-time (or a date, midnight UTC) in UTC; fractions beyond six digits are cut."""
    moment = datetime.fromisoformat(_six_digits(text))
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)


def _six_digits(text: str) -> str:
    return re.sub(r"(\.[0-9]{6})[0-9]+", r"\1", text)


def is_uuid(text: str) -> bool:
    """The hyphenated form only: no braces, no urn."""
    return bool(_UUID.match(text)) and bool(uuid.UUID(text))


FORMATS: dict[str, Callable[..., bool]] = {"date": is_date, "date-time": is_date_time, "uuid": is_uuid}
RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1)}


# --- The document, made ready for a validator -----------------------------------------------------------------------


def resolve(document: Mapping[str, Json], node: Json) -> Json:
    """Follow local `$ref`s from a node; a circle or a dangling one gives an empty mapping."""
    for _ in range(50):
        if not (isinstance(node, dict) and isinstance(node.get("$ref"), str)):
            return node
        node = look_up(document, node["$ref"])
    return {}


def look_up(document: Mapping[str, Json], reference: str) -> Json:
    """The node at `#/a/b`; an empty mapping if there is none."""
    node: Json = document
    for part in reference.removeprefix("#").split("/")[1:]:
        part = unquote(part).replace("~1", "/").replace("~0", "~")
        try:
            node = node[int(part)] if isinstance(node, list) else node[part]
        except (KeyError, IndexError, TypeError, ValueError):
            return {}
    return node


def prepare(document: Mapping[str, Json]) -> dict[str, Json]:
    """A copy for validating requests: ranges of integers, usable patterns, no required `readOnly` property."""
    prepared = copy.deepcopy(dict(document))
    for schema in _mappings(prepared):
        _bound(schema)
        _repair_pattern(schema)
    for schema in _mappings(prepared):
        _release_read_only(schema, prepared)
    return prepared


def _mappings(node: Json) -> Iterable[dict[str, Json]]:
    """Every mapping of the document, deepest last, without recursion: a document may be deep."""
    waiting = [node]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            yield node
            waiting.extend(node.values())
        elif isinstance(node, list):
            waiting.extend(node)


def _bound(schema: dict[str, Json]) -> None:
    limits = RANGES.get(schema.get("format", "")) if isinstance(schema.get("format", ""), str) else None
    if limits and schema.get("type") in ("integer", "number", ["integer", "null"], ["null", "integer"]):
        low, high = limits
        schema["minimum"] = max(low, schema["minimum"]) if _is_number(schema.get("minimum")) else low
        schema["maximum"] = min(high, schema["maximum"]) if _is_number(schema.get("maximum")) else high


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _repair_pattern(schema: dict[str, Json]) -> None:
    """Rewrite what the engine refuses although ECMA 262 allows it; a pattern that stays refused is not checked."""
    pattern = schema.get("pattern")
    if not isinstance(pattern, str):
        return
    for candidate in (pattern, pattern.replace("[^]", r"[\s\S]").replace(r"[\w-", r"[\w\-")):
        try:
            jsonschema_rs.Draft202012Validator({"pattern": candidate})
        except (ValueError, jsonschema_rs.ValidationError):
            continue
        schema["pattern"] = candidate
        return
    log.warning("pattern.ignored", length=len(pattern))
    del schema["pattern"]


def _release_read_only(schema: dict[str, Json], document: Mapping[str, Json]) -> None:
    """Drop from `required` what a request may leave out; siblings of an `allOf` count as one object."""
    if not ("properties" in schema or "allOf" in schema):
        return
    parts = [schema, *(part for part in _as_list(schema.get("allOf")) if isinstance(part, dict) and "$ref" not in part)]
    if not any(isinstance(part.get("required"), list) for part in parts):
        return
    released = read_only_names(schema, document)
    for part in parts:
        if released and isinstance(part.get("required"), list):
            part["required"] = [name for name in part["required"] if name not in released]


def _as_list(value: Json) -> list[Json]:
    return value if isinstance(value, list) else []


def read_only_names(schema: Json, document: Mapping[str, Json], depth: int = 0) -> set[str]:
    """Names of the `readOnly` properties of a schema, through `$ref` and `allOf`."""
    schema = resolve(document, schema)
    if not isinstance(schema, dict) or depth > 20:
        return set()
    properties = schema.get("properties")
    names = {
        name
        for name, part in (properties.items() if isinstance(properties, dict) else ())
        if isinstance(resolve(document, part), dict)
        and (
            (isinstance(part, dict) and part.get("readOnly") is True) or resolve(document, part).get("readOnly") is True
        )
    }
    for part in _as_list(schema.get("allOf")):
        names |= read_only_names(part, document, depth + 1)
    return names


# --- Text to JSON ---------------------------------------------------------------------------------------------------

ALL_TYPES = frozenset({"string", "integer", "number", "boolean", "array", "object", "null"})


def types_of(schema: Json, document: Mapping[str, Json], depth: int = 0) -> frozenset[str]:
    """JSON types that a schema may allow; all of them when it does not say."""
    schema = resolve(document, schema)
    if not isinstance(schema, dict) or depth > 20:
        return ALL_TYPES
    allowed = ALL_TYPES
    declared = schema.get("type")
    if declared:
        allowed = frozenset([declared] if isinstance(declared, str) else declared)
    for part in _as_list(schema.get("allOf")):
        allowed = (allowed & types_of(part, document, depth + 1)) or allowed
    for name in ("anyOf", "oneOf"):
        if branches := _as_list(schema.get(name)):
            union = frozenset[str]().union(*(types_of(part, document, depth + 1) for part in branches))
            allowed = (allowed & union) or allowed
    return allowed


def readings(text: str, types: frozenset[str]) -> list[Json]:
    """What a text may mean as a scalar, most specific first. Empty: it has no permitted form."""
    found: list[Json] = []
    if types & {"integer", "number"} and _INTEGER.match(text):
        found.append(int(text))
    elif "number" in types and _NUMBER.match(text) and math.isfinite(float(text)):
        found.append(float(text))
    if "boolean" in types and text in ("true", "false"):
        found.append(text == "true")
    if "string" in types:
        found.append(text)
    if "null" in types and text in ("", "null"):
        found.append(None)
    return found


def decode(body: bytes) -> Json:
    """JSON of a body. Raises Problem: malformed, a number out of range, a lone surrogate, U+0000."""
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError, UnicodeDecodeError) as exc:
        raise Problem(Kind.INVALID, "The body is not valid JSON.", faults=[Fault("", str(exc)[:200])]) from exc
    # Only an escape can bring it in: raw control characters are refused above.
    if b"\\u0000" in body and any("\x00" in text for text in _texts(value)):
        raise Problem(Kind.INVALID, "Text must not contain U+0000.")
    return value


def _texts(value: Json) -> Iterable[str]:
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
        elif isinstance(value, list):
            waiting.extend(value)


# --- Compiled parts -------------------------------------------------------------------------------------------------


def escape(part: str) -> str:
    """A segment of a JSON pointer, also safe inside a URI fragment."""
    escaped = part.replace("~", "~0").replace("/", "~1")
    return "".join(
        c if (c.isalnum() and c.isascii()) or c in "~-._" else "".join(f"%{b:02X}" for b in c.encode()) for c in escaped
    )


class Schema:
    """A schema of the document, by its place."""

    def __init__(self, contract: "Contract", pointer: str, node: Json) -> None:
        self.types = types_of(node, contract.prepared)
        self.node = resolve(contract.prepared, node)
        self._contract = contract
        self._validator = jsonschema_rs.Draft202012Validator(
            {"$ref": f"{ROOT}#{pointer}"},
            registry=contract.registry,
            formats=FORMATS,
            validate_formats=True,
            offline=True,
        )

    def is_valid(self, value: Json) -> bool:
        return self._validator.is_valid(value)

    def faults(self, value: Json, where: str = "") -> list[Fault]:
        """What is wrong with a value, at most FAULTS_MAX."""
        found: list[Fault] = []
        for error in self._validator.iter_errors(value):
            place = "".join(f"/{str(part).replace('~', '~0').replace('/', '~1')}" for part in error.instance_path)
            found.append(Fault(where + place, error.message[:300]))
            if len(found) == FAULTS_MAX:
                break
        return found

    @cached_property
    def items(self) -> frozenset[str]:
        """Types of the items of an array."""
        node = self.node.get("items", {}) if isinstance(self.node, dict) else {}
        return types_of(node, self._contract.prepared)

    @cached_property
    def properties(self) -> dict[str, frozenset[str]]:
        """Types of the properties of an object."""
        found: dict[str, frozenset[str]] = {}
        parts = [self.node]
        while parts:
            part = resolve(self._contract.prepared, parts.pop())
            if isinstance(part, dict):
                parts.extend(_as_list(part.get("allOf")))
                for name, node in (part.get("properties") or {}).items():
                    found[name] = types_of(node, self._contract.prepared)
        return found


_SEPARATORS = {"spaceDelimited": " ", "pipeDelimited": "|"}
_MISSING = object()


class Parameter:
    """A declared parameter: finds its text in a request, converts and checks it."""

    def __init__(self, contract: "Contract", pointer: str, node: Mapping[str, Json]) -> None:
        self.name: str = str(node.get("name", ""))
        self.place: str = str(node.get("in", "query"))
        self.required = bool(node.get("required"))
        default_style = {"path": "simple", "header": "simple"}.get(self.place, "form")
        self.style = str(node.get("style") or default_style)
        self.explode = bool(node.get("explode", self.style == "form"))
        content = node.get("content")
        self.is_json = isinstance(content, dict) and bool(content)
        if isinstance(content, dict) and content:
            media_type, part = next(iter(content.items()))
            place = f"{pointer}/content/{escape(media_type)}/schema"
            self.schema = Schema(contract, place, part["schema"]) if "schema" in part else contract.anything
        elif "schema" in node:
            self.schema = Schema(contract, f"{pointer}/schema", node["schema"])
        else:
            self.schema = contract.anything
        schema = self.schema.node
        self.default = schema.get("default", _MISSING) if isinstance(schema, dict) else _MISSING

    def read(self, texts: Sequence[tuple[str, str]]) -> Json:
        """The value among (name, text) pairs of its place; `_MISSING` if absent. Raises Problem."""
        if self.schema.types == {"object"} and not self.is_json:
            parts = self._object(texts)
            return self._check([parts]) if parts else self._absent()
        found = [text for name, text in texts if name == self.name]
        if not found:
            return self._absent()
        is_array = "array" in self.schema.types and self.schema.types != ALL_TYPES and not self.is_json
        if len(found) > 1 and not is_array:
            raise self._fault("given more than once")
        if self.is_json:
            return self._check([decode(found[0].encode())])
        candidates = readings(self._bare(found[0]), self.schema.types) if len(found) == 1 else []
        return self._check([*candidates, *(self._array(found) if is_array else [])])

    def _bare(self, text: str) -> str:
        """The text without the mark of `label` and `matrix` paths."""
        if self.style == "label":
            return text.removeprefix(".")
        return text.removeprefix(f";{self.name}=") if self.style == "matrix" else text

    def _absent(self) -> Json:
        if self.required:
            raise self._fault("is required")
        return self.default

    def _check(self, candidates: list[Json]) -> Json:
        for value in candidates:
            if self.schema.is_valid(value):
                return value
        if not candidates:
            raise self._fault(f"is not of type {' or '.join(sorted(self.schema.types))}")
        raise Problem(
            Kind.INVALID,
            f"The {self.place} parameter {self.name!r} is not valid.",
            faults=self.schema.faults(candidates[0], self.name),
        )

    def _fault(self, what: str) -> Problem:
        return Problem(
            Kind.INVALID, f"The {self.place} parameter {self.name!r} {what}.", faults=[Fault(self.name, what)]
        )

    def _array(self, found: list[str]) -> list[Json]:
        if self.explode and self.style == "form" and self.place in ("query", "cookie"):
            texts = found
        elif len(found) > 1:
            raise self._fault("given more than once")
        else:
            text = self._bare(found[0])
            texts = text.split(_SEPARATORS.get(self.style, ",")) if text else []
        scalars = self.schema.items & {"string", "integer", "number", "boolean", "null"}
        values: list[Json] = []
        for text in texts:
            read = readings(text, scalars)
            values.append(read[0] if read else text)
        return [values]

    def _object(self, texts: Sequence[tuple[str, str]]) -> dict[str, Json]:
        pairs: list[tuple[str, str]] = []
        if self.style == "deepObject":
            start = f"{self.name}["
            pairs = [(n[len(start) : -1], t) for n, t in texts if n.startswith(start) and n.endswith("]")]
        elif self.style == "form" and self.explode:
            pairs = [(n, t) for n, t in texts if n in self.schema.properties]
        else:
            for name, text in texts:
                if name == self.name:
                    parts = self._bare(text).split(",")
                    if self.explode:
                        pairs += [(n, t) for n, _, t in (part.partition("=") for part in parts)]
                    else:
                        pairs += list(zip(parts[::2], parts[1::2], strict=False))
        read: dict[str, Json] = {}
        for name, text in pairs:
            meanings = readings(text, self.schema.properties.get(name, ALL_TYPES))
            read[name] = meanings[0] if meanings else text
        return read


class Body:
    """A declared request body: one schema per media type."""

    def __init__(self, contract: "Contract", pointer: str, node: Mapping[str, Json]) -> None:
        self.required = bool(node.get("required"))
        self.schemas: dict[str, Schema] = {}
        content = node.get("content") or {}
        # One meaning, one way in: where JSON is declared, other media types of the same body are not taken.
        preferred = {name: part for name, part in content.items() if is_json(essence(name))} or content
        for media_type, part in preferred.items():
            place = f"{pointer}/content/{escape(media_type)}/schema"
            known = isinstance(part, dict) and "schema" in part
            self.schemas[essence(media_type)] = Schema(contract, place, part["schema"]) if known else contract.anything

    def read(self, content_type: str | None, body: bytes) -> Json:
        """The decoded and validated body; None if it is absent and may be. Raises Problem."""
        if not body:
            if self.required:
                raise Problem(Kind.INVALID, "A body is required.", faults=[Fault("", "is required")])
            return None
        media_type = essence(content_type or "application/json")
        schema = self._find(media_type)
        if schema is None:
            raise Problem(Kind.UNSUPPORTED_MEDIA_TYPE, f"Media types taken: {', '.join(self.schemas)}.")
        value = self._decode(media_type, body, schema)
        if faults := ([] if schema.is_valid(value) else schema.faults(value)):
            raise Problem(Kind.INVALID, "The body is not valid.", faults=faults)
        return value

    def _find(self, media_type: str) -> Schema | None:
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((self.schemas[name] for name in ranges if name in self.schemas), None)

    def _decode(self, media_type: str, body: bytes, schema: Schema) -> Json:
        if is_json(media_type):
            return decode(body)
        if media_type == "application/x-www-form-urlencoded":
            return _form(body, schema)
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body.decode("latin-1")  # a binary format: only its length can be judged


def _form(body: bytes, schema: Schema) -> dict[str, Json]:
    value: dict[str, Json] = {}
    for name, text in pairs_of(body):
        types = schema.properties.get(name, ALL_TYPES)
        meanings = readings(text, types)
        meaning = meanings[0] if meanings else text
        if types == {"array"}:
            value.setdefault(name, []).append(text)
        elif name in value:
            raise Problem(Kind.INVALID, f"The field {name!r} is given more than once.")
        else:
            value[name] = meaning
    return value


def pairs_of(query: bytes) -> list[tuple[str, str]]:
    """Decoded (name, text) pairs of a query string or form. Raises Problem: not UTF-8, U+0000, too many."""
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except (UnicodeDecodeError, ValueError) as exc:
        raise Problem(Kind.INVALID, "The query or form is not valid UTF-8.") from exc
    refuse_nul(text for pair in pairs for text in pair)
    return pairs


def refuse_nul(texts: Iterable[str]) -> None:
    """PostgreSQL's text cannot hold U+0000."""
    if any("\x00" in text for text in texts):
        raise Problem(Kind.INVALID, "Text must not contain U+0000.")


def essence(media_type: str) -> str:
    """A media type without its parameters, in lower case."""
    return media_type.partition(";")[0].strip().lower()


def is_json(media_type: str) -> bool:
    """Whether bodies of a media type are JSON; wildcards are taken as such."""
    return media_type in ("application/json", "*/*", "application/*", "text/json") or media_type.endswith("+json")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request brought, checked. Absent parameters without a default are missing from the mappings."""

    path: Mapping[str, Json]
    query: Mapping[str, Json]
    header: Mapping[str, Json]
    cookie: Mapping[str, Json]
    body: Json


class OperationContract:
    """What the document says about one operation."""

    def __init__(self, contract: "Contract", path: str, method: str) -> None:
        document = contract.prepared
        item = resolve(document, document["paths"][path])
        place = f"/paths/{escape(path)}"
        node = item[method.lower()]
        self.method, self.path = method, path
        self.responses: tuple[str, ...] = tuple(
            str(s).replace("x", "X") if s != "default" else s for s in node.get("responses", {})
        )
        # `security: []` opens an operation; absent, the document's own holds.
        self.security: list[dict[str, list[str]]] = node.get("security", document.get("security", [])) or []
        self._contract, self._item, self._node = contract, item, node
        self._place = place

    def compile(self) -> None:
        """Compile every validator now: a document that cannot be compiled must stop the start, not a request."""
        _ = self.parameters, self.body

    @cached_property
    def parameters(self) -> list[Parameter]:
        """The parameters of the operation, those of its path included."""
        found: dict[tuple[str, str], Parameter] = {}
        for holder, where in ((self._item, self._place), (self._node, f"{self._place}/{self.method.lower()}")):
            for index, raw in enumerate(_as_list(holder.get("parameters"))):
                pointer, parameter = self._contract.locate(raw, f"{where}/parameters/{index}")
                compiled = Parameter(self._contract, pointer, parameter)
                found[compiled.place, compiled.name.lower() if compiled.place == "header" else compiled.name] = compiled
        return [p for p in found.values() if not (p.place == "header" and p.name.lower() in IGNORED_HEADERS)]

    @cached_property
    def body(self) -> Body | None:
        """The request body, if one is declared."""
        if "requestBody" not in self._node:
            return None
        place = f"{self._place}/{self.method.lower()}/requestBody"
        pointer, body = self._contract.locate(self._node["requestBody"], place)
        return Body(self._contract, pointer, body)

    def declares(self, status: int) -> bool:
        """Whether the document names this status for this operation."""
        return str(status) in self.responses

    def check_parameters(
        self,
        path: Mapping[str, str],
        query: Sequence[tuple[str, str]],
        headers: Sequence[tuple[str, str]],
        cookies: Mapping[str, str],
    ) -> dict[str, dict[str, Json]]:
        """Values by place and name. Raises Problem at the first parameter that is not valid."""
        texts: dict[str, Sequence[tuple[str, str]]] = {
            "path": list(path.items()),
            "query": query,
            "header": headers,
            "cookie": list(cookies.items()),
        }
        values: dict[str, dict[str, Json]] = {"path": {}, "query": {}, "header": {}, "cookie": {}}
        for parameter in self.parameters:
            given = texts.get(parameter.place, ())
            if parameter.place == "header":
                given = [(parameter.name, text) for name, text in given if name == parameter.name.lower()]
            value = parameter.read(given)
            if value is not _MISSING:
                values[parameter.place][parameter.name] = value
        return values


class Contract:
    """The whole document, compiled."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self.document = document
        self.prepared = {**prepare(document), "x-backwright-anything": {}}
        # Not a copy of the schemas: `$ref`s are followed by the validator, so recursion in a document is fine.
        self.registry = jsonschema_rs.Registry([(ROOT, self.prepared)], draft=jsonschema_rs.Draft202012)
        self.security_schemes: dict[str, dict[str, Json]] = {
            name: resolve(document, node)
            for name, node in document.get("components", {}).get("securitySchemes", {}).items()
        }

    @cached_property
    def anything(self) -> Schema:
        """The schema of what the document leaves open."""
        return Schema(self, "/x-backwright-anything", {})

    def locate(self, node: Json, pointer: str) -> tuple[str, Json]:
        """Where a node really stands, and the node, following `$ref`s."""
        for _ in range(50):
            if not (isinstance(node, dict) and isinstance(node.get("$ref"), str)):
                break
            pointer = node["$ref"].removeprefix("#")
            node = look_up(self.prepared, node["$ref"])
        return pointer, node

    def operation(self, method: str, path: str) -> OperationContract:
        """The contract of one operation; `path` as the document writes it."""
        return OperationContract(self, path, method)
