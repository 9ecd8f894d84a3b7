"""Schemas of the document, compiled by their place in it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import jsonschema_rs

from app.contract.document import as_list, prepare, resolve, types_of
from app.contract.formats import FORMATS
from app.errors import Fault

Json = Any
FAULTS_MAX = 10  # a hostile body can be wrong in a million places
ROOT = "urn:contract"
ANYTHING = "x-backwright-anything"


class Schemas:
    """Compiles schemas. `$ref`s are followed by the validator, so recursion in a document is fine."""

    def __init__(self, document: Mapping[str, Json]) -> None:
        self.document = {**prepare(document), ANYTHING: {}}
        self._registry = jsonschema_rs.Registry([(ROOT, self.document)], draft=jsonschema_rs.Draft202012)

    def at(self, pointer: str, node: Json) -> "Schema":
        """The schema `node` that stands at `pointer`."""
        return Schema(self.document, self._registry, pointer, node)

    @cached_property
    def anything(self) -> "Schema":
        """The schema of what the document leaves open."""
        return self.at(f"/{ANYTHING}", {})


class Schema:
    """One schema: judges values, and knows which JSON types it may allow."""

    def __init__(
        self, document: Mapping[str, Json], registry: jsonschema_rs.Registry, pointer: str, node: Json
    ) -> None:
        self.types = types_of(node, document)
        self.node = resolve(document, node)
        self._document = document
        self._validator = jsonschema_rs.Draft202012Validator(
            {"$ref": f"{ROOT}#{pointer}"},
            registry=registry,
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
        return types_of(node, self._document)

    @cached_property
    def properties(self) -> dict[str, frozenset[str]]:
        """Types of the properties of an object."""
        found: dict[str, frozenset[str]] = {}
        parts = [self.node]
        while parts:
            part = resolve(self._document, parts.pop())
            if isinstance(part, dict):
                parts.extend(as_list(part.get("allOf")))
                for name, node in (part.get("properties") or {}).items():
                    found[name] = types_of(node, self._document)
        return found
