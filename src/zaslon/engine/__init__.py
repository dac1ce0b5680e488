"""The engine: one batch of records in, exactly one outcome per record out."""

from zaslon.engine.engine import Engine, Processed, restore_engine
from zaslon.engine.version import ENGINE_VERSION

__all__ = ["ENGINE_VERSION", "Engine", "Processed", "restore_engine"]
