"""What is stored, and how its JSON names map to columns. Generated from the document by Backwright."""

from app import tables
from app.model import Children, Field, Generated, Links, Reference, Resource, Type

MEMBER: Resource = Resource(
    name="Member",
    table=tables.member,
    identity=tables.member.c.id,
    key_name="id",
    fields=(
        Field("name", tables.member.c.name, Type.STRING, required=True),
        Field("email", tables.member.c.email, Type.STRING, required=True),
        Field("level", tables.member.c.level, Type.STRING, required=True, default="basic"),
        Field("joinedOn", tables.member.c.joined_on, Type.DATE),
        Field("address", tables.member.c.address, Type.JSON),
        Field("id", tables.member.c.id, Type.UUID, required=True, generated=Generated.UUID),
        Field("createdAt", tables.member.c.created_at, Type.DATETIME, required=True, generated=Generated.CREATED_AT),
    ),
)

TOOL: Resource = Resource(
    name="Tool",
    table=tables.tool,
    identity=tables.tool.c.id,
    key_name="id",
    fields=(
        Field("name", tables.tool.c.name, Type.STRING, required=True),
        Field("price", tables.tool.c.price, Type.NUMERIC),
        Field("purchasedOn", tables.tool.c.purchased_on, Type.DATE),
        Field("id", tables.tool.c.id, Type.BIGINT, required=True, generated=Generated.IDENTITY),
    ),
    references=(Reference("category", tables.tool.c.category_id, lambda: CATEGORY, required=True),),
    collections=(
        Links(
            "labels_members",
            lambda: LABEL,
            tables.tool_labels_members,
            here=tables.tool_labels_members.c.tool_id,
            there=tables.tool_labels_members.c.label_id,
        ),
        Links(
            "labels",
            lambda: LABEL,
            tables.tool_labels,
            here=tables.tool_labels.c.tool_id,
            there=tables.tool_labels.c.label_id,
        ),
    ),
)

LABEL: Resource = Resource(
    name="Label",
    table=tables.label,
    identity=tables.label.c.slug,
    key_name="slug",
    fields=(
        Field("slug", tables.label.c.slug, Type.STRING, required=True),
        Field("color", tables.label.c.color, Type.STRING),
    ),
)

CATEGORY: Resource = Resource(
    name="Category",
    table=tables.category,
    identity=tables.category.c.id,
    key_name="id",
    fields=(
        Field("name", tables.category.c.name, Type.STRING, required=True),
        Field("id", tables.category.c.id, Type.BIGINT, required=True, generated=Generated.IDENTITY),
    ),
)

SETTINGS: Resource = Resource(
    name="Settings",
    table=tables.settings,
    identity=tables.settings.c.id,
    key_name="id",
    fields=(
        Field("id", tables.settings.c.id, Type.BIGINT, required=True, generated=Generated.IDENTITY),
        Field("lendingDays", tables.settings.c.lending_days, Type.INTEGER, required=True),
        Field("motto", tables.settings.c.motto, Type.STRING),
    ),
)

LOAN: Resource = Resource(
    name="Loan",
    table=tables.loan,
    identity=tables.loan.c.id,
    key_name="id",
    fields=(
        Field("dueOn", tables.loan.c.due_on, Type.DATE, required=True),
        Field("returned", tables.loan.c.returned, Type.BOOLEAN, required=True, default=False),
        Field("id", tables.loan.c.id, Type.BIGINT, required=True, generated=Generated.IDENTITY),
    ),
    references=(
        Reference("memberId", tables.loan.c.member_id, lambda: MEMBER, required=True),
        Reference("toolId", tables.loan.c.tool_id, lambda: TOOL, required=True),
    ),
    collections=(Children("notes", lambda: NOTE, via="loanId"),),
)

NOTE: Resource = Resource(
    name="Note",
    table=tables.note,
    identity=tables.note.c.id,
    key_name="id",
    fields=(
        Field("text", tables.note.c.text, Type.STRING, required=True),
        Field("id", tables.note.c.id, Type.BIGINT, required=True, generated=Generated.IDENTITY),
    ),
    references=(Reference("loanId", tables.note.c.loan_id, lambda: LOAN, required=True),),
)
