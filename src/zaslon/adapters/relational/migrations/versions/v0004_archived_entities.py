"""Whose the archived decisions are: customers, terminals and other entities; on PostgreSQL only."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

# By day, so that it goes with the decisions. The key leads: a page of one entity is read in order of its positions.
_STATEMENT = """
CREATE TABLE archive.entities (
    day date NOT NULL, log text NOT NULL, position bigint NOT NULL, entity text NOT NULL, key bigint NOT NULL,
    PRIMARY KEY (entity, key, log, position, day)
) PARTITION BY RANGE (day)
"""


def upgrade() -> None:
    """Make the table."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_STATEMENT)
