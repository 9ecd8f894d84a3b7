"""What callers may count on: Loan. Generated from the document by Backwright."""

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import make_loan, make_member


async def list_loans(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`id` of each row that GET /members/{memberId}/loans shows, in its order."""
    page = await api.get("/members/{memberId}/loans", *keys, query=query, expect=200)
    return [row["id"] for row in page]


async def test_created_loan_is_read_back(api: Api) -> None:
    """POST /members/{memberId}/loans keeps what is sent, and its answer is true."""
    member = await make_member(api)
    sent: dict[str, Json] = {"dueOn": "2025-03-15", "returned": True}

    made = await make_loan(api, member, **sent)
    assert made == {**made, **sent}
    assert await api.get("/members/{memberId}/loans/{loanId}", member["id"], made["id"], expect=200) == made


async def test_loan_is_not_found_below_another_member(api: Api) -> None:
    """The whole path counts, not only its end."""
    member = await make_member(api)
    other = await make_member(api)
    loan = await make_loan(api, member)

    await api.get("/members/{memberId}/loans/{loanId}", member["id"], loan["id"], expect=200)
    await api.get("/members/{memberId}/loans/{loanId}", other["id"], loan["id"], expect=404)


async def test_deleted_loan_is_gone(api: Api) -> None:
    """It is shown no more, and a second time there is nothing to delete."""
    member = await make_member(api)
    loan = await make_loan(api, member)

    await api.delete("/members/{memberId}/loans/{loanId}", member["id"], loan["id"], expect=204)
    await api.get("/members/{memberId}/loans/{loanId}", member["id"], loan["id"], expect=404)
    await api.delete("/members/{memberId}/loans/{loanId}", member["id"], loan["id"], expect=404)


async def test_every_loan_is_listed(api: Api) -> None:
    """GET /members/{memberId}/loans shows what there is, each row once."""
    member = await make_member(api)
    first = await make_loan(api, member)
    second = await make_loan(api, member)

    assert sorted(await list_loans(api, member["id"])) == sorted([first["id"], second["id"]])


@pytest.mark.parametrize(("name", "value"), [("toolId", 0), ("dueOn", "not a value"), ("returned", 17)])
async def test_create_loan_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/members/{memberId}/loans"), name: value}

    await api.post("/members/{memberId}/loans", body=body, expect=400)


@pytest.mark.parametrize("missing", ["toolId", "dueOn"])
async def test_create_loan_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/members/{memberId}/loans")
    del body[missing]

    await api.post("/members/{memberId}/loans", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/members/{memberId}/loans", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/members/{memberId}/loans"),
        ("POST", "/members/{memberId}/loans"),
        ("GET", "/members/{memberId}/loans/{loanId}"),
        ("DELETE", "/members/{memberId}/loans/{loanId}"),
    ],
)
async def test_unknown_loan_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/members/{memberId}/loans"),
        ("POST", "/members/{memberId}/loans"),
        ("GET", "/members/{memberId}/loans/{loanId}"),
        ("DELETE", "/members/{memberId}/loans/{loanId}"),
    ],
)
async def test_loan_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
