"""Training: gradient-boosted trees (LightGBM), stopped by validation, then calibrated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zaslon.domain.errors import DataError
from zaslon.models.calibration import calibrate, no_calibration
from zaslon.models.dataset import Sample, check_names
from zaslon.models.model import Model, ModelFacts

if TYPE_CHECKING:
    import lightgbm

# Fewer frauds than this make the validation curve noise: then the fixed number of rounds is used.
FRAUDS_TO_STOP_BY = 100
EVALUATE_EVERY_ROUNDS = 5
SMOOTHED_EVALUATIONS = 5

Progress = Callable[[int], None]  # called with the steps done since the last call


Bins = Annotated[int, Field(ge=2, le=65_535)]


class TrainSettings(BaseModel):
    """How to train. The defaults were chosen on weeks that no result is quoted for.

    Chosen for average precision on the four earlier weeks of the handbook's protocol, trained on
    a week and on all history; differences of 0.002 there are chance. `bins` are histogram bins of
    a feature, `fine_bins` more for some: frauds begin at a certain amount or ratio, and a cut that
    cannot be placed there costs 0.005 (ratios) to 0.04 (amount) of average precision.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rounds: int = Field(
        150, ge=1, le=10_000, description="trees, where validation has too few frauds to decide"
    )
    rounds_max: int = Field(400, ge=1, le=10_000, description="most trees, where it can")
    patience_rounds: int = Field(60, ge=1, description="rounds without progress until it stops")
    learning_rate: float = Field(0.05, gt=0, le=1)
    leaves: int = Field(15, ge=2, le=1024, description="leaves of a tree")
    depth_max: int = Field(-1, ge=-1, le=64, description="depth of a tree, -1 for any")
    leaf_rows_min: int = Field(100, ge=1, description="rows in a leaf")
    l2: float = Field(10.0, ge=0, description="pull of the leaves towards zero")
    feature_share: float = Field(0.5, gt=0, le=1, description="share of features tried by a tree")
    bins: Bins = 4095
    fine_bins: Mapping[str, Bins] = Field({"amount": 16_383}, description="bins by feature")
    seed: int = Field(42, ge=0, lt=2**31)
    threads: int = Field(2, ge=1, le=256, description="results do not depend on it")

    @staticmethod
    def of(values: Mapping[str, Any]) -> TrainSettings:
        """Settings from plain values.

        Raises:
            DataError: names the setting and what was expected.
        """
        try:
            return TrainSettings.model_validate(dict(values))
        except ValidationError as error:
            problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise DataError(f"The training settings cannot be used: {problems}.") from error


@dataclass(frozen=True)
class TrainedModel:
    """What training gave.

    Attributes:
        model: ready to score.
        rounds: its number of trees.
        stopped_by: `validation`, or `settings` where it had too few frauds to decide.
        curve: (rounds, average precision on validation); empty without validation.
    """

    model: Model
    rounds: int
    stopped_by: str
    curve: tuple[tuple[int, float], ...]


def train(
    sample: Sample,
    validation: Sample | None,
    settings: TrainSettings | None = None,
    *,
    facts: ModelFacts | None = None,
    progress: Progress | None = None,
) -> TrainedModel:
    """Train on one period; stop and calibrate on a later one.

    The number of trees is where the smoothed average precision on validation is highest; with
    fewer than `FRAUDS_TO_STOP_BY` frauds there, or without it, `settings.rounds`. The same
    arguments give the same bytes.

    Args:
        sample: to train on, its weights undo sampling.
        validation: later transactions with the same features, or None; then the scores are the
            trees' own probabilities.
        settings: None for the defaults.
        facts: what is to be noted in the model; rows, frauds and settings are added.
        progress: called with 1 after every round.

    Raises:
        DataError: a period without frauds or without good transactions, or other features.
    """
    settings = settings or TrainSettings()
    _check_classes(sample, "train")
    if validation is not None:
        check_names(validation.names, sample.names)
        _check_classes(validation, "validate")
    usable = validation if validation is not None and validation.frauds >= FRAUDS_TO_STOP_BY else None
    booster, curve = _boost(sample, usable, settings, progress)
    rounds = _best_round(curve) if curve else booster.current_iteration()
    model = _assemble(booster.model_to_string(num_iteration=rounds), sample, settings, facts)
    if validation is not None:
        raw = model.raw_score(validation.x)
        calibration = calibrate(raw, validation.is_fraud, validation.weight, settings.seed)
        model = Model(model.names, model.trees, calibration, model.facts)
    return TrainedModel(model, rounds, "validation" if curve else "settings", tuple(curve))


def _check_classes(sample: Sample, purpose: str) -> None:
    frauds = sample.frauds
    if frauds == 0 or frauds == len(sample):
        missing = "frauds" if frauds == 0 else "good transactions"
        raise DataError(
            f"There are no {missing} among the {len(sample)} transactions to {purpose} on.",
            hint="Take a longer period, or check that the labels arrived.",
        )


def _boost(
    sample: Sample, validation: Sample | None, settings: TrainSettings, progress: Progress | None
) -> tuple[lightgbm.Booster, list[tuple[int, float]]]:
    """Boost until validation makes no progress for `patience_rounds`, or all rounds are done."""
    import lightgbm  # noqa: PLC0415  takes a second, which commands without a model need not wait

    booster = lightgbm.Booster(_parameters(sample.names, settings), _dataset(sample, settings))
    rounds_max = settings.rounds
    if validation is not None:
        booster.add_valid(_dataset(validation, settings, booster.train_set), "validation")
        rounds_max = settings.rounds_max
    curve: list[tuple[int, float]] = []
    for done in range(1, rounds_max + 1):
        finished = booster.update()
        if progress is not None:
            progress(1)
        if validation is not None and done % EVALUATE_EVERY_ROUNDS == 0:
            curve.append((done, float(booster.eval_valid()[0][2])))
            if done - _best_round(curve) >= settings.patience_rounds:
                break
        if finished:
            break
    return booster, curve


def _best_round(curve: Sequence[tuple[int, float]]) -> int:
    """The round of the highest average precision after smoothing, so that one lucky tree does not decide."""
    return curve[int(np.argmax(smoothed_curve(curve)))][0]


def smoothed_curve(curve: Sequence[tuple[int, float]]) -> NDArray[np.float64]:
    """float64[evaluations]: moving mean of the average precision over `SMOOTHED_EVALUATIONS`."""
    padded = np.pad([value for _, value in curve], SMOOTHED_EVALUATIONS // 2, mode="edge")
    return np.convolve(padded, np.ones(SMOOTHED_EVALUATIONS) / SMOOTHED_EVALUATIONS, "valid")


def _dataset(
    sample: Sample, settings: TrainSettings, reference: lightgbm.Dataset | None = None
) -> lightgbm.Dataset:
    import lightgbm  # noqa: PLC0415

    return lightgbm.Dataset(
        sample.x,
        sample.is_fraud.astype(np.float32),
        weight=sample.weight,
        feature_name=[f"f{i}" for i in range(len(sample.names))],
        reference=reference,
        params=_parameters(sample.names, settings),
        free_raw_data=True,
    )


def _parameters(names: tuple[str, ...], settings: TrainSettings) -> dict[str, Any]:
    return {
        "objective": "binary",
        "metric": "average_precision",
        "learning_rate": settings.learning_rate,
        "num_leaves": settings.leaves,
        "max_depth": settings.depth_max,
        "min_data_in_leaf": settings.leaf_rows_min,
        "lambda_l2": settings.l2,
        "feature_fraction": settings.feature_share,
        "max_bin_by_feature": [settings.fine_bins.get(name, settings.bins) for name in names],
        "min_data_in_bin": 1,
        "bin_construct_sample_cnt": 1_000_000,
        "feature_pre_filter": False,
        "seed": settings.seed,
        "num_threads": settings.threads,
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def _assemble(trees: str, sample: Sample, settings: TrainSettings, facts: ModelFacts | None) -> Model:
    noted = Model(sample.names, _without_parameters(trees), no_calibration(), facts or ModelFacts())
    return noted.with_facts(
        train_rows=len(sample),
        train_frauds=sample.frauds,
        settings=settings.model_dump(mode="json", exclude={"threads"}),
    )


def _without_parameters(trees: str) -> str:
    """The trees without LightGBM's list of parameters, which names the number of threads."""
    begin, end = trees.find("\nparameters:"), trees.find("end of parameters")
    return trees if begin < 0 or end < 0 else trees[:begin] + trees[end + len("end of parameters") :]
