"""Which of some functions are called, in the order of their first calls, on every thread."""

from __future__ import annotations

import importlib
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import Any

_TEXT = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text("utf-8")
WALK = _TEXT.partition("## One transaction, call by call")[2].partition("\n## ")[0]
CLEAN_LABELS, CLEAN_FIELDS = (f"zaslon.intake.cleaning.clean_{kind}" for kind in ("labels", "fields"))
_ONLY_TRANSACTIONS = ("zaslon.models.model.Model.score", "zaslon.decisions.deciding.decide")


def walk(introduction: str) -> list[str]:
    """The functions of the list in ARCHITECTURE.md that such a sentence introduces."""
    part = WALK.partition(introduction)[2].partition("\n\n")[2].partition("\n\n")[0]
    return re.findall(r"^\d+\. `(zaslon\.[\w.]+)`", part, re.MULTILINE)


def label_walk(introduction: str) -> list[str]:
    """The same for a label: it has a cleaning of its own and is not decided."""
    names = [name for name in walk(introduction) if name not in _ONLY_TRANSACTIONS]
    return [CLEAN_LABELS if name == CLEAN_FIELDS else name for name in names]


def named_function(name: str) -> Any:
    """The function that a dotted name means."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[end:], module)
    raise AssertionError(name)


@contextmanager
def traced(names: Sequence[str]) -> Iterator[list[str]]:
    """The names of those that are called, on this thread and on those that start meanwhile; may be cleared."""
    code = {named_function(name).__code__: name for name in names}
    calls: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        name = code.get(frame.f_code)
        if event == "call" and name is not None and name not in calls:
            calls.append(name)

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
