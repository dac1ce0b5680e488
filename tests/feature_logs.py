"""Random logs of payments and verdicts, and the two ways to apply them: the kernel and the oracle."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.oracle import FeatureValues, Oracle, Payment, Verdict

from zaslon.domain.catalogue import Catalogue, load_catalogue, parse_catalogue
from zaslon.domain.events import NO_KEY, Labels, Transactions
from zaslon.domain.rejections import Reason
from zaslon.features.deduplication import LABEL_APPLIED, LABEL_REPEATED, LABEL_WAITS
from zaslon.features.history import History
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.intake.pseudonyms import pseudonym

Event: TypeAlias = Payment | Verdict
DAY = 86_400
START = 18_000 * DAY
SECRET = bytes(range(16))  # of hash tables

_FIELDS = """
name = "{name}"
version = 1
[[fields]]
name = "id"
role = "transaction_id"
[[fields]]
name = "at"
role = "event_time"
format = "epoch_seconds"
[[fields]]
name = "paid"
role = "amount"
"""

# Everything in seconds, so that a log of thirty events meets every edge: windows, lateness, memory.
SHORT = (
    _FIELDS.format(name="short")
    + """
[[fields]]
name = "card"
role = "entity"
entity = "card"
required = false
[[fields]]
name = "shop"
role = "entity"
entity = "shop"
usual_maximum = 2
required = false
[retention]
late_within = "20s"
remember = "100s"
[prior]
rate = 0.05
strength = 3.0
[conditions]
small = "amount <= 20 AND COALESCE(card_count_30s, 0) < 3"
unusual_shop = "flag_shop_unusual = 1"
[[aggregates]]
entity = "card"
windows = ["1s", "5s", "30s", "90s"]
compute = ["count", "sum", "mean", "min", "max", "std", "median", "q7", "q90", "since_last",
           "distinct_shop", "same_shop", "known", "frauds", "risk", "since_fraud"]
newest = 3
[[aggregates]]
entity = "card"
windows = ["30s"]
compute = ["recent_risk", "q75"]
newest = 5
[[aggregates]]
entity = "shop"
windows = ["5s", "30s"]
where = "small"
compute = ["count", "since_last", "frauds", "risk", "since_fraud", "since_first_fraud",
           "good_since_fraud", "recent_risk"]
newest = 2
[[aggregates]]
entity = "shop"
windows = ["30s"]
where = "unusual_shop"
compute = ["count", "frauds"]
[[aggregates]]
entity = "shop"
windows = ["90s"]
compute = ["distinct_card", "good_since_fraud", "since_first_fraud"]
[derived]
to_mean = "amount / card_mean_30s"
risky = "shop_risk_small_30s > 0.2 OR card_frauds_5s > 0"
both = "COALESCE(to_mean, 1) * risky"
"""
)

# Another company's columns: five entities with text ids, one further number, other money.
FIVE = (
    _FIELDS.format(name="five").replace("version = 1", "version = 1\nminor_digits = 0")
    + "".join(
        f'[[fields]]\nname = "{entity}_ref"\nrole = "entity"\nentity = "{entity}"\ntype = "text"\n'
        for entity in ("customer", "terminal", "card", "device", "address")
    )
    + """
[[fields]]
name = "basket"
role = "number"
required = false
[retention]
late_within = "1h"
remember = "3d"
[conditions]
full_basket = "basket >= 3"
busy_card = "card_count_1h >= 2"
odd_customer = "customer_distinct_device_1d > 1"
[[aggregates]]
entity = "customer"
windows = ["1h", "1d"]
compute = ["count", "mean", "q25", "distinct_terminal", "distinct_card", "distinct_device",
           "same_address", "since_last"]
[[aggregates]]
entity = "terminal"
windows = ["1d", "2d"]
compute = ["frauds", "risk"]
where = "odd_customer"
[[aggregates]]
entity = "card"
windows = ["1h"]
compute = ["count", "max"]
[[aggregates]]
entity = "card"
windows = ["1h"]
compute = ["count"]
where = "full_basket"
[[aggregates]]
entity = "device"
windows = ["1d"]
compute = ["distinct_customer", "distinct_card", "same_customer", "std", "sum"]
[[aggregates]]
entity = "device"
windows = ["1d"]
compute = ["count", "since_fraud"]
where = "busy_card"
[[aggregates]]
entity = "address"
windows = ["2d"]
compute = ["known", "since_fraud", "recent_risk"]
newest = 1
[derived]
per_piece = "amount / basket"
"""
)

# Horizons so short that keys are given up all the time: nothing is asked for after 13 or 15 seconds.
BRIEF = (
    _FIELDS.format(name="brief")
    + """
[[fields]]
name = "card"
role = "entity"
entity = "card"
[[fields]]
name = "shop"
role = "entity"
entity = "shop"
required = false
[retention]
late_within = "3s"
remember = "15s"
[conditions]
small = "amount <= 20"
[[aggregates]]
entity = "card"
windows = ["5s", "10s"]
compute = ["count", "sum", "max", "since_last", "distinct_shop", "same_shop"]
[[aggregates]]
entity = "shop"
windows = ["10s"]
compute = ["count", "known", "risk", "since_first_fraud", "distinct_card"]
[[aggregates]]
entity = "shop"
windows = ["10s"]
where = "small"
compute = ["count", "frauds"]
"""
)
_GENERATION_SECONDS = 8  # then the keys of `brief` are others


def catalogues() -> dict[str, Catalogue]:
    """The catalogues of the laws, by name."""
    return {
        "mission": load_catalogue(),
        "short": parse_catalogue(SHORT),
        "five": parse_catalogue(FIVE),
        "brief": parse_catalogue(BRIEF),
    }  # fmt: skip


PLANS: dict[str, FeaturePlan] = {name: plan_features(c) for name, c in catalogues().items()}

# Steps between events: the edges of windows, of lateness and of memory, and what lies beside them.
_AROUND = {
    "mission": (3_600, DAY, 7 * DAY, 14 * DAY, 30 * DAY, 45 * DAY),
    "short": (1, 5, 20, 30, 90, 100),
    "five": (3_600, DAY, 2 * DAY, 3 * DAY),
    "brief": (1, 3, 5, 10, 13, 15),
}
_AMOUNTS = (0, 1, 999, 2_000, 2_001, 10_000, 20_000, 20_001, 99_999_999_999)


def steps_of(name: str) -> tuple[int, ...]:
    """Seconds from one event to the next that are worth trying."""
    edges = _AROUND[name]
    return (0, 0, *(edge + more for edge in edges for more in (-1, 0, 1)), -1, *(-e for e in edges[:3]))


@st.composite
def logs(draw: st.DrawFn, name: str, events_max: int = 24) -> list[Event]:
    """A log: bursts and gaps, ties, late and too late payments, repeats, verdicts in any order."""
    plan, labels_are_live = PLANS[name], draw(st.booleans())
    small, step = st.integers(0, 3), st.sampled_from(steps_of(name))
    kind = st.integers(0, 9)
    drawn = draw(
        st.lists(
            st.tuples(kind, step, st.integers(0, 30), small, small, st.sampled_from(_AMOUNTS)),
            min_size=1, max_size=events_max,
        )
    )  # fmt: skip
    log: list[Event] = []
    payments: list[Payment] = []
    now = START
    for what, seconds, any_id, first, second, amount in drawn:
        moment = now + seconds
        now = max(now, moment) if seconds < 100 * DAY else now
        if what <= 5 or not payments:
            generation = 4 * (max(moment - START, 0) // _GENERATION_SECONDS) if name == "brief" else 0
            keys = _keys(plan.catalogue, first + generation, second + generation, amount)
            keys |= {
                e: None for bit, e in enumerate(plan.catalogue.optional_entities) if any_id >> bit & 7 == 7
            }
            numbers = {n: float(first) for n in plan.catalogue.number_fields}
            payments.append(Payment(len(payments), moment, amount, keys, numbers, amount & 7))
            log.append(payments[-1])
        elif what == 6:
            again = payments[any_id % len(payments)]
            log.append(again if first < 3 else replace(again, amount_minor=again.amount_minor + 1))
        else:  # verdicts on what is known, on what comes later and on what never comes
            log.append(Verdict(any_id % (len(payments) + 4), first >= 2, moment, labels_are_live))
    return log


def _keys(catalogue: Catalogue, first: int, second: int, amount: int) -> dict[str, int | None]:
    numbers = [first, second, first ^ second, amount % 3, (first + amount) % 2]
    text = {f.entity for f in catalogue.fields if f.type == "text"}
    return {
        entity: (pseudonym(f"{entity} {number}".encode(), b"key") or 0) if entity in text else number
        for entity, number in zip(catalogue.entities, numbers, strict=False)
    }


@dataclass(frozen=True)
class Answer:
    """What one event came to: a status word, and the features of an accepted payment."""

    status: str
    features: tuple[float, ...] = ()


def by_oracle(plan: FeaturePlan, log: Sequence[Event], waiting_labels_max: int) -> list[Answer]:
    """The oracle's answers, features in the order of the plan."""
    oracle = Oracle(plan.catalogue, waiting_labels_max)
    answers = []
    for event in log:
        if isinstance(event, Verdict):
            answers.append(Answer(oracle.label(event)))
        else:
            reason, values = oracle.pay(event)
            answers.append(Answer(reason.code, _in_order(plan, values) if values else ()))
    return answers


def _in_order(plan: FeaturePlan, values: FeatureValues) -> tuple[float, ...]:
    assert set(values) == set(plan.names)
    return tuple(values[name] for name in plan.names)


_LABEL_STATUS = {LABEL_APPLIED: "applied", LABEL_REPEATED: "repeated", LABEL_WAITS: "waits"}


def by_kernel(history: History, log: Sequence[Event]) -> list[Answer]:
    """The kernel's answers to one batch."""
    payments = [e for e in log if isinstance(e, Payment)]
    verdicts = [e for e in log if isinstance(e, Verdict)]
    is_label = np.array([isinstance(e, Verdict) for e in log], np.bool_)
    applied = history.apply(
        as_transactions(history.plan.catalogue, payments), as_labels(verdicts), is_label
    )  # fmt: skip
    rows = iter(applied.matrix.tolist())
    of_payments = iter(applied.status.tolist())
    of_verdicts = iter(applied.label_status.tolist())
    answers = []
    for label in is_label:
        if label:
            status = next(of_verdicts)
            answers.append(Answer(_LABEL_STATUS.get(status) or Reason(status).code.split("_")[0]))
        else:
            reason = Reason(next(of_payments))
            answers.append(Answer(reason.code, tuple(next(rows)) if reason is Reason.ACCEPTED else ()))
    return answers


def as_transactions(catalogue: Catalogue, payments: Sequence[Payment]) -> Transactions:
    """The columns of payments."""
    none = np.full(len(payments), -1, np.int8)
    return Transactions(
        _integers([p.id for p in payments]),
        _integers([p.time for p in payments]),
        _integers([p.amount_minor for p in payments]),
        {e: _key_column([p.keys[e] for p in payments]) for e in catalogue.entities},
        {n: np.array([p.numbers[n] for p in payments], np.float64) for n in catalogue.number_fields},
        np.array([p.flags for p in payments], np.uint32),
        np.array([_digest(p) for p in payments], np.uint64).reshape(-1, 2),
        none, none,
    )  # fmt: skip


def as_labels(verdicts: Sequence[Verdict]) -> Labels:
    """The columns of verdicts."""
    return Labels(
        _integers([v.id for v in verdicts]),
        np.array([v.is_fraud for v in verdicts], np.bool_),
        _integers([v.arrival for v in verdicts]),
        are_live=any(v.is_live for v in verdicts),
    )


def _key_column(keys: Sequence[int | None]) -> NDArray[np.int64]:
    return _integers([NO_KEY if key is None else key for key in keys])


def _integers(values: Sequence[int]) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def _digest(payment: Payment) -> tuple[int, int]:
    """Any hash that is equal for equal payments and else is not; the kernel only compares."""
    keys: Mapping[str, int | None] = payment.keys
    content = (payment.id, payment.time, payment.amount_minor, sorted(keys.items()), payment.numbers)
    return struct.unpack("<QQ", hashlib.blake2b(repr(content).encode(), digest_size=16).digest())
