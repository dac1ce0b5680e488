"""What makes the figures of a run doubtful, found in its data before anybody believes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import TooManyRejectedError
from zaslon.domain.rejections import Reason

Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]

REJECTED_SHARE_NOTED = 0.01  # for one reason
_SEPARATES = 0.99  # ROC-AUC of one feature alone: no honest feature of card fraud comes near it
_TIME_TELLS = 0.9  # ROC-AUC of the time alone
_ROWS_LOOKED_AT = 50_000
_FRAUDS_MIN = 20  # with fewer, a feature separates by chance
_NAMED_MAX = 5
LEAKS = ("label_in_features", "probable_leak", "time_tells_label")  # kinds of warnings
_REPEATS = (Reason.DUPLICATE.code, Reason.CONFLICTING_DUPLICATE.code)


@dataclass(frozen=True)
class DataWarning:
    """One thing: `kind` for machines, `message` and `hint` for people."""

    kind: str
    message: str
    hint: str

    def to_json_dict(self) -> dict[str, str]:
        """Plain values."""
        return asdict(self)


def check_rejected(rows_in: int, rows_rejected: Mapping[str, int], share_max: float) -> None:
    """Stop before training where too many rows were rejected.

    Args:
        rows_in: rows read.
        rows_rejected: rows by `reason` or `reason:field`.
        share_max: of the rows read, 0 … 1.

    Raises:
        TooManyRejectedError: they are more than that.
    """
    rejected = sum(rows_rejected.values())
    if not rows_in or rejected <= share_max * rows_in:
        return
    reason, most = max(rows_rejected.items(), key=lambda found: found[1])
    raise TooManyRejectedError(
        f"{rejected / rows_in:.0%} of {rows_in:,} rows were rejected, {most:,} of them for {reason}; at most "
        f"{share_max:.0%} may be (ZASLON_REJECTED_SHARE_MAX). Nothing was trained.",
        hint=_hint_for(reason),
    )


def rejection_warnings(rows_in: int, rows_rejected: Mapping[str, int]) -> list[DataWarning]:
    """One for each reason that took more than a hundredth of the rows."""
    return [
        DataWarning(
            "repeated_rows" if reason.partition(":")[0] in _REPEATS else "rejected_rows",
            f"{count / rows_in:.1%} of the rows were rejected for {reason}.", _hint_for(reason),
        )
        for reason, count in sorted(rows_rejected.items(), key=lambda found: -found[1])
        if count > REJECTED_SHARE_NOTED * rows_in
    ]  # fmt: skip


def over_lines_warnings(rows: int, lines_like_rows: int, places: Sequence[str]) -> list[DataWarning]:
    """One where rows span lines: two stray quotes take the rows between them for the text of one field.

    Args:
        rows: that span lines.
        lines_like_rows: of the lines inside them, how many look like rows.
        places: where the first of these rows are.
    """
    if not rows:
        return []
    subject, verb = ("1 row", "spans") if rows == 1 else (f"{rows:,} rows", "span")
    inside = (
        f", and {lines_like_rows:,} of the lines inside look like rows of their own"
        if lines_like_rows
        else ""
    )
    more = " and more" if rows > len(places) else ""
    return [
        DataWarning(
            "rows_over_lines",
            f"{subject} {verb} lines, by line breaks in quotes{inside}: {'; '.join(places)}{more}.",
            "Can a field of this source hold line breaks? If none can, stray quotes took the rows between them for"
            " one field: correct the export, with quotes inside quoted fields doubled.",
        )
    ]  # fmt: skip


def _hint_for(reason: str) -> str:
    if reason.partition(":")[0] in _REPEATS:
        return "Was a file given twice, or do exports overlap?"
    return "The quarantine of the cleaned data shows these rows; correct the export or the catalogue."


def sample_warnings(
    names: tuple[str, ...],
    x: NDArray[np.float32],
    is_fraud: Int8,
    event_time_seconds: Int64,
    entity_key: Int64,
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
    found = [*_constant(names, x[rows]), *_one_entity(entity_key)]
    frauds = np.count_nonzero(is_fraud[rows])
    if frauds < _FRAUDS_MIN or frauds == len(rows):
        return found
    found += _leaks(names, x[rows], is_fraud[rows])
    return [*found, *_time_tells(event_time_seconds[rows], is_fraud[rows])]


def _looked_at(is_fraud: Int8) -> Int64:
    """Rows to look at: at most so many of each class, evenly over all."""
    chosen = []
    for answer in (0, 1):
        of_answer = np.flatnonzero(is_fraud == answer)
        step = max(1, -(-len(of_answer) // (_ROWS_LOOKED_AT // 2)))
        chosen.append(of_answer[::step])
    return np.sort(np.concatenate(chosen))


def _constant(names: tuple[str, ...], x: NDArray[np.float32]) -> list[DataWarning]:
    if len(x) < 2:
        return []
    same = (x == x[0]) | (np.isnan(x) & np.isnan(x[0]))
    constant = [name for name, is_same in zip(names, same.all(axis=0).tolist(), strict=True) if is_same]
    if not constant:
        return []
    return [
        DataWarning(
            "constant_feature", f"{_listed(constant)} the same value in every row.",
            "A model cannot learn from it: is a column of the file empty, or a window longer than the data?",
        )
    ]  # fmt: skip


def _one_entity(entity_key: Int64) -> list[DataWarning]:
    if len(entity_key) < 2 or (entity_key != entity_key[0]).any():
        return []
    hint = "History by customer means nothing then: is the right column mapped in the catalogue?"
    return [DataWarning("one_customer", "All rows are of one customer.", hint)]


def _leaks(names: tuple[str, ...], x: NDArray[np.float32], is_fraud: Int8) -> list[DataWarning]:
    found = []
    for column, name in enumerate(names):
        separation = _separation(x[:, column], is_fraud)
        if separation == 1.0:
            found.append(
                DataWarning(
                    "label_in_features", f"Feature '{name}' alone separates every fraud from every good transaction.",
                    "It is the answer itself, or comes from it: take it out of the catalogue.",
                )
            )  # fmt: skip
        elif separation >= _SEPARATES:
            found.append(
                DataWarning(
                    "probable_leak",
                    f"Feature '{name}' alone separates frauds from good transactions (ROC-AUC {separation:.3f}).",
                    "Is it known when a payment must be decided? If not, take it out of the catalogue.",
                )
            )  # fmt: skip
    return found


def _time_tells(event_time_seconds: Int64, is_fraud: Int8) -> list[DataWarning]:
    separation = _separation(event_time_seconds.astype(np.float64), is_fraud)
    if separation < _TIME_TELLS:
        return []
    return [
        DataWarning(
            "time_tells_label",
            f"The time alone separates frauds from good transactions (ROC-AUC {separation:.3f}).",
            "Were frauds and good transactions exported from different periods?",
        )
    ]  # fmt: skip


def _separation(values: NDArray[np.floating], is_fraud: Int8) -> float:
    """ROC-AUC of the values or of their opposite, whichever is more; null is the least value."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415  takes a second, which other commands need not wait

    known = np.nan_to_num(values.astype(np.float64), nan=-np.finfo(np.float64).max)
    area = float(roc_auc_score(is_fraud, known))
    return max(area, 1 - area)


def _listed(names: list[str]) -> str:
    """`Feature 'a' has`, or `Features 'a', 'b' and 7 others have`."""
    named = ", ".join(f"'{name}'" for name in names[:_NAMED_MAX])
    if len(names) == 1:
        return f"Feature {named} has"
    others = f" and {len(names) - _NAMED_MAX} others" if len(names) > _NAMED_MAX else ""
    return f"Features {named}{others} have"
