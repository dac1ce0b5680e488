"""Durations as settings write them."""

from __future__ import annotations

import pytest

from zaslon.domain.time import duration_text, parse_duration_seconds


@pytest.mark.parametrize("text", ["0s", "1s", "90m", "25h", "7d"])
def test_a_duration_is_written_as_it_was_read(text: str) -> None:
    assert duration_text(parse_duration_seconds(text)) == text
