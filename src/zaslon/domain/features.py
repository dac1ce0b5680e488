"""What a feature is, for code that explains it, reports it or writes rules about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class FeatureInfo:
    """One column of the feature matrix.

    Attributes:
        name: as used in rules, models and reports, for example `customer_mean_30d`.
        kind: `transaction` (of the transaction itself), `flag` (set by cleaning), `aggregate`
            (of an entity's history) or `derived` (an expression over other features).
        entity, compute, window, where: of an aggregate, as the catalogue names them.
        expression: of a derived feature.
    """

    name: str
    kind: Literal["transaction", "flag", "aggregate", "derived"]
    entity: str | None = None
    compute: str | None = None
    window: str | None = None
    where: str | None = None
    expression: str | None = None
