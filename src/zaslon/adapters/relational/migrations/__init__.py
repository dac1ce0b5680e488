"""The migrations of the store, run by Alembic. A migration, once released, never changes."""
