"""The relational store: what people and processes write besides the log, in SQLite or PostgreSQL."""
