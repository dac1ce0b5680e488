"""What is odd in the rows that a model learns from: features that say nothing, and features that say too much."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.monitoring.data_warnings import DataWarning, listed

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

LEAKS = ("label_in_features", "probable_leak", "time_tells_label")  # kinds of warnings

_SEPARATES = 0.99  # ROC-AUC of one feature alone: no honest feature of card fraud comes near it
_TIME_TELLS = 0.9  # ROC-AUC of the time alone
_ROWS_LOOKED_AT = 50_000
_FRAUDS_MIN = 20  # with fewer, a feature separates by chance
_BINS = 64  # of a feature's values, for those that are neither high nor low for frauds
_FLAG = "flag_"  # a flag that no row has is the rule, not an oddity


def sample_warnings(
    names: tuple[str, ...], x: Float32, is_fraud: Int8, event_time_seconds: Int64, entity_key: Int64
) -> list[DataWarning]:
    """What is odd in the rows that a model learns from.

    Args:
        names: of the F features.
        x: float32[n, F], NaN for null.
        is_fraud: int8[n], 0 or 1.
        event_time_seconds: int64[n].
        entity_key: int64[n], whose transaction each is.
    """
    rows = _looked_at(is_fraud)
    x, answers = x[rows], is_fraud[rows]
    labels = _labels(names, x, answers)
    found = [*_constant(names, x), *_one_entity(entity_key), *_named_labels(labels)]
    rarer = min(int(np.count_nonzero(answers == answer)) for answer in (0, 1))
    if rarer < _FRAUDS_MIN:
        return [*found, *_not_checked(answers, rarer)]
    others = [column for column, name in enumerate(names) if name not in labels]
    found += _leaks([names[column] for column in others], x[:, others], answers)
    return [*found, *_time_tells(event_time_seconds[rows], answers)]


def _looked_at(is_fraud: Int8) -> Int64:
    """Rows to look at: at most so many of each class, evenly over all."""
    chosen = []
    for answer in (0, 1):
        of_answer = np.flatnonzero(is_fraud == answer)
        step = max(1, -(-len(of_answer) // (_ROWS_LOOKED_AT // 2)))
        chosen.append(of_answer[::step])
    return np.sort(np.concatenate(chosen))


def _constant(names: tuple[str, ...], x: Float32) -> list[DataWarning]:
    if len(x) < 2:
        return []
    is_constant = _equal(x, x[:1]).all(axis=0)
    constant = [
        names[column] for column in np.flatnonzero(is_constant) if not names[column].startswith(_FLAG)
    ]
    if not constant:
        return []
    return [
        DataWarning(
            "constant_feature", f"{listed('Feature', constant)} the same value in every row of the training period.",
            "A model cannot learn from it: is a column of the file empty, or a window longer than the data?",
        )
    ]  # fmt: skip


def _one_entity(entity_key: Int64) -> list[DataWarning]:
    if len(entity_key) < 2 or (entity_key != entity_key[0]).any():
        return []
    hint = "History by customer means nothing then: is the right column mapped in the catalogue?"
    return [DataWarning("one_customer", "All rows of the training period are of one customer.", hint)]


def _labels(names: tuple[str, ...], x: Float32, is_fraud: Int8) -> list[str]:
    """Features with one value for all frauds and another one for all good transactions, or null for either.

    That of a single fraud may be so by chance.
    """
    if min(np.count_nonzero(is_fraud == answer) for answer in (0, 1)) < 2:
        return []
    fraud, good = x[is_fraud == 1], x[is_fraud == 0]
    is_one_value = _equal(fraud, fraud[:1]).all(axis=0) & _equal(good, good[:1]).all(axis=0)
    differ = ~_equal(fraud[:1], good[:1])[0]
    return [names[column] for column in np.flatnonzero(is_one_value & differ)]


def _equal(left: Float32, right: Float32) -> NDArray[np.bool_]:
    """bool[n, F], with null equal to null."""
    same: NDArray[np.bool_] = (left == right) | (np.isnan(left) & np.isnan(right))
    return same


def _named_labels(labels: list[str]) -> list[DataWarning]:
    hint = "It is the answer itself, or comes from it: take it out of the catalogue."
    return [
        DataWarning(
            "label_in_features", f"Feature '{name}' has one value for all frauds and another for all others.", hint
        )
        for name in labels
    ]  # fmt: skip


def _not_checked(is_fraud: Int8, rarer: int) -> list[DataWarning]:
    missing = "frauds" if np.count_nonzero(is_fraud == 1) == rarer else "good transactions"
    count = f"only {rarer} {missing}" if rarer > 1 else f"only 1 {missing[:-1]}" if rarer else f"no {missing}"
    return [
        DataWarning(
            "leaks_not_checked",
            f"The training period has {count}: whether a feature or the time alone gives the answers away "
            f"cannot be checked with fewer than {_FRAUDS_MIN}.",
            "Give more days before you trust the figures.",
        )
    ]  # fmt: skip


def _leaks(names: list[str], x: Float32, is_fraud: Int8) -> list[DataWarning]:
    separations = [_separation(x[:, column], is_fraud) for column in range(len(names))]
    return [
        DataWarning(
            "probable_leak",
            f"Feature '{name}' alone separates frauds from good transactions (ROC-AUC {separation:.3f}).",
            "Is it known when a payment must be decided? If not, take it out of the catalogue.",
        )
        for name, separation in zip(names, separations, strict=True)
        if separation >= _SEPARATES
    ]  # fmt: skip


def _time_tells(event_time_seconds: Int64, is_fraud: Int8) -> list[DataWarning]:
    separation = _separation(event_time_seconds, is_fraud)
    if separation < _TIME_TELLS:
        return []
    return [
        DataWarning(
            "time_tells_label",
            f"The time alone separates frauds from good transactions (ROC-AUC {separation:.3f}).",
            "Were frauds and good transactions exported from different periods?",
        )
    ]  # fmt: skip


def _separation(values: NDArray[np.floating] | Int64, is_fraud: Int8) -> float:
    """ROC-AUC of the values, of their opposite, or of the share of frauds around each: whichever is most.

    That share is learned on every second row of a class and measured on the others, so that chance gives 0.5. It
    finds a code that only frauds have, whatever its number. Null is the least value.
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  takes a second, which other commands need not wait

    known = np.nan_to_num(values.astype(np.float64), nan=-np.finfo(np.float64).max)
    area = float(roc_auc_score(is_fraud, known))
    learned = _every_second(is_fraud)
    shares = _fraud_shares(known[learned], is_fraud[learned], known[~learned])
    return max(area, 1 - area, float(roc_auc_score(is_fraud[~learned], shares)))


def _every_second(is_fraud: Int8) -> NDArray[np.bool_]:
    chosen = np.zeros(len(is_fraud), np.bool_)
    for answer in (0, 1):
        chosen[np.flatnonzero(is_fraud == answer)[::2]] = True
    return chosen


def _fraud_shares(values: Float64, is_fraud: Int8, others: Float64) -> Float64:
    """float64[others]: the share of frauds among the values in the bin of each of the others."""
    edges = np.unique(values)
    if len(edges) > _BINS:
        edges = np.unique(np.quantile(values, np.linspace(0, 1, _BINS + 1)[:-1], method="lower"))
    found = np.searchsorted(edges, values, "right")
    rows, frauds = (np.bincount(found, weights, len(edges) + 1) for weights in (None, is_fraud))
    shares: Float64 = (frauds + is_fraud.mean()) / (rows + 1)
    return shares[np.searchsorted(edges, others, "right")]
