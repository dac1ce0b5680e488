"""What Alembic runs: the migrations that are missing, in the transaction of the caller's connection."""

from __future__ import annotations

from alembic import context

context.configure(connection=context.config.attributes["connection"])
context.run_migrations()
