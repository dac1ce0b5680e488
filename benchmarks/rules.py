"""Rules on one transaction: microseconds, beside the same conditions as plain Python functions.

    python benchmarks/rules.py [--rules N] [--rounds N] --json

The baseline is what somebody would write by hand: a lambda a rule over a dict of floats, without null
and without a check. Both run in turn in the same process, so that their ratio does not depend on the
machine. One JSON object on standard output; `microseconds` is for the whole policy and one transaction.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence

import numpy as np

from zaslon.decisions.deciding import decide
from zaslon.decisions.policy import parse_policy

KNOWN = ("amount", "hour", "customer_mean_30d", "customer_count_1d", "terminal_frauds_7d", "score")
# A condition as a policy has it, and by hand.
CONDITIONS: tuple[tuple[str, Callable[[dict[str, float]], bool]], ...] = (
    ("amount > 500 AND hour < 6", lambda t: t["amount"] > 500 and t["hour"] < 6),
    ("amount / customer_mean_30d > 8", lambda t: t["amount"] / t["customer_mean_30d"] > 8),
    ("terminal_frauds_7d >= 3 OR score > 0.98", lambda t: t["terminal_frauds_7d"] >= 3 or t["score"] > 0.98),
    ("customer_count_1d BETWEEN 20 AND 99", lambda t: 20 <= t["customer_count_1d"] <= 99),
    ("hour IN (1, 2, 3) AND NOT amount < 50", lambda t: t["hour"] in (1, 2, 3) and not t["amount"] < 50),
)
TRANSACTION = {
    "amount": 812.4, "hour": 3.0, "customer_mean_30d": 133.3, "customer_count_1d": 4.0,
    "terminal_frauds_7d": 1.0, "score": 0.4,
}  # fmt: skip


def measure(rules: int, rounds: int) -> dict[str, float]:
    """Median microseconds of one decision by both ways, taken in turn."""
    chosen = [CONDITIONS[i % len(CONDITIONS)] for i in range(rules)]
    text = "".join(
        f'[[rules]]\nname = "r{i}"\nwhen = "{when}"\naction = "review"\nreason = "amount {{amount}}"\n'
        for i, (when, _) in enumerate(chosen)
    )
    policy = parse_policy(text, KNOWN)
    columns = {name: np.array([value]) for name, value in TRANSACTION.items()}
    score = columns["score"]
    by_hand = [function for _, function in chosen]
    fired = decide(policy, score, columns).rules_fired(0)
    assert [r.name for r in fired] == [f"r{i}" for i, f in enumerate(by_hand) if f(TRANSACTION)]
    ours: list[float] = []
    plain: list[float] = []
    for _ in range(rounds):
        ours.append(_seconds(lambda: decide(policy, score, columns)))
        plain.append(_seconds(lambda: [f(TRANSACTION) for f in by_hand]))
    microseconds = 1e6 * statistics.median(ours)
    baseline = 1e6 * statistics.median(plain)
    return {
        "rules": rules, "microseconds": round(microseconds, 2),
        "microseconds_p99": round(1e6 * float(np.quantile(ours, 0.99)), 2),
        "baseline_microseconds": round(baseline, 2), "times_baseline": round(microseconds / baseline, 2),
    }  # fmt: skip


def _seconds(work: Callable[[], object], repeats: int = 20) -> float:
    begin = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - begin) / repeats


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a policy of ten rules and the largest one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rules", type=int, nargs="*", default=[10, 64])
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--json", action="store_true", help="one JSON object; there is no other form")
    given = parser.parse_args(arguments)
    print(json.dumps({"policies": [measure(rules, given.rounds) for rules in given.rules]}))


if __name__ == "__main__":
    main()
