"""Find the records that break our own code: the others must not suffer for them."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from zaslon.domain.errors import ZaslonError

T = TypeVar("T")


def is_fault_of_ours(error: Exception) -> bool:
    """Whether our code failed, rather than a user's file, a server or the machine."""
    return not isinstance(error, ZaslonError | MemoryError)


def fault_text(error: Exception) -> str:
    """What failed and where, without anything that a record may hold: `KeyError in intake/text.py, line 7`."""
    package = Path(__file__).parents[1]
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if package in Path(frame.filename).parents]
    if not ours:
        return type(error).__name__
    place = Path(ours[-1].filename).relative_to(package)
    return f"{type(error).__name__} in {place}, line {ours[-1].lineno}"


def by_halves(work: Callable[[int, int], T], count: int, alone: Callable[[int, Exception], T]) -> list[T]:
    """`work(0, count)`; where it fails, of halves and their halves, down to the records that break it.

    Args:
        work: what is done with records [begin, end); it must change nothing when it fails.
        count: of records.
        alone: given a single record for which `work` failed, and how.

    Raises:
        Exception: anything that is not our fault, or what `alone` raises.
    """
    return list(in_halves(work, count, alone))


def in_halves(work: Callable[[int, int], T], count: int, alone: Callable[[int, Exception], T]) -> Iterator[T]:
    """The same one by one: what is done with one result may decide how the next records are taken, or end it."""
    left = [(0, count)]
    while left:
        begin, end = left.pop()
        try:
            found = work(begin, end)
        except Exception as error:
            if not is_fault_of_ours(error) or end == begin:
                raise
            if end - begin > 1:
                middle = (begin + end) // 2
                left += [(middle, end), (begin, middle)]
                continue
            found = alone(begin, error)
        yield found
