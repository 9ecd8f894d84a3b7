"""What callers may count on: Member. Generated from the document by Backwright."""

import asyncio

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import make_member, member_body


async def list_members(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`id` of each row that GET /members shows, in its order."""
    page = await api.get("/members", *keys, query=query, expect=200)
    return [row["id"] for row in page["items"]]


async def test_created_member_is_read_back(api: Api) -> None:
    """POST /members keeps what is sent, and its answer is true."""
    sent: dict[str, Json] = {
        "name": "gamma",
        "level": "plus",
        "joinedOn": "2025-02-15",
        "address": {"street": "sample", "city": "sample"},
    }

    made = await make_member(api, **sent)
    assert made == {**made, **sent}
    assert await api.get("/members/{memberId}", made["id"], expect=200) == made


async def test_taken_value_makes_no_second_member(api: Api) -> None:
    """Of two requests with the same unique value one wins, also at the same time."""
    body = member_body()

    both = await asyncio.gather(*(api.send("POST", "/members", body=body) for _ in range(2)))
    assert sorted(answered.status_code for answered in both) == [201, 409]


async def test_member_is_found_by_get_member_by_email(api: Api) -> None:
    """GET /members/email/{email} shows the very row."""
    member = await make_member(api)

    found = await api.get("/members/email/{email}", member["email"], expect=200)
    assert found["id"] == member["id"]


@pytest.mark.parametrize(("name", "value"), [("name", "gamma"), ("level", "patron"), ("joinedOn", "2025-03-15")])
async def test_change_of_one_property_leaves_the_rest_of_member(api: Api, name: str, value: Json) -> None:
    """PATCH is no PUT: what it does not name stays as it was."""
    member = await make_member(api)
    before = await api.get("/members/{memberId}", member["id"], expect=200)

    await api.patch("/members/{memberId}", member["id"], body={name: value}, expect=200)
    after = await api.get("/members/{memberId}", member["id"], expect=200)
    assert after == {**before, name: value}


async def test_deleted_member_is_gone(api: Api) -> None:
    """It is shown no more, and a second time there is nothing to delete."""
    member = await make_member(api)

    await api.delete("/members/{memberId}", member["id"], expect=204)
    await api.get("/members/{memberId}", member["id"], expect=404)
    await api.delete("/members/{memberId}", member["id"], expect=404)


async def test_every_member_is_listed(api: Api) -> None:
    """GET /members shows what there is, each row once."""
    first = await make_member(api)
    second = await make_member(api)

    assert sorted(await list_members(api)) == sorted([first["id"], second["id"]])


async def test_members_are_sorted_by_name(api: Api) -> None:
    """Whatever the order in which the rows were made."""
    middle = await make_member(api, name="beta")
    high = await make_member(api, name="gamma")
    low = await make_member(api, name="alpha")

    assert await list_members(api, sort="name") == [low["id"], middle["id"], high["id"]]
    assert await list_members(api, sort="-name") == [high["id"], middle["id"], low["id"]]


async def test_members_are_sorted_by_joined_on(api: Api) -> None:
    """Whatever the order in which the rows were made."""
    middle = await make_member(api, joinedOn="2025-02-15")
    high = await make_member(api, joinedOn="2025-03-15")
    low = await make_member(api, joinedOn="2025-01-15")

    assert await list_members(api, sort="joinedOn") == [low["id"], middle["id"], high["id"]]
    assert await list_members(api, sort="-joinedOn") == [high["id"], middle["id"], low["id"]]


async def test_members_are_paged(api: Api) -> None:
    """Each row stands on one page, in an order that the size of a page does not change; `Link` leads on."""
    made = [(await make_member(api))["id"] for _ in range(5)]

    pages = [[row["id"] for row in page["items"]] for page in await api.pages("/members", query={"limit": 2})]
    assert [len(page) for page in pages] == [2, 2, 1]
    assert sorted(key for page in pages for key in page) == sorted(made)
    assert [key for page in pages for key in page] == await list_members(api, limit=5)


async def test_members_that_come_between_two_pages_move_none(api: Api) -> None:
    """What was there is shown once, whatever is added while somebody reads."""
    made = [(await make_member(api))["id"] for _ in range(5)]

    page = await api.get("/members", query={"limit": 2}, expect=200)
    for _ in range(3):
        await make_member(api)
    seen = [*(row["id"] for row in page["items"]), *await list_members(api, limit=10, cursor=page["nextCursor"])]
    assert len(seen) == len(set(seen))
    assert set(made) <= set(seen)


async def test_members_are_filtered_by_level(api: Api) -> None:
    """`level` leaves out what does not fit."""
    made = await make_member(api, level="basic")
    await make_member(api, level="patron")

    assert await list_members(api, level="basic") == [made["id"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [("name", ""), ("email", "not a value"), ("level", "no such value"), ("joinedOn", "not a value"), ("address", 17)],
)
async def test_create_member_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/members"), name: value}

    await api.post("/members", body=body, expect=400)


@pytest.mark.parametrize("missing", ["name", "email"])
async def test_create_member_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/members")
    del body[missing]

    await api.post("/members", body=body, expect=400)


@pytest.mark.parametrize(
    ("name", "value"), [("name", ""), ("level", "no such value"), ("joinedOn", "not a value"), ("address", 17)]
)
async def test_update_member_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("PATCH", "/members/{memberId}"), name: value}

    await api.patch("/members/{memberId}", body=body, expect=400)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("POST", "/members", 400), ("PATCH", "/members/{memberId}", 400)]
)
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/members/email/{email}"),
        ("GET", "/members/{memberId}"),
        ("DELETE", "/members/{memberId}"),
        ("PATCH", "/members/{memberId}"),
    ],
)
async def test_unknown_member_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/members"),
        ("POST", "/members"),
        ("GET", "/members/email/{email}"),
        ("GET", "/members/{memberId}"),
        ("DELETE", "/members/{memberId}"),
        ("PATCH", "/members/{memberId}"),
    ],
)
async def test_member_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
