"""What makes the figures of a run doubtful: in its files, in its rows, and in what its model learns from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from zaslon.decisions.policy import Policy
from zaslon.domain.errors import DataError, ZaslonError
from zaslon.domain.rejections import Reason, read_reason
from zaslon.intake import clean_days, commonest_problems, unchanging_columns
from zaslon.models.dataset import Days, Sample
from zaslon.monitoring.data_warnings import (
    DataWarning,
    RejectedRows,
    check_rejected,
    constant_column_warnings,
    rejection_warnings,
)
from zaslon.monitoring.sample_warnings import LEAKS, sample_warnings
from zaslon.services.cleaned_files import Cleaned
from zaslon.services.context import Context
from zaslon.services.samples import Samples


@contextmanager
def noted(warnings: Sequence[DataWarning]) -> Iterator[None]:
    """An error inside carries the warnings found so far, so that a run that stops has them too."""
    try:
        yield
    except ZaslonError as error:
        error.warnings = [warning.to_json_dict() for warning in warnings]
        raise


def warnings_of_rows(
    context: Context, cleaned: Cleaned, rejected: Sequence[RejectedRows]
) -> list[DataWarning]:
    """Of files, rejected rows and columns."""
    days = [path for _, path in clean_days(cleaned.out, context.catalogue)]
    return [
        *cleaned.warnings,
        *rejection_warnings(cleaned.report.rows_in, rejected),
        *constant_column_warnings(*unchanging_columns(days, context.catalogue)),
    ]


def rejected_rows(context: Context, cleaned: Cleaned) -> list[RejectedRows]:
    """The rejected rows by reason, the most frequent first."""
    by_reason = sorted(cleaned.report.rows_rejected.items(), key=lambda found: -found[1])
    return [_rejected_rows(context, cleaned, *read_reason(code), rows) for code, rows in by_reason]


def _rejected_rows(
    context: Context, cleaned: Cleaned, reason: Reason, field: str | None, rows: int
) -> RejectedRows:
    problems = commonest_problems(cleaned.out, reason, field)
    return RejectedRows(reason, field, rows, problems, context.catalogue.place_of(field or ""))


def check_rows(context: Context, cleaned: Cleaned, rejected: Sequence[RejectedRows]) -> None:
    """Stop where more rows were rejected than the settings allow.

    Raises:
        TooManyRejectedError: with what to change.
    """
    most = context.options.rejected_share_max
    check_rejected(cleaned.report.rows_in, rejected, most, cleaned.same_files.pairs)


def warnings_of_samples(samples: Samples) -> list[DataWarning]:
    """Of what the model learns from."""
    learned = samples.train
    return sample_warnings(
        learned.names, learned.x, learned.is_fraud, learned.event_time_seconds, learned.customer_key
    )


def warnings_of_figures(sample: Sample | None) -> list[DataWarning]:
    """Of transactions that models are measured on: what gives their answers away."""
    if sample is None or not 0 < sample.frauds < len(sample):
        return []
    found = sample_warnings(
        sample.names, sample.x, sample.is_fraud, sample.event_time_seconds, sample.customer_key
    )
    return [warning for warning in found if warning.kind in LEAKS]


def warnings_of_rules(policy: Policy) -> list[DataWarning]:
    """One where a policy has rules that may act, which the figures of a model do not contain."""
    rules = len(policy.acting_rules)
    if not rules:
        return []
    return [
        DataWarning(
            "rules_not_measured",
            f"The figures are of the model's thresholds alone: what the policy's rules that may act ({rules}) stop or "
            "allow is not in them.",
            "`zaslon score` and the live log show what the rules do.",
        )
    ]  # fmt: skip


def warnings_of_seen_days(period: Days, seen: int) -> list[DataWarning]:
    """One where a model has learned from some days of the period that it is measured on."""
    if not seen:
        return []
    return [
        DataWarning(
            "learned_from_test_days",
            f"Of the {len(period)} days of the test period, {period}, the model has learned from {seen}: on days that "
            "are new to it, it does worse than these figures.",
            "Evaluate it again when there are clean days that are newer.",
        )
    ]  # fmt: skip


def check_samples(samples: Samples) -> None:
    """Stop before training where a period has one kind of answer only.

    Raises:
        DataError: names the period and what it lacks.
    """
    for name in ("train", "validation", "test"):
        _check_answers(name, getattr(samples.split, name), getattr(samples, name))


def _check_answers(name: str, period: Days, sample: Sample) -> None:
    if 0 < sample.frauds < len(sample):
        return
    period_name = "training" if name == "train" else name
    what = "only frauds" if sample.frauds else "no frauds"
    raise DataError(
        f"The {period_name} period, {period}, has {what} among its {len(sample):,} transactions.",
        hint="A model learns from both kinds, and is measured on both: give more days, or check that the right column"
        " has the answers and that they had arrived when the file was made.",
    )
