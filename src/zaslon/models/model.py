"""The model: features in, calibrated probability of fraud and its contributions out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError, DataError
from zaslon.models.calibration import Calibration
from zaslon.models.dataset import check_names
from zaslon.models.explain import LeafPaths, contributions, leaf_paths
from zaslon.models.trees import Tree, Trees, feature_count, flat, raw_scores, read_trees

FORMAT = 1  # of `Model.described`
_NOTED_LATER = ("validation_days", "data_days")


@dataclass(frozen=True)
class ModelFacts:
    """What a model was made from and how it did; plain values, kept in its artefact.

    Attributes:
        catalogue_hash, catalogue_label: of the catalogue whose features it takes.
        train_days, validation_days: `2018-07-25 … 2018-07-31`; empty where unknown.
        data_days: all that it was made and tested on, in the same form; later ones are news for the next model.
        label_delay_seconds: how old labels had to be to count.
        train_rows, train_frauds: of the sample it was trained on, not weighted.
        settings: of the training, by name.
        metrics: of the evaluation that came with it, by name.
        thresholds: `review` and `block`, where they have been chosen.
    """

    catalogue_hash: str = ""
    catalogue_label: str = ""
    train_days: str = ""
    validation_days: str = ""
    data_days: str = ""
    label_delay_seconds: int = 0
    train_rows: int = 0
    train_frauds: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    thresholds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Model:
    """Gradient-boosted trees with a calibration. `train` and `load_model` make it.

    Attributes:
        names: feature names, F of them, in the order of the columns.
        trees: LightGBM's text form of the trees.
        calibration: from their log-odds to probabilities.
        facts: what it was made from.

    Raises:
        ArtefactError: the text is not a model, or belongs to other features.
    """

    names: tuple[str, ...]
    trees: str
    calibration: Calibration
    facts: ModelFacts = ModelFacts()

    def __post_init__(self) -> None:
        """Check that the trees can be read and take these features."""
        count = feature_count(self.trees)
        if count != len(self.names):
            raise ArtefactError(
                f"The trees take {count} features, but the model names {len(self.names)}: it is damaged."
            )
        if any(((tree.feature < 0) | (tree.feature >= count)).any() for tree in self._trees):
            raise ArtefactError("The trees ask for features that they do not take: the model is damaged.")

    @cached_property
    def _trees(self) -> tuple[Tree, ...]:
        return read_trees(self.trees)

    @cached_property
    def _flat(self) -> Trees:
        return flat(self._trees)

    @cached_property
    def _leaf_paths(self) -> LeafPaths:
        return leaf_paths(self._trees)

    @cached_property
    def artefact_id(self) -> str:
        """Twelve hex digits of the checksum of everything that the model is."""
        digest = hashlib.sha256()
        for content in (self.trees.encode(), self.described()):
            digest.update(hashlib.sha256(content).digest())
        return digest.hexdigest()[:12]

    def described(self) -> bytes:
        """Everything but the trees as canonical JSON: equal models give equal bytes."""
        calibration = self.calibration
        content = {
            "format": FORMAT,
            "names": list(self.names),
            "calibration": {
                "kind": calibration.kind,
                "raw": calibration.raw.tolist(),
                "calibrated": calibration.calibrated.tolist(),
            },
            "facts": self.facts_noted(),
        }
        return orjson.dumps(content, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2)

    def facts_noted(self) -> dict[str, Any]:
        """The facts by name; those that models have not always noted only where they are, so that ids stay."""
        facts = asdict(self.facts)
        return {name: value for name, value in facts.items() if value or name not in _NOTED_LATER}

    def with_facts(self, **changed: Any) -> Model:
        """The same model with other facts, for example its metrics or thresholds."""
        return replace(self, facts=replace(self.facts, **changed))

    def check_names(self, names: Sequence[str]) -> None:
        """Check that features are those that the model takes, in their order.

        Raises:
            DataError: names the first difference.
        """
        check_names(names, self.names)

    def score(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[n], 0 … 1: the calibrated probability of fraud.

        A row's score is the same bit for bit whatever rows are scored with it. With 300 trees of 15
        leaves 10 µs for a single row, 1 µs a row for many.

        Args:
            x: float32[n, F], NaN where a feature has no value.

        Raises:
            DataError: not F columns.
        """
        return self.calibration.probability(self.raw_score(x))

    def raw_score(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[n]: log-odds of the trees, before calibration. Arguments as for `score`."""
        x = self._checked(x)
        return raw_scores(self._flat, x)

    def contributions(self, x: NDArray[np.float32]) -> NDArray[np.float64]:
        """float64[m, F]: each feature's part in the log-odds of each row, exact SHAP values.

        With the trees' expected value they sum to `raw_score` (Lundberg et al., "From local
        explanations to global understanding with explainable AI for trees", 2020).

        Args:
            x: float32[m, F].
        """
        return contributions(self._leaf_paths, self._checked(x))

    def importance(self) -> list[tuple[str, float]]:
        """(feature, its share of the training gain), greatest first; shares sum to 1."""
        gain = np.zeros(len(self.names))
        for tree in self._trees:
            np.add.at(gain, tree.feature, np.maximum(tree.gain, 0.0))
        share = gain / gain.sum() if gain.sum() > 0 else gain
        order = np.argsort(-share, kind="stable")
        return [(self.names[i], float(share[i])) for i in order]

    def _checked(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        if x.ndim != 2 or x.shape[1] != len(self.names):
            raise DataError(
                f"The model takes rows of {len(self.names)} features, but was given an array of shape "
                f"{x.shape}.",
                hint="Compute the features with the catalogue that the model was trained with.",
            )
        return np.ascontiguousarray(x, np.float32)
