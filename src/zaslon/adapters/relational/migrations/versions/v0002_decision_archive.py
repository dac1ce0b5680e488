"""The archive of decisions, on PostgreSQL only: SQLite's journal has them already."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

# A schema of its own: its partitions come and go with the days, and are not the store's.
_STATEMENTS = (
    "CREATE SCHEMA archive",
    """
    CREATE TABLE archive.places (log text PRIMARY KEY, next_position bigint NOT NULL)
    """,
    """
    CREATE TABLE archive.decisions (
        day date NOT NULL, log text NOT NULL, position bigint NOT NULL,
        transaction_id text NOT NULL, event_time timestamp NOT NULL, action text NOT NULL, score double precision,
        model text NOT NULL, policy text NOT NULL, outcome jsonb NOT NULL,
        PRIMARY KEY (day, log, position)
    ) PARTITION BY RANGE (day)
    """,
    "CREATE INDEX decisions_by_transaction ON archive.decisions (transaction_id)",
    "CREATE INDEX decisions_stopped ON archive.decisions (event_time) WHERE action <> 'allow'",
)


def upgrade() -> None:
    """Make the tables."""
    if op.get_bind().dialect.name == "postgresql":
        for statement in _STATEMENTS:
            op.execute(statement)
