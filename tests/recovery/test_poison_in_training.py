"""A record that breaks our own code while features are computed is left out; training continues."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.recovery.faults import InjectedError, Poison, inject
from tests.recovery.test_poison_records import PROBLEM, Warnings

from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.features.history import Applied, History
from zaslon.flows.export_features import write_features
from zaslon.flows.run import run
from zaslon.intake import clean_days, read_clean_day
from zaslon.labels.feedback import DelayedLabels
from zaslon.models.training import TrainSettings
from zaslon.services import featurising
from zaslon.services.context import Context
from zaslon.services.featurising import Day, Featuriser, in_log_order
from zaslon.testing import SmallWorld

DELAY_SECONDS = 3 * SECONDS_PER_DAY
BATCH_EVENTS = 100


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several batches in a day."""
    monkeypatch.setattr(featurising, "BATCH_EVENTS", BATCH_EVENTS)


@pytest.fixture(scope="module")
def days(small_world: SmallWorld) -> Sequence[Day]:
    return clean_days(small_world.context.home / "clean", small_world.context.catalogue)[:12]


def poisons(world: SmallWorld, days: Sequence[Day], places: Sequence[tuple[int, int]]) -> list[Poison]:
    """Transactions with amounts that no other has; each is the first from a row of a day on."""
    rows = [read_clean_day(path, world.context.catalogue) for _, path in days]
    amounts, counts = np.unique(np.concatenate([r.amount_minor for r in rows]), return_counts=True)
    unique, found = set(amounts[counts == 1].tolist()), list[Poison]()
    for day, row in places:
        amount = rows[day].amount_minor
        index = next(i for i in range(row, len(amount)) if amount[i] in unique)
        unique.remove(amount[index])
        found.append(Poison(int(rows[day].transaction_id[index]), float(amount[index]) / 100))
    return found


def without(context: Context, days: Sequence[Day], left_out: Sequence[int]) -> list[tuple[int, bytes]]:
    """(id, features) of all transactions but some, whose labels come as ever."""
    engine, feedback = Engine(context.catalogue, key=context.key), DelayedLabels(DELAY_SECONDS)
    found: list[tuple[int, bytes]] = []
    for day, path in days:
        rows = read_clean_day(path, context.catalogue)
        feedback.add(rows)
        for batch in in_log_order(rows, feedback.due((day + 1) * SECONDS_PER_DAY), 0, 10**9):
            chosen = np.isin(batch.transactions.transaction_id, left_out)
            sound = batch.rejecting(batch.transaction_index[chosen].tolist(), PROBLEM)
            applied = engine.apply(sound.transactions, sound.labels, sound.is_label)
            accepted = sound.transactions.transaction_id[applied.status == 0].tolist()
            found += zip(accepted, map(np.ndarray.tobytes, applied.matrix), strict=True)
    return found


def featurised(
    context: Context, days: Sequence[Day]
) -> tuple[list[tuple[int, bytes]], Featuriser, list[str]]:
    notices: list[str] = []
    featuriser, found = (
        Featuriser(context.catalogue, context.key, DELAY_SECONDS, notices.append),
        list[tuple[int, bytes]](),
    )
    for part in featuriser.days(days):
        rows = map(np.ndarray.tobytes, part.matrix)
        found += zip(part.transactions.transaction_id.tolist(), rows, strict=True)
    return found, featuriser, notices


@pytest.mark.parametrize("places", [[(0, 0)], [(5, 0), (5, 10), (5, 20)], [(3, 150), (4, 0), (11, 60)]])
def test_all_others_have_the_features_of_days_without_it(
    small_world: SmallWorld,
    days: Sequence[Day],
    monkeypatch: pytest.MonkeyPatch,
    places: list[tuple[int, int]],
) -> None:
    chosen = poisons(small_world, days, places)
    ids = [poison.transaction_id for poison in chosen]
    expected = without(small_world.context, days, ids)
    for poison in chosen:
        inject(monkeypatch, "apply", poison)
    found, featuriser, notices = featurised(small_world.context, days)
    assert found == expected
    assert featuriser.left_out == ids
    assert [sentence.partition(".")[0] for sentence in notices] == [
        f"Transaction {i} is left out" for i in ids
    ]
    assert all("InjectedError" in sentence for sentence in notices)


def test_a_label_that_breaks_our_code_is_left_out_alone(
    small_world: SmallWorld, days: Sequence[Day], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, apply = (
        int(read_clean_day(days[2][1], small_world.context.catalogue).transaction_id[5]),
        History.apply,
    )

    def failing(history: History, rows: object, labels: object, is_label: object) -> Applied:
        if broken in labels.transaction_id:  # type: ignore[attr-defined]
            raise InjectedError
        return apply(history, rows, labels, is_label)  # type: ignore[arg-type]

    whole, _, _ = featurised(small_world.context, days)
    monkeypatch.setattr(History, "apply", failing)
    found, featuriser, notices = featurised(small_world.context, days)
    assert [identifier for identifier, _ in found] == [identifier for identifier, _ in whole]
    assert featuriser.left_out == [broken]
    assert notices[0].startswith(f"The label of transaction {broken} is left out.")


def test_code_that_breaks_ordinary_records_stops(
    small_world: SmallWorld, days: Sequence[Day], monkeypatch: pytest.MonkeyPatch
) -> None:
    inject(monkeypatch, "apply", None)
    with pytest.raises(InjectedError):
        featurised(small_world.context, days)


@pytest.mark.slow
def test_a_run_and_the_features_go_on_and_name_the_record(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # batches of the usual size
    every = clean_days(small_world.context.home / "clean", small_world.context.catalogue)
    (poison,) = poisons(small_world, every, [(10, 20)])
    inject(monkeypatch, "apply", poison)
    notices: list[str] = []
    context = replace(small_world.in_home(tmp_path / "home").context, progress=Warnings(notices))
    report = run(
        context, [str(small_world.context.home / "small.txt")], compare_delays=False,
        train_settings=TrainSettings(rounds=5, rounds_max=5, threads=1),
    )  # fmt: skip
    assert report.to_json_dict()["left_out"] == [poison.transaction_id]
    page = Path(report.paths["report"]).read_text()
    assert f"own code: 1 ({poison.transaction_id})" in page.replace("&#x27;", "'")
    assert report.decided.decisions > 100
    assert any(f"Transaction {poison.transaction_id} is left out." in sentence for sentence in notices)
    features = write_features(context, tmp_path / "features")
    assert features.to_json_dict()["left_out"] == [poison.transaction_id]
