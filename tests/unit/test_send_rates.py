"""Event times set the rate of sending in the same way wherever pieces of a file end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.unit.intake_cases import HEADER, NAMES, line

from zaslon.bootstrap import build_context
from zaslon.domain.errors import DataError
from zaslon.flows.produce import SendRate, _slices
from zaslon.services.produced_dates import read_dates
from zaslon.settings import Settings

AT = NAMES[1]
OTHER_HEADER = ",".join([*NAMES, "memo"])


def _sent(place: Path, content: str, chunk_bytes: int) -> list[tuple[bytes, int]]:
    """Records and the moments by which they are sent."""
    (place / "in").write_text(content)
    context = build_context(Settings(home=place / "home"))
    context = replace(context, options=replace(context.options, chunk_bytes=chunk_bytes))
    found = []
    sources = [str(place / "in")]
    dates = read_dates(context, sources, None)
    for records, moments in _slices(context, sources, "json", SendRate(speed=1), dates):
        assert moments is not None
        found += list(zip(records, moments.tolist(), strict=True))
    return found


def test_rates_do_not_depend_on_where_chunks_end(tmp_path: Path) -> None:
    rows = [line(**{AT: f"2019-08-22 06:51:{second:02d}"}) for second in (3, 3, 5, 4, 9)]
    content = "\n".join([HEADER, OTHER_HEADER, *(row + ",x" for row in rows[:3]), "bad", *rows[3:], "worse"])
    whole = _sent(tmp_path, content, 1 << 20)
    begin = whole[0][1]
    assert [moment - begin for _, moment in whole] == [0, 0, 2, 2, 2, 2, 2]
    for chunk_bytes in (1, 40, 100):
        assert _sent(tmp_path, content, chunk_bytes) == whole


def test_a_file_without_any_time_cannot_set_the_rate(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="No record of '.*' has a time"):
        _sent(tmp_path, f"{HEADER}\nbad\nworse\n", 1 << 20)
