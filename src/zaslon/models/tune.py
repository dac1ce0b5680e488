"""Search for training settings with Optuna, an extra (`pip install 'zaslon[tune]'`)."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from zaslon.domain.errors import DataError, ZaslonError
from zaslon.models.dataset import Sample
from zaslon.models.training import FRAUDS_TO_STOP_BY, Progress, TrainSettings, smoothed_curve, train


def tune(
    sample: Sample,
    validation: Sample,
    settings: TrainSettings | None = None,
    *,
    trials: int = 30,
    progress: Progress | None = None,
) -> TrainSettings:
    """The settings of highest average precision on validation; the given ones are tried first.

    Searched are learning rate, leaves, rows in a leaf, l2 and share of features; the rest stays.
    The same arguments give the same settings. One trial takes as long as one training.

    Args:
        sample: to train on.
        validation: later transactions with at least `FRAUDS_TO_STOP_BY` frauds; never those that
            a result is quoted for.
        settings: to start from; None for the defaults.
        trials: trainings to do, 1 or more.
        progress: called with 1 after every trial.

    Raises:
        ZaslonError: Optuna is not installed.
        DataError: too few frauds to compare settings, or no trials.
    """
    if trials < 1:
        raise DataError(f"{trials} trials find nothing.", hint="Ask for at least one.")
    if validation.frauds < FRAUDS_TO_STOP_BY:
        raise DataError(
            f"{validation.frauds} frauds on validation are too few to compare settings.",
            hint=f"Validate on a period with at least {FRAUDS_TO_STOP_BY}, or keep the defaults.",
        )
    check_installed()
    start = settings or TrainSettings()
    study = _study(start)

    def average_precision(trial: Any) -> float:
        curve = train(sample, validation, _suggested(trial, start)).curve
        return float(smoothed_curve(curve).max())

    def log_trial(study: Any, trial: Any) -> None:
        if progress is not None:
            progress(1)

    study.optimize(average_precision, n_trials=trials, callbacks=[log_trial])
    return start.model_copy(update=study.best_params)


def check_installed() -> None:
    """Check that settings can be searched, before the work that a search needs.

    Raises:
        ZaslonError: Optuna is not installed.
    """
    if find_spec("optuna") is None:
        raise ZaslonError(
            "Settings cannot be searched, because Optuna is not installed.",
            hint="Install it with: pip install 'zaslon[tune]'.",
        )


def _study(start: TrainSettings) -> Any:
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=start.seed))
    searched = ("learning_rate", "leaves", "leaf_rows_min", "l2", "feature_share")
    study.enqueue_trial({name: getattr(start, name) for name in searched})
    return study


def _suggested(trial: Any, start: TrainSettings) -> TrainSettings:
    return start.model_copy(
        update={
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.2, log=True),
            "leaves": trial.suggest_int("leaves", 7, 63, log=True),
            "leaf_rows_min": trial.suggest_int("leaf_rows_min", 10, 500, log=True),
            "l2": trial.suggest_float("l2", 0.1, 50.0, log=True),
            "feature_share": trial.suggest_float("feature_share", 0.3, 1.0),
        }
    )
