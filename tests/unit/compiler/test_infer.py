"""What documents mean: the rules by their effect, the golden verdicts, and what no document may do to us."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.compiler.inference.errors import fill
from agent.compiler.ir import (
    Action,
    ColumnType,
    FilterOperator,
    Generated,
    Meta,
    Operation,
    Paging,
    PagingStyle,
    Verdict,
)
from agent.compiler.reading.source import read
from agent.compiler.report import make_report
from agent.compiler.schemas.document import Document
from agent.compiler.schemas.validation import Validator
from agent.compiler.understand import understand
from agent.errors import SpecRejected
from agent.settings import CompilerSettings
from tests.unit.compiler.conftest import GOLDEN, GOOD, REF, ROOT, SHARED, answer, api, body, but, operation

Json = Any
DEMO = ROOT / "agent" / "cli" / "demo.openapi.yaml"
DOCUMENTS = [*sorted((GOLDEN / "positive").glob("*.yaml")), DEMO]


def paging(listing: Operation) -> Paging:
    """How a derived list is cut into pages."""
    assert listing.plan is not None
    assert listing.plan.paging is not None
    return listing.plan.paging


def verdicts(given_bytes: bytes) -> list[str]:
    """One line per operation."""
    found = api(given_bytes)
    return [
        " ".join(
            [
                one.method,
                one.path,
                one.verdict.value,
                one.rule,
                one.plan.action.value if one.plan else "-",
                one.confidence,
            ]
        )
        for one in found.operations
    ]


@pytest.mark.parametrize("path", sorted((GOLDEN / "positive").glob("*.yaml")), ids=lambda path: path.stem)
def test_verdicts_stay_as_they_were_reviewed(path: Path) -> None:
    """A changed rule shows here, on documents in the shape of public APIs, which operations it moves."""
    assert verdicts(path.read_bytes()) == path.with_suffix(".verdicts").read_text().splitlines()


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.stem)
def test_samples_and_errors_satisfy_the_document(path: Path) -> None:
    """What tests send and what errors answer must be valid, or the delivered service fails its own contract."""
    found = api(path.read_bytes())
    document = Document(found.document)
    validator = Validator(document)

    for one in found.operations:
        for shape in one.errors:
            status = int(shape.status) if shape.status.isdecimal() else 400
            content = document.follow(f"{one.pointer}/responses/{shape.status}")[1].get("content", {})
            if shape.media_type in content:
                pointer = document.follow(f"{one.pointer}/responses/{shape.status}")[0]
                media = shape.media_type.replace("/", "~1")
                assert validator.valid(f"{pointer}/content/{media}/schema", fill(shape.template, status)), one.id
        for parameter in one.parameters:
            if parameter.sample is not None:
                assert validator.valid(parameter.schema_pointer, parameter.sample), (one.id, parameter.name)


def test_the_demo_document_derives_all_but_its_action() -> None:
    """It shows what we can do, and one thing that nobody could."""
    found = api(DEMO.read_bytes())

    hooked = [one.id for one in found.operations if one.verdict is not Verdict.DERIVED]
    assert hooked == ["returnRental"]
    assert len(found.operations) == 21
    assert [one.kind.value for one in found.security_schemes] == ["bearer", "api_key"]
    assert paging(operation(found, "listRentals")).style is PagingStyle.PAGE
    assert paging(operation(found, "listCustomers")).style is PagingStyle.CURSOR


@pytest.mark.shared_specs
@pytest.mark.parametrize(
    ("name", "derived", "operations"),
    [
        ("spring-petclinic-rest", 36, 37),
        ("redocly-museum", 6, 8),
        ("swagger-petstore3", 12, 19),
        ("apache-polaris-management", 24, 33),
        ("moov-customers", 19, 41),
        ("edgex-support-scheduler", 11, 15),
        ("vampi", 6, 14),
    ],
)
def test_public_documents_derive_as_much_as_before(name: str, derived: int, operations: int) -> None:
    """More is progress, after a look at each; fewer is a regression."""
    path = SHARED / f"{name}.yaml"
    if not path.exists():
        pytest.skip("the documents beside the project are not here")

    found = api(path.read_bytes())

    assert len(found.operations) == operations
    assert sum(one.verdict is Verdict.DERIVED for one in found.operations) == derived


def test_a_plain_collection_is_derived() -> None:
    """List, create, get, replace and delete of one thing, its key made by the server."""
    found = api(but(lambda d: None))

    assert [one.plan.action for one in found.operations if one.plan] == [
        Action.LIST, Action.CREATE, Action.GET, Action.REPLACE, Action.DELETE,
    ]  # fmt: skip
    (thing,) = found.resources
    assert (thing.name, thing.key) == ("Thing", "id")
    assert {one.name: (one.type, one.generated) for one in thing.properties} == {
        "id": (ColumnType.NUMERIC, Generated.IDENTITY),
        "name": (ColumnType.STRING, None),
    }
    assert operation(found, "createThing").sample == {"name": "sample"}


def test_a_required_field_without_a_source_is_never_made_up() -> None:
    """A computed state would be a fake success: the create is hooked, reading stays."""
    schema = {"type": "string", "enum": ["new", "paid"], "readOnly": True}

    def change(document: Json) -> None:
        thing = document["components"]["schemas"]["Thing"]
        thing["properties"]["status"] = schema
        thing["required"].append("status")

    found = api(but(change))

    create = operation(found, "createThing")
    assert create.verdict is Verdict.HOOKED
    assert create.reason == "`status` is required in responses and nothing supplies it"
    assert operation(found, "getThing").verdict is Verdict.DERIVED


def test_what_may_be_written_must_fit_what_is_read() -> None:
    """A body that allows more than the response would store rows that no answer may show."""
    loose = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}

    def change(document: Json) -> None:
        document["components"]["schemas"]["Thing"]["properties"]["name"]["maxLength"] = 5
        document["paths"]["/things"]["post"]["requestBody"] = body(loose)

    found = api(but(change))

    assert operation(found, "createThing").reason == "`name` may be written in a form that responses do not allow"


@pytest.mark.parametrize(
    ("path", "method", "summary", "rule"),
    [
        ("/things/{id}/activate", "post", "", "action"),
        ("/login", "post", "", "authentication"),
        ("/things/stats", "get", "", "report"),
        ("/things/latest", "get", "", "view"),
        ("/me", "get", "", "caller"),
        ("/charges", "post", "Charge a card", "side-effect"),
    ],
)
def test_what_prose_alone_defines_is_hooked(path: str, method: str, summary: str, rule: str) -> None:
    """Verbs, log-ins, figures, selections and the caller's own things: no rule may guess."""
    parameters = [{"name": "id", "in": "path", "required": True, "schema": {"type": "integer"}}] if "{" in path else []
    added = {"summary": summary, "parameters": parameters, "responses": {"200": answer(REF)}}

    found = api(but(lambda d: d["paths"].update({path: {method: {"operationId": "added", **added}}})))

    assert (operation(found, "added").verdict, operation(found, "added").rule) == (Verdict.HOOKED, rule)


def test_files_and_later_answers_are_hooked() -> None:
    """JSON in, JSON out, and now."""
    upload = {
        "operationId": "up",
        "requestBody": {"content": {"multipart/form-data": {"schema": {}}}},
        "responses": {"200": {"description": ""}},
    }
    later = {"operationId": "later", "requestBody": body(REF), "responses": {"202": {"description": ""}}}

    found = api(but(lambda d: d["paths"].update({"/files": {"post": upload}, "/jobs": {"post": later}})))

    assert operation(found, "up").rule == "file"
    assert operation(found, "later").rule == "asynchronous"


def test_query_parameters_become_filters_paging_and_order() -> None:
    """Rule 10 and 11; what has no meaning is named, never silently dropped."""
    names: dict[str, Json] = {
        "name": {"type": "string"},
        "price_gte": {"type": "number"},
        "maxPrice": {"type": "number"},
        "tag": {"type": "string"},
        "page": {"type": "integer", "default": 0},
        "size": {"type": "integer", "maximum": 50},
        "sort": {"type": "string", "enum": ["price", "-price"]},
        "moon": {"type": "string"},
    }

    def change(document: Json) -> None:
        document["components"]["schemas"]["Thing"]["properties"] |= {
            "price": {"type": "number"},
            "tags": {"type": "array", "items": {"type": "string"}},
        }
        document["paths"]["/things"]["get"]["parameters"] = [
            {"name": name, "in": "query", "schema": schema} for name, schema in names.items()
        ]

    given_bytes = but(change)
    found, told = understand(given_bytes, CompilerSettings())

    plan = operation(found, "listThings").plan
    assert plan is not None
    assert [(one.parameter, one.property, one.operator, one.elements) for one in plan.filters] == [
        ("name", "name", FilterOperator.EQUALS, False),
        ("price_gte", "price", FilterOperator.AT_LEAST, False),
        ("maxPrice", "price", FilterOperator.AT_MOST, False),
        ("tag", "tags", FilterOperator.EQUALS, True),
    ]
    paged = paging(operation(found, "listThings"))
    assert (paged.style, paged.first_page, paged.maximum_limit) == (PagingStyle.PAGE, 0, 50)
    assert plan.sort is not None
    assert plan.sort.values == {"price": ("price", False), "-price": ("price", True)}
    assert plan.ignored == ("moon",)
    assert any(one.code == "parameter.ignored" and "moon" in one.message for one in told)


def test_a_limit_alone_says_nothing_of_a_position() -> None:
    """Taken for paging by offset, it gave every page a `Link` to itself. Nor does it say which rows are to be deleted."""
    limit = [{"name": "limit", "in": "query", "schema": {"type": "integer", "maximum": 50}}]

    def change(document: Json) -> None:
        things = document["paths"]["/things"]
        things["get"]["parameters"] = limit
        things["delete"] = {"operationId": "clear", "parameters": limit, "responses": {"204": {"description": ""}}}

    found = api(but(change))
    cut = paging(operation(found, "listThings"))
    assert (cut.style, cut.limit, cut.position, cut.maximum_limit) == (PagingStyle.NONE, "limit", None, 50)
    assert cut.is_declared
    assert not paging(operation(api(but(lambda _: None)), "listThings")).is_declared
    assert operation(found, "clear").verdict is Verdict.HOOKED


def test_envelopes_are_filled_from_known_sources() -> None:
    """Rule 3: the list inside, everything around it with a source; one without a source stands against it."""
    envelope: dict[str, Json] = {
        "type": "object",
        "required": ["data", "total", "apiVersion"],
        "properties": {
            "data": {"type": "array", "items": REF},
            "total": {"type": "integer"},
            "apiVersion": {"type": "string", "enum": ["v2"]},
        },
    }
    found = api(but(lambda d: d["paths"]["/things"]["get"].update(responses={"200": answer(envelope)})))

    plan = operation(found, "listThings").plan
    assert plan is not None
    assert plan.wrapper.path == ("data",)
    assert {one.path: (one.source, one.constant) for one in plan.wrapper.fields} == {
        ("total",): (Meta.TOTAL, None),
        ("apiVersion",): (Meta.CONSTANT, "v2"),
    }

    broken = copy.deepcopy(envelope)
    broken["required"].append("links")
    broken["properties"]["links"] = {
        "type": "object",
        "required": ["first"],
        "properties": {"first": {"type": "string"}},
    }
    found = api(but(lambda d: d["paths"]["/things"]["get"].update(responses={"200": answer(broken)})))
    assert operation(found, "listThings").verdict is Verdict.HOOKED


@pytest.mark.parametrize("first", ["shelves", "readers"])
def test_a_name_is_unique_below_the_thing_that_it_is_made_in(first: str) -> None:
    """Polaris: two catalogues could not both have an `admin`, once a role of either was given to a principal role."""
    holder = {"type": "object", "required": ["label"], "properties": {"label": {"type": "string"}}}
    book = {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}
    done = {"description": ""}

    def change(document: Json) -> None:
        schemas, paths = document["components"]["schemas"], document["paths"]
        schemas.update({"Shelf": holder, "Reader": copy.deepcopy(holder), "Book": book})
        for noun, name in (("shelves", "Shelf"), ("readers", "Reader")):
            one = {"$ref": f"#/components/schemas/{name}"}
            paths[f"/{noun}"] = {"post": {"requestBody": body(one), "responses": {"201": answer(one)}}}
            paths[f"/{noun}/{{label}}"] = {"get": {"responses": {"200": answer(one), "404": done}}}
        one = {"$ref": "#/components/schemas/Book"}
        listed = {"get": {"responses": {"200": answer({"type": "array", "items": one})}}}
        made = {"post": {"requestBody": body(one), "responses": {"201": answer(one), "409": done}}}
        of_shelves = {
            "/shelves/{label}/books": {**listed, **made},
            "/shelves/{label}/books/{name}": {
                "get": {"responses": {"200": answer(one), "404": done}},
                "delete": {"responses": {"204": done, "404": done}},
            },
        }
        of_readers = {
            "/readers/{reader}/books": listed,
            "/readers/{reader}/books/{name}": {"delete": {"responses": {"204": done, "404": done}}},
        }
        paths |= of_shelves | of_readers if first == "shelves" else of_readers | of_shelves

    found = {one.name: one for one in api(but(change)).resources}

    assert found["Book"].key_scope == ("label",)


def test_a_key_that_clients_choose_may_be_taken_already() -> None:
    """Whether one is sent or several: the fuzz of a bulk create met a 409 that nobody had told it of."""
    listed = {"type": "array", "items": REF}

    def change(document: Json) -> None:
        document["components"]["schemas"]["Thing"]["required"] = ["id"]
        document["components"]["schemas"]["Thing"]["properties"]["id"] = {"type": "string"}
        document["paths"]["/things/{id}"]["parameters"][0]["schema"] = {"type": "string"}
        document["paths"]["/things/bulk"] = {
            "post": {"operationId": "createThings", "requestBody": body(listed), "responses": {"201": answer(listed)}}
        }

    found = api(but(change))

    for name in ("createThing", "createThings"):
        assert operation(found, name).verdict is Verdict.DERIVED
        assert 409 in operation(found, name).implied, name


def test_security_denies_what_it_cannot_check() -> None:
    """An unsupported scheme refuses the operation, and is told; a document without any is open, and that is said."""

    def change(document: Json) -> None:
        document["components"]["securitySchemes"] = {
            "proof": {"type": "mutualTLS"},
            "key": {"type": "apiKey", "in": "query", "name": "k"},
        }
        document["paths"]["/things"]["get"]["security"] = [{"proof": []}]
        document["paths"]["/things"]["post"]["security"] = [{"proof": []}, {"key": []}, {"absent": []}]

    found, told = understand(but(change), CompilerSettings())

    assert operation(found, "listThings").verdict is Verdict.REFUSED
    assert operation(found, "createThing").security == ({"key": ()},)
    assert [scheme.name for scheme in found.security_schemes] == ["key"]
    unchecked = [one.pointer for one in told if one.code == "security.unchecked"]
    assert unchecked == ["/components/securitySchemes/proof", ""]

    _, told = understand(but(lambda d: None), CompilerSettings())
    assert any(one.code == "security.open" for one in told)


@pytest.mark.parametrize(
    ("servers", "expected"),
    [
        ([], ""),
        ([{"url": "/"}], ""),
        ([{"url": "https://h.example/a/b/"}], "/a/b"),
        ([{"url": "https://{h}/{p}", "variables": {"h": {"default": "x.y"}, "p": {"default": "v1"}}}], "/v1"),
        ([{"url": "http://h/{x}/../etc", "variables": {"x": {"default": "a b"}}}], ""),
        ([{"url": "http://[bad"}], ""),
    ],
)
def test_the_base_path_is_a_plain_path_or_none(servers: Json, expected: str) -> None:
    """It becomes part of every route."""
    assert api(but(lambda d: d.update(servers=servers))).base_path == expected


def test_one_document_gives_one_meaning() -> None:
    """Byte-identical output begins here."""
    given_bytes = DEMO.read_bytes()

    assert api(given_bytes) == api(given_bytes)


def test_the_report_adds_up_and_text_cannot_leave_its_cell() -> None:
    """Programs count; people read a table that a hostile summary must not break."""
    found = api(but(lambda d: d["paths"]["/things"]["get"].update(operationId="a|b\n# x")))
    report = make_report(found, (), "sha256:0")

    summary = report.to_json()["summary"]
    assert summary["operations"] == sum(summary[one.value] for one in Verdict) == 5
    assert "\n# x" not in report.to_markdown()
    assert "a\\|b" in report.to_markdown()
    assert "\n# x" not in report.to_text()


# --- hostile documents ------------------------------------------------------------------------------------------------

_TREES = [read(path.read_bytes(), CompilerSettings()).tree for path in DOCUMENTS]
_JUNK: list[Json] = [
    None, True, 0, -1, 1.5, "", "x", [], {}, [1], {"a": 1}, {"$ref": "#"}, {"$ref": "#/paths"}, {"type": "object"}, {"allOf": [{}]},
    {"enum": [None]}, {"pattern": "(a+)+$"}, {"not": {}}, {"oneOf": [{"type": "string"}, {"type": "object"}]}, {"required": ["zz"]}, "\0",
    {"$ref": "#/components/schemas/Thing"}, "2XX", "{x}",
]  # fmt: skip


def _places(tree: Json) -> list[tuple[Json, Json]]:
    found: list[tuple[Json, Json]] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        pairs = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
        for key, value in pairs:
            found.append((node, key))
            stack.append(value)
    return found


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_no_mutation_raises_anything_but_a_refusal(data: st.DataObject) -> None:
    """Whatever a stranger sends: a meaning or diagnostics, never a crash."""
    tree = copy.deepcopy(data.draw(st.sampled_from(_TREES)))
    for _ in range(data.draw(st.integers(1, 5))):
        places = _places(tree)
        if not places:
            break
        node, key = places[data.draw(st.integers(0, len(places) - 1))]
        if data.draw(st.booleans()):
            node[key] = copy.deepcopy(data.draw(st.sampled_from(_JUNK)))
        elif isinstance(node, dict):
            del node[key]
    given_bytes = json.dumps(tree).encode()

    try:
        found, told = understand(given_bytes, CompilerSettings())
    except SpecRejected:
        return

    make_report(found, told, "").to_markdown()
    assert all((one.plan is not None) == (one.verdict is Verdict.DERIVED) for one in found.operations)
    assert all(one.reason for one in found.operations if one.verdict is not Verdict.DERIVED)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_no_bytes_raise_anything_but_a_refusal(given_bytes: bytes) -> None:
    """Bytes first: most of what is not a specification is no document at all."""
    with pytest.raises(SpecRejected):
        understand(given_bytes, CompilerSettings())


def test_patterns_that_never_end_are_never_run() -> None:
    """The example would take Python's engine longer than the universe lasts."""
    evil = {"type": "string", "pattern": "^(a+)+$", "example": "a" * 60 + "!"}

    found = api(but(lambda d: d["components"]["schemas"]["Thing"]["properties"].update(name=evil)))

    assert operation(found, "createThing").sample is None


def test_nested_alternatives_do_not_explode() -> None:
    """2^40 ways to validate one value."""
    chain = {
        f"S{i}": {
            "type": "object",
            "required": ["a"],
            "properties": {"a": {"anyOf": [{"$ref": f"#/components/schemas/S{i + 1}"}] * 2}},
        }
        for i in range(40)
    }

    def change(document: Json) -> None:
        document["components"]["schemas"] |= {**chain, "S40": {"type": "string"}}
        document["components"]["schemas"]["Thing"]["properties"]["name"] = {"$ref": "#/components/schemas/S0"}

    assert len(api(but(change)).operations) == len(GOOD["paths"]["/things"]) + 3
