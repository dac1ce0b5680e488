"""Zaslon: real-time anti-fraud for card transactions. Start reading at `zaslon.engine`."""

__version__ = "0.1.0"
