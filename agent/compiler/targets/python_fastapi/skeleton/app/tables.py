"""The tables. Generated from the document by Backwright: change the document, not this file."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    Numeric,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData()

member = Table(
    "member",
    metadata,
    Column("name", Text(), nullable=False),
    Column("email", Text(), nullable=False),
    Column("level", Text(), nullable=False),
    Column("joined_on", Date()),
    Column("address", JSONB(none_as_null=True)),
    Column("id", Uuid(as_uuid=False), primary_key=True),
    Column("created_at", DateTime(timezone=True), nullable=False),
    UniqueConstraint("email", name="uq_member_email"),
    Index("ix_member_level", "level"),
)

tool = Table(
    "tool",
    metadata,
    Column("name", Text(), nullable=False),
    Column("price", Numeric()),
    Column("purchased_on", Date()),
    Column("id", BigInteger(), Identity(), primary_key=True),
    Column("category_id", BigInteger(), nullable=False),
    ForeignKeyConstraint(
        ["category_id"], ["category.id"], name="fk_tool_category_id", ondelete="RESTRICT", use_alter=True
    ),
    Index("ix_tool_category_id", "category_id"),
    Index("ix_tool_name", "name"),
)

label = Table(
    "label",
    metadata,
    Column("slug", Text(), primary_key=True),
    Column("color", Text()),
)

category = Table(
    "category",
    metadata,
    Column("name", Text(), nullable=False),
    Column("id", BigInteger(), Identity(), primary_key=True),
)

settings = Table(
    "settings",
    metadata,
    Column("id", BigInteger(), Identity(), primary_key=True),
    Column("lending_days", Integer(), nullable=False),
    Column("motto", Text()),
)

loan = Table(
    "loan",
    metadata,
    Column("due_on", Date(), nullable=False),
    Column("returned", Boolean(), nullable=False),
    Column("id", BigInteger(), Identity(), primary_key=True),
    Column("member_id", Uuid(as_uuid=False), nullable=False),
    Column("tool_id", BigInteger(), nullable=False),
    ForeignKeyConstraint(["member_id"], ["member.id"], name="fk_loan_member_id", ondelete="CASCADE", use_alter=True),
    ForeignKeyConstraint(["tool_id"], ["tool.id"], name="fk_loan_tool_id", ondelete="RESTRICT", use_alter=True),
    Index("ix_loan_member_id", "member_id"),
    Index("ix_loan_tool_id", "tool_id"),
)

note = Table(
    "note",
    metadata,
    Column("text", Text(), nullable=False),
    Column("id", BigInteger(), Identity(), primary_key=True),
    Column("loan_id", BigInteger(), nullable=False),
    ForeignKeyConstraint(["loan_id"], ["loan.id"], name="fk_note_loan_id", ondelete="CASCADE", use_alter=True),
    Index("ix_note_loan_id", "loan_id"),
)

tool_labels_members = Table(
    "tool_labels_members",
    metadata,
    Column("tool_id", BigInteger(), primary_key=True),
    Column("label_id", Text(), primary_key=True),
    ForeignKeyConstraint(
        ["tool_id"], ["tool.id"], name="fk_tool_labels_members_tool_id", ondelete="CASCADE", use_alter=True
    ),
    ForeignKeyConstraint(
        ["label_id"], ["label.slug"], name="fk_tool_labels_members_label_id", ondelete="CASCADE", use_alter=True
    ),
    Index("ix_tool_labels_members_label_id", "label_id"),
)

tool_labels = Table(
    "tool_labels",
    metadata,
    Column("tool_id", BigInteger(), primary_key=True),
    Column("label_id", Text(), primary_key=True),
    ForeignKeyConstraint(["tool_id"], ["tool.id"], name="fk_tool_labels_tool_id", ondelete="CASCADE", use_alter=True),
    ForeignKeyConstraint(
        ["label_id"], ["label.slug"], name="fk_tool_labels_label_id", ondelete="CASCADE", use_alter=True
    ),
    Index("ix_tool_labels_label_id", "label_id"),
)
