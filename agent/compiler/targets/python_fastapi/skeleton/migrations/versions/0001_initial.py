"""The tables of app/tables.py. Generated from the document by Backwright; later changes get migrations of their own."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables first, then what ties them: references may go in circles."""
    op.create_table(
        "member",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("joined_on", sa.Date(), nullable=True),
        sa.Column("address", postgresql.JSONB(none_as_null=True), nullable=True),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("email", name="uq_member_email"),
    )
    op.create_table(
        "tool",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("price", sa.Numeric(), nullable=True),
        sa.Column("purchased_on", sa.Date(), nullable=True),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("category_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "label",
        sa.Column("slug", sa.Text(), nullable=False),
        sa.Column("color", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("slug"),
    )
    op.create_table(
        "category",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "settings",
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("lending_days", sa.Integer(), nullable=False),
        sa.Column("motto", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "loan",
        sa.Column("due_on", sa.Date(), nullable=False),
        sa.Column("returned", sa.Boolean(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("member_id", sa.Uuid(as_uuid=False), nullable=False),
        sa.Column("tool_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "note",
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("id", sa.BigInteger(), sa.Identity(), nullable=False),
        sa.Column("loan_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "tool_labels_members",
        sa.Column("tool_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tool_id", "label_id"),
    )
    op.create_table(
        "tool_labels",
        sa.Column("tool_id", sa.BigInteger(), nullable=False),
        sa.Column("label_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("tool_id", "label_id"),
    )
    op.create_index("ix_member_level", "member", ["level"])
    op.create_index("ix_tool_category_id", "tool", ["category_id"])
    op.create_index("ix_tool_name", "tool", ["name"])
    op.create_foreign_key("fk_tool_category_id", "tool", "category", ["category_id"], ["id"], ondelete="RESTRICT")
    op.create_index("ix_loan_member_id", "loan", ["member_id"])
    op.create_index("ix_loan_tool_id", "loan", ["tool_id"])
    op.create_foreign_key("fk_loan_member_id", "loan", "member", ["member_id"], ["id"], ondelete="CASCADE")
    op.create_foreign_key("fk_loan_tool_id", "loan", "tool", ["tool_id"], ["id"], ondelete="RESTRICT")
    op.create_index("ix_note_loan_id", "note", ["loan_id"])
    op.create_foreign_key("fk_note_loan_id", "note", "loan", ["loan_id"], ["id"], ondelete="CASCADE")
    op.create_index("ix_tool_labels_members_label_id", "tool_labels_members", ["label_id"])
    op.create_foreign_key(
        "fk_tool_labels_members_tool_id", "tool_labels_members", "tool", ["tool_id"], ["id"], ondelete="CASCADE"
    )
    op.create_foreign_key(
        "fk_tool_labels_members_label_id", "tool_labels_members", "label", ["label_id"], ["slug"], ondelete="CASCADE"
    )
    op.create_index("ix_tool_labels_label_id", "tool_labels", ["label_id"])
    op.create_foreign_key("fk_tool_labels_tool_id", "tool_labels", "tool", ["tool_id"], ["id"], ondelete="CASCADE")
    op.create_foreign_key("fk_tool_labels_label_id", "tool_labels", "label", ["label_id"], ["slug"], ondelete="CASCADE")


def downgrade() -> None:
    """The reverse."""
    op.drop_constraint("fk_tool_labels_tool_id", "tool_labels", type_="foreignkey")
    op.drop_constraint("fk_tool_labels_label_id", "tool_labels", type_="foreignkey")
    op.drop_constraint("fk_tool_labels_members_tool_id", "tool_labels_members", type_="foreignkey")
    op.drop_constraint("fk_tool_labels_members_label_id", "tool_labels_members", type_="foreignkey")
    op.drop_constraint("fk_note_loan_id", "note", type_="foreignkey")
    op.drop_constraint("fk_loan_member_id", "loan", type_="foreignkey")
    op.drop_constraint("fk_loan_tool_id", "loan", type_="foreignkey")
    op.drop_constraint("fk_tool_category_id", "tool", type_="foreignkey")
    op.drop_table("tool_labels")
    op.drop_table("tool_labels_members")
    op.drop_table("note")
    op.drop_table("loan")
    op.drop_table("settings")
    op.drop_table("category")
    op.drop_table("label")
    op.drop_table("tool")
    op.drop_table("member")
