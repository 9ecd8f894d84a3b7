"""What callers may count on: Note. Generated from the document by Backwright."""

import pytest

from tests.api import STRANGERS, Api, Json
from tests.factories import make_loan, make_member, make_note


async def list_notes(api: Api, /, *keys: Json, **query: Json) -> list[Json]:
    """`id` of each row that GET /members/{memberId}/loans/{loanId}/notes shows, in its order."""
    page = await api.get("/members/{memberId}/loans/{loanId}/notes", *keys, query=query, expect=200)
    return [row["id"] for row in page]


async def test_created_note_is_read_back(api: Api) -> None:
    """POST /members/{memberId}/loans/{loanId}/notes keeps what is sent, and its answer is true."""
    member = await make_member(api)
    loan = await make_loan(api, member)
    sent: dict[str, Json] = {"text": "gamma"}

    made = await make_note(api, member, loan, **sent)
    assert made == {**made, **sent}


async def test_every_note_is_listed(api: Api) -> None:
    """GET /members/{memberId}/loans/{loanId}/notes shows what there is, each row once."""
    member = await make_member(api)
    loan = await make_loan(api, member)
    first = await make_note(api, member, loan)
    second = await make_note(api, member, loan)

    assert sorted(await list_notes(api, member["id"], loan["id"])) == sorted([first["id"], second["id"]])


@pytest.mark.parametrize(("name", "value"), [("text", "")])
async def test_create_note_refuses_an_invalid_property(api: Api, name: str, value: Json) -> None:
    """One that the document does not allow, among others that it does."""
    body = {**api.sample("POST", "/members/{memberId}/loans/{loanId}/notes"), name: value}

    await api.post("/members/{memberId}/loans/{loanId}/notes", body=body, expect=400)


@pytest.mark.parametrize("missing", ["text"])
async def test_create_note_refuses_a_body_without_a_required_property(api: Api, missing: str) -> None:
    """Each in its turn."""
    body = api.sample("POST", "/members/{memberId}/loans/{loanId}/notes")
    del body[missing]

    await api.post("/members/{memberId}/loans/{loanId}/notes", body=body, expect=400)


@pytest.mark.parametrize(("method", "path", "status"), [("POST", "/members/{memberId}/loans/{loanId}/notes", 400)])
async def test_body_that_is_no_json_is_refused(api: Api, method: str, path: str, status: int) -> None:
    """Cut short, not UTF-8, and U+0000, which no database text can hold."""
    for content in (b"{", b"\xff", b'{"\\u0000": "\\u0000"}'):
        await api.call(method, path, content=content, expect=status)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/members/{memberId}/loans/{loanId}/notes"), ("POST", "/members/{memberId}/loans/{loanId}/notes")],
)
async def test_unknown_note_is_not_found(api: Api, method: str, path: str) -> None:
    """There is no row at all, so no path leads to one."""
    await api.call(method, path, body=api.sample(method, path), expect=404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/members/{memberId}/loans/{loanId}/notes"), ("POST", "/members/{memberId}/loans/{loanId}/notes")],
)
async def test_note_is_closed_to_strangers(api: Api, method: str, path: str) -> None:
    """Without credentials nothing happens, not even a look at the body."""
    for headers in STRANGERS:
        answered = await api.send(method, path, content=b"{", headers=headers, anonymous=True)
        assert answered.status_code == 401, answered.text
        assert answered.headers["www-authenticate"]
