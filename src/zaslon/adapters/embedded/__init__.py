"""Adapters that need no server: SQLite and files."""
