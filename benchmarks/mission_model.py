"""The mission's own model beside ours, on the same transactions: how well each finds fraud.

    python benchmarks/mission_model.py [--rows 400000] [--handbook FILE.parquet] [--section NAME]…
        [--seed 1] [--models 6] [--json]

mission    a simulated file of the mission, 90 days
handbook   the Fraud Detection Handbook's transactions, which must be named by --handbook
equal      models that differ in their seed alone: what the mission's comparison says of them, and ours

Both learn from the same rows and are measured on the same, once split at random within the classes as
the mission does, once by time as `zaslon train` does: between the periods lies the label delay. Needs
the extra `bench` and Java 17. One JSON object with --json, else tables.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.handbook import features_of
from benchmarks.mission_pipeline import NONE, TEST, TRAIN, Fitted, Roles, clean, fit_and_score

from zaslon.bootstrap import build_context
from zaslon.domain.estimates import Estimate
from zaslon.domain.time import SECONDS_PER_DAY, days_spanned
from zaslon.models.comparison import ALPHA, Scored, compare_scores, t_test_p
from zaslon.models.dataset import Sample
from zaslon.models.ranking import rank, threshold_at
from zaslon.models.time_split import SplitRules, TimeSplit
from zaslon.models.training import TrainSettings
from zaslon.models.verdict import judge
from zaslon.services.context import Context
from zaslon.services.model_training import evaluate_sample, fit
from zaslon.services.samples import Samples
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation

SECTIONS = ("mission", "handbook", "equal")
ROWS_MIN = 20_000
DAYS = 90
FALSE_POSITIVE_RATE = 0.05
TEST_SHARE = 0.2  # of the rows, as the mission splits
# The mission's comparison: so many replicates of this share of the test rows, all drawn with one seed.
MISSION_REPLICATES, MISSION_SHARE, MISSION_SEED = 10, 0.2, 0
_LAST_DAY = 1 << 30

Float64 = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Dataset:
    """Transactions as both read them.

    Attributes:
        context: our settings, in a home of its own.
        rows: every transaction that we keep, with our features; in the order of the log.
        cleaned: what the mission's cleaning keeps.
        repaired: how many of these are not among ours.
        scratch: for files.
    """

    context: Context
    rows: Sample
    cleaned: Path
    repaired: int
    scratch: Path

    @staticmethod
    def of(raw: Path, scratch: Path) -> Dataset:
        """Read a file as both do."""
        context = build_context(load_settings(home=scratch / "home", threads=2))
        delay_days = context.options.label_delay_seconds // SECONDS_PER_DAY
        rows = features_of(raw, context.catalogue, delay_days, scratch)
        kept = clean(raw, scratch / "mission")
        return Dataset(context, rows, scratch / "mission", kept - len(rows), scratch)


@dataclass(frozen=True)
class Split:
    """Which rows each model may learn from, and on which both are measured.

    Attributes:
        train, validation, test: bool[n] each, ours.
        learned: bool[n], of which the mission's model learns.
        last_learned_day: day number of the newest of these.
        weight: how many transactions each test row represents.
    """

    train: Bools
    validation: Bools
    test: Bools
    learned: Bools
    last_learned_day: int
    weight: float


def fifth(is_fraud: NDArray[np.int8], seed: int) -> Bools:
    """bool[n]: a random fifth of the frauds and of the good transactions."""
    random = np.random.default_rng(seed)
    chosen = np.zeros(len(is_fraud), np.bool_)
    for answer in (0, 1):
        rows = random.permutation(np.flatnonzero(is_fraud == answer))
        chosen[rows[: round(TEST_SHARE * len(rows))]] = True
    return chosen


def random_split(rows: Sample, seed: int) -> Split:
    """The mission's: 80 to 20 within the classes, whatever the time. Ours validates on a fifth of the 80."""
    test = fifth(rows.is_fraud, seed)
    validation = ~test
    validation[validation] = fifth(rows.is_fraud[~test], seed + 1)
    return Split(~test & ~validation, validation, test, ~test, _LAST_DAY, 1 / TEST_SHARE)


def split_by_time(rows: Sample, context: Context) -> tuple[Split, TimeSplit]:
    """Ours. The mission's model learns from every day whose labels are known when the test period begins."""
    options = context.options
    day = rows.event_time_seconds // SECONDS_PER_DAY
    frauds = np.bincount(day, rows.is_fraud).astype(np.int64)
    good = np.bincount(day) - frauds
    rules = SplitRules(
        options.test_days, options.validation_days, -(-options.label_delay_seconds // SECONDS_PER_DAY),
        options.period_frauds_target, options.period_days_max,
    )  # fmt: skip
    answers = {int(d): (int(frauds[d]), int(good[d])) for d in np.unique(day)}
    periods = TimeSplit.of(answers, rules)
    train, validation, test = (
        np.asarray((day >= p.first) & (day <= p.last))
        for p in (periods.train, periods.validation, periods.test)
    )
    last = periods.validation.last
    return Split(train, validation, test, day <= last, last, 1.0), periods


def ours_on(data: Dataset, split: Split, periods: TimeSplit, seed: int) -> Float64:
    """Scores of the test rows by our model, trained as `zaslon train` does."""
    train, validation, test = (data.rows.take(rows) for rows in (split.train, split.validation, split.test))
    samples = Samples(periods, train, validation, test)
    settings = TrainSettings(seed=seed, threads=data.context.options.threads)
    model, _, _ = fit(data.context, samples, settings)
    return model.score(samples.test.x)


def mission_on(data: Dataset, learned: Bools, scored: Bools, last_day: int, seed: int) -> Fitted:
    """The mission's model, learned from some rows, on others."""
    role = np.where(learned, TRAIN, np.where(scored, TEST, NONE)).astype(np.int8)
    with tempfile.TemporaryDirectory(dir=data.scratch) as scratch:
        return fit_and_score(
            data.cleaned, Roles(data.rows.transaction_id, role, last_day), seed, Path(scratch)
        )


def in_order(score: pl.DataFrame, transaction_id: NDArray[np.int64]) -> Float64:
    """float64[n]: scores of these transactions.

    Raises:
        SystemExit: one of them has no score; then the models would not be measured on the same rows.
    """
    found = pl.DataFrame({"transaction_id": transaction_id}).join(
        score, "transaction_id", "left", maintain_order="left"
    )["score"]
    if found.null_count():
        raise SystemExit(f"{found.null_count():,} test rows have no score of the mission's model.")
    return found.to_numpy().astype(np.float64)


def measures_of(score: Float64, test: Sample, seed: int) -> dict[str, Estimate]:
    """ROC-AUC, PR-AUC, and at 5 % false positives recall and the money lost in 30 days."""
    weight = test.weight.astype(np.float64)
    cut = threshold_at(rank(score, test.is_fraud, test.amount_minor, weight), FALSE_POSITIVE_RATE)
    found = evaluate_sample(score, test, cut, np.inf, seed)
    lost = found.money.lost
    return {
        "roc_auc": found.headline["roc_auc"],
        "pr_auc": found.headline["pr_auc"],
        "recall": found.headline["recall_at_fpr_5pct"],
        "loss_minor_per_month": lost,
    }


def beside(mission: Float64, ours: Float64, test: Sample, seed: int) -> dict[str, Any]:
    """Both models on the same rows, their measures and the difference, each with its 95 % interval."""
    days = days_spanned(int(test.event_time_seconds.min()), int(test.event_time_seconds.max()))
    scored = Scored(mission, ours, test.is_fraud, test.amount_minor, test.weight, days, test.entity_keys)
    found = compare_scores(scored, false_positive_rate_max=FALSE_POSITIVE_RATE, seed=seed)
    of_mission, of_ours = (measures_of(score, test, seed) for score in (mission, ours))
    return {
        name: {
            "mission": _plain(of_mission[name]),
            "ours": _plain(of_ours[name]),
            "difference": _plain(found.measures[name].difference),
        }
        for name in of_mission
    }


def _plain(estimate: Estimate) -> list[float]:
    return [estimate.value, estimate.low, estimate.high]


def both_splits(data: Dataset, seed: int) -> dict[str, Any]:
    """One data set under the random split and under the split by time."""
    by_time, periods = split_by_time(data.rows, data.context)
    splits = {"random": random_split(data.rows, seed), "by time": by_time}
    return {
        "rows": len(data.rows),
        "frauds": data.rows.frauds,
        "repaired_rows": data.repaired,
        "periods": periods.to_json_dict(),
        "splits": {name: one_split(data, split, periods, seed) for name, split in splits.items()},
    }


def one_split(data: Dataset, split: Split, periods: TimeSplit, seed: int) -> dict[str, Any]:
    """Train both and measure them."""
    test = data.rows.take(split.test)
    test = replace(test, weight=np.full(len(test), split.weight, np.float32))
    print("  the mission's model …", file=sys.stderr)
    fitted = mission_on(data, split.learned, split.test, split.last_learned_day, seed)
    mission = in_order(fitted.score, test.transaction_id)
    print("  ours …", file=sys.stderr)
    ours = ours_on(data, split, periods, seed)
    return {
        "test_rows": len(test),
        "test_frauds": test.frauds,
        "mission_train_rows": fitted.train_rows,
        "mission_train_frauds": fitted.train_frauds,
        "mission_regularisation": fitted.regularisation,
        "mission_iterations_max": fitted.iterations_max,
        "ours_train_rows": int(split.train.sum()),
        "ours_train_frauds": int(data.rows.is_fraud[split.train].sum()),
        "measures": beside(mission, ours, test, seed),
    }


def replicates(score: Float64, is_fraud: NDArray[np.int8], seeds: Sequence[int]) -> Float64:
    """float64[seeds]: ROC-AUC of a fifth of the rows, drawn with replacement with each seed.

    The mission gives the same seed ten times.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  takes a second

    found = []
    for seed in seeds:
        drawn = np.random.default_rng(seed).integers(0, len(score), round(MISSION_SHARE * len(score)))
        found.append(roc_auc_score(is_fraud[drawn], score[drawn]))
    return np.array(found)


@dataclass(frozen=True)
class ScoredRows:
    """A model and the rows on which the mission's comparison measures it: its own test rows."""

    score: Float64
    is_fraud: NDArray[np.int8]

    def drawn(self, seeds: Sequence[int]) -> Float64:
        """Replicates of its ROC-AUC."""
        return replicates(self.score, self.is_fraud, seeds)


def different(models: Sequence[ScoredRows], seeds_of: Callable[[int], Sequence[int]]) -> int:
    """How many pairs the t-test over replicates calls different; `seeds_of` gives a model's seeds."""
    drawn = [model.drawn(seeds_of(number)) for number, model in enumerate(models)]
    return sum(t_test_p(a, b) < ALPHA for a, b in itertools.combinations(drawn, 2))


def pairs_of(own: Sequence[ScoredRows], later: Sequence[Float64], test: Sample, days: int) -> dict[str, Any]:
    """What is said of every pair of these models.

    Args:
        own: as the mission tests them.
        later: float64[n] each, scores of `test`, from which none of them learned; these our comparison takes.
        test: n rows.
        days: that these are from.
    """
    verdicts: dict[str, int] = {}
    differences = []
    for number, (a, b) in enumerate(itertools.combinations(later, 2)):
        scored = Scored(a, b, test.is_fraud, test.amount_minor, test.weight, days, test.entity_keys)
        found = compare_scores(scored, false_positive_rate_max=FALSE_POSITIVE_RATE, seed=number)
        verdict = judge(found).verdict.value
        verdicts[verdict] = verdicts.get(verdict, 0) + 1
        differences.append(abs(found.measures["roc_auc"].difference.value))
    return {
        "pairs": len(differences),
        "own_test_frauds": int(np.mean([model.is_fraud.sum() for model in own])),
        "compared_on_frauds": test.frauds,
        "largest_difference": max(differences),
        "one_seed": different(own, lambda _: [MISSION_SEED] * MISSION_REPLICATES),
        "ten_seeds": different(own, lambda n: range(n * MISSION_REPLICATES, (n + 1) * MISSION_REPLICATES)),
        "verdicts": verdicts,
    }


def equal_models(data: Dataset, models: int) -> dict[str, Any]:
    """Models of the same training on the same days, with different seeds."""
    split, periods = split_by_time(data.rows, data.context)
    test, days = data.rows.take(split.test), len(periods.test)
    own, later = [], []
    for seed in range(models):
        print(f"  model {seed + 1} of {models} …", file=sys.stderr)
        held_out = split.learned.copy()
        held_out[split.learned] = fifth(data.rows.is_fraud[split.learned], seed)
        learned = split.learned & ~held_out
        score = mission_on(data, learned, held_out | split.test, split.last_learned_day, seed).score
        rows = data.rows.take(held_out)
        own.append(ScoredRows(in_order(score, rows.transaction_id), rows.is_fraud))
        later.append(in_order(score, test.transaction_id))
    ours = [ours_on(data, split, periods, seed) for seed in range(models)]
    same_rows, of_ours = ([ScoredRows(s, test.is_fraud) for s in scores] for scores in (later, ours))
    return {
        "the mission's, each on its own random fifth": pairs_of(own, later, test, days),
        "the mission's, both on the same later days": pairs_of(same_rows, later, test, days),
        "ours, both on the same later days": pairs_of(of_ours, ours, test, days),
    }


def simulated(rows: int, scratch: Path) -> Dataset:
    """About so many rows of the mission, with its defects."""
    profile = simulation_profile("mission", customers=max(100, int(rows / DAYS / 1.6)))
    write_simulation(profile, DAYS, 7, scratch / "mission.txt")
    return Dataset.of(scratch / "mission.txt", scratch)


def _show(found: Mapping[str, Any], console: Console) -> None:
    for section in ("mission", "handbook"):
        for name, split in found.get(section, {}).get("splits", {}).items():
            counts = ", ".join(f"{k.replace('_', ' ')} {v:,}" for k, v in split.items() if k != "measures")
            console.rule(f"{section}, split {name}")
            console.print(counts)
            console.print(_table(("", "the mission's", "ours", "difference"), _lines(split["measures"])))
    if "equal" in found:
        console.rule("equal models: pairs called different")
        lines = (
            (kind, *(f"{v:.4f}" if isinstance(v, float) else str(v) for v in pairs.values()))
            for kind, pairs in found["equal"].items()
        )
        console.print(_table(("models", *next(iter(found["equal"].values()))), lines))


def _lines(measures: Mapping[str, Mapping[str, Sequence[float]]]) -> Iterable[tuple[str, ...]]:
    for name, by_model in measures.items():
        digits = 0 if name.startswith("loss") else 4
        unit = 100 if name.startswith("loss") else 1
        cells = (
            "{:,.{d}f} ({:,.{d}f} … {:,.{d}f})".format(*(v / unit for v in values), d=digits)
            for values in by_model.values()
        )
        yield (name.replace("loss_minor_per_month", "loss in 30 days"), *cells)


def _table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> Table:
    table = Table(*heads)
    for line in lines:
        table.add_row(*line)
    return table


def measured(sections: Sequence[str], given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """The figures of the sections; the simulated file is read once."""
    found: dict[str, Any] = {}
    data: dict[str, Dataset] = {}
    for section in sections:
        print(f"{section} …", file=sys.stderr)
        kind = "handbook" if section == "handbook" else "mission"
        if kind not in data:
            (scratch / kind).mkdir()
            place = scratch / kind
            data[kind] = (
                Dataset.of(given.handbook, place) if kind == "handbook" else simulated(given.rows, place)
            )
        found[section] = (
            equal_models(data[kind], given.models)
            if section == "equal"
            else both_splits(data[kind], given.seed)
        )
    return found


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--handbook", type=Path, metavar="FILE.parquet")
    parser.add_argument("--section", action="append", choices=SECTIONS, default=[])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--models", type=int, default=6, help="of either kind in the section `equal`")
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    if given.rows < ROWS_MIN:
        parser.error(f"--rows must be at least {ROWS_MIN:,}: fewer have too few frauds.")
    if given.models < 2:
        parser.error("--models must be at least 2.")
    if given.handbook is None and "handbook" in given.section:
        parser.error("The section `handbook` needs --handbook FILE.parquet.")
    if given.handbook is not None and not given.handbook.exists():
        parser.error(f"{given.handbook} does not exist: name the handbook's transactions as Parquet.")
    os.nice(5)
    sections = given.section or [s for s in SECTIONS if s != "handbook" or given.handbook]
    with tempfile.TemporaryDirectory(prefix="zaslon-mission-") as name:
        found = measured(sections, given, Path(name))
    if given.json:
        print(json.dumps(found))
    else:
        _show(found, Console())


if __name__ == "__main__":
    main()
