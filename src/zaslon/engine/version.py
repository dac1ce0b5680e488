"""The engine's version: names the rules by which a log becomes outcomes."""

from __future__ import annotations

# Raise it with any change after which the same log could give another byte in a feature or an outcome:
# another formula, another order of additions, another word in a reason or a rejection. Decisions, the
# log and snapshots record it. `tests/parity/test_golden_log.py` fails where bytes change without it.
ENGINE_VERSION = 1
