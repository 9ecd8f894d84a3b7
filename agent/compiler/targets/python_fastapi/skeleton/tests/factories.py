"""Rows for tests, made as a caller makes them. Generated from the document by Backwright."""

from itertools import count

from tests.api import Api, Json

numbers = count(1000)  # where no two rows may share a value


def member_body(**changes: Json) -> Json:
    """A valid body for POST /members, with `changes`."""
    return {
        "name": "sample",
        "email": f"someone{next(numbers)}@example.com",
        "level": "basic",
        "joinedOn": "2025-01-15",
        "address": {"street": "sample", "city": "sample"},
        **changes,
    }


async def make_member(api: Api, /, **changes: Json) -> Json:
    """A new row, as POST /members shows it."""
    entity = member_body(**changes)
    return await api.post("/members", body=entity, expect=201)


def tool_body(**changes: Json) -> Json:
    """A valid body for POST /tools, with `changes`."""
    return {
        "name": "sample",
        "price": 1,
        "purchasedOn": "2025-01-15",
        "category": {"name": "sample"},
        "labels": [],
        **changes,
    }


async def make_tool(api: Api, /, **changes: Json) -> Json:
    """A new row, as POST /tools shows it."""
    entity = tool_body(**changes)
    return await api.post("/tools", body=entity, expect=201)


def label_body(**changes: Json) -> Json:
    """A valid body for POST /labels, with `changes`."""
    return {"slug": f"a{next(numbers)}", "color": "red", **changes}


async def make_label(api: Api, /, **changes: Json) -> Json:
    """A new row, as POST /labels shows it."""
    entity = label_body(**changes)
    return await api.post("/labels", body=entity, expect=201)


def category_body(**changes: Json) -> Json:
    """A valid body for POST /categories, with `changes`."""
    return {"name": "sample", **changes}


async def make_category(api: Api, /, **changes: Json) -> Json:
    """A new row, as POST /categories shows it."""
    entity = category_body(**changes)
    return await api.post("/categories", body=entity, expect=201)


async def loan_body(api: Api, /, **changes: Json) -> Json:
    """A valid body for POST /members/{memberId}/loans, with `changes`."""
    return {"toolId": (await make_tool(api))["id"], "dueOn": "2025-01-15", "returned": False, **changes}


async def make_loan(api: Api, member: Json = None, /, **changes: Json) -> Json:
    """A new row, as POST /members/{memberId}/loans shows it."""
    member = member or await make_member(api)
    entity = await loan_body(api, **changes)
    return await api.post("/members/{memberId}/loans", member["id"], body=entity, expect=201)


def note_body(**changes: Json) -> Json:
    """A valid body for POST /members/{memberId}/loans/{loanId}/notes, with `changes`."""
    return {"text": "sample", **changes}


async def make_note(api: Api, member: Json = None, loan: Json = None, /, **changes: Json) -> Json:
    """A new row, as POST /members/{memberId}/loans/{loanId}/notes shows it."""
    member = member or await make_member(api)
    loan = loan or await make_loan(api, member)
    entity = note_body(**changes)
    return await api.post("/members/{memberId}/loans/{loanId}/notes", member["id"], loan["id"], body=entity, expect=201)
