"""Small documents that cost much: each is answered in seconds, whatever it refers to how often."""

import json
import time
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

from agent.compiler.diagnostics import LISTED
from agent.compiler.understand import understand
from agent.errors import SpecRejected
from agent.settings import CompilerSettings
from tests.unit.compiler.conftest import answer, body, but

Json = Any
CPU_S = 10.0  # each takes below 2 s on a slow core; what is quadratic or worse here takes minutes


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def _with(schemas: Json) -> bytes:
    """The good document with more schemas."""
    return but(lambda document: document["components"]["schemas"].update(schemas))


def _chain(names: list[str]) -> bytes:
    links = {one: _schema(other) for one, other in pairwise(names)}
    return _with({**links, names[-1]: {"type": "object"}})


def _chain_from_its_end() -> bytes:
    """Written last link first: whoever walks in the order of the document meets each link's end before the link."""
    names = [f"S{number}" for number in range(20_000)]
    return _with({names[0]: {"type": "object"}, **{b: _schema(a) for a, b in pairwise(names)}})


def _path_items(items: Json) -> bytes:
    def change(document: Json) -> None:
        document["components"]["pathItems"] = items
        document["paths"]["/many"] = {"$ref": "#/components/pathItems/P0"}

    return but(change)


def _callbacks_that_double() -> bytes:
    """Each path item calls back two of the next: 2^40 operations, were they all copied in."""
    done = {"200": {"description": ""}}
    items = {
        f"P{number}": {
            "post": {
                "responses": done,
                "callbacks": {
                    name: {"{$request.body#/url}": {"$ref": f"#/components/pathItems/P{number + 1}"}} for name in "ab"
                },
            }
        }
        for number in range(40)
    }
    return _path_items({**items, "P40": {"post": {"responses": done}}})


def _path_items_in_a_row() -> bytes:
    items: Json = {f"P{number}": {"$ref": f"#/components/pathItems/P{number + 1}"} for number in range(3_000)}
    return _path_items({**items, "P3000": {"get": {"responses": {"200": {"description": ""}}}}})


@pytest.mark.parametrize(
    ("given", "code"),
    [
        (_chain([f"S{number}" for number in range(20_000)]), "reference.chain"),
        (_chain_from_its_end(), "reference.chain"),
        (_callbacks_that_double(), "limit.nodes"),
        (_path_items_in_a_row(), "reference.chain"),
    ],
    ids=["chain", "chain-from-its-end", "callbacks", "path-items"],
)
def test_what_multiplies_is_refused_soon(settings: CompilerSettings, given: bytes, code: str) -> None:
    """A chain of 20,000 references took minutes: it was walked to its end for each of its links."""
    started = time.process_time()

    with pytest.raises(SpecRejected) as caught:
        understand(given, settings)

    assert [one.code for one in caught.value.diagnostics] == [code]
    assert time.process_time() - started < CPU_S


def _renamed() -> bytes:
    """Component names that OpenAPI does not allow, all of them alike without what it does not allow."""
    names = [f"x{chr(0x4E00 + number)}" for number in range(20_000)]
    return _with({name: {"type": "string"} for name in names})


def _renamed_parameters() -> bytes:
    names = [f"p {number}" for number in range(20_000)]

    def change(document: Json) -> None:
        document["components"]["parameters"] = {
            name: {"name": name, "in": "query", "schema": {"type": "string"}} for name in names
        }
        document["paths"]["/things"]["parameters"] = [
            {"$ref": f"#/components/parameters/p%20{number}"} for number in range(len(names))
        ]

    return but(change)


def _absent_properties() -> bytes:
    required = [f"absent{number}" for number in range(30_000)]
    return _with({"A": {"type": "object", "properties": {"a": {"type": "string"}}, "required": required}})


@pytest.mark.parametrize("make", [_renamed, _renamed_parameters, _absent_properties])
def test_many_of_a_kind_cost_no_more_than_their_number(settings: CompilerSettings, make: Callable[[], bytes]) -> None:
    """Nothing is looked for in a list of all the others."""
    given = make()
    started = time.process_time()

    understand(given, settings)

    assert time.process_time() - started < CPU_S


@pytest.mark.parametrize(
    "target",
    [
        "#",
        "#/paths",
        "#/info",
        "#/components/schemas",
        "#/components/schemas/Thing/properties",
        "#/components/schemas/Thing/required",
        "#/components/schemas/Thing/example",
        "#/components/parameters/Id",
        "#/x-schemas/A",
    ],
)
def test_a_reference_ends_at_an_object_of_its_kind(settings: CompilerSettings, target: str) -> None:
    """What is no schema was read by other rules or by none: taken for one, it is a crash, or a way around a limit."""

    def change(document: Json) -> None:
        document["x-schemas"] = {"A": {"type": 5, "$ref": []}}
        document["components"]["parameters"] = {"Id": {"name": "id", "in": "query", "required": True, "schema": {}}}
        thing = document["components"]["schemas"]["Thing"]
        thing["example"] = {"type": ["x"], "required": 1}
        thing["properties"]["name"] = {"$ref": target}

    with pytest.raises(SpecRejected) as caught:
        understand(but(change), settings)

    assert [one.code for one in caught.value.diagnostics] == ["reference.dangling"]


def test_a_mapping_of_a_discriminator_ends_at_a_schema() -> None:
    """It is a reference too, only written in another way; what leads elsewhere is left out, as what leads nowhere is."""
    mapping = {"a": "#/components/schemas", "b": "#/info", "c": "Thing"}
    choice = {"oneOf": [_schema("Thing")], "discriminator": {"propertyName": "name", "mapping": mapping}}

    found, _ = understand(
        but(lambda document: document["paths"]["/things"]["get"]["responses"].update({"200": answer(choice)})),
        CompilerSettings(),
    )

    schema = found.document["paths"]["/things"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert json.loads(json.dumps(schema))["discriminator"]["mapping"] == {"c": "#/components/schemas/Thing"}


def test_what_is_told_of_a_document_is_bounded(settings: CompilerSettings) -> None:
    """10 KB of aliases asked for 475,000 warnings, which took 760 MiB; all of them are counted, a hundred told."""
    wrong = ", ".join(f"w{number}: 1" for number in range(400))
    uses = ", ".join(f"p{number}: *s" for number in range(900))
    given = (
        "openapi: 3.1.0\ninfo: {title: T, version: '1'}\n"
        f"x-s: &s {{type: object, {wrong}}}\n"
        "paths: {/a: {get: {responses: {'200': {description: '', content: {application/json: {schema: "
        f"{{type: object, properties: {{{uses}}}}}}}}}}}}}}}}}}}\n"
    )

    found, diagnostics = understand(given.encode(), settings)

    assert Counter(one.code for one in diagnostics)["dropped"] == LISTED
    assert len(diagnostics) < LISTED * 3
    assert len(found.changes) < 1_100
    assert [one.message for one in diagnostics if one.code == "diagnostics.more"] == [
        f"{400 * 900 - LISTED} more of `dropped` are not listed."
    ]


def test_parameters_without_effect_are_counted_when_they_are_many(settings: CompilerSettings) -> None:
    """2.4 MB of parameters that no rule knows made 20,000 diagnostics, each of them in report, delivery and plan."""
    lists, unknown = 40, 50

    def change(document: Json) -> None:
        for number in range(lists):
            parameters = [{"name": f"zz{n}", "in": "query", "schema": {"type": "string"}} for n in range(unknown)]
            listed = {"200": answer({"type": "array", "items": _schema("Thing")})}
            document["paths"][f"/r{number}"] = {"get": {"parameters": parameters, "responses": listed}}

    given = but(change)
    _, told = understand(given, settings)

    ignored = [one for one in told if one.code == "parameter.ignored"]
    assert len(ignored) == LISTED
    assert ignored[0].pointer == "/paths/~1r0/get"
    more = [one for one in told if one.code == "diagnostics.more"]
    assert [(one.severity, one.message) for one in more] == [
        ("warning", f"{lists * unknown - LISTED} more of `parameter.ignored` are not listed.")
    ]
    assert understand(given, settings)[1] == told


@pytest.mark.parametrize(("resources", "properties"), [(10, 60), (20, 400)])
def test_resources_that_all_name_each_other_cost_what_they_are(
    settings: CompilerSettings, resources: int, properties: int
) -> None:
    """A sample was made for each of the properties that name a schema, and copied for each row that a check looked at.

    The first took 10 s, then 1.6; the second 17 s, now 1.7.
    """
    names = [f"R{number}" for number in range(resources)]

    def change(document: Json) -> None:
        for name in names:
            others = {f"p{number}": _schema(names[number % len(names)]) for number in range(properties)}
            document["components"]["schemas"][name] = {
                "type": "object",
                "required": ["id"],
                "properties": {"id": {"type": "integer", "readOnly": True}, **others},
            }
            listed = answer({"type": "array", "items": _schema(name)})
            created = {"requestBody": body(_schema(name)), "responses": {"201": answer(_schema(name))}}
            document["paths"][f"/{name}"] = {"get": {"responses": {"200": listed}}, "post": created}

    given = but(change)
    started = time.process_time()

    understand(given, settings)

    assert time.process_time() - started < CPU_S / 2
