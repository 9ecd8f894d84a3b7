"""What is harmlessly wrong is corrected and listed; what is wrong is refused with a pointer."""

from typing import Any

import pytest

from agent.compiler.ir import Api, Place
from agent.compiler.understand import understand
from agent.errors import SpecRejected
from agent.settings import CompilerSettings
from tests.unit.compiler.conftest import GOLDEN, api, but

Json = Any


def thing(change: Json) -> Api:
    """The good document, its thing's `name` replaced."""
    return api(but(lambda d: d["components"]["schemas"]["Thing"]["properties"].update(name=change)))


def name_of(found: Api) -> Json:
    """The normalised `name`."""
    return found.document["components"]["schemas"]["Thing"]["properties"]["name"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"type": "string", "nullable": True}, {"type": ["string", "null"]}),
        ({"type": "string", "nullable": True, "enum": ["a"]}, {"type": ["string", "null"], "enum": ["a", None]}),
        ({"type": "string", "nullable": False}, {"type": "string"}),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": True}, {"type": "number", "exclusiveMinimum": 1}),
        ({"type": "number", "minimum": 1, "exclusiveMinimum": False}, {"type": "number", "minimum": 1}),
        ({"type": "string", "example": "x"}, {"type": "string", "examples": ["x"]}),
        ({"type": "string", "format": "byte"}, {"type": "string", "contentEncoding": "base64"}),
        ({"type": "string", "format": "binary"}, {"type": "string", "contentMediaType": "application/octet-stream"}),
        ({"type": "int"}, {"type": "integer"}),
        ({"type": "number", "format": "int32"}, {"type": "integer", "format": "int32"}),
        ({"type": "string", "required": True}, {"type": "string"}),
        ({"type": "string", "maxLength": -1}, {"type": "string"}),
        ({"type": "string", "maxLength": 5.0}, {"type": "string", "maxLength": 5}),
        ({"type": "string", "pattern": "(("}, {"type": "string"}),
        ({"type": "string", "$id": "http://127.0.0.1:1/"}, {"type": "string"}),
        ({"type": "array", "items": [{"type": "string"}]}, {"type": "array", "prefixItems": [{"type": "string"}]}),
        ({"$ref": "http://127.0.0.1:1/x.json"}, {}),
        ({"$ref": "other.yaml#/X"}, {}),
    ],
)
def test_schemas_of_3_0_become_3_1(given: Json, expected: Json) -> None:
    """One dialect inside: JSON Schema 2020-12, as jsonschema-rs and Schemathesis read it."""
    found = thing(given)

    assert name_of(found) == expected
    assert found.changes


def test_a_nullable_reference_keeps_its_annotations_outside() -> None:
    """`nullable` beside `allOf` means "or null"; a readOnly inside an anyOf would be lost on many tools."""
    found = api(
        but(
            lambda d: (
                d["components"]["schemas"].update(Other={"type": "string"}),
                d["components"]["schemas"]["Thing"]["properties"].update(
                    name={"nullable": True, "readOnly": True, "allOf": [{"$ref": "#/components/schemas/Other"}]}
                ),
            )
        )
    )

    assert name_of(found) == {
        "readOnly": True,
        "anyOf": [{"allOf": [{"$ref": "#/components/schemas/Other"}]}, {"type": "null"}],
    }


def test_operations_always_have_one_id_each() -> None:
    """Reports and fuzz configuration address operations by id."""
    found = api(
        but(
            lambda d: (
                d["paths"]["/things"]["get"].pop("operationId"),
                d["paths"]["/things"]["post"].update(operationId="getThing"),
            )
        )
    )

    ids = [one.id for one in found.operations]
    assert len(ids) == len(set(ids))
    assert "get_things" in ids


def test_path_parameters_that_nobody_declared_are_texts() -> None:
    """Routers and fuzzers stumble over a template without a parameter."""
    found = api(but(lambda d: d["paths"]["/things/{id}"].pop("parameters")))

    assert all(
        any(p.name == "id" and p.required for p in one.parameters) for one in found.operations if "{" in one.path
    )


@pytest.mark.parametrize("name", ["Accept", "content-type", "Authorization"])
def test_header_that_openapi_ignores_is_no_parameter(name: str) -> None:
    """OpenAPI 3.1, 4.8.12.1. The fuzz tool would ask for it, and the service would not."""
    header = {"name": name, "in": "header", "required": True, "schema": {"type": "string"}}
    found = api(
        but(
            lambda d: (
                d["components"].update(parameters={"Shared": header}),
                d["paths"]["/things"]["get"].update(parameters=[header]),
                d["paths"]["/things/{id}"]["parameters"].append({"$ref": "#/components/parameters/Shared"}),
            )
        )
    )

    assert [[p.name for p in one.parameters if p.place is Place.HEADER] for one in found.operations] == [[]] * 5
    assert not any(p.get("in") == "header" for p in found.document["paths"]["/things"]["get"]["parameters"])
    assert any("which OpenAPI ignores" in line for line in found.changes)


def test_required_names_that_no_property_has_are_left_out() -> None:
    """No value could ever be known for them; in a composition another part may describe them."""
    found = api(but(lambda d: d["components"]["schemas"]["Thing"].update(required=["name", "ghost"])))

    assert found.document["components"]["schemas"]["Thing"]["required"] == ["name"]


def test_component_names_are_made_legal_and_references_follow() -> None:
    """`Page<Thing>` is no component name in 3.1."""
    found = api(
        but(
            lambda d: (
                d["components"]["schemas"].update({"Page<Thing>": d["components"]["schemas"].pop("Thing")}),
                [
                    node.update({"$ref": "#/components/schemas/Page%3CThing%3E"})
                    for item in d["paths"].values()
                    for one in item.values()
                    if isinstance(one, dict)
                    for node in _references(one)
                ],
            )
        )
    )

    assert list(found.document["components"]["schemas"]) == ["Page_Thing"]
    assert found.resources[0].properties


def _references(node: Json) -> list[Json]:
    if isinstance(node, list):
        return [found for one in node for found in _references(one)]
    if not isinstance(node, dict):
        return []
    return ([node] if "$ref" in node else []) + [found for one in node.values() for found in _references(one)]


@pytest.mark.parametrize("path", sorted((GOLDEN / "negative").glob("*.yaml")), ids=lambda path: path.stem)
def test_a_document_that_cannot_be_used_says_why(path: Any) -> None:
    """`# expect: code [pointer]` in the first line of each negative document."""
    given = path.read_bytes()
    code, _, pointer = given.decode().splitlines()[0].removeprefix("# expect: ").partition(" ")

    with pytest.raises(SpecRejected) as caught:
        understand(given, CompilerSettings())

    first = caught.value.diagnostics[0]
    assert first.code == code
    assert not pointer or first.pointer == pointer
    assert first.severity == "error"
    assert first.remedy


def test_a_dangling_reference_points_into_the_place_that_refers() -> None:
    """That is where a person has to look."""
    with pytest.raises(SpecRejected) as caught:
        api(
            but(
                lambda d: d["paths"]["/things/{id}"]["get"]["responses"].update(
                    {"200": {"$ref": "#/components/responses/None"}}
                )
            )
        )

    assert caught.value.diagnostics[0].pointer == "/paths/~1things~1{id}/get/responses/200/$ref"


def test_operations_are_limited() -> None:
    """The limit names itself and its remedy."""
    with pytest.raises(SpecRejected) as caught:
        understand(but(lambda d: None), CompilerSettings(max_operations=2))

    found = caught.value.diagnostics[0]
    assert found.code == "limit.operations"
    assert "MAX_OPERATIONS" in found.message
