"""Who may read what is on disk."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def masking_nothing() -> Iterator[None]:
    """The process leaves every permission to those who make files."""
    before = os.umask(0)
    try:
        yield
    finally:
        os.umask(before)


@pytest.fixture
def nothing_masked() -> Iterator[None]:
    with masking_nothing():
        yield


def open_to_others(place: Path) -> list[str]:
    """What others than the owner may read, write or enter, with its mode."""
    found = [place, *place.rglob("*")]
    assert len(found) > 1
    return sorted(f"{p.stat().st_mode & 0o777:o} {p}" for p in found if p.stat().st_mode & 0o077)
