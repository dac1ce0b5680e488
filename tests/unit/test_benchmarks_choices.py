"""The benchmark behind decision 0023 compares two ways that do the same task."""

from __future__ import annotations

import pytest
from benchmarks import choices


def test_both_ways_of_every_task_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "ROUNDS", 1)
    differs = {c.task: c.differs for c in choices.compared(20_000) if c.library != "rbloom"}
    assert differs["lines to fields"] == "takes 7 records of too few fields"
    assert differs["times"].startswith("0 values; one null for")
    assert differs["amounts"] == "takes '1e2' as 100.00, '0.005' as 0.00"
    assert differs["condition, rows: 1"].startswith("0 rows")
    assert int(differs["condition, rows: 5000"].split()[0]) > 0
    assert float(differs["contributions, rows: 1000"].split()[0]) < 1e-12
    assert differs["repeats"].endswith("bytes an id, not 1")
