"""Valid requests from the manifest and the document; rows from PostgreSQL's catalogue."""

import socket
from typing import Any

import asyncpg
import httpx
import pytest

from agent.errors import EnvironmentUnfit
from agent.gates.catalogue import Column, ForeignKey, NotMultipliable, copy_statement, vary
from agent.gates.document import count_operations, differences
from agent.gates.holes import hole_faults
from agent.gates.live import Answer, free_port
from agent.gates.load import busy_percent, candidates, cpu_times, issued_percent, load_faults, operation_weights
from agent.gates.migrations import missing_tables
from agent.gates.requests import encoded, fill, is_complete, operation_request
from agent.gates.seed import entity_in, path_query, put_reference, row_statement
from agent.gates.vary import varied, varied_bodies

DOCUMENT: dict[str, Any] = {"paths": {"/pets": {"get": {}, "parameters": []}}}
RENAME: dict[str, Any] = {
    "id": "rename", "method": "POST", "path": "/v1/pets/{petId}/rename",
    "sample": {"body": {"name": "x"}, "media_type": "application/json"},
    "parameters": [
        {"name": "petId", "in": "path", "required": True, "sample": 7},
        {"name": "X-Reason", "in": "header", "required": True, "sample": "fun"},
        {"name": "dry", "in": "query", "required": False, "sample": True},
    ],
}  # fmt: skip


def test_a_request_is_made_from_the_manifest() -> None:
    """Required parameters and the body from samples, optional ones left out, credentials added last."""
    request = operation_request(RENAME)

    assert request.path == "/v1/pets/7/rename"
    assert request.headers() == {"X-Reason": "fun", "Content-Type": "application/json"}
    assert request.body == '{"name": "x"}'
    assert request.target({"key": "a b"}).endswith("/rename?key=a+b")


def test_real_keys_win_over_samples_and_stay_in_their_segment() -> None:
    """A key with a slash must not lead to another path."""
    assert operation_request(RENAME, path={"petId": "a/b?c"}).path == "/v1/pets/a%2Fb%3Fc/rename"
    assert fill("/a/{x}.{y}", {"x": "1"}) == "/a/1.1"


@pytest.mark.parametrize(
    ("change", "complete"),
    [({}, True), ({"sample": None}, False), ({"sample": None, "method": "GET"}, True), ({"parameters": [{"name": "x", "in": "path", "required": True, "sample": None}]}, False)],
)  # fmt: skip
def test_a_request_without_samples_proves_nothing(change: dict[str, Any], complete: bool) -> None:
    """A refusal of it is no fault of the service."""
    assert is_complete({**RENAME, **change}) is complete


@pytest.mark.parametrize(
    ("media_type", "body", "expected"),
    [
        ("application/json", {"a": 1}, '{"a": 1}'),
        ("application/merge-patch+json", {"a": 1}, '{"a": 1}'),
        ("application/x-www-form-urlencoded", {"a": True, "b": "c d"}, "a=true&b=c+d"),
        ("text/plain", "x", "x"),
    ],
)
def test_bodies_are_written_in_their_media_type(media_type: str, body: Any, expected: str) -> None:
    """A form is not JSON."""
    assert encoded(body, media_type) == expected


def column(name: str, kind: str = "text", **more: Any) -> Column:
    """A column of the catalogue."""
    facts = {"required": True, "generated": False, "has_default": False, "length": None, **more}
    return Column(name=name, type=kind, **facts)


def test_copies_vary_unique_columns_and_keep_references() -> None:
    """Ten thousand rows of one table from one row, without breaking its rules."""
    found = [column("id", "int8", generated=True), column("ow ner", "int8"), column("name"), column("tag")]

    statement = copy_statement("pets", found, [("id",), ("ow ner", "tag")], {"ow ner"}, 10)

    assert statement == (
        'insert into "pets" ("ow ner", "name", "tag") select src."ow ner", src."name", '
        'case when src."tag" like \'%@%\' then g::text || src."tag" else src."tag" || \'-\' || g::text end '
        'from (select * from "pets" limit 1) as src, generate_series(1, $1::int) as g'
    )


def test_a_key_of_references_alone_cannot_be_copied() -> None:
    """A link table: its rows are pairs, and pairs run out."""
    with pytest.raises(NotMultipliable, match=r"nothing in the unique key \(a, b\) of links"):
        copy_statement("links", [column("a", "int8"), column("b", "int8")], [("a", "b")], {"a", "b"}, 10)


@pytest.mark.parametrize(
    ("kind", "length", "possible"),
    [("bool", None, False), ("jsonb", None, False), ("varchar", 3, False), ("varchar", 5, True), ("varchar", 50, True), ("uuid", None, True), ("date", None, True)],
)  # fmt: skip
def test_only_types_with_enough_values_are_varied(kind: str, length: int | None, possible: bool) -> None:
    """Three characters do not tell ten thousand rows apart."""
    assert (vary(column("c", kind, length=length), 10_000) is not None) is possible


def test_identifiers_are_quoted() -> None:
    """Column names come from a document."""
    statement = copy_statement('a"b', [column('c"; drop')], [], set(), 1)

    assert 'insert into "a""b" ("c""; drop")' in statement


RESOURCES = {
    "Owner": {"name": "Owner", "table": "owners", "key": "id", "key_column": "id", "fields": {"id": "id"}},
    "Pet": {"name": "Pet", "table": "pets", "key": "petName", "key_column": "pet_name", "fields": {"petName": "pet_name"}},
}  # fmt: skip


def test_path_values_come_from_rows_that_belong_together() -> None:
    """/owners/1/pets/rex is 404 when rex is another owner's."""
    operation = {"path_keys": [
        {"parameter": "ownerId", "resource": "Owner", "property": "id", "role": "ancestor"},
        {"parameter": "petName", "resource": "Pet", "property": "petName", "role": "key"},
    ]}  # fmt: skip
    keys = [ForeignKey("pets", "owners", ("owner_id",), ("id",))]

    assert path_query(operation, RESOURCES, keys) == (
        'select t1."id", t0."pet_name" from "pets" t0 join "owners" t1 on t0."owner_id" = t1."id" '
        'order by md5(t0."pet_name"::text) limit $1::int'
    )
    assert path_query(operation, RESOURCES, []) is None


def test_references_are_put_in_either_form() -> None:
    """A key beside the others, an object with the key inside, or a list of either."""
    body: dict[str, Any] = {"petTypeId": 1, "owner": {"id": 1, "name": "x"}, "tags": [{"id": 1}]}

    put_reference(body, "owner", "id", 7)
    put_reference(body, "petTypeId", "id", 8)
    put_reference(body, "tags", "id", 9)

    assert body == {"petTypeId": 8, "owner": {"id": 7, "name": "x"}, "tags": [{"id": 9}]}


def test_the_representation_is_found_inside_a_body() -> None:
    """Bodies wrap it or hold a list; unique names inside must differ too."""
    resource = {
        "unique_columns": ["name"], "key": "name", "key_column": "name", "key_generated": False, "fields": {"name": "name", "kind": "kind"},
        "references": [{"property": "owner", "column": "owner_id", "table": "owners", "parent": False}],
    }  # fmt: skip
    wrapped = [{"apiVersion": "1", "pet": {"name": "x", "kind": "k", "tags": [{"name": "y"}]}}]

    assert entity_in(wrapped, resource) == wrapped[0]["pet"]
    assert entity_in("text", resource) is None
    bodies = varied_bodies(wrapped, resource, 3)
    assert len({body[0]["pet"]["name"] for body in bodies}) == 3
    assert {body[0]["pet"]["tags"][0]["name"] for body in bodies} == {"y"}


def test_creates_differ_where_they_must() -> None:
    """A unique name twice is a conflict, not a measurement."""
    resource = {
        "unique_columns": ["id", "name_"], "key": "id", "key_column": "id", "key_generated": True,
        "fields": {"id": "id", "name": "name_", "kind": "kind"}, "references": [],
    }  # fmt: skip
    bodies = varied_bodies({"id": 1, "name": "a", "kind": "b"}, resource, 3)

    assert len({body["name"] for body in bodies}) == 3
    assert {(body["id"], body["kind"]) for body in bodies} == {(1, "b")}


@pytest.mark.parametrize(
    "value", [1, 2.5, "text", "someone@example.com", "0b6e3b0a-2f5c-4b1e-9d3a-5a7c1f0e8d42", "x" * 30]
)
def test_varied_values_are_of_the_same_kind(value: Any) -> None:
    """They must still be valid: no longer than a long one, an address stays an address."""
    others = [varied(value, n) for n in range(5)]

    assert len({value, *others}) == 6
    assert {type(other) for other in others} == {type(value)}
    if isinstance(value, str) and len(value) >= 30:
        assert {len(other) for other in others} <= {len(value), len(value) + 5}


def test_differences_are_pointers_and_types_count() -> None:
    """1, 1.0 and true are three different documents."""
    left = {"a": [1, {"b/c": True}], "d": 1, "e": 1}
    right = {"a": [1, {"b/c": 1}], "d": 1.0, "f": 1}

    assert list(differences(left, right)) == ["/a/1/b~1c", "/d", "/e", "/f"]
    assert list(differences(left, left)) == []
    assert count_operations(DOCUMENT) == 1


@pytest.mark.parametrize(
    ("status", "media_type", "body", "faults"),
    [
        (501, "application/problem+json", b'{"title": "x", "status": 501}', 0),
        (501, "application/problem+json; charset=utf-8", b'{"title": "x"}', 0),
        (200, "application/json", b"{}", 1),
        (501, "application/json", b"{}", 1),
        (501, "application/problem+json", b"[]", 1),
        (501, "application/problem+json", b"nothing", 1),
        (501, "application/problem+json", b'{"status": 500}', 2),
    ],
)
def test_hole_faults(status: int, media_type: str, body: bytes, faults: int) -> None:
    """A fake 200 is the worst; the right status in the wrong form is still wrong."""
    answer = Answer(status, httpx.Headers({"content-type": media_type}), body)

    assert len(hole_faults(answer)) == faults


@pytest.mark.parametrize(
    ("status", "media_type", "body", "faults"),
    [
        (501, "application/json", b'{"code": 501}', 0),
        (501, "application/json", b"nothing", 1),
        (501, "application/problem+json", b'{"title": "Not Implemented"}', 1),
        (200, "application/json", b"{}", 1),
    ],
)
def test_hole_in_a_declared_form(status: int, media_type: str, body: bytes, faults: int) -> None:
    """Where the document declares a form for every error (`default`), a 501 has it too."""
    answer = Answer(status, httpx.Headers({"content-type": media_type}), body)

    assert len(hole_faults(answer, "application/json")) == faults


def test_tables_are_missing_only_where_something_is_stored() -> None:
    """A document of actions alone becomes a service without a table."""
    assert missing_tables([], {"resources": []}) is None
    assert missing_tables([], {"resources": [{"name": "Thing"}]}) == "upgrade makes no table"
    assert missing_tables(["things"], {"resources": [{"name": "Thing"}]}) is None


def test_no_answer_is_a_fault() -> None:
    """A service that hangs is not a hole that answers."""
    assert hole_faults(None) == ["no answer"]


REPORT = {"p95_ms": 14.0, "errors": 0, "issued": 500, "arrivals": 500, "faults": {}}


@pytest.mark.parametrize(
    ("change", "faults"),
    [({}, 0), ({"p95_ms": 100.0}, 1), ({"p95_ms": None}, 1), ({"errors": 1, "faults": {"x: 500": 1}}, 1), ({"issued": 494}, 1)],
)  # fmt: skip
def test_load_faults(change: dict[str, Any], faults: int) -> None:
    """Below, not at, the threshold; no error at all; enough arrivals issued."""
    assert len(load_faults({**REPORT, **change}, 100, 99)) == faults
    assert issued_percent({"issued": 499, "arrivals": 500}) == 99.8


def test_the_largest_table_is_the_one_with_most_kinds_of_operations() -> None:
    """Ties: more columns, then the document's order; single rows never."""
    resources = [
        {"name": n, "columns": c, "singleton": n == "S"} for n, c in (("A", [1]), ("B", [1, 2]), ("C", [1]), ("S", [1]))
    ]
    operations = [
        {"verdict": "derived", "action": a, "resource": n}
        for n, actions in (("A", "get list"), ("B", "get list"), ("C", "get list create"), ("S", "get"))
        for a in actions.split()
    ]

    assert candidates({"resources": resources, "operations": operations}) == ["C", "B", "A"]


def test_half_of_the_requests_at_least_go_to_the_largest_table() -> None:
    """Twenty gets on single rows would drown the one on ten thousand."""
    weights = operation_weights([True, False, False, False])

    assert weights[0] == sum(weights[1:])
    assert operation_weights([True, False]) == [1.0, 1.0]
    assert operation_weights([False, False]) == [1.0, 1.0]


def test_a_port_in_use_is_the_machines_fault_and_named() -> None:
    """Its holder could answer the ready check in the service's place."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]

        with pytest.raises(EnvironmentUnfit, match=str(port)):
            free_port(port)
    assert free_port() > 0


def test_how_busy_the_machine_is() -> None:
    """Readings of /proc/stat: the difference counts, and no time between them is no work."""
    assert busy_percent((100, 1000), (150, 1200)) == 25.0
    assert busy_percent((1, 1), (1, 1)) == 0.0
    busy, whole = cpu_times()
    assert 0 < busy <= whole


@pytest.mark.parametrize("table", ["trigger", "point", "user"])
async def test_row_of_a_table_with_the_name_of_a_type(postgres_dsn: str, table: str) -> None:
    """`null::"trigger"` is PostgreSQL's own pseudo-type, not a row of the table."""
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await connection.execute(f'create table "{table}" (name text, number int)')

        await connection.execute(row_statement(table, ["name", "number"]), '{"name": "a", "number": 2}')

        assert [tuple(row) for row in await connection.fetch(f'select * from "{table}"')] == [("a", 2)]
    finally:
        await connection.close()
