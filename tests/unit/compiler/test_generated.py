"""Documents as frameworks generate them: what FastAPI, NestJS, Django REST framework and flask-smorest leave unsaid."""

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from agent.compiler.ir import Action, Meta, Operation, PagingStyle, Verdict
from agent.compiler.reading.document_walk import DocumentWalk
from agent.compiler.reading.log import Log
from agent.compiler.targets.python_fastapi.manifest import pending_media_type
from agent.compiler.words import singular, stem
from agent.settings import CompilerSettings
from tests.unit.compiler.conftest import REF, answer, api, body, but, operation

Json = Any


def one(change: Callable[[dict[str, Json]], object], name: str) -> Operation:
    """An operation of the good document with one change."""
    return operation(api(but(change)), name)


def responds(path: str, method: str, **responses: Json) -> Callable[[dict[str, Json]], object]:
    """More responses of an operation; those with a leading underscore are statuses."""
    return lambda d: d["paths"][path][method]["responses"].update(
        {k.removeprefix("_"): v for k, v in responses.items()}
    )


@pytest.mark.parametrize(
    ("responses", "status"),
    [
        ({}, 400),
        ({"_422": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "default": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "_4XX": {"description": ""}}, 422),
        ({"_422": {"description": ""}, "_400": {"description": ""}}, 400),
    ],
)
def test_status_of_what_is_not_valid(responses: dict[str, Json], status: int) -> None:
    """What the document names wins over what its `default` or a range includes."""
    assert one(responds("/things", "post", **responses), "createThing").invalid_status == status


def test_other_key_of_a_path_can_be_taken() -> None:
    """`PUT /things/{slug}` gives a thing a new slug, which another one may have: 409, declared or not."""

    def change(document: dict[str, Json]) -> None:
        document["components"]["schemas"]["Thing"]["properties"]["slug"] = {"type": "string"}
        document["components"]["schemas"]["Thing"]["required"].append("slug")
        item = document["paths"].pop("/things/{id}")
        item["parameters"] = [{"name": "slug", "in": "path", "required": True, "schema": {"type": "string"}}]
        document["paths"]["/things/{slug}"] = item

    assert 409 in one(change, "putThing").implied


def test_own_key_cannot_be_taken() -> None:
    """Nobody changes the key of a row, so that a replacement conflicts with none."""

    def change(document: dict[str, Json]) -> None:
        del document["components"]["schemas"]["Thing"]["properties"]["id"]["readOnly"]
        document["components"]["schemas"]["Thing"]["required"].append("id")

    assert 409 not in one(change, "putThing").implied
    assert 409 in one(change, "createThing").implied


@pytest.mark.parametrize(
    ("status", "media_type"),
    [("default", "application/json"), ("5XX", "application/json"), ("500", "application/problem+json")],
)
def test_form_of_what_is_pending(status: str, media_type: str) -> None:
    """A 501 has the form that the document gives to errors."""
    error = answer({"type": "object", "properties": {"code": {"type": "integer"}, "message": {"type": "string"}}})

    assert pending_media_type(one(responds("/things/{id}", "get", **{f"_{status}": error}), "getThing")) == media_type


def untyped(document: dict[str, Json]) -> None:
    """What FastAPI says of a function without a return type: 200, and any JSON."""
    things, item = document["paths"]["/things"], document["paths"]["/things/{id}"]
    for one in (things["get"], things["post"], item["get"], item["put"], item["delete"]):
        one["responses"] = {"200": answer({"title": "Response"})}


@pytest.mark.parametrize(
    ("name", "action", "shows"),
    [
        ("listThings", Action.LIST, True),
        ("createThing", Action.CREATE, True),
        ("getThing", Action.GET, True),
        ("putThing", Action.REPLACE, True),
        ("deleteThing", Action.DELETE, False),
    ],
)
def test_answer_that_nobody_described(name: str, action: Action, shows: bool) -> None:
    """The thing is known from what is sent; whatever shows it satisfies a schema that allows anything."""
    found = one(untyped, name)

    assert found.plan is not None
    assert (found.plan.action, found.plan.shape is not None, found.plan.wrapper.bare) == (action, shows, not shows)
    assert found.confidence == "medium"


def test_null_that_responses_do_not_allow_counts_as_left_out() -> None:
    """`name: str | None = None` of a partial update: what every row must show is never made null."""

    def change(document: dict[str, Json]) -> None:
        document["openapi"] = "3.1.0"
        patch = {"type": "object", "properties": {"name": {"type": ["string", "null"]}}}
        document["paths"]["/things/{id}"]["patch"] = {
            "operationId": "patchThing",
            "requestBody": body(patch),
            "responses": {"200": answer(REF)},
        }

    found = one(change, "patchThing")

    assert found.verdict is Verdict.DERIVED
    assert found.alternative == "`name` as null counts as left out, since responses must show a value"


def test_null_supplies_nothing() -> None:
    """A create whose required property may be null does not give what responses must show."""

    def change(document: dict[str, Json]) -> None:
        document["openapi"] = "3.1.0"
        new = {"type": "object", "required": ["name"], "properties": {"name": {"type": ["string", "null"]}}}
        document["paths"]["/things"]["post"]["requestBody"] = body(new)

    assert one(change, "createThing").reason == "`name` is required in responses and nothing supplies it"


@pytest.mark.parametrize(
    ("path", "method", "name", "status"),
    [("/things", "post", "createThing", 204), ("/things/{id}", "put", "putThing", 204), ("/things/{id}", "delete", "deleteThing", 204)],
)  # fmt: skip
def test_success_that_nobody_declared(path: str, method: str, name: str, status: int) -> None:
    """Old documents name only errors: what is done is answered without a body."""
    found = one(lambda d: d["paths"][path][method].update(responses={"400": {"description": ""}}), name)

    assert found.verdict is Verdict.DERIVED
    assert found.success == status
    assert status in found.implied


def test_reading_needs_a_declared_success() -> None:
    """Nobody knows what a GET shows that declares no success."""
    nothing = {"responses": {"400": {"description": ""}}}

    assert one(lambda d: d["paths"]["/things/{id}"]["get"].update(nothing), "getThing").rule == "no-success"


def renamed(parameter: str) -> Callable[[dict[str, Json]], object]:
    """The parameter of an item's path under another name."""

    def change(document: dict[str, Json]) -> None:
        item = document["paths"].pop("/things/{id}")
        item["parameters"][0]["name"] = parameter
        document["paths"][f"/things/{{{parameter}}}"] = item

    return change


@pytest.mark.parametrize("parameter", ["item_id", "thingId", "thId", "pk", "someThingId"])
def test_parameter_that_speaks_of_the_thing(parameter: str) -> None:
    """`item_id`, an abbreviation or a longer name: it is the id of the thing at whose place it stands."""
    found = one(renamed(parameter), "getThing")

    assert found.plan is not None
    assert found.plan.key is not None
    assert found.plan.key.property == "id"


def test_parameter_that_speaks_of_another_thing() -> None:
    """`/things/{ownerId}` is no thing by its id."""
    assert one(renamed("ownerId"), "getThing").reason == "no property of Thing answers to the path parameter `ownerId`"


def test_location_names_a_row_as_its_path_does() -> None:
    """No Location where a row is read by another property than its key."""

    def change(document: dict[str, Json]) -> None:
        document["components"]["schemas"]["Thing"]["properties"]["slug"] = {"type": "string"}
        document["components"]["schemas"]["Thing"]["required"].append("slug")
        renamed("slug")(document)
        document["paths"]["/things/{slug}"]["parameters"][0]["schema"] = {"type": "string"}

    by_slug, by_key = one(change, "createThing"), one(lambda d: d, "createThing")

    assert by_slug.plan is not None
    assert by_key.plan is not None
    assert (by_slug.plan.location, by_key.plan.location) == (False, True)


def test_path_that_does_not_let_in_the_keys_that_the_server_makes() -> None:
    """Whoever makes the eleventh thing could never read it."""

    def change(document: dict[str, Json]) -> None:
        document["paths"]["/things/{id}"]["parameters"][0]["schema"]["maximum"] = 10

    assert one(change, "getThing").reason == "`id` does not allow every key that the server makes for Thing"


def test_tag_before_a_name_is_no_verb() -> None:
    """`login-recover_things` of the tag `login` recovers; it does not log in."""

    def change(document: dict[str, Json]) -> None:
        document["paths"]["/things"]["post"].update(operationId="login-create_thing", tags=["login"])

    assert one(change, "login-create_thing").verdict is Verdict.DERIVED


@pytest.mark.parametrize(
    ("component", "noun"),
    [("HeroPublicWithTeam", "hero"), ("HeroPublic", "hero"), ("TeamWith", "teamwith"), ("WithholdingTax", "withholdingtax")],
)  # fmt: skip
def test_variants_by_name(component: str, noun: str) -> None:
    """What a schema adds to a thing is no part of the thing's name."""
    assert stem(component) == noun


@pytest.mark.parametrize(
    ("plural", "noun"), [("heroes", "hero"), ("shoes", "shoe"), ("canoes", "canoe"), ("boxes", "box")]
)  # fmt: skip
def test_singular(plural: str, noun: str) -> None:
    """English plurals in -oes."""
    assert singular(plural) == noun


def test_write_only_property_is_required_of_requests_alone() -> None:
    """`required: [email, password]` with a write-only password: no response shows it, and none has to."""

    def change(document: dict[str, Json]) -> None:
        thing = document["components"]["schemas"]["Thing"]
        thing["properties"]["password"] = {"type": "string", "writeOnly": True}
        thing["required"].append("password")
        document["components"]["schemas"]["Whole"] = {"allOf": [REF]}
        whole = answer({"$ref": "#/components/schemas/Whole"})
        document["paths"]["/things/{id}"]["get"]["responses"]["200"] = whole

    for name in ("listThings", "createThing", "getThing", "putThing"):
        assert one(change, name).verdict is Verdict.DERIVED, name


def enveloped(**properties: Json) -> Callable[[dict[str, Json]], object]:
    """The list in an object with these properties."""
    listed = answer({"type": "object", "properties": properties})
    return lambda d: d["paths"]["/things"]["get"]["responses"].update({"200": listed})


def test_list_of_what_the_path_names_may_say_more() -> None:
    """`{things, took, restricted}`: what no rule knows and nobody requires is left out."""
    things = {"type": "array", "items": REF}

    found = one(enveloped(things=things, took={"type": "number"}, restricted={"type": "boolean"}), "listThings")
    other = one(enveloped(parts=things, took={"type": "number"}, restricted={"type": "boolean"}), "listThings")

    assert (found.verdict, other.verdict) == (Verdict.DERIVED, Verdict.HOOKED)


def test_generic_wrapper_does_not_hide_the_items() -> None:
    """`allOf` of a wrapper around any objects, and of what the objects are."""

    def change(document: dict[str, Json]) -> None:
        wrapper = {"type": "object", "properties": {"data": {"type": "array", "items": {"type": "object"}}}}
        own = {"properties": {"data": {"type": "array", "items": REF}}}
        document["paths"]["/things"]["get"]["responses"]["200"] = answer({"allOf": [wrapper, own]})

    assert one(change, "listThings").verdict is Verdict.DERIVED


def spring(document: dict[str, Json]) -> None:
    """`Page<Thing> list(Pageable pageable)` as springdoc writes it."""
    schemas, flag = document["components"]["schemas"], {"type": "boolean"}
    integer = {"type": "integer", "format": "int32"}
    sort = {"type": "object", "properties": {"sorted": flag, "empty": flag}}
    at = {"type": "object", "properties": {"pageNumber": integer, "pageSize": integer, "sort": sort, "paged": flag}}
    page = {
        "totalElements": integer,
        "totalPages": integer,
        "number": integer,
        "size": integer,
        "sort": sort,
        "pageable": at,
    }
    content = {"type": "array", "items": REF}
    schemas["Page"] = {"type": "object", "properties": {**page, "first": flag, "last": flag, "content": content}}
    names = {"type": "array", "items": {"type": "string"}}
    schemas["Pageable"] = {
        "type": "object",
        "properties": {"page": {**integer, "minimum": 0}, "size": {**integer, "minimum": 1}, "sort": names},
    }
    pageable = {
        "name": "pageable",
        "in": "query",
        "required": True,
        "schema": {"$ref": "#/components/schemas/Pageable"},
    }
    document["paths"]["/things"]["get"]["parameters"] = [pageable]
    listed = {"description": "", "content": {"*/*": {"schema": {"$ref": "#/components/schemas/Page"}}}}
    document["paths"]["/things"]["get"]["responses"]["200"] = listed


def test_object_that_is_spread_over_the_query() -> None:
    """Its members are parameters like any other: page, size and order."""
    found = one(spring, "listThings")

    assert found.plan is not None
    assert found.plan.paging is not None
    assert found.plan.sort is not None
    assert (found.plan.paging.style, found.plan.paging.position, found.plan.paging.limit) == (
        PagingStyle.PAGE,
        "page",
        "size",
    )
    assert found.plan.paging.first_page == 0
    assert found.plan.sort.parameter == "sort"
    assert {one.path: one.source for one in found.plan.wrapper.fields} == {
        ("totalElements",): Meta.TOTAL,
        ("totalPages",): Meta.PAGES,
        ("number",): Meta.PAGE,
        ("size",): Meta.LIMIT,
        ("pageable", "pageNumber"): Meta.PAGE,
        ("pageable", "pageSize"): Meta.LIMIT,
    }


def test_envelope_counts_what_it_lists() -> None:
    """`{articles, articlesCount}`: the number of all of them."""
    things, number = {"type": "array", "items": REF}, {"type": "integer"}

    found = one(enveloped(things=things, thingsCount=number), "listThings")

    assert found.plan is not None
    assert [(one.path, one.source) for one in found.plan.wrapper.fields] == [(("thingsCount",), Meta.TOTAL)]


def test_ending_of_a_path_is_no_part_of_its_noun() -> None:
    """`/things/{id}.json` as Rails writes it; a Location would have to end like it, so that there is none."""

    def change(document: dict[str, Json]) -> None:
        document["paths"] = {f"{path}.json": item for path, item in document["paths"].items()}

    found = {name: one(change, name) for name in ("listThings", "createThing", "getThing", "putThing", "deleteThing")}

    assert {name: made.rule for name, made in found.items() if made.verdict is Verdict.DERIVED} == {
        "listThings": "list",
        "createThing": "create",
        "getThing": "get",
        "putThing": "replace",
        "deleteThing": "delete",
    }
    assert found["createThing"].plan is not None
    assert not found["createThing"].plan.location


@pytest.mark.parametrize(
    ("schema", "required"),
    [
        ({"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}, True),
        (REF, True),
        ({"allOf": [REF]}, True),
        ({"type": "object", "properties": {"name": {"type": "string"}}}, False),
        ({"type": "object", "required": ["id"], "properties": {"id": {"type": "integer", "readOnly": True}}}, False),
        ({"type": "object", "required": 7, "properties": 7, "allOf": 7}, False),
    ],
)
def test_body_that_must_hold_something_is_required(schema: Json, required: bool) -> None:
    """`required` is often forgotten beside a body whose properties are required; without it a create could give nothing."""
    document = json.loads(but(lambda d: d["paths"]["/things"]["post"].update(requestBody=body(schema))))
    settings = CompilerSettings()
    walk = DocumentWalk(document, "0", settings, Log())

    made = walk.document()["paths"]["/things"]["post"]["requestBody"]

    assert made.get("required", False) is required


def test_body_that_may_be_left_out_supplies_nothing() -> None:
    """A create without a body is legal then, and nothing would give what every thing must show."""

    def change(document: dict[str, Json]) -> None:
        document["paths"]["/things"]["post"]["requestBody"]["required"] = False

    assert one(change, "createThing").reason == "`name` is required in responses and nothing supplies it"


def test_secret_within_a_stored_object_is_not_given_back() -> None:
    """An embedded account with a write-only password is a JSON column: it would come back as it came."""

    def change(document: dict[str, Json]) -> None:
        secret = {"type": "string", "writeOnly": True}
        maker = {
            "type": "object",
            "properties": {"accounts": {"type": "array", "items": {"properties": {"pin": secret}}}},
        }
        document["components"]["schemas"]["Thing"]["properties"]["maker"] = maker

    assert (
        one(change, "createThing").reason == "`maker` is stored as it comes, with `pin`, which responses must not show"
    )
    assert one(change, "putThing").verdict is Verdict.HOOKED
    assert one(change, "getThing").verdict is Verdict.DERIVED


@pytest.mark.parametrize("required", [True, False])
def test_get_with_a_body(required: bool) -> None:
    """By HTTP it means nothing: who demands one wants something that no rule knows; else it has no effect."""
    request = {**body(REF), "required": required}

    found = one(lambda d: d["paths"]["/things"]["get"].update(requestBody=request), "listThings")

    assert found.verdict is (Verdict.HOOKED if required else Verdict.DERIVED)
    assert "body" in ((found.reason if required else found.alternative) or "")


@pytest.mark.parametrize(
    ("key", "least"),
    [({"type": "string"}, 1), ({"type": "string", "minLength": 3}, 3), ({"type": "string", "enum": ["a"]}, None)],
)
def test_key_from_a_client_is_no_empty_text(key: Json, least: int | None) -> None:
    """`/things/` names no thing: who could make one of that key could never read it."""

    def change(document: dict[str, Json]) -> None:
        thing = document["components"]["schemas"]["Thing"]
        thing["required"].append("id")
        thing["properties"]["id"] = key
        document["paths"]["/things/{id}"]["parameters"][0]["schema"] = {"type": "string"}

    found = api(but(change))

    assert found.document["components"]["schemas"]["Thing"]["properties"]["id"].get("minLength") == least
    assert any("/properties/id: `minLength` 1" in line for line in found.changes) is (least == 1)


@pytest.mark.parametrize(("mark", "verdict"), [("deleted_at", Verdict.HOOKED), ("closed_at", Verdict.DERIVED)])
def test_what_tells_of_its_deletion_is_not_removed(mark: str, verdict: Verdict) -> None:
    """A removal cannot be undone, and no answer could ever show the time."""
    time = {"type": "string", "format": "date-time", "nullable": True, "readOnly": True}

    found = one(lambda d: d["components"]["schemas"]["Thing"]["properties"].update({mark: time}), "deleteThing")

    assert found.verdict is verdict
    assert found.reason is None or mark in found.reason


@pytest.mark.parametrize("declared", [True, False])
def test_precondition_that_nobody_checks(declared: bool) -> None:
    """To answer 200 to an outdated `If-Match` would overwrite what somebody else wrote."""
    header = {"name": "If-Match", "in": "header", "schema": {"type": "string"}}

    def change(document: dict[str, Json]) -> None:
        document["paths"]["/things/{id}"]["put"]["parameters"] = [header]
        if declared:
            document["paths"]["/things/{id}"]["put"]["responses"]["412"] = {"description": ""}

    found = one(change, "putThing")

    assert (found.rule, found.verdict) == (
        ("precondition", Verdict.HOOKED) if declared else ("replace", Verdict.DERIVED)
    )


def test_path_of_something_unknown_does_not_pick_by_the_own_key() -> None:
    """`/tokens/{id}/things` lists the things of a token, not the thing of that id; no thing tells its token."""

    def change(document: dict[str, Json]) -> None:
        listing = {**document["paths"]["/things"]["get"], "operationId": "listOfToken"}
        listing["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}]
        document["paths"]["/tokens/{id}/things"] = {"get": listing}

    assert one(change, "listOfToken").verdict is Verdict.HOOKED
    assert one(change, "getThing").verdict is Verdict.DERIVED


def test_body_that_must_say_more_than_the_thing() -> None:
    """JSON:API's `meta` may tell how the thing is found: to pass over it would write another one."""
    wrapped = {"type": "object", "required": ["data"], "properties": {"data": REF, "meta": {"type": "object"}}}
    more = {**wrapped, "required": ["data", "meta"]}

    def taking(schema: Json) -> Verdict:
        return one(lambda d: d["paths"]["/things"]["post"].update(requestBody=body(schema)), "createThing").verdict

    assert [taking(wrapped), taking(more)] == [Verdict.DERIVED, Verdict.HOOKED]


def test_sample_of_a_row_has_a_key_that_paths_let_in() -> None:
    """The rows of a gate that nobody can make are sought by it."""

    def change(document: dict[str, Json]) -> None:
        document["components"]["schemas"]["Thing"]["properties"]["id"] = {"type": "string", "readOnly": True}
        document["components"]["schemas"]["Thing"]["required"].append("id")
        document["paths"]["/things/{id}"]["parameters"][0]["schema"] = {"type": "string", "format": "uuid"}

    [thing] = api(but(change)).resources

    assert UUID(thing.sample["id"])
