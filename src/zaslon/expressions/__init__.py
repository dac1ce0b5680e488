"""Conditions and derived values that people write: a checked subset of SQL, compiled to columns."""
