"""The engine: one batch of records in, exactly one outcome per record out."""

from zaslon.engine.engine import Engine, Processed, restore_engine

__all__ = ["Engine", "Processed", "restore_engine"]
