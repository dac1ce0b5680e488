"""The split in time: periods that hold enough frauds, and keep the future out of the past.

Test and validation begin with the days that the settings ask for, and grow backwards until they hold
the wanted number of frauds. They stop at a bound in days, and at what training needs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from zaslon.domain.errors import DataError
from zaslon.domain.time import day_text
from zaslon.models.dataset import Days

Answers = tuple[int, int]  # frauds and good transactions of a day

# What decided how long a period is, beside the name of its setting (`test_days`).
FRAUDS_TARGET, DAYS_MAX, DAYS, REST = "period_frauds_target", "period_days_max", "days", "rest"
WINDOW = "retrain_window"
DAYS_ASKED, NEW_DAYS = "days_asked", "new_days"
_IN_WORDS = {
    "test_days": "the fewest days wanted (ZASLON_TEST_DAYS)",
    "validation_days": "the fewest days wanted (ZASLON_VALIDATION_DAYS)",
    FRAUDS_TARGET: "until it has the frauds wanted (ZASLON_PERIOD_FRAUDS_TARGET)",
    DAYS_MAX: "the most days allowed (ZASLON_PERIOD_DAYS_MAX)",
    DAYS: "all the days that there are for it",
    REST: "the days before",
    WINDOW: "the window to learn from (ZASLON_RETRAIN_WINDOW)",
    DAYS_ASKED: "the most days asked for (--days)",
    NEW_DAYS: "all the days that are new to the models and whose answers are mature",
}


@dataclass(frozen=True)
class Period(Days):
    """Days of a split and what they hold.

    Attributes:
        frauds: how many.
        transactions: those with a known answer, frauds included.
        decided_by: what its length comes from: `test_days` or `validation_days` where these already hold the
            wanted frauds, `period_frauds_target` where it grew until it did, `period_days_max` where the
            bound stopped it, `days` where training needs the days before it or a model has learned from
            them. For training `rest`, or `retrain_window` where it learns only from the newest of them. Of days to
            compare on `days_asked`, or `new_days` where there are no more.
    """

    frauds: int
    transactions: int
    decided_by: str

    @property
    def length_in_words(self) -> str:
        """What `decided_by` means."""
        return _IN_WORDS[self.decided_by]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "first": day_text(self.first), "last": day_text(self.last), "days": len(self),
            "frauds": self.frauds, "transactions": self.transactions,
            "decided_by": self.decided_by, "length": self.length_in_words,
        }  # fmt: skip


@dataclass(frozen=True)
class SplitRules:
    """How long periods are.

    Attributes:
        test_days, validation_days: the fewest, 1 or more.
        delay_days: until a label is known, rounded up to whole days, 0 or more.
        frauds_target: wanted in either period, 1 or more.
        days_max: to which either may grow; where it is fewer than the fewest, these stay.
        new_after: the last day that a model to be tested has learned from, beyond which the test period does not
            grow; None for none.

    Raises:
        DataError: a number out of its range.
    """

    test_days: int
    validation_days: int
    delay_days: int
    frauds_target: int = 1
    days_max: int = 1
    new_after: int | None = None

    def __post_init__(self) -> None:
        """Check the ranges."""
        if min(self.test_days, self.validation_days, self.frauds_target) < 1 or self.delay_days < 0:
            raise DataError(
                f"Periods of {self.validation_days} and {self.test_days} days for {self.frauds_target} frauds with a "
                f"delay of {self.delay_days} days cannot be made.",
                hint="Each period needs at least one day and one fraud, and the delay cannot be negative.",
            )

    def days_needed(self) -> int:
        """The fewest days that can be split."""
        return 1 + self.validation_days + self.test_days + 2 * self.delay_days

    def spare(self, days: int) -> int:
        """By how many days both periods together may grow.

        Training keeps half of the days that are not lost to the delays, so that a model is not starved to be
        measured better.
        """
        usable = days - 2 * self.delay_days
        return max(0, usable // 2 - self.validation_days - self.test_days)


@dataclass(frozen=True)
class TimeSplit:
    """Periods to train, validate and test on, in this order, separated by the label delay.

    When a transaction of a later period happens, every label of the period before it is known:
    the gap is as long as a label takes to arrive.
    """

    train: Period
    validation: Period
    test: Period

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values by period."""
        return {name: getattr(self, name).to_json_dict() for name in ("train", "validation", "test")}

    @staticmethod
    def of(answers: Mapping[int, Answers], rules: SplitRules) -> TimeSplit:
        """Split the days from the first to the last: the newest to test on, the oldest to train on.

        Args:
            answers: by day number, at least one day; days between them that are missing had no transactions.
            rules: how long periods are.

        Raises:
            DataError: too few days, saying how many are needed.
        """
        first, last = min(answers), max(answers)
        _check_days(last - first + 1, rules)
        return _Splitting(answers, rules).split()


def _check_days(days: int, rules: SplitRules) -> None:
    if days >= rules.days_needed():
        return
    delay = rules.delay_days
    raise DataError(
        f"The data span {days} days, but {rules.days_needed()} are needed: at least 1 to train, {delay} until "
        f"its labels are known, {rules.validation_days} to validate, {delay} until theirs are known and "
        f"{rules.test_days} to test.",
        hint="Give more days, or choose shorter periods or a shorter label delay.",
    )


class _Splitting:
    """Chooses the two lengths. Days are counted from the first, `end` is one behind the last."""

    def __init__(self, answers: Mapping[int, Answers], rules: SplitRules) -> None:
        self._rules, self._first = rules, min(answers)
        self._days = max(answers) - self._first + 1
        by_day = [answers.get(self._first + day, (0, 0)) for day in range(self._days)]
        self._frauds_before = list(accumulate((f for f, _ in by_day), initial=0))
        self._rows_before = list(accumulate((f + g for f, g in by_day), initial=0))

    def split(self) -> TimeSplit:
        rules, spare = self._rules, self._rules.spare(self._days)
        new = self._days if rules.new_after is None else self._first + self._days - 1 - rules.new_after
        most = self._most(rules.test_days, min(spare, max(0, new - rules.test_days)))
        lengths = range(rules.test_days, most + 1)
        fair = [days for days in lengths if self._leaves_frauds(days, spare)]
        test = self._period(self._days, fair or list(lengths), "test_days")
        spare -= len(test) - rules.test_days
        end = self._days - len(test) - rules.delay_days
        lengths = range(rules.validation_days, self._most(rules.validation_days, spare) + 1)
        fair = [days for days in lengths if self._frauds_before[end - days - rules.delay_days]]
        validation = self._period(end, fair or list(lengths), "validation_days")
        train = self._made(0, end - len(validation) - rules.delay_days, REST)
        return TimeSplit(train, validation, test)

    def _most(self, least: int, spare: int) -> int:
        return max(least, min(self._rules.days_max, least + spare))

    def _leaves_frauds(self, test_days: int, spare: int) -> bool:
        """Whether frauds are left for both earlier periods, however long validation has to be for that."""
        rules, end = self._rules, self._days - test_days - self._rules.delay_days
        spare -= test_days - rules.test_days
        lengths = range(rules.validation_days, self._most(rules.validation_days, spare) + 1)
        return any(
            self._frauds(end - days, end) and self._frauds_before[end - days - rules.delay_days]
            for days in lengths
        )

    def _period(self, end: int, lengths: list[int], least: str) -> Period:
        """The shortest of these lengths with the wanted frauds, or else the longest."""
        rules = self._rules
        for days in lengths:
            if self._frauds(end - days, end) >= rules.frauds_target:
                is_least = days == getattr(rules, least)
                return self._made(end - days, end, least if is_least else FRAUDS_TARGET)
        days = lengths[-1]
        if days < max(rules.days_max, getattr(rules, least)):
            return self._made(end - days, end, DAYS)
        return self._made(end - days, end, DAYS_MAX if days <= rules.days_max else least)

    def _made(self, begin: int, end: int, decided_by: str) -> Period:
        return Period(
            self._first + begin, self._first + end - 1, self._frauds(begin, end),
            self._rows_before[end] - self._rows_before[begin], decided_by,
        )  # fmt: skip

    def _frauds(self, begin: int, end: int) -> int:
        return self._frauds_before[end] - self._frauds_before[begin]
