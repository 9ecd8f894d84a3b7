"""Operations tagged members. Generated from the document by Backwright."""

from starlette.responses import Response

from app import crud, hooks, resources, shapes
from app.crud import Listing
from app.model import Answer, Envelope, EnvelopeField, Filter, Intake, Meta, Paging, Scope, Sort, Step, Style
from app.routing import Call, Routes

routes = Routes("members")


LIST_MEMBERS = Listing(
    scope=Scope(resources.MEMBER),
    reply=Answer(
        200,
        shapes.MEMBER,
        envelope=Envelope(path=("items",), fields=(EnvelopeField(("nextCursor",), Meta.NEXT_CURSOR, nullable=True),)),
    ),
    filters=(Filter("level", "level"),),
    sort=Sort(
        "sort",
        ("name", "email", "level", "joinedOn", "id", "createdAt"),
        values={
            "name": ("name", False),
            "-name": ("name", True),
            "joinedOn": ("joinedOn", False),
            "-joinedOn": ("joinedOn", True),
        },
    ),
    paging=Paging(
        Style.CURSOR,
        limit="limit",
        position="cursor",
        default_limit=20,
        maximum_limit=100,
    ),
)


@routes.operation("listMembers", "GET", "/members", errors=shapes.ERRORS)
async def list_members(call: Call) -> Response:
    """List members, page by page behind a cursor"""
    return await crud.read_list(call, LIST_MEMBERS)


@routes.operation("createMember", "POST", "/members", errors=shapes.ERRORS_2)
async def create_member(call: Call) -> Response:
    """Register a member"""
    return await crud.create(
        call,
        Scope(resources.MEMBER),
        Intake(shapes.MEMBER_2),
        Answer(201, shapes.MEMBER),
        location=True,
    )


@routes.operation("getMemberByEmail", "GET", "/members/email/{email}", errors=shapes.ERRORS_3)
async def get_member_by_email(call: Call) -> Response:
    """Find a member by e-mail address"""
    return await crud.read(
        call,
        (Step("email", resources.MEMBER, "email"),),
        Answer(200, shapes.MEMBER),
    )


@routes.operation("getMember", "GET", "/members/{memberId}", errors=shapes.ERRORS_3)
async def get_member(call: Call) -> Response:
    """Show a member"""
    return await crud.read(
        call,
        (Step("memberId", resources.MEMBER, "id"),),
        Answer(200, shapes.MEMBER),
    )


@routes.operation("deleteMember", "DELETE", "/members/{memberId}", errors=shapes.ERRORS_3)
async def delete_member(call: Call) -> Response:
    """Remove a member with all loans"""
    return await crud.remove(
        call,
        (Step("memberId", resources.MEMBER, "id"),),
        Answer(204),
    )


@routes.operation("updateMember", "PATCH", "/members/{memberId}", errors=shapes.ERRORS_4)
async def update_member(call: Call) -> Response:
    """Change some of a member"""
    return await crud.change(
        call,
        (Step("memberId", resources.MEMBER, "id"),),
        Intake(shapes.MEMBER_3),
        Answer(200, shapes.MEMBER),
        whole=False,
    )


@routes.operation(
    "suspendMember", "POST", "/members/{memberId}/suspend", errors=shapes.ERRORS_5, hook=hooks.suspend_member
)
async def suspend_member(call: Call) -> Response:
    """Suspend a member until the fines are paid"""
    return await hooks.suspend_member(call)


LIST_LOANS = Listing(
    scope=Scope(resources.LOAN, steps=(Step("memberId", resources.MEMBER, "id"),), via="memberId"),
    reply=Answer(200, shapes.LOAN),
)


@routes.operation("listLoans", "GET", "/members/{memberId}/loans", errors=shapes.ERRORS_6)
async def list_loans(call: Call) -> Response:
    """List the loans of a member"""
    return await crud.read_list(call, LIST_LOANS)


@routes.operation("createLoan", "POST", "/members/{memberId}/loans", errors=shapes.ERRORS_6)
async def create_loan(call: Call) -> Response:
    """Lend a tool to a member"""
    return await crud.create(
        call,
        Scope(resources.LOAN, steps=(Step("memberId", resources.MEMBER, "id"),), via="memberId"),
        Intake(shapes.LOAN_2),
        Answer(201, shapes.LOAN),
        location=True,
    )


@routes.operation("getLoan", "GET", "/members/{memberId}/loans/{loanId}", errors=shapes.ERRORS_6)
async def get_loan(call: Call) -> Response:
    """Show a loan"""
    return await crud.read(
        call,
        (Step("memberId", resources.MEMBER, "id"), Step("loanId", resources.LOAN, "id", via="memberId")),
        Answer(200, shapes.LOAN),
    )


@routes.operation("deleteLoan", "DELETE", "/members/{memberId}/loans/{loanId}", errors=shapes.ERRORS_6)
async def delete_loan(call: Call) -> Response:
    """Forget a loan"""
    return await crud.remove(
        call,
        (Step("memberId", resources.MEMBER, "id"), Step("loanId", resources.LOAN, "id", via="memberId")),
        Answer(204),
    )


LIST_NOTES = Listing(
    scope=Scope(
        resources.NOTE,
        steps=(Step("memberId", resources.MEMBER, "id"), Step("loanId", resources.LOAN, "id", via="memberId")),
        via="loanId",
    ),
    reply=Answer(200, shapes.NOTE),
)


@routes.operation("listNotes", "GET", "/members/{memberId}/loans/{loanId}/notes", errors=shapes.ERRORS_6)
async def list_notes(call: Call) -> Response:
    """List the notes on a loan"""
    return await crud.read_list(call, LIST_NOTES)


@routes.operation("createNote", "POST", "/members/{memberId}/loans/{loanId}/notes", errors=shapes.ERRORS_6)
async def create_note(call: Call) -> Response:
    """Write a note on a loan"""
    return await crud.create(
        call,
        Scope(
            resources.NOTE,
            steps=(Step("memberId", resources.MEMBER, "id"), Step("loanId", resources.LOAN, "id", via="memberId")),
            via="loanId",
        ),
        Intake(shapes.NOTE_2),
        Answer(201, shapes.NOTE),
    )
