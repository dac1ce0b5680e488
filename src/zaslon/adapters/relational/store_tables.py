"""The tables of the store, as the newest migration leaves them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Identity, Integer, MetaData, Table, Text, UniqueConstraint

NEWEST_MIGRATION = "0004"

metadata = MetaData()

# SQLite counts up only in a column that it calls INTEGER.
_NUMBER = BigInteger().with_variant(Integer(), "sqlite")

api_keys = Table(
    "api_keys",
    metadata,
    Column("number", _NUMBER, Identity(always=True), primary_key=True),  # in the order of creation
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("created_seconds", BigInteger, nullable=False),
    Column("expires_seconds", BigInteger),
    Column("revoked_seconds", BigInteger),
)

promotions = Table(
    "promotions",
    metadata,
    Column("number", _NUMBER, primary_key=True, autoincrement=False),
    Column("recorded_seconds", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("policy", Text, nullable=False),
    Column("catalogue", Text, nullable=False),
    Column("log", Text),
    Column("position", BigInteger),
    Column("verdict", Text, nullable=False),
    Column("evidence", Text, nullable=False),
    Column("approval", Text),
    Column("previous_hash", Text, nullable=False),
    Column("hash", Text, nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("number", _NUMBER, Identity(always=True), primary_key=True),  # in the order in which they came
    Column("policy", Text, nullable=False),
    Column("content_hash", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("meaning", Text, nullable=False),
    Column("text", Text),
    Column("recorded_seconds", BigInteger, nullable=False),
    Column("actor", Text, nullable=False),
    Column("note", Text),
    UniqueConstraint("policy", "content_hash"),
)
