"""The life of a model while fraud changes: retraining with the gate against a model that is never retrained.

    python benchmarks/life.py [--months 8] [--customers 700] [--every-days 1] [--json]

Transactions are simulated: the handbook's three kinds of fraud from the first day on, and a new kind in each of the
later months. At the end of every day `retrain` is asked as of that day, with everything it does in production: news,
challenger, comparison, guards, promotion. Both models then decide the next day with their own thresholds. Features
are those of the engine, with labels a week after the transaction. docs/decision-quality.md has the figures.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.bootstrap import build_context
from zaslon.domain.estimates import exact_interval
from zaslon.domain.ledger import TRAIN
from zaslon.domain.money import whole_text
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.features.plan import plan_features
from zaslon.flows.clean import clean
from zaslon.flows.retrain import retrain
from zaslon.intake import clean_days
from zaslon.models.training import TrainSettings
from zaslon.services.context import Context
from zaslon.services.featurising import Featuriser
from zaslon.services.home import Champion, load_champion
from zaslon.services.model_training import train_and_evaluate
from zaslon.services.promotion_ledger import promote
from zaslon.services.samples import collect_samples
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile
from zaslon.simulate.random_streams import random_stream
from zaslon.simulate.world import SimulatedDay, simulate_days

MONTH_DAYS, LABEL_DELAY_DAYS = 30, 7
FIRST_MONTHS = 2  # that the first model learns from and is tested on
_LIFE = 91  # its own random streams, apart from those of the simulated world
Int64 = NDArray[np.int64]


@dataclass(frozen=True)
class NewKind:
    """A kind of fraud that begins in a later month.

    Attributes:
        scenario: its number.
        month: from which on, from 0.
        cards: leaked a day, as a share of the customers.
        payments: that are made with each.
        amount_minor: from, to.
        hours: of the day, from, to.
        terminals: that each card is used at.
        days: for which a leaked card is used.
    """

    scenario: int
    month: int
    cards: float
    payments: int
    amount_minor: tuple[int, int]
    hours: tuple[int, int]
    terminals: int
    days: int


KINDS = (
    # Cards tested at one terminal with small amounts, one after the other.
    NewKind(4, 3, 1 / 150, 3, (100, 300), (1, 4), 1, 1),
    # A night of ordinary amounts at terminals where the customer never was.
    NewKind(5, 4, 1 / 300, 4, (4_000, 9_000), (2, 5), 4, 1),
    # Purchases split into many of the same middling amount within an hour.
    NewKind(6, 6, 1 / 300, 5, (12_000, 16_000), (13, 14), 1, 2),
)


@dataclass
class Month:
    """What one model did in a month."""

    frauds: int = 0
    stopped_frauds: int = 0
    good: int = 0
    stopped_good: int = 0
    lost_minor: int = 0

    def add(
        self, score: NDArray[np.float64], review: float, is_fraud: NDArray[np.bool_], amount_minor: Int64
    ) -> None:
        """Add a day of transactions."""
        stopped = score >= review
        self.frauds += int(is_fraud.sum())
        self.stopped_frauds += int((stopped & is_fraud).sum())
        self.good += int((~is_fraud).sum())
        self.stopped_good += int((stopped & ~is_fraud).sum())
        self.lost_minor += int(amount_minor[is_fraud & ~stopped].sum())

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values; the interval is the exact one of the recall."""
        recall = self.stopped_frauds / self.frauds if self.frauds else None
        interval = exact_interval(recall, self.frauds) if recall is not None else None
        return {
            "frauds": self.frauds, "recall": recall, "recall_interval": interval,
            "false_positive_rate": self.stopped_good / self.good if self.good else None,
            "lost_minor": self.lost_minor,
        }  # fmt: skip


@dataclass
class Life:
    """Months of both models, and what retraining did."""

    fixed: list[Month] = field(default_factory=list)
    retrained: list[Month] = field(default_factory=list)
    promotions: list[int] = field(default_factory=list)
    trainings: list[int] = field(default_factory=list)
    refusals: dict[str, int] = field(default_factory=dict)

    def month(self, number: int) -> None:
        """Begin months up to a number."""
        while len(self.fixed) <= number:
            self.fixed.append(Month())
            self.retrained.append(Month())
            self.promotions.append(0)
            self.trainings.append(0)


def main(arguments: Sequence[str]) -> int:
    """Run it and print a table, or JSON."""
    given = _parser().parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="life-") as scratch:
        life = live(given, Path(scratch))
    first = FIRST_MONTHS
    rows = [
        {
            "month": number, "new_kind": [kind.scenario for kind in KINDS if kind.month == number],
            "fixed": life.fixed[number].to_json_dict(), "retrained": life.retrained[number].to_json_dict(),
            "trainings": life.trainings[number], "promotions": life.promotions[number],
        }
        for number in range(first, len(life.fixed))
    ]  # fmt: skip
    if given.json:
        print(json.dumps({"months": rows, "refusals": life.refusals}))
    else:
        _print(rows, life)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--months", type=int, default=8)
    parser.add_argument("--customers", type=int, default=700)
    parser.add_argument("--terminals", type=int, default=1_400)
    parser.add_argument("--every-days", type=int, default=1, help="days between two retrainings")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    return parser


def live(given: argparse.Namespace, place: Path) -> Life:
    """Simulate, train the first model, and let both decide day after day."""
    source, home = place / "all.csv", place / "home"
    begin = simulate(given, source)
    context = build_context(load_settings(home=home, threads=2))
    clean(context, [str(source)], home / "clean")
    days = clean_days(home / "clean", context.catalogue)
    first = _first_champion(context, [day for day in days if day[0] < begin + FIRST_MONTHS * MONTH_DAYS])
    features = {part[0]: part for part in _featurised(context, days)}
    life, champion = Life(), first
    for day, _ in days:
        number = (day - begin) // MONTH_DAYS
        if number < FIRST_MONTHS:
            continue
        life.month(number)
        _, x, is_fraud, amount_minor = features[day]
        for model, months in ((first, life.fixed), (champion, life.retrained)):
            months[number].add(model[0].score(x), model[1].thresholds.review, is_fraud, amount_minor)
        if (day - begin) % given.every_days == 0:
            champion = _retrained(context, day, life, number, champion)
            print(f"{day_text(day)}: {sum(life.promotions)} promotions", file=sys.stderr)
    return life


def _first_champion(context: Context, days: Sequence[tuple[int, Path]]) -> Champion:
    samples = collect_samples(context, days, label_delay_seconds=LABEL_DELAY_DAYS * SECONDS_PER_DAY)
    trained = train_and_evaluate(context, samples, TrainSettings(seed=context.options.seed, threads=2))
    promote(context, trained.model, trained.policy, TRAIN, {})
    return trained.model, trained.policy


def _retrained(context: Context, day: int, life: Life, number: int, champion: Champion) -> Champion:
    """The champion after a retraining at the end of a day."""
    report = retrain(context, as_of_seconds=(day + 1) * SECONDS_PER_DAY)
    if report.gated is None:
        return champion
    found = report.gated.challenge
    life.trainings[number] += 1
    if report.gated.promoted:
        life.promotions[number] += 1
        return load_champion(context, plan_features(context.catalogue))
    why = [guard.name for guard in found.guards if not guard.passed] or [found.judged.verdict.value]
    print(f"{day_text(day)}: {'; '.join(found.refusals) or found.judged.reasons[0]}", file=sys.stderr)
    for reason in why:
        life.refusals[reason] = life.refusals.get(reason, 0) + 1
    return champion


def _featurised(
    context: Context, days: Sequence[tuple[int, Path]]
) -> list[tuple[int, NDArray[np.float32], NDArray[np.bool_], Int64]]:
    """(day, features of the model, answers, amounts) of every day."""
    featuriser = Featuriser(context.catalogue, context.key, LABEL_DELAY_DAYS * SECONDS_PER_DAY, print)
    columns = list(plan_features(context.catalogue).model_columns)
    found = []
    for day in days:
        parts = list(featuriser.days([day]))
        x = np.concatenate([np.ascontiguousarray(part.matrix[:, columns]) for part in parts])
        is_fraud = np.concatenate([part.transactions.is_fraud for part in parts]) == 1
        found.append(
            (day[0], x, is_fraud, np.concatenate([part.transactions.amount_minor for part in parts]))
        )
    return found


def simulate(given: argparse.Namespace, out: Path) -> int:
    """Write all days as CSV; returns the first day's number."""
    profile = simulation_profile("handbook", customers=given.customers, terminals=given.terminals)
    frames, next_id = [], 0
    for payments in simulate_days(profile, given.months * MONTH_DAYS, given.seed):
        frame = _frame(payments)
        month = (payments.day - profile.start_day) // MONTH_DAYS
        added = [
            frauds for kind in KINDS if month >= kind.month
            if (frauds := _frauds(kind, payments.day, given)) is not None
        ]  # fmt: skip
        frame = pl.concat([frame, *added]).sort("TX_DATETIME", maintain_order=True)
        ids = pl.Series("TRANSACTION_ID", np.arange(next_id, next_id + len(frame)))
        frames.append(frame.select(ids, pl.all()))
        next_id += len(frame)
    pl.concat(frames).write_csv(out, datetime_format="%Y-%m-%d %H:%M:%S")
    return profile.start_day


def _frame(payments: SimulatedDay) -> pl.DataFrame:
    return _rows(
        payments.event_time_seconds, payments.customer_id, payments.terminal_id, payments.amount_minor, payments.scenario
    )  # fmt: skip


def _rows(
    seconds: Int64, customer: Int64, terminal: Int64, amount_minor: Int64, scenario: Any
) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "TX_DATETIME": pl.from_epoch(pl.Series(seconds.astype(np.int64)), "s"),
            "CUSTOMER_ID": customer.astype(np.int64), "TERMINAL_ID": terminal.astype(np.int64),
            "TX_AMOUNT": np.round(amount_minor / 100, 2), "TX_FRAUD": (np.asarray(scenario) > 0).astype(np.int8),
            "TX_FRAUD_SCENARIO": np.asarray(scenario, np.int8),
        }
    )  # fmt: skip


def _frauds(kind: NewKind, day: int, given: argparse.Namespace) -> pl.DataFrame | None:
    """The payments of one new kind on a day, with the cards that leaked on it or shortly before."""
    parts = []
    for since in range(day - kind.days + 1, day + 1):
        random = random_stream(given.seed, _LIFE, kind.scenario, since)
        cards = random.choice(given.customers, random.poisson(given.customers * kind.cards), replace=False)
        shared = random.integers(0, given.terminals, kind.terminals)
        for card in cards.tolist():
            begin = random.integers(kind.hours[0] * 3600, kind.hours[1] * 3600 - 1_800)
            seconds = day * SECONDS_PER_DAY + begin + np.sort(random.integers(0, 1_800, kind.payments))
            amount = random.integers(*kind.amount_minor, kind.payments)
            terminal = np.resize(shared, kind.payments)
            parts.append(
                _rows(
                    seconds,
                    np.full(kind.payments, card),
                    terminal,
                    amount,
                    np.full(kind.payments, kind.scenario),
                )
            )
    return pl.concat(parts) if parts else None


def _print(rows: Sequence[dict[str, Any]], life: Life) -> None:
    print("| month | new kind | frauds | recall, fixed | recall, retrained | lost, fixed | lost, retrained "
          "| false stops, fixed | false stops, retrained | trainings | promotions |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        fixed, retrained = row["fixed"], row["retrained"]
        kinds = ", ".join(map(str, row["new_kind"])) or "–"
        figures = [
            str(row["month"] + 1), kinds, f"{fixed['frauds']:,}", _recall(fixed), _recall(retrained),
            whole_text(fixed["lost_minor"], 2), whole_text(retrained["lost_minor"], 2),
            f"{fixed['false_positive_rate']:.2%}", f"{retrained['false_positive_rate']:.2%}",
            str(row["trainings"]), str(row["promotions"]),
        ]  # fmt: skip
        print(f"| {' | '.join(figures)} |")
    print(f"\nWhy challengers were not promoted: {life.refusals or 'none was refused'}.")


def _recall(values: dict[str, Any]) -> str:
    if values["recall"] is None:
        return "–"
    low, high = values["recall_interval"]
    return f"{values['recall']:.3f} ({low:.3f} … {high:.3f})"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
