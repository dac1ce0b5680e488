"""Versions of the policy, which the database itself keeps from being changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_APPEND_ONLY = {
    "sqlite": [
        f"""
        CREATE TRIGGER policies_no_{what.lower()} BEFORE {what} ON policies
        BEGIN SELECT RAISE(ABORT, 'versions of the policy are append-only'); END
        """
        for what in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        """
        CREATE FUNCTION policies_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'versions of the policy are append-only'; END $$
        """,
        """
        CREATE TRIGGER policies_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON policies
        FOR EACH STATEMENT EXECUTE FUNCTION policies_are_append_only()
        """,
    ],
}


def upgrade() -> None:
    """Make the table, and the triggers that refuse every change of a version."""
    op.create_table(
        "policies",
        sa.Column(
            "number", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), sa.Identity(always=True),
            primary_key=True,
        ),
        *(sa.Column(name, sa.Text, nullable=False) for name in ("policy", "content_hash", "label", "meaning")),
        sa.Column("text", sa.Text),
        sa.Column("recorded_seconds", sa.BigInteger, nullable=False),
        sa.Column("actor", sa.Text, nullable=False),
        sa.Column("note", sa.Text),
        sa.UniqueConstraint("policy", "content_hash"),
    )  # fmt: skip
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
