"""What callers may count on: Tool. Generated from the document by Backwright."""

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import make_label, make_loan, make_tool


async def list_tools(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`id` of each row that GET /tools shows, in its order."""
    page = await api.get("/tools", *keys, query=query, expect=200)
    return [row["id"] for row in page["data"]]


async def test_created_tool_is_read_back(api: Api) -> None:
    """POST /tools keeps what is sent, and its answer is true."""
    sent: dict[str, Json] = {"name": "gamma", "price": 2, "purchasedOn": "2025-03-15"}

    made = await make_tool(api, **sent)
    assert made == {**made, **sent}
    assert await api.get("/tools/{toolId}", made["id"], expect=200) == made


async def test_tool_is_replaced(api: Api) -> None:
    """PUT takes the whole: what is sent is kept, and what is left out goes back to its default."""
    tool = await make_tool(api)
    sent: dict[str, Json] = {"name": "gamma"}
    left_out: dict[str, Json] = {"price": None, "purchasedOn": None}

    await api.put(
        "/tools/{toolId}", tool["id"], body={**sent, "category": {"name": "sample"}, "labels": []}, expect=200
    )
    found = await api.get("/tools/{toolId}", tool["id"], expect=200)
    assert found == {**found, **sent}
    assert {name: found.get(name) for name in left_out} == left_out


async def test_deleted_tool_is_gone(api: Api) -> None:
    """It is shown no more, and a second time there is nothing to delete."""
    tool = await make_tool(api)

    await api.delete("/tools/{toolId}", tool["id"], expect=204)
    await api.get("/tools/{toolId}", tool["id"], expect=404)
    await api.delete("/tools/{toolId}", tool["id"], expect=404)


async def test_tool_with_a_loan_is_kept(api: Api) -> None:
    """A Loan refers to it by `toolId`; 409 is declared for that."""
    tool = await make_tool(api)
    await make_loan(api, toolId=tool["id"])

    await api.delete("/tools/{toolId}", tool["id"], expect=409)
    await api.get("/tools/{toolId}", tool["id"], expect=200)


async def test_label_is_tied_to_tool(api: Api) -> None:
    """What is tied is shown, and no more when the tie is cut."""
    tool = await make_tool(api)
    label = await make_label(api)

    await api.put("/tools/{toolId}/labels/{slug}", tool["id"], label["slug"], expect=204)
    assert [row["slug"] for row in await api.get("/tools/{toolId}/labels", tool["id"], expect=200)] == [label["slug"]]
    await api.delete("/tools/{toolId}/labels/{slug}", tool["id"], label["slug"], expect=204)
    assert [row["slug"] for row in await api.get("/tools/{toolId}/labels", tool["id"], expect=200)] == []
    await api.delete("/tools/{toolId}/labels/{slug}", tool["id"], label["slug"], expect=404)


async def test_every_tool_is_listed(api: Api) -> None:
    """GET /tools shows what there is, each row once."""
    first = await make_tool(api)
    second = await make_tool(api)

    assert sorted(await list_tools(api)) == sorted([first["id"], second["id"]])


async def test_tools_are_paged(api: Api) -> None:
    """Each row stands on one page, in an order that the size of a page does not change; `Link` leads on."""
    made = [(await make_tool(api))["id"] for _ in range(5)]

    pages = [await list_tools(api, limit=2, offset=number) for number in (0, 2, 4)]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(key for page in pages for key in page) == sorted(made)
    assert [key for page in pages for key in page] == await list_tools(api, limit=5)
    assert pages == [[row["id"] for row in page["data"]] for page in await api.pages("/tools", query={"limit": 2})]
    page = await api.get("/tools", query={"limit": 2}, expect=200)
    assert (page["meta"]["total"], page["meta"]["limit"]) == (5, 2)


async def test_tools_that_come_between_two_pages_move_none(api: Api) -> None:
    """Rows that sort behind those that were there leave each of them where it was."""
    made = [(await make_tool(api))["id"] for _ in range(5)]

    seen = await list_tools(api, limit=2, offset=0)
    for _ in range(3):
        await make_tool(api)
    seen += [*await list_tools(api, limit=2, offset=2), *await list_tools(api, limit=2, offset=4)]
    assert sorted(seen[:5]) == sorted(made)


async def test_tools_are_filtered_by_name(api: Api) -> None:
    """`name` leaves out what does not fit."""
    made = await make_tool(api, name="alpha")
    await make_tool(api, name="beta")

    assert await list_tools(api, name="alpha") == [made["id"]]


async def test_tools_are_filtered_by_price_min(api: Api) -> None:
    """`priceMin` leaves out what does not fit."""
    await make_tool(api, price=1)
    middle = await make_tool(api, price=2)
    high = await make_tool(api, price=3)

    assert sorted(await list_tools(api, priceMin=2)) == sorted([middle["id"], high["id"]])


async def test_tools_are_filtered_by_price_max(api: Api) -> None:
    """`priceMax` leaves out what does not fit."""
    low = await make_tool(api, price=1)
    middle = await make_tool(api, price=2)
    await make_tool(api, price=3)

    assert sorted(await list_tools(api, priceMax=2)) == sorted([low["id"], middle["id"]])


@pytest.mark.parametrize(
    ("name", "value"), [("name", ""), ("price", -1), ("purchasedOn", "not a value"), ("category", 17), ("labels", 17)]
)
async def test_create_tool_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/tools"), name: value}

    await api.post("/tools", body=body, expect=400)


@pytest.mark.parametrize("missing", ["name", "category"])
async def test_create_tool_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/tools")
    del body[missing]

    await api.post("/tools", body=body, expect=400)


@pytest.mark.parametrize(
    ("name", "value"), [("name", ""), ("price", -1), ("purchasedOn", "not a value"), ("category", 17), ("labels", 17)]
)
async def test_replace_tool_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("PUT", "/tools/{toolId}"), name: value}

    await api.put("/tools/{toolId}", body=body, expect=400)


@pytest.mark.parametrize("missing", ["name", "category"])
async def test_replace_tool_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("PUT", "/tools/{toolId}")
    del body[missing]

    await api.put("/tools/{toolId}", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/tools", 400), ("PUT", "/tools/{toolId}", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tools/{toolId}"),
        ("PUT", "/tools/{toolId}"),
        ("DELETE", "/tools/{toolId}"),
        ("PUT", "/tools/{toolId}/labels/{slug}"),
        ("DELETE", "/tools/{toolId}/labels/{slug}"),
    ],
)
async def test_unknown_tool_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tools"),
        ("POST", "/tools"),
        ("GET", "/tools/{toolId}"),
        ("PUT", "/tools/{toolId}"),
        ("DELETE", "/tools/{toolId}"),
        ("PUT", "/tools/{toolId}/labels/{slug}"),
        ("DELETE", "/tools/{toolId}/labels/{slug}"),
    ],
)
async def test_tool_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
