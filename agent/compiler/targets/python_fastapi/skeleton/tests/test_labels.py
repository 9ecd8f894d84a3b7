"""What callers may count on: Label. Generated from the document by Backwright."""

import asyncio

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import label_body, make_label


async def list_labels(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`slug` of each row that GET /labels shows, in its order."""
    page = await api.get("/labels", *keys, query=query, expect=200)
    return [row["slug"] for row in page["labels"]]


async def test_created_label_is_read_back(api: Api) -> None:
    """POST /labels keeps what is sent, and its answer is true."""
    sent: dict[str, Json] = {"color": "green"}

    made = await make_label(api, **sent)
    assert made == {**made, **sent}
    assert await api.get("/labels/{slug}", made["slug"], expect=200) == made


async def test_taken_value_makes_no_second_label(api: Api) -> None:
    """Of two requests with the same unique value one wins, also at the same time."""
    body = label_body()

    both = await asyncio.gather(*(api.send("POST", "/labels", body=body) for _ in range(2)))
    assert sorted(answered.status_code for answered in both) == [201, 409]


async def test_deleted_label_is_gone(api: Api) -> None:
    """It is shown no more, and a second time there is nothing to delete."""
    label = await make_label(api)

    await api.delete("/labels/{slug}", label["slug"], expect=204)
    await api.get("/labels/{slug}", label["slug"], expect=404)
    await api.delete("/labels/{slug}", label["slug"], expect=404)


async def test_every_label_is_listed(api: Api) -> None:
    """GET /labels shows what there is, each row once."""
    first = await make_label(api)
    second = await make_label(api)

    assert sorted(await list_labels(api)) == sorted([first["slug"], second["slug"]])


async def test_labels_are_paged(api: Api) -> None:
    """Each row stands on one page, in an order that the size of a page does not change; `Link` leads on."""
    made = [(await make_label(api))["slug"] for _ in range(5)]

    pages = [await list_labels(api, pageSize=2, page=number) for number in (1, 2, 3)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(key for page in pages for key in page) == sorted(made)
    assert [key for page in pages for key in page] == await list_labels(api, pageSize=5)
    assert pages == [
        [row["slug"] for row in page["labels"]] for page in await api.pages("/labels", query={"pageSize": 2})
    ]
    page = await api.get("/labels", query={"pageSize": 2}, expect=200)
    assert page["pages"] == 3


@pytest.mark.parametrize(("name", "value"), [("slug", "not a value"), ("color", "no such value")])
async def test_create_label_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/labels"), name: value}

    await api.post("/labels", body=body, expect=400)


@pytest.mark.parametrize("missing", ["slug"])
async def test_create_label_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/labels")
    del body[missing]

    await api.post("/labels", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/labels", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/tools/{toolId}/labels"), ("GET", "/labels/{slug}"), ("DELETE", "/labels/{slug}")]
)
async def test_unknown_label_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "/tools/{toolId}/labels"), ("POST", "/labels"), ("DELETE", "/labels/{slug}")]
)
async def test_label_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
