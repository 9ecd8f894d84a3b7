"""The library below the routers, on the sample: whatever this service is, these rules hold for it."""

import shlex
import subprocess
import sys
import time
import uuid
from typing import Any

import pytest

from app.dev import env_file
from app.main import ROOT
from app.model import Type
from app.values import Unstorable, to_column
from tests.harness import Client, decode

Json = Any
S = "/shelves/{}"


async def make_shelf(client: Client, **more: Json) -> str:
    code = f"s-{uuid.uuid4().hex[:8]}"
    answered = await client.send("POST", "/shelves", json={"code": code, **more})
    assert answered.status_code == 201, answered.text
    return code


async def make_box(client: Client, code: str | None = None, **more: Json) -> Json:
    code = code or await make_shelf(client)
    answered = await client.send("POST", f"/shelves/{code}/boxes", json=more)
    assert answered.status_code == 201, answered.text
    return answered.json()


# --- Rows -----------------------------------------------------------------------------------------------------------


async def test_created_row_can_be_read_at_its_location(sample_client: Client) -> None:
    """A Location that leads nowhere helps nobody; keys may hold anything."""
    for code in (f"a/b {uuid.uuid4()}", f"ä€?#%2F {uuid.uuid4()}"):
        made = await sample_client.send("POST", "/shelves", json={"code": code, "height": 2.50})
        found = await sample_client.send("GET", made.headers["location"], root=True)

        assert found.status_code == 200
        assert found.json() == made.json()
        assert found.json()["code"] == code
        assert found.json()["height"] == 2.5


@pytest.mark.parametrize("text", ["020", "2.0", "+20", " 20", "2_0", "٢٠", ""])
def test_number_in_a_text_is_one_in_its_own_form(text: str) -> None:
    """A path names a numeric key as a text where the document declares its parameter as a string; a row has one name."""
    assert to_column(Type.BIGINT, "20") == 20
    with pytest.raises(Unstorable):
        to_column(Type.BIGINT, text)


async def test_taken_key_is_a_conflict(sample_client: Client) -> None:
    """A unique violation is the client's news, not a failure of ours."""
    code = await make_shelf(sample_client)

    answered = await sample_client.send("POST", "/shelves", json={"code": code})

    assert answered.status_code == 409
    assert answered.headers["content-type"] == "application/problem+json"


async def test_put_replaces_and_resets_what_is_left_out(sample_client: Client) -> None:
    """PUT means the whole: an optional property that is left out is gone; the key of the path wins."""
    code = await make_shelf(sample_client, height=3, materials=["oak"])

    answered = await sample_client.send("PUT", S.format(code), json={"code": "another"})

    assert answered.status_code == 200
    assert answered.json()["code"] == code
    assert answered.json()["height"] is None
    assert "materials" not in answered.json()


async def test_put_leaves_a_row_at_its_path(sample_client: Client) -> None:
    """A path may pick a row by what is not its key: were that reset with the rest, nobody would find the row again."""
    code = await make_shelf(sample_client)
    box = await make_box(sample_client, code, owner="me", weight=1.5)
    path = f"/shelves/{code}/boxes/me"

    answered = await sample_client.send("PUT", path, json={"openedOn": "2024-02-29"})
    assert answered.status_code == 200
    put = answered.json()
    assert (put["id"], put["owner"], put["shelf"], put["openedOn"]) == (box["id"], "me", code, "2024-02-29")
    assert "weight" not in put
    moved = await sample_client.send("PUT", path, json={"owner": "another"})
    assert moved.json()["owner"] == "another"


async def test_patch_changes_only_what_is_sent(sample_client: Client) -> None:
    """PATCH with nothing is a read; null empties what may be null."""
    box = await make_box(sample_client, weight=1.5, openedOn="2024-02-29", owner="me")
    path = f"/boxes/{box['id']}"

    assert (await sample_client.send("PATCH", path, json={})).json() == box
    changed = (await sample_client.send("PATCH", path, json={"owner": None, "weight": 2})).json()
    assert changed == {**box, "owner": None, "weight": 2.0}


async def test_default_is_stored_and_comes_back_with_put(sample_client: Client) -> None:
    """A default of the document is a value of the row."""
    box = await make_box(sample_client, size="large")
    assert (await make_box(sample_client))["size"] == "small"

    answered = await sample_client.send("PUT", "/boxes", json={"id": box["id"]})

    assert answered.json()["size"] == "small"


async def test_put_by_body_finds_the_row_or_says_that_there_is_none(sample_client: Client) -> None:
    """The document declares 404 for this operation, so nothing is made."""
    for body in ({"id": str(uuid.uuid4())}, {}):
        assert (await sample_client.send("PUT", "/boxes", json=body)).status_code == 404


async def test_deleted_row_is_gone(sample_client: Client) -> None:
    """The answer shows what was deleted, where the document says so."""
    box = await make_box(sample_client)
    path = f"/boxes/{box['id']}"

    assert (await sample_client.send("DELETE", path)).json()["id"] == box["id"]
    assert (await sample_client.send("GET", path)).status_code == 404
    assert (await sample_client.send("DELETE", path)).status_code == 404


async def test_referenced_row_is_kept(sample_client: Client) -> None:
    """409 is declared for it."""
    code = await make_shelf(sample_client)
    box = await make_box(sample_client, code)

    assert (await sample_client.send("DELETE", S.format(code))).status_code == 409
    await sample_client.send("DELETE", f"/boxes/{box['id']}")
    assert (await sample_client.send("DELETE", S.format(code))).status_code == 204


async def test_unknown_parent_is_not_found(sample_client: Client) -> None:
    """For reading and for writing, at every level."""
    box = await make_box(sample_client)
    for method, path, body in (
        ("GET", "/shelves/none/boxes", None),
        ("POST", "/shelves/none/boxes", {}),
        ("GET", f"/boxes/{uuid.uuid4()}/items", None),
        ("GET", f"/boxes/{box['id']}/items/1", None),
        ("GET", f"/boxes/{box['id']}/items/{2**63 - 1}", None),
        ("PUT", f"/boxes/{box['id']}/items/1", {"name": "x"}),
    ):
        assert (await sample_client.send(method, path, json=body)).status_code == 404, path


async def test_unknown_reference_is_not_stored(sample_client: Client) -> None:
    """`shelf` is a key in the body; nobody may point at nothing."""
    box = await make_box(sample_client)

    answered = await sample_client.send("PATCH", f"/boxes/{box['id']}", json={"shelf": "none"})

    assert answered.status_code == 404
    assert (await sample_client.send("GET", f"/boxes/{box['id']}")).json() == box


async def test_embedded_children_and_links_are_written_and_shown(sample_client: Client) -> None:
    """Nested objects of a body become rows; labels must exist, children are made."""
    name = f"l-{uuid.uuid4()}"
    await sample_client.send("POST", "/labels", json={"name": name, "color": "red"})
    code = await make_shelf(sample_client)

    box = await make_box(sample_client, code, labels=[{"name": name}], items=[{"name": "cup"}, {"name": "pot"}])
    assert box["labels"] == [{"name": name, "color": "red"}]
    assert [item["name"] for item in box["items"]] == ["cup", "pot"]
    assert (await sample_client.send("GET", S.format(code))).json()["boxes"] == [{"id": box["id"], "labels": [name]}]

    path = f"/boxes/{box['id']}"
    changed = (await sample_client.send("PATCH", path, json={"labels": [], "items": [{"name": "pan"}]})).json()
    assert changed["labels"] == []
    assert [item["name"] for item in changed["items"]] == ["pan"]
    refused = await sample_client.send("PATCH", path, json={"labels": [{"name": "unknown"}]})
    assert refused.status_code == 404


async def test_many_rows_are_made_together_or_not_at_all(sample_client: Client) -> None:
    """One bad reference undoes the rest."""
    made = await sample_client.send("POST", "/boxes", json=[{"size": "a"}, {"size": "b"}])
    assert [box["size"] for box in made.json()] == ["a", "b"]

    before = (await sample_client.send("GET", "/shelves")).json()["data"]["items"]
    assert (await sample_client.send("POST", "/boxes", json=[{}, {"shelf": "none"}])).status_code == 404
    assert (await sample_client.send("GET", "/shelves")).json()["data"]["items"] == before


async def test_links_are_made_and_cut(sample_client: Client) -> None:
    """By path, by body, and by creating below."""
    box, name = await make_box(sample_client), f"l-{uuid.uuid4()}"
    path = f"/boxes/{box['id']}/labels"
    assert (await sample_client.send("PUT", f"{path}/{name}")).status_code == 404
    await sample_client.send("POST", "/labels", json={"name": name})

    assert (await sample_client.send("GET", f"{path}/{name}")).status_code == 404
    for _ in range(2):  # again changes nothing
        assert (await sample_client.send("PUT", f"{path}/{name}")).status_code == 204
    assert (await sample_client.send("GET", f"{path}/{name}")).json() == {"name": name}
    assert (await sample_client.send("DELETE", f"{path}/{name}")).status_code == 204
    assert (await sample_client.send("DELETE", f"{path}/{name}")).status_code == 404
    assert (await sample_client.send("DELETE", f"{path}/none")).status_code == 404
    assert (await sample_client.send("PUT", path, json={"name": name})).json() == {"name": name}
    assert (await sample_client.send("POST", path, json={"name": name + "2"})).status_code == 201
    assert [label["name"] for label in (await sample_client.send("GET", path)).json()] == [name, name + "2"]


async def test_singleton_is_made_by_its_first_put(sample_client: Client) -> None:
    """Nobody can POST it."""
    assert (await sample_client.send("GET", "/setting")).status_code == 404
    for theme in ("dark", "light"):
        assert (await sample_client.send("PUT", "/setting", json={"theme": theme})).json() == {"theme": theme}
    assert (await sample_client.send("GET", "/setting")).json() == {"theme": "light"}


async def test_all_rows_that_fit_are_deleted(sample_client: Client) -> None:
    """The filters of a collection hold for its DELETE."""
    code = await make_shelf(sample_client)
    other = await make_shelf(sample_client)

    assert (await sample_client.send("DELETE", "/shelves", params={"text": code})).status_code == 204

    assert (await sample_client.send("GET", S.format(code))).status_code == 404
    assert (await sample_client.send("GET", S.format(other))).status_code == 200


# --- Lists ----------------------------------------------------------------------------------------------------------


async def follow(client: Client, path: str, items: Any, **params: Any) -> list[Json]:
    """All items of a list, by its links."""
    found: list[Json] = []
    answered = await client.send("GET", path, params=params)
    while True:
        assert answered.status_code == 200, answered.text
        found += items(answered.json())
        link = answered.headers.get("link")
        if link is None:
            return found
        assert len(items(answered.json())) > 0
        answered = await client.send("GET", link[1:].partition(">")[0], root=True)


async def test_offset_list_filters_sorts_and_counts(sample_client: Client) -> None:
    """Every operator, both directions, and an envelope with the total."""
    tag = uuid.uuid4().hex[:6]
    for height in (1, 2, 3, None):
        material = [f"wood-{height}", tag]
        await sample_client.send(
            "POST", "/shelves", json={"code": f"{tag}-{height}", "height": height, "materials": material}
        )

    async def heights(**params: Any) -> list[Json]:
        found = await follow(sample_client, "/shelves", lambda body: body["data"]["items"], text=tag, **params)
        return [shelf["height"] for shelf in found]

    assert await heights(sort="height") == [1, 2, 3, None]
    assert await heights(sort="-height,code") == [3, 2, 1, None]
    assert await heights(sort="height,desc") == [3, 2, 1, None]
    assert await heights(sort="height,code,ASC") == [1, 2, 3, None]
    assert await heights(minHeight=2, sort="height") == [2, 3]
    assert await heights(maxHeight=2, sort="height") == [1, 2]
    assert await heights(above=2) == [3]
    assert await heights(below=2) == [1]
    assert await heights(material="wood-2") == [2]
    assert await heights(codes=f"{tag}-1,{tag}-3", sort="code") == [1, 3]
    page = (await sample_client.send("GET", "/shelves", params={"text": tag, "limit": 1, "offset": 1})).json()
    assert page["page"] == {"total": 4, "offset": 1, "limit": 1, "more": True}
    assert (page["status"], page["kind"], len(page["requestId"])) == (200, "shelves", 36)


@pytest.mark.parametrize("params", [{"offset": -1}, {"limit": -1}, {"offset": 10**30}, {"limit": 10**30}, {"limit": 0}])
async def test_positions_beyond_any_range_are_clamped(sample_client: Client, params: Json) -> None:
    """The document sets no bounds, so every integer is legal."""
    assert (await sample_client.send("GET", "/shelves", params=params)).status_code == 200


async def test_unknown_order_is_refused(sample_client: Client) -> None:
    """Names of columns never reach SQL as text."""
    for path, name in (("/shelves", "sort"), ("/boxes", "order")):
        answered = await sample_client.send("GET", path, params={name: "code;drop table shelf"})
        assert answered.status_code == 400
        assert answered.json()["errors"][0]["pointer"] == name


async def test_cursor_list_gives_every_row_once(sample_client: Client) -> None:
    """Nulls, equal values and descending order are the traps of keysets."""
    for weight in (1.5, 1.5, None, 0.5, None, 2):
        await make_box(sample_client, weight=weight) if weight is not None else await make_box(sample_client)
    everything = await follow(sample_client, "/boxes", lambda body: body["boxes"], limit=5)

    for params in ({"order": "weight"}, {"order": "weight", "direction": "desc"}, {"order": "-openedOn,weight"}):
        found = await follow(sample_client, "/boxes", lambda body: body["boxes"], limit=2, **params)
        assert len(found) == len(everything)
        assert {box["id"] for box in found} == {box["id"] for box in everything}
    last = (await sample_client.send("GET", "/boxes", params={"limit": 0})).json()
    assert last == {"boxes": [], "next": None}


@pytest.mark.parametrize(
    "cursor", ["x", "AAAA", "WyJhIl0", "W10", "ä", "W1siaWQiXSxbbnVsbF1d", "W1siaWQiXSxbIlx1MDAwMCJdXQ"]
)
async def test_foreign_cursor_is_refused(sample_client: Client, cursor: str) -> None:
    """A cursor is opaque to clients, but nothing keeps them from making one up."""
    answered = await sample_client.send("GET", "/boxes", params={"cursor": cursor})

    assert answered.status_code == 400


async def test_paged_list_counts_pages(sample_client: Client) -> None:
    """The first page is number 0 here."""
    box = await make_box(sample_client)
    path = f"/boxes/{box['id']}/items"
    for number in range(5):
        made = await sample_client.send(
            "POST", path, json={"item": {"name": f"n{number}", "price": 12345678901234567890123}}
        )
        assert (made.status_code, made.json()) == (201, {"done": True})

    first = (await sample_client.send("GET", path)).json()
    assert (first["pages"], first["count"], first["page"], len(first["items"])) == (3, 2, 0, 2)
    found = await follow(sample_client, path, lambda body: body["items"], size=3)
    assert [item["name"] for item in found] == ["n0", "n1", "n2", "n3", "n4"]
    assert found[0]["price"] == 12345678901234567890123
    assert (await sample_client.send("GET", path, params={"page": -4})).json()["page"] == 0
    assert (await sample_client.send("GET", path, params={"size": 4})).status_code == 400


async def test_list_without_paging_is_capped_and_linked(sample_client: Client) -> None:
    """A document that declares no paging must not empty our memory."""
    code = await make_shelf(sample_client)
    made = [(await make_box(sample_client, code))["id"] for _ in range(7)]

    answered = await sample_client.send("GET", f"/shelves/{code}/boxes")
    assert len(answered.json()) == 5
    found = await follow(sample_client, f"/shelves/{code}/boxes", lambda body: body)
    assert sorted(box["id"] for box in found) == sorted(made)


async def test_list_with_a_limit_alone_goes_on_behind_its_page(sample_client: Client) -> None:
    """The document names no position to go on from: a link that repeats the request leads back to where it stands."""
    path = f"/boxes/{(await make_box(sample_client))['id']}/labels"
    for number in range(5):
        made = await sample_client.send("POST", path, json={"name": f"{number} {uuid.uuid4()}"})
        assert made.status_code == 201, made.text

    pages = [await sample_client.send("GET", path, params={"limit": 2})]
    while len(pages) < 5 and (link := pages[-1].headers.get("link")):
        pages.append(await sample_client.send("GET", link[1:].partition(">")[0], root=True))
    assert [[label["name"][0] for label in page.json()] for page in pages] == [["0", "1"], ["2", "3"], ["4"]]
    assert len((await sample_client.send("GET", path)).json()) == 4


async def test_times_are_kept_in_utc(sample_client: Client) -> None:
    """timestamptz does not keep the offset; fractions beyond six digits are cut."""
    box = await make_box(sample_client)
    path = f"/boxes/{box['id']}/items"
    body = {"name": "t", "made": "2024-02-29T23:59:59.123456789+02:00", "fragile": True, "count": 3.0}
    await sample_client.send("POST", path, json={"item": body})
    item = (await sample_client.send("GET", path)).json()["items"][0]

    assert item["made"] == "2024-02-29T21:59:59.123456Z"
    assert (item["fragile"], item["count"]) == (True, 3)
    changed = await sample_client.send("PUT", f"{path}/{item['id']}", json={"name": "u"})
    assert changed.json() == {"id": item["id"], "name": "u"}


# --- The contract ---------------------------------------------------------------------------------------------------


async def strict(client: Client, **more: Any) -> Any:
    return await client.send("POST", "/strict", **more)


@pytest.mark.parametrize(
    ("query", "value"),
    [
        ("flag=true", {"flag": True}),
        ("count=-5", {"count": -5}),
        ("count=null", {"count": None}),
        ("ratio=1.5e2", {"ratio": 150.0}),
        ("ratio=false", {"ratio": False}),
        ("many=1&many=2", {"many": [1, 2]}),
        ("piped=a|b", {"piped": ["a", "b"]}),
        ("deep[a]=1", {"deep": {"a": 1}}),
        ("x=4", {"flat": {"x": 4}, "x": 4}),
        ("packed=k,1", {"packed": {"k": 1}}),
        ("json=%7B%22a%22:1%7D", {"json": {"a": 1}}),
        ("loose=5", {"loose": 5}),
        ("loose=05", {"loose": "05"}),
        ("open=5", {"open": 5}),
        ("day=2024-02-29", {"day": "2024-02-29"}),
        ("other=1", {}),
    ],
)
async def test_parameter_is_read_by_its_style(sample_client: Client, query: str, value: Json) -> None:
    """Style, explode and content decide how text becomes JSON; a default fills in."""
    answered = await sample_client.send("POST", f"/strict?{query}")

    assert answered.status_code == 200, answered.text
    read = answered.json()["query"]
    expected = {"count": 7, **value}
    assert {name: read[name] for name in expected} == expected


@pytest.mark.parametrize(
    "query",
    [
        "flag=1", "flag=True", "flag=", "flag=true&flag=true", "count=1.0", "count=%2B1", "count=%201", "count=1_0",
        "count=01", "count=0x1", "count=2147483648", "ratio=1e400", "ratio=NaN", "ratio=.5", "many=a", "piped=a&piped=b",
        "deep[a]=x", "day=2023-02-29", "day=0000-01-01", "day=2024-1-1", "day=2024-01-01T00:00:00Z",
        "json=x", "json=1", "loose=%00", "loose=%FF", "loose=%ED%A0%80",
    ],
)  # fmt: skip
async def test_parameter_in_another_form_is_refused(sample_client: Client, query: str) -> None:
    """What a lax converter would take is not what the document says."""
    answered = await sample_client.send("POST", f"/strict?{query}")

    assert answered.status_code == 400, answered.text
    assert answered.json()["status"] == 400


async def test_headers_and_cookies_are_checked(sample_client: Client) -> None:
    """`accept` as a parameter is ignored, as OpenAPI says."""
    good = await strict(sample_client, headers={"X-Number": "4", "Cookie": "session=abc", "accept": "x"})
    assert (good.json()["header"], good.json()["cookie"]) == ({"x-number": 4}, {"session": "abc"})
    for headers in ({"x-number": "a"}, {"cookie": "session=a"}):
        assert (await strict(sample_client, headers=headers)).status_code == 400


@pytest.mark.parametrize(
    "content",
    [
        b"{", b'{"any": NaN}', b'{"any": Infinity}', b'{"any": 1e400}', b'{"any": "\\ud800"}', b'\xef\xbb\xbf{}',
        '{"any": 1}'.encode("utf-16"), b'{"any": "\\u0000"}', b'{"any": [{"\\u0000": 1}]}', b'{"any": "\xff"}', b"[" * 5000,
        b"[]", b'{"id": "{00000000-0000-0000-0000-000000000000}"}', b'{"id": "00000000000000000000000000000000"}',
        b'{"id": "urn:uuid:00000000-0000-0000-0000-000000000000"}', b'{"day": "0000-01-01"}', b'{"day": 0}',
        b'{"day": "2024-02-30"}', b'{"at": "0001-01-01T00:00:00+05:00"}', b'{"at": "9999-12-31T23:59:59-05:00"}',
        b'{"at": "2024-01-01T00:00:60Z"}', b'{"at": "2024-01-01t00:00:00z"}', b'{"at": "2024-01-01"}',
        b'{"small": 2147483648}', b'{"small": "1"}', b'{"small": true}', b'{"pattern": "!"}', b'{"one": true}',
        b'{"self": {"self": {"day": 1}}}',
    ],
)  # fmt: skip
async def test_body_that_is_not_valid_is_refused(sample_client: Client, content: bytes) -> None:
    """Each of these has broken a service somewhere."""
    answered = await strict(sample_client, content=content, headers={"content-type": "application/json"})

    assert answered.status_code == 400, answered.text
    assert answered.headers["content-type"] == "application/problem+json"


async def test_body_that_is_valid_is_taken(sample_client: Client) -> None:
    """A pattern that no engine can read is not checked; `\\\\u0000` is a backslash and letters."""
    body = {
        "pattern": "a-b.",
        "lost": "x",
        "one": "1",
        "any": "\\u0000",
        "small": 2**31 - 1,
        "self": {"day": "2024-02-29"},
    }
    for media_type in ("application/json", "application/json; charset=utf-8", "APPLICATION/JSON"):
        answered = await strict(
            sample_client, content=__import__("json").dumps(body), headers={"content-type": media_type}
        )
        assert answered.json()["body"] == body


async def test_other_media_types_follow_the_document(sample_client: Client) -> None:
    """Forms become objects; what is not declared is 415, where that is declared."""

    async def sent(content: bytes, media_type: str) -> Any:
        return await sample_client.send("POST", "/loose", content=content, headers={"content-type": media_type})

    form = "application/x-www-form-urlencoded"
    assert (await sent(b"n=4&tags=a&tags=b", form)).json()["body"] == {"n": 4, "tags": ["a", "b"]}
    assert (await sent(b"n=x", form)).status_code == 400
    assert (await sent(b"n=1&n=2", form)).status_code == 400
    assert (await sent(b"text", "text/plain")).json()["body"] == "text"
    assert (await sent(b"long text", "text/plain")).status_code == 400
    assert (await sent(b"\xff\xfe", "application/octet-stream")).status_code == 200
    assert (await sent(b"<a/>", "application/xml")).status_code == 415
    assert (await sent(b"", "application/json")).json()["body"] is None
    refused = await strict(sample_client, content=b"<a/>", headers={"content-type": "application/xml"})
    assert refused.status_code == 415  # declared, but JSON is too


async def test_missing_and_unread_bodies(sample_client: Client) -> None:
    """An absent body is 400, not 415; one that is too large is refused before it is read whole."""
    assert (await sample_client.send("POST", "/shelves")).status_code == 422  # declared there instead of 400
    assert (
        await sample_client.send("POST", "/labels", content=b"{}", headers={"content-type": "a/b"})
    ).status_code == 415
    assert (await strict(sample_client, json={"any": "x" * 6000})).status_code == 413


async def test_read_only_property_is_neither_required_nor_taken(sample_client: Client) -> None:
    """It is required in responses only; sent along, it is ignored."""
    code = await make_shelf(sample_client, createdAt="2000-01-01T00:00:00Z")
    shelf = (await sample_client.send("GET", S.format(code))).json()

    assert not shelf["createdAt"].startswith("2000")
    box = await make_box(sample_client, code, id=str(uuid.UUID(int=1)))
    assert box["id"] != str(uuid.UUID(int=1))


async def test_path_styles(sample_client: Client) -> None:
    """`;a=1` and `.2`."""
    assert (await sample_client.send("GET", "/matrix/;a=1/.2")).json()["path"] == {"a": 1, "b": 2}
    assert (await sample_client.send("GET", "/matrix/1x/2")).status_code == 400


# --- Callers --------------------------------------------------------------------------------------------------------


async def test_basic_lets_the_right_password_in(sample_client: Client) -> None:
    """A second request is quick: the first check is remembered."""
    right = sample_client.carried("basic")
    assert (await sample_client.send("GET", "/secure/basic", **right)).json()["name"] == "developer"
    started = time.perf_counter()
    assert (await sample_client.send("GET", "/secure/basic", **right)).status_code == 200
    assert time.perf_counter() - started < 5

    for token in (
        "",
        "Basic",
        "Basic !",
        "Basic YQ==",
        "Basic /w==",
        "Basic ZGV2ZWxvcGVyOng=",
        "Basic bm9ib2R5Ong=",
        "Bearer x",
    ):
        answered = await sample_client.send("GET", "/secure/basic", headers={"authorization": token})
        assert answered.status_code == 401, token
        assert "Basic" in answered.headers["www-authenticate"]


@pytest.mark.parametrize("scheme", ["key", "keyInQuery", "keyInCookie"])
async def test_key_lets_in_wherever_it_stands(sample_client: Client, scheme: str) -> None:
    """Any one of the alternatives is enough."""
    answered = await sample_client.send("GET", "/secure/key", **sample_client.carried(scheme))

    assert answered.json() == {"name": "developer", "schemes": [scheme]}


async def test_wrong_key_stays_out(sample_client: Client) -> None:
    """Nothing and something wrong are the same."""
    assert (await sample_client.send("GET", "/secure/key")).status_code == 401
    assert (await sample_client.send("GET", "/secure/key", headers={"x-key": "x"})).status_code == 401


@pytest.mark.parametrize("path", ["/secure/certificate", "/secure/both"])
async def test_what_cannot_be_checked_lets_nobody_in(sample_client: Client, path: str) -> None:
    """A certificate is seen by who ends the connection, not by us. The other operations are served all the same."""
    for carried in ({}, sample_client.carried("key"), {"headers": {"x-client-cert": "CN=somebody"}}):
        answered = await sample_client.send("GET", path, **carried)

        assert answered.status_code == 501
        assert "www-authenticate" not in answered.headers
    assert "certificate" not in sample_client.schemes


async def test_an_alternative_that_can_be_checked_is_enough(sample_client: Client) -> None:
    """Leaving out the other one denies more, never less."""
    assert (await sample_client.send("GET", "/secure/either")).status_code == 401
    assert (await sample_client.send("GET", "/secure/either", **sample_client.carried("key"))).status_code == 200


async def test_token_needs_its_scope(sample_client: Client) -> None:
    """403 for a good token with too little; a pair of other schemes also opens the door."""
    assert (await sample_client.send("GET", "/secure/token", **sample_client.carried("token"))).status_code == 200
    both = {**sample_client.carried("basic")["headers"], **sample_client.carried("key")["headers"]}
    assert (await sample_client.send("GET", "/secure/token", headers=both)).json()["schemes"] == ["basic", "key"]
    assert (await sample_client.send("GET", "/secure/token", **sample_client.carried("basic"))).status_code == 401
    for token in ("Bearer", "Bearer x", "Bearer a.b.c"):
        assert (await sample_client.send("GET", "/secure/token", headers={"authorization": token})).status_code == 401


def test_env_file_carries_the_minted_settings(sample_credentials: Json) -> None:
    """A key has several lines, and what a shell would expand stays as it is: compose and shells read the same values."""
    text = env_file(sample_credentials)

    assert dict(word.split("=", 1) for word in shlex.split(text, comments=True)) == sample_credentials["environment"]
    shown = dict(line.removeprefix("# ").split(": ", 1) for line in text.splitlines() if line.startswith("# "))
    assert shown.keys() == sample_credentials["schemes"].keys()
    assert decode(shown["key"].encode()) == {"headers": sample_credentials["schemes"]["key"]["headers"]}


def test_probe_loads_nothing_of_the_service() -> None:
    """The image's health check runs every ten seconds and has three: on a busy machine the service's imports take longer."""
    code = "import sys, app.probe; print(*sorted(name for name in sys.modules if name.partition('.')[0] == 'app'))"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout

    assert loaded.split() == ["app", "app.paths", "app.probe"]


# --- Around the operations ------------------------------------------------------------------------------------------


async def test_unwritten_hook_answers_501_to_anything(sample_client: Client) -> None:
    """Never a fake success; also for a request that would not be valid."""
    requests: list[Json] = [{"json": {}}, {"content": b"{"}, {}]
    for more in requests:
        answered = await sample_client.send("POST", "/action", **more)
        assert answered.status_code == 501
        assert answered.headers["content-type"] == "application/problem+json"


async def test_declared_error_shape_is_kept(sample_client: Client) -> None:
    """The document's own shape wins over problem details."""
    answered = await sample_client.send("GET", S.format("none"))

    assert answered.headers["content-type"] == "application/json"
    assert answered.json() == {"error": {"message": "There is no such Shelf.", "code": "not_found", "list": [1]}}


async def test_methods_of_a_path_are_named(sample_client: Client) -> None:
    """405 with all of them, 204 to OPTIONS, 404 for what is nowhere, with and without a slash at the end."""
    answered = await sample_client.send("PATCH", "/shelves")
    assert answered.status_code == 405
    assert answered.headers["allow"] == "GET, POST, DELETE, OPTIONS"
    assert (await sample_client.send("OPTIONS", "/shelves")).status_code == 204
    concrete = await sample_client.send("DELETE", "/boxes/all")
    assert (concrete.status_code, concrete.headers["allow"]) == (405, "GET, OPTIONS")
    assert (await sample_client.send("PURGE", "/boxes/all")).headers["allow"] == "GET, OPTIONS"
    for path in ("/nothing", "/shelves/", "/shelves/a/b/c"):
        found = await sample_client.send("GET", path)
        assert (found.status_code, found.json()["title"]) == (404, "Not Found")
    assert (await sample_client.send("GET", "/shelves/%FF")).status_code == 400


async def test_programming_error_is_a_problem_document(sample_client: Client) -> None:
    """It tells the client nothing about the inside."""
    answered = await sample_client.send("GET", "/broken")
    assert answered.status_code == 500
    assert "programming" not in answered.text
    assert (await sample_client.send("GET", "/slow")).status_code == 504


async def test_correlation_id_is_kept_or_made(sample_client: Client) -> None:
    """A harmless one of the caller, else that of the trace, else a new one; never a forged log line."""

    async def seen(**headers: str) -> str:
        return (await sample_client.send("GET", "/setting", headers=headers)).headers["x-request-id"]

    assert await seen(**{"x-request-id": "abc-1"}) == "abc-1"
    assert await seen(traceparent=f"00-{'a' * 32}-{'b' * 16}-01") == "a" * 32
    assert len(await seen(**{"x-request-id": "a b"})) == 32
