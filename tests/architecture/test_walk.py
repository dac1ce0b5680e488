"""The walk of a transaction in ARCHITECTURE.md is true: every function exists, and a file passes them in order."""

from __future__ import annotations

import importlib
import re
import sys
from functools import reduce
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from zaslon.flows.score import score
from zaslon.testing import SmallWorld

TEXT = (Path(__file__).parents[2] / "ARCHITECTURE.md").read_text("utf-8")
WALK = TEXT.partition("## One transaction, call by call")[2].partition("\n## ")[0]
NAMED = re.findall(r"`(zaslon\.[a-z_.]+[A-Za-z_.]+)`", WALK)
BY_FILE = re.findall(r"^\d+\. `(zaslon\.\S+)`", WALK.partition("A transaction over HTTP")[0], re.MULTILINE)


def found(name: str) -> Any:
    """The function that a dotted name means."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        try:
            module = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return reduce(getattr, parts[end:], module)
    raise AssertionError(name)


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_every_function_of_the_walk_exists(name: str) -> None:
    if ".kafka." in name:
        pytest.importorskip("confluent_kafka")
    assert callable(found(name))


def test_a_list_of_the_walk_has_at_most_ten_calls() -> None:
    lists = re.findall(r"(?:^\d+\. .*\n?)+", WALK, re.MULTILINE)
    assert len(lists) == 3
    assert all(part.count("\n") <= 10 for part in lists)


def test_a_file_takes_the_walk_in_this_order(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    file = tmp_path / "two.txt"
    file.write_bytes(b"\n".join(world.records[:1]) + b"\n")
    code = {found(name).__code__: name for name in BY_FILE}
    calls: list[str] = []

    def note(frame: FrameType, event: str, _argument: object) -> None:
        name = code.get(frame.f_code)
        if event == "call" and name is not None and name not in calls:
            calls.append(name)

    sys.setprofile(note)
    try:
        score(world.context, [str(file)], learn=False)
    finally:
        sys.setprofile(None)
    assert calls == BY_FILE
