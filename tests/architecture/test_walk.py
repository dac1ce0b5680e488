"""The walk of a transaction in ARCHITECTURE.md is true: records pass its functions in their order."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from tests.api.serving import Caller, serving, transaction
from tests.call_trace import CLEAN_LABELS, WALK, label_walk, named_function, traced, walk

from zaslon.flows.score import label, score
from zaslon.testing import SmallWorld

NAMED = re.findall(r"`(zaslon\.[a-z_.]+[A-Za-z_.]+)`", WALK)
OVER_HTTP = "A transaction over HTTP, "


@pytest.mark.parametrize("name", sorted(set(NAMED)))
def test_every_function_of_the_walk_exists(name: str) -> None:
    if ".kafka." in name:
        pytest.importorskip("confluent_kafka")
    assert callable(named_function(name))


def test_a_list_of_the_walk_has_at_most_ten_calls() -> None:
    lists = re.findall(r"(?:^\d+\. .*\n?)+", WALK, re.MULTILINE)
    assert len(lists) == 5
    assert all(part.count("\n") <= 10 for part in lists)


def test_a_row_of_a_file_takes_the_walk_in_order(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    file = tmp_path / "one.txt"
    file.write_bytes(world.records[0] + b"\n")
    expected = walk("A row of a file")
    with traced(expected) as calls:
        score(world.context, [str(file)], learn=False)
    assert calls == expected


def test_a_label_in_a_file_takes_the_walk_in_order(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    file = tmp_path / "labels.csv"
    file.write_bytes(b"transaction_id,is_fraud\n1,true\n")
    expected = walk("A label in a file")
    with traced(expected) as calls:
        label(world.context, file, None)
    assert calls == expected


def _post_transaction(open_as: Callable[[str | None], Caller]) -> None:
    assert open_as("scorer").post("/v1/transactions", transaction()).status_code == 200


def _post_labels(open_as: Callable[[str | None], Caller]) -> None:
    labels = orjson.dumps([{"transaction_id": 1, "is_fraud": True}])
    assert open_as("analyst").post("/v1/labels", labels).status_code == 200


@pytest.mark.parametrize(
    ("post", "expected"),
    [(_post_transaction, walk(OVER_HTTP)), (_post_labels, label_walk(OVER_HTTP))],
    ids=["transaction", "label"],
)
def test_a_record_over_http_takes_the_walk_in_order(
    post: Callable[[Callable[[str | None], Caller]], None], expected: list[str],
    small_world: SmallWorld, tmp_path: Path,
) -> None:  # fmt: skip
    with (
        traced([*walk(OVER_HTTP), CLEAN_LABELS]) as calls,
        serving(small_world, tmp_path / "home") as open_as,
    ):
        calls.clear()  # of the warm-up
        post(open_as)
        found = list(calls)
    assert [name for name in found if name in expected] == expected
