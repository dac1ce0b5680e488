"""Entry points: they parse, call a flow and show the result; nothing is decided here."""
