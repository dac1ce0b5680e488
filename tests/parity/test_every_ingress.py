"""Every ingress gives a record the same outcome: files of any format, HTTP one by one and in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from tests.api.serving import Caller, serving
from tests.parity.file_ingress import (
    CSV,
    HEADERLESS,
    JSON_LINES,
    TEXT_COLUMNS,
    TYPED_COLUMNS,
    Format,
    as_in_files,
    by_files,
)
from tests.parity.ingress_log import (
    POISON,
    STAGE,
    Group,
    Ids,
    by_engine,
    ids_of,
    recorded,
    send_in_batches,
    send_one_by_one,
)
from tests.recovery.faults import inject

from zaslon.testing import SmallWorld

NOW = 1_790_000_000  # 2026: a moment when everything in the log has happened, but for the year 2099


@pytest.fixture(scope="module", autouse=True)
def faulty_code() -> Iterator[None]:
    """Our own code breaks on one transaction, whichever ingress it comes through."""
    with pytest.MonkeyPatch.context() as patch:
        inject(patch, STAGE, POISON)
        yield


@pytest.fixture(scope="module", params=["numbers", "texts"])
def ids(
    request: pytest.FixtureRequest, small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory
) -> Ids:
    return ids_of(request.param, small_world, tmp_path_factory.mktemp("ids"))


@pytest.fixture(scope="module")
def expected(ids: Ids, tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """What the engine records of the log when it is given every record as it is."""
    return by_engine(ids.world.in_home(tmp_path_factory.mktemp("reference") / "home"), ids.groups, NOW)


def test_the_log_holds_every_kind_of_outcome(ids: Ids, expected: list[bytes]) -> None:
    assert len(expected) == sum(len(group.rows) for group in ids.groups)
    contents = list(map(orjson.loads, expected))
    reasons = {content.get("reason", "").partition(":")[0] for content in contents}
    assert {content["outcome"] for content in contents} == {"decision", "label", "rejection"}
    assert reasons >= {
        "duplicate", "conflicting_duplicate", "too_late", "after_arrival", "not_a_number", "too_precise",
        "missing_field", "hour_24", "impossible_time", "not_a_time", "unknown_entity", "not_an_integer",
        "out_of_range", "engine_error", "unreadable_label",
    }  # fmt: skip
    assert max(len(content.get("problems", ())) for content in contents) >= 3


@pytest.mark.parametrize(
    ("form", "labels"),
    [
        pytest.param(CSV, CSV, id="csv"),
        pytest.param(JSON_LINES, JSON_LINES, id="json-lines"),
        pytest.param(TEXT_COLUMNS, CSV, id="text-columns"),
        pytest.param(TYPED_COLUMNS, JSON_LINES, id="typed-columns", marks=pytest.mark.slow),
        pytest.param(HEADERLESS, CSV, id="headerless", marks=pytest.mark.slow),
    ],
)
def test_files_give_the_outcomes_of_the_engine(
    ids: Ids, expected: list[bytes], tmp_path: Path, form: Format, labels: Format
) -> None:
    world = ids.world.in_home(tmp_path / "home")
    found, raws = by_files(world.context, ids.groups, tmp_path, form, labels)
    assert found == as_in_files(expected, ids.groups, raws)


@pytest.mark.parametrize("send", [send_one_by_one, send_in_batches])
def test_http_gives_the_outcomes_of_the_engine(
    ids: Ids, expected: list[bytes], tmp_path: Path, send: Callable[[Caller, Sequence[Group]], object]
) -> None:
    with serving(ids.world, tmp_path / "home", **ids.settings) as callers:
        send(callers("admin"), ids.groups)
    assert recorded(ids.world.context.in_home(tmp_path / "home")) == expected


def test_a_repeat_over_http_is_answered_with_the_newest_decision(
    ids: Ids, expected: list[bytes], tmp_path: Path
) -> None:
    with serving(ids.world, tmp_path / "home", **ids.settings) as callers:
        answers = send_in_batches(callers("admin"), ids.groups)
    repeats = [orjson.loads(o) for o in expected if orjson.loads(o).get("reason") == "duplicate"]
    assert len(repeats) >= 2
    for repeat in repeats:
        answer = answers[repeat["position"]]
        assert answer["repeated"] is True
        earlier = [o for o in map(orjson.loads, expected[: repeat["position"]]) if o["outcome"] == "decision"]
        newest = [o for o in earlier if o["transaction_id"] == answer["transaction_id"]][-1]
        assert answer["position"] == newest["position"]
