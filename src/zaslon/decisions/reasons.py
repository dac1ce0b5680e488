"""Reasons in plain words, with numbers, from each feature's contribution to the score.

Contributions are exact SHAP values in log-odds (Lundberg et al., "From local explanations to
global understanding with explainable AI for trees", Nature Machine Intelligence 2, 2020), as
LightGBM gives them. A reason is given only for a feature that raised the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.sentences import Facts, Sentence, sentence_for
from zaslon.domain.features import FeatureInfo
from zaslon.domain.outcomes import ReasonGiven

NO_SINGLE_FEATURE = ReasonGiven(
    "feature:none", "no single feature raises this score above the model's average"
)


@dataclass(frozen=True)
class ReasonWriter:
    """Writes reasons for one set of features. Build it once; it keeps no state between calls."""

    names: tuple[str, ...]
    sentences: tuple[Sentence, ...]
    minor_digits: int

    @staticmethod
    def of(features: Sequence[FeatureInfo], *, minor_digits: int = 2) -> ReasonWriter:
        """A writer for the columns `features`, in the order of the matrix."""
        by_name = {info.name: info for info in features}
        return ReasonWriter(
            tuple(info.name for info in features),
            tuple(sentence_for(info, by_name) for info in features),
            minor_digits,
        )

    def explain(
        self,
        x: NDArray[np.float32],
        contributions: NDArray[np.float64],
        amount_minor: NDArray[np.int64],
        top: int = 3,
    ) -> list[list[ReasonGiven]]:
        """Reasons for m transactions, for each the strongest first.

        Args:
            x: float32[m, F], the feature matrix, NaN where a feature has no value.
            contributions: float64[m, F], log-odds; for a feature that the model does not use, 0.
            amount_minor: int64[m], the exact amounts.
            top: at most this many reasons each, 1 or more.

        Returns:
            m lists of 1 to `top` reasons. Features with the same sentence are listed once.
            Without a positive contribution, that is the only reason.
        """
        if top < 1 or x.shape != contributions.shape or x.shape != (len(amount_minor), len(self.names)):
            raise ValueError(
                f"x {x.shape}, contributions {contributions.shape}, amounts {amount_minor.shape}, top {top}"
                f" do not belong together with {len(self.names)} features"
            )
        columns = np.argsort(-contributions, axis=1, kind="stable")  # the strongest first
        weights = np.take_along_axis(contributions, columns, axis=1)
        rows = zip(x.tolist(), columns.tolist(), weights.tolist(), amount_minor.tolist(), strict=True)
        return [self._reasons(*row, top) for row in rows]

    def _reasons(
        self, x: list[float], columns: list[int], weights: list[float], amount_minor: int, top: int
    ) -> list[ReasonGiven]:
        facts = Facts(lambda name: x[self._column_of[name]], amount_minor, self.minor_digits)
        given: dict[str, ReasonGiven] = {}
        for column, weight in zip(columns, weights, strict=True):
            if len(given) == top or not weight > 0:
                break
            text = self.sentences[column](x[column], facts)
            given.setdefault(text, ReasonGiven(f"feature:{self.names[column]}", text, weight))
        return list(given.values()) or [NO_SINGLE_FEATURE]

    @cached_property
    def _column_of(self) -> dict[str, int]:
        return {name: column for column, name in enumerate(self.names)}


def explain(
    features: Sequence[FeatureInfo],
    x: NDArray[np.float32],
    contributions: NDArray[np.float64],
    amount_minor: NDArray[np.int64],
    *,
    top: int = 3,
    minor_digits: int = 2,
) -> list[list[ReasonGiven]]:
    """`ReasonWriter.explain` for a single use."""
    return ReasonWriter.of(features, minor_digits=minor_digits).explain(x, contributions, amount_minor, top)
