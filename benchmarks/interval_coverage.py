"""How often the intervals that Zaslon prints hold the truth, with few frauds and with many.

    python benchmarks/interval_coverage.py [--samples 400]

Scores are simulated: a share of the frauds looks like a good transaction, the others score higher. The truth comes
from the same simulation with 200 times as many transactions. docs/certainty.md has the figures.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.estimates import Estimate
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.models.comparison import MEASURES, Scored, compare_scores, measure_scores
from zaslon.models.metrics import evaluate

GOOD, DAYS, REVIEW = 4_000, 7, 0.5
TIMES = 200  # as many transactions are the truth
FALSE_POSITIVE_RATE_MAX = 0.05
REPLICATES = 200
CUSTOMERS = 2_000


@dataclass(frozen=True)
class World:
    """What is simulated.

    Attributes:
        frauds: in a sample.
        unseeable: share of them that looks like a good transaction.
        good: good transactions in a sample.
        of_customer: so many frauds in a row are of one customer, and look alike.
    """

    frauds: int
    unseeable: float
    good: int = GOOD
    of_customer: int = 1

    def larger(self) -> World:
        """The same with many more transactions."""
        return World(TIMES * self.frauds, self.unseeable, TIMES * self.good, self.of_customer)


@dataclass(frozen=True)
class Drawn:
    """n transactions with the scores of two models, the second of which knows more."""

    a: NDArray[np.float64]
    b: NDArray[np.float64]
    is_fraud: NDArray[np.int8]
    amount_minor: NDArray[np.int64]
    event_time_seconds: NDArray[np.int64]
    customer_key: NDArray[np.int64]


def draw(world: World, random: np.random.Generator) -> Drawn:
    """A sample. Amounts are log-normal: the largest of a hundred is ten times an ordinary one."""
    n = world.frauds + world.good
    is_fraud = (np.arange(n) < world.frauds).astype(np.int8)
    evidence = random.normal(size=n)
    customer = random.integers(0, CUSTOMERS, n)
    if world.of_customer > 1:
        victim = np.arange(world.frauds) // world.of_customer
        customer[: world.frauds] = CUSTOMERS + victim
        evidence[: world.frauds] = evidence[victim]
        seen = random.random(world.frauds)[victim] >= world.unseeable
    else:
        seen = random.random(world.frauds) >= world.unseeable
    evidence[: world.frauds] += 3.0 * seen
    scores = [1 / (1 + np.exp(2.0 - evidence - noise * random.normal(size=n))) for noise in (0.7, 0.4)]
    time = random.integers(0, DAYS * SECONDS_PER_DAY, n)
    time[:2] = 0, DAYS * SECONDS_PER_DAY - 1
    return Drawn(
        scores[0], scores[1], is_fraud, np.round(np.exp(random.normal(8, 1, n))).astype(np.int64),
        time, customer,
    )  # fmt: skip


def of_one_model(drawn: Drawn, seed: int, replicates: int = REPLICATES) -> dict[str, Estimate]:
    """Every figure of an evaluation that has an interval."""
    found = evaluate(
        drawn.b, drawn.is_fraud, drawn.amount_minor, np.ones(len(drawn.b)), drawn.event_time_seconds,
        drawn.customer_key[:, None], review=REVIEW, seed=seed, replicates=replicates,
    )  # fmt: skip
    estimates = {name: e for name, e in found.headline.items() if not name.endswith("_at_block")}
    return estimates | {"loss": found.money.lost, "saved": found.money.saved}


def of_two_models(drawn: Drawn, seed: int) -> dict[str, Estimate]:
    """Every difference of a comparison."""
    found = compare_scores(
        _scored(drawn), false_positive_rate_max=FALSE_POSITIVE_RATE_MAX, seed=seed, replicates=REPLICATES
    )
    return {name: measure.difference for name, measure in found.measures.items()}


def _scored(drawn: Drawn) -> Scored:
    return Scored(
        drawn.a, drawn.b, drawn.is_fraud, drawn.amount_minor, np.ones(len(drawn.a)), DAYS,
        drawn.customer_key[:, None],
    )  # fmt: skip


def truth_of_one(world: World) -> dict[str, float]:
    """The truth of `of_one_model`; not of card precision, which depends on how many transactions there are."""
    found = of_one_model(draw(world.larger(), np.random.default_rng(world.frauds)), 0, replicates=0)
    values = {name: e.value for name, e in found.items() if name != "card_precision_100"}
    return values | {name: values[name] / TIMES for name in ("loss", "saved")}


def truth_of_two(world: World) -> dict[str, float]:
    """The truth of `of_two_models`."""
    drawn = draw(world.larger(), np.random.default_rng(world.frauds))
    a, b = measure_scores(_scored(drawn), false_positive_rate_max=FALSE_POSITIVE_RATE_MAX)
    values = {name: b[name] - a[name] for name in MEASURES}
    return values | {"loss_minor_per_month": values["loss_minor_per_month"] / TIMES}


@dataclass(frozen=True)
class Coverage:
    """What some samples showed.

    Attributes:
        held: by figure the share of samples whose interval held the truth.
        without_width: intervals without any width, of all figures, card precision included.
    """

    held: Mapping[str, float]
    without_width: int


def coverage(
    world: World, samples: int,
    measured: Callable[[Drawn, int], dict[str, Estimate]] = of_one_model,
    truth: Callable[[World], dict[str, float]] = truth_of_one,
) -> Coverage:  # fmt: skip
    """How often the intervals of a world hold its truth."""
    expected, random = truth(world), np.random.default_rng(world.frauds)
    held: Counter[str] = Counter()
    without_width = 0
    for seed in range(samples):
        found = measured(draw(world, random), seed)
        without_width += sum(e.low == e.high for e in found.values())
        held.update(name for name, value in expected.items() if found[name].low <= value <= found[name].high)
    return Coverage({name: held[name] / samples for name in expected}, without_width)


def main() -> None:
    """Print a table for one model and one for the difference of two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=400, help="for each line")
    samples = parser.parse_args().samples
    for unseeable in (0.2, 0.02):
        for name, measured, truth in (
            ("one model", of_one_model, truth_of_one), ("two models", of_two_models, truth_of_two),
        ):  # fmt: skip
            print(f"\n{name}, {unseeable:.0%} of the frauds look like good transactions")
            worlds = [World(frauds, unseeable) for frauds in (1, 2, 5, 10, 30, 100, 400)]
            for world in (*worlds, World(400, unseeable, of_customer=8)):
                found = coverage(world, samples, measured, truth)
                shares = ", ".join(f"{name} {share:.1%}" for name, share in found.held.items())
                print(
                    f"| {world.frauds}, {world.of_customer} a customer | {shares} "
                    f"| without width: {found.without_width} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
