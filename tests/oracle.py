"""The oracle: every feature by loops over all earlier events, so simple that it can be read and believed.

It is written from the reference (docs/reference/features.md), not from the kernel, and shares
nothing with it but the catalogue and the expression language. It keeps every event permanently.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np

from zaslon.domain.catalogue import Aggregates, Catalogue
from zaslon.domain.rejections import Reason
from zaslon.domain.time import parse_duration_seconds
from zaslon.expressions.expression import Expression, parse_expression

FeatureValues = dict[str, float]


@dataclass(frozen=True)
class Payment:
    """A transaction as the log holds it; `keys` by entity, None for none; `flags` bit by bit."""

    id: int
    time: int
    amount_minor: int
    keys: Mapping[str, int | None]
    numbers: Mapping[str, float] = field(default_factory=dict)
    flags: int = 0


@dataclass(frozen=True)
class Verdict:
    """A label as the log holds it."""

    id: int
    is_fraud: bool
    arrival: int
    is_live: bool = False


@dataclass(eq=False)
class Row:
    """What is remembered of an accepted payment, or of a label that came before its payment."""

    id: int
    time: int
    payment: Payment | None = None
    is_fraud: bool | None = None
    known_since: int = 0
    known_order: int = 0
    met: frozenset[str] = frozenset()

    @property
    def waits(self) -> bool:
        return self.payment is None and self.is_fraud is not None


class Oracle:
    """Applies one event at a time, the slow way."""

    def __init__(self, catalogue: Catalogue, waiting_labels_max: int = 100_000) -> None:
        self.catalogue, self.waiting_labels_max = catalogue, waiting_labels_max
        self.late_within = parse_duration_seconds(catalogue.retention.late_within)
        self.remember = parse_duration_seconds(catalogue.retention.remember)
        self.scale = 10.0**catalogue.minor_digits
        self.watermark = 0
        self.order = 0
        self.events: list[Row] = []  # accepted payments in log order, never forgotten
        self.rows: list[Row] = []  # what may still be asked for by id, oldest in the log first
        self._parsed: dict[tuple[str, str], Expression] = {}

    # Which events are taken

    def _forget(self) -> None:
        while self.rows and self.rows[0].time + self.remember <= self.watermark:
            self.rows.pop(0)

    def _find(self, identifier: int, watermark: int) -> Row | None:
        """The newest row of an id, unless its time is over."""
        found = [row for row in self.rows if row.id == identifier]
        if found and found[-1].time + self.remember > watermark:
            return found[-1]
        if found and found[-1].waits:
            found[-1].is_fraud, found[-1].time = None, 0
        return None

    def pay(self, payment: Payment) -> tuple[Reason, FeatureValues]:
        """The payment's features as they are before it, or why it is not taken."""
        self.order += 1
        self._forget()
        watermark = max(self.watermark, payment.time)
        if payment.time + self.late_within <= watermark:
            return Reason.TOO_LATE, {}
        row = self._find(payment.id, watermark)
        if row is not None and row.payment is not None:
            same = row.payment == payment
            return (Reason.DUPLICATE if same else Reason.CONFLICTING_DUPLICATE), {}
        self.watermark = watermark
        values = self._features(payment)
        taken = Row(payment.id, payment.time, payment, met=self._conditions_met(payment, values))
        if row is not None and row.waits:
            since = min(row.known_since, watermark)
            taken.is_fraud, taken.known_since, taken.known_order = row.is_fraud, since, self.order
            row.is_fraud, row.time = None, 0
        for other in self.rows:
            if other.waits:
                other.time = min(other.time, watermark)
        self.events.append(taken)
        self.rows.append(taken)
        return Reason.ACCEPTED, values

    def label(self, verdict: Verdict) -> str:
        """`applied`, `repeated`, `waits` or `unknown`."""
        self.order += 1
        self._forget()
        row = self._find(verdict.id, self.watermark)
        if row is not None and row.payment is not None:
            if row.is_fraud == verdict.is_fraud:
                return "repeated"
            since = min(verdict.arrival, self.watermark) if verdict.is_live else verdict.arrival
            row.is_fraud, row.known_since, row.known_order = verdict.is_fraud, since, self.order
            return "applied"
        if row is None or not row.waits:
            if sum(other.waits for other in self.rows) >= self.waiting_labels_max:
                return "unknown"
            came = max(verdict.arrival, self.watermark)
            self.rows.append(Row(verdict.id, came, is_fraud=verdict.is_fraud, known_since=verdict.arrival))
        elif row.is_fraud != verdict.is_fraud:
            row.is_fraud, row.known_since = verdict.is_fraud, verdict.arrival
        return "waits"

    # What they are worth

    def _features(self, payment: Payment) -> FeatureValues:
        exact = self._of_payment(payment)
        values = {name: float(np.float32(value)) for name, value in exact.items()}
        for entity in self.catalogue.entities:
            for part in self.catalogue.aggregates:
                if part.entity == entity:
                    for compute in part.compute:
                        for window in part.windows:
                            where = f"_{part.where}" if part.where else ""
                            name = f"{entity}_{compute}{where}_{window}"
                            value = self._aggregate(payment, part, compute, window)
                            values[name] = float(np.float32(value))
        for name, text in self.catalogue.derived.items():
            value = self._expression(text, {**values, **exact}, "number")
            with np.errstate(over="ignore"):
                values[name] = float(np.float32(value))
        return values

    def _of_payment(self, payment: Payment) -> FeatureValues:
        moment = datetime.fromtimestamp(payment.time, UTC)
        values: FeatureValues = {
            "amount": payment.amount_minor / self.scale,
            "hour": moment.hour,
            "weekday": moment.weekday(),
            "second_of_day": moment.hour * 3600 + moment.minute * 60 + moment.second,
            **payment.numbers,
        }
        for bit, flag in enumerate(self.catalogue.flag_names):
            values[f"flag_{flag}"] = payment.flags >> bit & 1
        return values

    def _conditions_met(self, payment: Payment, values: FeatureValues) -> frozenset[str]:
        seen = {**values, **self._of_payment(payment)}
        return frozenset(
            name
            for name, text in self.catalogue.conditions.items()
            if self._expression(text, seen, "condition")
        )

    def _expression(self, text: str, values: FeatureValues, kind: str) -> float:
        if (text, kind) not in self._parsed:
            as_kind = "condition" if kind == "condition" else "number"
            self._parsed[text, kind] = parse_expression(text, values, as_kind)  # type: ignore[arg-type]
        with np.errstate(all="ignore"):
            return float(self._parsed[text, kind].evaluate_row(values))

    def _aggregate(self, payment: Payment, part: Aggregates, compute: str, window: str) -> float:
        if payment.keys[part.entity] is None:
            return math.nan
        moment, after = payment.time, payment.time - parse_duration_seconds(window)
        own = [
            e for e in self.events if e.payment and e.payment.keys[part.entity] == payment.keys[part.entity]
        ]
        chosen = [e for e in own if part.where is None or part.where in e.met]
        events = sorted((e for e in chosen if after < e.time <= moment), key=lambda e: e.time)
        known = sorted(
            (e for e in own if e.is_fraud is not None and after < e.known_since <= moment),
            key=lambda e: (e.known_since, e.known_order),
        )
        frauds = [e for e in known if e.is_fraud and e in chosen]
        if compute in ("known", "frauds", "risk", "recent_risk") or "fraud" in compute:
            return self._of_labels(moment, compute, part.newest, known, frauds)
        return self._of_events(payment, compute, part.newest, events)

    def _of_events(self, payment: Payment, compute: str, newest: int, events: list[Row]) -> float:
        payments = [e.payment for e in events if e.payment is not None]
        word, _, other = compute.partition("_")
        if compute == "count":
            return len(events)
        if word == "distinct":
            return len({p.keys[other] for p in payments} - {None})
        if word == "same":
            if payment.keys[other] is None:
                return math.nan
            return sum(p.keys[other] == payment.keys[other] for p in payments)
        if compute == "since_last":
            return payment.time - events[-1].time if events else math.nan
        return self._of_amounts([p.amount_minor for p in payments], compute, newest)

    def _of_amounts(self, amounts: list[int], compute: str, newest: int) -> float:
        if compute == "sum":
            return sum(amounts) / self.scale
        if not amounts:
            return math.nan
        if compute == "mean":
            return sum(amounts) / len(amounts) / self.scale
        if compute in ("min", "max"):
            return (min if compute == "min" else max)(amounts) / self.scale
        if compute == "std":
            return self._deviation(amounts)
        percent = 50 if compute == "median" else int(compute.removeprefix("q"))
        return nearest_rank(amounts[-newest:], percent) / self.scale

    def _deviation(self, amounts: list[int]) -> float:
        n = len(amounts)
        if n < 2:
            return math.nan
        spread = n * sum(a * a for a in amounts) - sum(amounts) ** 2
        return math.sqrt(spread / (n * (n - 1))) / self.scale

    def _of_labels(
        self, moment: int, compute: str, newest: int, known: list[Row], frauds: list[Row]
    ) -> float:
        if compute == "known":
            return len(known)
        if compute == "frauds":
            return len(frauds)
        if compute == "risk":
            prior = self.catalogue.prior
            return (len(frauds) + prior.rate * prior.strength) / (len(known) + prior.strength)
        if compute == "recent_risk":
            return self._recent_risk(newest, known, frauds)
        if not frauds:
            return math.nan
        if compute == "good_since_fraud":
            return sum(e.known_since > frauds[-1].known_since for e in known)
        return moment - (frauds[0] if compute == "since_first_fraud" else frauds[-1]).time

    def _recent_risk(self, newest: int, known: list[Row], frauds: list[Row]) -> float:
        if not known:
            return math.nan
        since = known[-newest:][0].known_since
        recent = [e for e in known if e.known_since >= since]
        return sum(e in frauds for e in recent) / len(recent)


def nearest_rank(values: list[int], percent: int) -> int:
    """The smallest value that at least `percent` % of the values do not exceed."""
    ordered = sorted(values)
    return next(v for i, v in enumerate(ordered, 1) if 100 * i >= percent * len(ordered))
