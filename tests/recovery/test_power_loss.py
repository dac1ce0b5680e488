"""Power is lost at any moment: a home opens as it was before a change or as it is after it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.recovery.lossy_disk import Loss, LossyDisk, Moment, Tree, make_tree

from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.adapters.embedded.lock import exclusive_in
from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.admission import admit
from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Kind, LogBatch, RecordBatch
from zaslon.domain.outcomes import LabelAccepted
from zaslon.features.plan import plan_features
from zaslon.flows.produce import _Cursor
from zaslon.flows.score import score
from zaslon.intake import clean_days, clean_files
from zaslon.models.artefact import save_model
from zaslon.models.report import write_report
from zaslon.ports.registry import RunRecord
from zaslon.services.context import Context
from zaslon.services.home import keep_champion, load_champion
from zaslon.services.job_runs import SUCCESS, ChainRun, RunStore
from zaslon.services.logs import exclusive, new_log, put_in_use
from zaslon.services.publishing import Waiting, keep_run
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation
from zaslon.system import durable
from zaslon.testing import SmallWorld

LOSSES: tuple[Loss, ...] = ("most", "contents", "least", 1, 2, 3)
HEADER = "transaction_id,tx_datetime,customer_id,terminal_id,tx_amount\n"


@dataclass(frozen=True)
class Change:
    """A change of a home, and how one sees whether it has happened.

    Attributes:
        prepare: what was there before, on disk.
        make: the change; to be made again after a loss of power.
        look: opens the home and returns what is there; raises if it cannot be used.
    """

    prepare: Callable[[Path], object]
    make: Callable[[Path], object]
    look: Callable[[Path], object]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk under the tests does not lose power: nothing waits for it."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


def opened(home: Path) -> Context:
    return build_context(load_settings(home=home, threads=1, batch_records=500))


def moments_of(disk: LossyDisk, make: Callable[[Path], object], home: Path) -> list[Moment]:
    with disk.watched():
        make(home)
    return disk.moments


def after_losses(moments: list[Moment], place: Path) -> Iterator[tuple[str, Path]]:
    """Every home that there can be, with a name for a failing test; each is removed afterwards."""
    seen: list[Tree] = []
    for number, moment in enumerate(moments):
        for loss in LOSSES:
            tree = moment.after(loss)
            if tree in seen:
                continue
            seen.append(tree)
            make_tree(tree, place)
            yield f"{number} of {len(moments)}, {loss}, before {moment.before}", place
            shutil.rmtree(place)


def assert_survives(change: Change, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    change.prepare(home)
    before = change.look(home)
    moments = moments_of(LossyDisk(home), change.make, home)
    after = change.look(home)
    seen = []
    for name, found in after_losses(moments, tmp_path / "found"):
        seen.append(change.look(found))
        assert seen[-1] in (before, after), name
        change.make(found)
        assert change.look(found) == after, f"made again: {name}"
    assert seen[0] == before
    make_tree(moments[-1].after("most"), tmp_path / "found")
    assert change.look(tmp_path / "found") == after, "what is done is on disk"


# --- the key of pseudonyms


def test_a_key_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def look(home: Path) -> int:
        path = home / "pseudonym.key"
        return len(build_context(load_settings(home=home), reading=True).key) if path.exists() else 0

    assert_survives(Change(lambda home: None, opened, look), tmp_path)


def test_no_key_is_lost_that_a_log_depends_on(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    keys = []

    def make(home: Path) -> None:
        context = opened(home)
        keys.append(context.key)
        with exclusive(context), closing(context.open_journal()) as journal:
            journal.record(a_label(0), [LabelAccepted(0, 7, is_fraud=True)], None)

    for name, found in after_losses(moments_of(LossyDisk(home), make, home), tmp_path / "found"):
        with closing(opened(found).open_journal()) as journal:
            if journal.next_position:
                assert opened(found).key == keys[0], name


# --- model, policy, champion


def test_the_champion_is_the_old_or_the_new_one(small_world: SmallWorld, tmp_path: Path) -> None:
    plan = plan_features(small_world.context.catalogue)
    model, policy = load_champion(small_world.context, plan)
    newer = model.with_facts(metrics={"roc_auc": 0.75})

    def keep(home: Path, kept: object, review: float) -> None:
        context = opened(home)
        save_model(kept, home / "models" / kept.artefact_id)  # type: ignore[arg-type, attr-defined]
        keep_champion(context, kept, policy.with_thresholds(review, 0.9))  # type: ignore[arg-type]

    def look(home: Path) -> tuple[str, str]:
        found, its_policy = load_champion(opened(home), plan)
        return found.artefact_id, its_policy.hash

    change = Change(lambda home: keep(home, model, 0.5), lambda home: keep(home, newer, 0.6), look)
    assert_survives(change, tmp_path)


# --- snapshots and logs


def test_a_snapshot_is_there_or_the_one_before_it(tmp_path: Path) -> None:
    def save(home: Path, position: int) -> None:
        FileSnapshots(home / "log" / "snapshots").save(position, {"times": np.arange(position)})

    def look(home: Path) -> tuple[int, list[int], list[str]]:
        found = FileSnapshots(home / "log" / "snapshots").newest()
        assert found is not None
        position, content, complaints = found
        return position, content["times"].tolist(), complaints

    change = Change(lambda home: save(home, 10), lambda home: save(home, 20), look)
    assert_survives(change, tmp_path)


def a_label(position: int) -> LogBatch:
    raw = RecordBatch.of([b'{"transaction_id":7,"is_fraud":true}'], [Kind.LABEL_JSON], [5], position)
    return admit(raw, load_catalogue(), b"key")


def test_a_new_log_replaces_the_old_one_as_a_whole(tmp_path: Path) -> None:
    def begin(home: Path, records: int) -> None:
        context = opened(home)
        with exclusive(context):
            log = new_log(context)
            with closing(log.open_journal()) as journal:
                log.open_snapshots(journal).save(0, {"seen": np.zeros(records)})
                for position in range(records):
                    outcome = LabelAccepted(position, 7, is_fraud=True)
                    journal.record(a_label(position), [outcome], ("source", position + 1))
            put_in_use(context)

    def look(home: Path) -> tuple[int, int, int]:
        context = opened(home)
        with exclusive(context), closing(context.open_journal()) as journal:
            found = context.open_snapshots(journal).newest()
            assert found is not None
            return journal.next_position, journal.cursor("source"), len(found[1]["seen"])

    assert_survives(Change(lambda home: begin(home, 2), lambda home: begin(home, 3), look), tmp_path)


def test_a_log_put_aside_is_still_whole(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    context = opened(home)
    with closing(context.open_journal()) as journal:
        journal.record(a_label(0), [LabelAccepted(0, 7, is_fraud=True)], None)

    def make(home: Path) -> None:
        with exclusive(opened(home)):
            new_log(opened(home)).open_journal().close()
            put_in_use(opened(home))

    for name, found in after_losses(moments_of(LossyDisk(home), make, home), tmp_path / "found"):
        with exclusive(opened(found)):
            lengths = []
            for path in sorted(found.glob("log*")):
                with closing(opened(found).with_log(path.name).open_journal()) as journal:
                    lengths.append(journal.next_position)
        assert lengths in ([1], [0, 1]), name


# --- outputs


def cleaned(home: Path, rows: int) -> None:
    source = home.parent / f"{rows}.txt"
    lines = [f"{i},2019-08-22 06:51:{i:02d},1,2,3.50\n" for i in range(rows)]
    source.write_text(HEADER + "".join(lines) + "bad\n")
    context = opened(home)
    clean_files(
        [str(source)], home / "clean", context.catalogue, key=context.key,
        arrival_time_seconds=1_600_000_000, chunk_bytes=1 << 16, repeat_filter_bytes=1 << 16,
    )  # fmt: skip


def rows_of(home: Path) -> int:
    return sum(len(pl.read_parquet(path)) for _, path in clean_days(home / "clean", opened(home).catalogue))


@pytest.mark.parametrize("can_exchange", [True, False])
def test_clean_data_are_the_old_or_the_new_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_exchange: bool
) -> None:
    if not can_exchange:
        monkeypatch.setattr("zaslon.system.durable.exchange_names", lambda *_: False)

    def look(home: Path) -> tuple[int, int]:
        if not can_exchange:
            durable.recover_directory(home / "clean")  # as the next `zaslon clean` does
        return rows_of(home), len(pl.read_parquet(home / "clean" / "_quarantine.parquet"))

    change = Change(lambda home: cleaned(home, 10), lambda home: cleaned(home, 20), look)
    assert_survives(change, tmp_path)


def test_a_simulated_file_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    profile = simulation_profile("mission", customers=100, terminals=20)

    def look(home: Path) -> int:
        path = home / "made" / "month.txt"
        return path.stat().st_size if path.exists() else 0

    def make(home: Path) -> None:
        write_simulation(profile, 2, 1, home / "made" / "month.txt")

    assert_survives(Change(lambda home: None, make, look), tmp_path)


def test_a_report_is_the_old_or_the_new_one(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaslon.models.report.render_report", lambda text: text)

    def write(home: Path, text: str) -> None:
        write_report(home / "reports" / "report.html", text)  # type: ignore[arg-type]

    change = Change(
        lambda home: write(home, "old"),
        lambda home: write(home, "a longer one"),
        lambda home: (home / "reports" / "report.html").read_text(),
    )
    assert_survives(change, tmp_path)


class Sent:
    """A sender whose records are all acknowledged."""

    acknowledged = 0

    def __init__(self, records: int) -> None:
        self._records = records

    def finish(self) -> int:
        """How many."""
        return self._records


def test_what_was_sent_is_the_old_or_the_new_number(tmp_path: Path) -> None:
    def cursor(home: Path) -> Any:
        return _Cursor(home, ["in.txt"], "input", "lines", None)  # type: ignore[arg-type]

    def send_to(home: Path, records: int) -> None:
        cursor(home).finish(Sent(records - cursor(home).done))

    change = Change(
        lambda home: send_to(home, 9), lambda home: send_to(home, 12), lambda home: cursor(home).done
    )
    assert_survives(change, tmp_path)


# --- jobs, and runs for the registry


def test_the_state_of_a_run_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    def store(home: Path) -> RunStore:
        return RunStore(home / "schedule" / "nightly")

    def begin(home: Path) -> None:
        store(home).keep(store(home).begin("nightly", ["train"], None, 1_600_000_000.0))

    def succeed(home: Path) -> None:
        (run,) = store(home).runs()
        store(home).keep(replace(run, state=SUCCESS, ended=1_600_000_060.0))

    assert_survives(Change(begin, succeed, lambda home: store(home).runs()), tmp_path)


def test_a_begun_run_is_there_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def look(home: Path) -> list[ChainRun]:
        return RunStore(home / "schedule" / "nightly").runs()

    def make(home: Path) -> None:
        store = RunStore(home / "schedule" / "nightly", kept=1)
        store.known_since(1_600_000_000.0)
        if not store.runs():
            store.keep(ChainRun("nightly", "20200913T122640Z-01", SUCCESS, None, 1_600_000_000.0))

    assert_survives(Change(lambda home: None, make, look), tmp_path)


def test_a_run_for_the_registry_waits_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    def make(home: Path) -> None:
        run = RunRecord("run-1", "a run", {"trees": 7}, {"roc_auc": 0.9}, {})
        keep_run(opened(home), Waiting(run), {"plots/roc.png": b"a picture", "report.html": b"a page"})

    def look(home: Path) -> dict[str, bytes] | None:
        place = home / "registry" / "run-1"
        if not (place / "record.json").exists():
            return None  # no run waits, whatever files there are
        return {path.name: path.read_bytes() for path in place.rglob("*") if path.is_file()}

    assert_survives(Change(opened, make, look), tmp_path)


# --- what is derived, or has no content


def test_copied_decisions_can_be_copied_again(tmp_path: Path) -> None:
    def copy(home: Path, positions: int) -> None:
        with closing(SqliteDecisions(home / "gateway" / "decisions.db", 100)) as store:
            store.keep([(p, 7, b"{}") for p in range(positions)], str(positions).encode())

    def look(home: Path) -> tuple[list[int], bytes]:
        with closing(SqliteDecisions(home / "gateway" / "decisions.db", 100)) as store:
            return [position for position, _ in store.find(7)], store.checkpoint

    assert_survives(Change(lambda home: copy(home, 2), lambda home: copy(home, 3), look), tmp_path)


def test_copied_decisions_of_another_format_are_begun_anew(tmp_path: Path) -> None:
    def prepare(home: Path) -> None:
        (home / "decisions.db").write_bytes(b"no database")
        (home / "decisions.db-wal").write_bytes(b"nor its log")

    def make(home: Path) -> None:
        with closing(SqliteDecisions(home / "decisions.db", 100)) as store:
            store.keep([(0, 7, b"{}")], b"1")

    home = tmp_path / "home"
    home.mkdir()
    prepare(home)
    for name, found in after_losses(moments_of(LossyDisk(home), make, home), tmp_path / "found"):
        with closing(SqliteDecisions(found / "decisions.db", 100)) as store:
            assert store.checkpoint in (b"", b"1"), name


def test_a_lock_does_not_survive_a_power_loss(tmp_path: Path) -> None:
    def make(home: Path) -> None:
        with exclusive_in(home / ".lock"):
            pass

    assert_survives(Change(lambda home: None, make, lambda home: None), tmp_path)


# --- all of it


@pytest.mark.slow
def test_resumed_scoring_gives_the_same_outcomes(small_world: SmallWorld, tmp_path: Path) -> None:
    world = small_world.in_home(tmp_path / "home")
    source = tmp_path / "new.txt"
    columns = ",".join(world.context.catalogue.record.columns)
    lines = [r for r, k in zip(world.records, world.kinds, strict=True) if k == Kind.TRANSACTION_LINE]
    source.write_bytes(columns.encode() + b"\n" + b"\n".join(lines[:400]) + b"\n")

    def make(home: Path) -> None:
        context = opened(home)
        options = replace(context.options, batch_records=100, snapshot_every_records=150)
        with exclusive(context):
            score(replace(context, options=options), [str(source)], learn=False)

    def look(home: Path) -> list[bytes]:
        with closing(opened(home).open_journal()) as journal:
            return [outcome for _, outcome in journal.outcomes()]

    home = world.context.home
    opened(home)
    moments = moments_of(LossyDisk(home), make, home)
    after = look(home)
    assert len(after) > 300
    some = moments[:: len(moments) // 12] + moments[-1:]
    for name, found in after_losses(some, tmp_path / "found"):
        make(found)
        assert look(found) == after, name
