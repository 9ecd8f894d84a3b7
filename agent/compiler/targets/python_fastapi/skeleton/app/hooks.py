"""What the document cannot express. This file is yours: Backwright wrote it once and never touches it again.

A hook gets the call after authentication and validation, with `call.inputs`, `call.database` and `call.caller`, and
answers with `answer(status, body)` of app/routing.py. Until its mark `@unwritten` is removed it answers 501.

    async with call.database.begin() as connection:  # a transaction; `connect()` where one statement is all
        row = await connection.fetch_one(select(tables.thing).where(tables.thing.c.id == bindparam("id")), {"id": 1})
"""

from starlette.responses import Response

from app.errors import NotImplementedYet
from app.routing import Call, unwritten


@unwritten("`suspend` is an action: the document does not say what it changes")
async def suspend_member(call: Call) -> Response:
    """POST /members/{memberId}/suspend: Suspend a member until the fines are paid"""
    raise NotImplementedYet("suspendMember")
