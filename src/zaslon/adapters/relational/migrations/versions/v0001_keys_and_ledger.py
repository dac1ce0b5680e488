"""API keys and the promotion ledger, which the database itself keeps from being changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision: str | None = None

_APPEND_ONLY = {
    "sqlite": [
        f"""
        CREATE TRIGGER promotions_no_{what.lower()} BEFORE {what} ON promotions
        BEGIN SELECT RAISE(ABORT, 'the promotion ledger is append-only'); END
        """
        for what in ("UPDATE", "DELETE")
    ],
    "postgresql": [
        """
        CREATE FUNCTION promotions_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN RAISE EXCEPTION 'the promotion ledger is append-only'; END $$
        """,
        """
        CREATE TRIGGER promotions_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON promotions
        FOR EACH STATEMENT EXECUTE FUNCTION promotions_are_append_only()
        """,
    ],
}


def upgrade() -> None:
    """Make both tables, and the triggers that refuse every change of an entry."""
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "api_keys",
        sa.Column("number", number, sa.Identity(always=True), primary_key=True),
        sa.Column("id", sa.Text, nullable=False, unique=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
        sa.Column("created_seconds", sa.BigInteger, nullable=False),
        sa.Column("expires_seconds", sa.BigInteger),
        sa.Column("revoked_seconds", sa.BigInteger),
    )
    op.create_table(
        "promotions",
        sa.Column("number", number, primary_key=True, autoincrement=False),
        sa.Column("recorded_seconds", sa.BigInteger, nullable=False),
        *(
            sa.Column(name, sa.Text, nullable=False)
            for name in ("actor", "action", "model", "policy", "catalogue")
        ),
        sa.Column("log", sa.Text),
        sa.Column("position", sa.BigInteger),
        sa.Column("verdict", sa.Text, nullable=False),
        sa.Column("evidence", sa.Text, nullable=False),
        sa.Column("approval", sa.Text),
        sa.Column("previous_hash", sa.Text, nullable=False),
        sa.Column("hash", sa.Text, nullable=False),
    )
    for statement in _APPEND_ONLY[op.get_bind().dialect.name]:
        op.execute(statement)
