"""What callers may count on: Category. Generated from the document by Backwright."""

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import make_category


async def list_categories(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`id` of each row that GET /categories shows, in its order."""
    page = await api.get("/categories", *keys, query=query, expect=200)
    return [row["id"] for row in page]


async def test_created_category_is_read_back(api: Api) -> None:
    """POST /categories keeps what is sent, and its answer is true."""
    sent: dict[str, Json] = {"name": "gamma"}

    made = await make_category(api, **sent)
    assert made == {**made, **sent}
    assert await api.get("/categories/{categoryId}", made["id"], expect=200) == made


async def test_every_category_is_listed(api: Api) -> None:
    """GET /categories shows what there is, each row once."""
    first = await make_category(api)
    second = await make_category(api)

    assert sorted(await list_categories(api)) == sorted([first["id"], second["id"]])


@pytest.mark.parametrize(("name", "value"), [("name", "")])
async def test_create_category_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/categories"), name: value}

    await api.post("/categories", body=body, expect=400)


@pytest.mark.parametrize("missing", ["name"])
async def test_create_category_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/categories")
    del body[missing]

    await api.post("/categories", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/categories", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(("method", "path"), [("GET", "/categories/{categoryId}")])
async def test_unknown_category_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(("method", "path"), [("POST", "/categories")])
async def test_category_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
