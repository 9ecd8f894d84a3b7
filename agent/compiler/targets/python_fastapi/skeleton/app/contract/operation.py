"""The whole document, compiled, and what it says about one operation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from app.contract.body import Body
from app.contract.document import as_list, escape, look_up, resolve
from app.contract.parameter import MISSING, Parameter
from app.contract.schema import Schemas

Json = Any
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE")
PLACES = ("path", "query", "header", "cookie")
# Headers that OpenAPI takes from elsewhere; a parameter of that name is ignored (OpenAPI 3.1, 4.8.12.1).
IGNORED_HEADERS = ("accept", "content-type", "authorization")


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a request brought, checked. Absent parameters without a default are missing from the mappings."""

    path: Mapping[str, Json]
    query: Mapping[str, Json]
    header: Mapping[str, Json]
    cookie: Mapping[str, Json]
    body: Json


class Contract:
    """The whole document, compiled."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self.document = document
        self.schemas = Schemas(document)
        self.prepared = self.schemas.document
        self.security_schemes: dict[str, dict[str, Json]] = {
            name: resolve(document, node)
            for name, node in document.get("components", {}).get("securitySchemes", {}).items()
        }

    def locate(self, node: Json, pointer: str) -> tuple[str, Json]:
        """Where a node really stands, and the node, following `$ref`s."""
        for _ in range(50):
            if not (isinstance(node, dict) and isinstance(node.get("$ref"), str)):
                break
            pointer = node["$ref"].removeprefix("#")
            node = look_up(self.prepared, node["$ref"])
        return pointer, node

    def operation(self, method: str, path: str) -> "OperationContract":
        """The contract of one operation; `path` as the document writes it."""
        return OperationContract(self, path, method)


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
    def parameters(self) -> dict[str, list[Parameter]]:
        """The parameters of the operation, those of its path included, by place."""
        found: dict[tuple[str, str], Parameter] = {}
        for holder, where in ((self._item, self._place), (self._node, f"{self._place}/{self.method.lower()}")):
            for index, raw in enumerate(as_list(holder.get("parameters"))):
                pointer, parameter = self._contract.locate(raw, f"{where}/parameters/{index}")
                compiled = Parameter(self._contract.schemas, pointer, parameter)
                found[compiled.place, compiled.name.lower() if compiled.place == "header" else compiled.name] = compiled
        places: dict[str, list[Parameter]] = {place: [] for place in PLACES}
        for (place, name), compiled in found.items():
            if place in places and not (place == "header" and name in IGNORED_HEADERS):
                places[place].append(compiled)
        return places

    @cached_property
    def body(self) -> Body | None:
        """The request body, if one is declared."""
        if "requestBody" not in self._node:
            return None
        place = f"{self._place}/{self.method.lower()}/requestBody"
        pointer, body = self._contract.locate(self._node["requestBody"], place)
        return Body(self._contract.schemas, pointer, body)

    def check(self, place: str, texts: Sequence[tuple[str, str]]) -> dict[str, Json]:
        """Values of the parameters of a place (`path`, `query`, `header`, `cookie`). Raises Problem: one is not valid.

        The members of an object that is spread over the query stand beside it, as far as no parameter has their name.
        """
        read = [(parameter, parameter.read(texts)) for parameter in self.parameters[place]]
        spread = [value for parameter, value in read if parameter.is_spread and isinstance(value, dict)]
        members = {name: one for value in spread for name, one in value.items()}
        return members | {parameter.name: value for parameter, value in read if value is not MISSING}
