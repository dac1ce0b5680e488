"""A sentence for each feature's value in one transaction, with its numbers.

One function per kind of aggregate. A sentence is true for every value, NaN included: it states
what the feature measured, never that this proves a fraud.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zaslon.decisions.wording import (
    counted,
    elapsed_text,
    money_text,
    number_text,
    ordinal_text,
    percent_text,
    ratio_text,
    window_adjective,
    window_text,
)
from zaslon.domain.catalogue import missing_flag
from zaslon.domain.features import FeatureInfo
from zaslon.domain.money import amount_text
from zaslon.expressions.expression import ExpressionError, parse_expression


@dataclass(frozen=True)
class Facts:
    """What a sentence may use besides its own feature's value.

    Attributes:
        value_of: the value of another feature of the same transaction, by name.
        amount_minor: the exact amount.
        minor_digits: of the currency.
    """

    value_of: Callable[[str], float]
    amount_minor: int
    minor_digits: int

    @property
    def amount(self) -> str:
        """The amount as text."""
        return amount_text(self.amount_minor, self.minor_digits)


Sentence = Callable[[float, Facts], str]  # the feature's own value and the other facts → words

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_PREPOSITIONS = {
    "terminal": "at", "merchant": "at", "shop": "at", "store": "at", "atm": "at", "address": "at",
    "device": "from", "ip": "from", "card": "with", "account": "from",
}  # fmt: skip
_OF_AMOUNTS = {
    "mean": "mean", "median": "median", "min": "smallest payment", "max": "largest payment",
}  # fmt: skip


def sentence_for(info: FeatureInfo, features: Mapping[str, FeatureInfo]) -> Sentence:
    """The sentence of one feature; `features` are all of the matrix, by name."""
    if info.kind == "aggregate":
        return _of_aggregate(info, features)
    if info.kind == "flag":
        return _of_flag(info)
    if info.kind == "derived":
        return _of_derived(info, features)
    return _of_transaction(info)


# The transaction itself


def _of_transaction(info: FeatureInfo) -> Sentence:
    if info.name == "amount":
        return lambda value, facts: f"the amount is {facts.amount}"
    special: dict[str, Callable[[float], str]] = {
        "hour": lambda hour: f"paid between {_clock(hour * 3600)} and {_clock(hour * 3600 + 3600)}",
        "weekday": lambda day: f"paid on a {_WEEKDAYS[int(day) % 7]}",
        "second_of_day": lambda second: f"paid at {_clock(second)}",
    }
    special_words = special.get(info.name)

    def sentence(value: float, facts: Facts) -> str:
        if special_words is None or math.isnan(value):
            return f"{info.name} is {number_text(value)}"
        return special_words(value)

    return sentence


def _clock(second_of_day: float) -> str:
    minutes = int(second_of_day) // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _of_flag(info: FeatureInfo) -> Sentence:
    name = info.name.removeprefix("flag_").replace("_", " ")
    return lambda value, facts: f"the record is {'' if value else 'not '}flagged: {name}"


# Aggregates


@dataclass(frozen=True)
class _Who:
    """Words for an aggregate's entity, window and condition."""

    entity: str
    window: str
    where: str

    @staticmethod
    def of(info: FeatureInfo) -> _Who:
        where = f" ({info.where.replace('_', ' ')} only)" if info.where else ""
        return _Who((info.entity or "entity").replace("_", " "), info.window or "1d", where)

    @property
    def place(self) -> str:
        """Such as `at this terminal` or `of this customer`."""
        return f"{_PREPOSITIONS.get(self.entity, 'of')} this {self.entity}"

    @property
    def owner(self) -> str:
        """Such as `this customer's`."""
        return f"this {self.entity}'s"

    @property
    def within(self) -> str:
        """`in 30 days`, and the condition."""
        return f"in {window_text(self.window)}{self.where}"

    @property
    def none_before(self) -> str:
        """That there is nothing to compute from."""
        return f"no earlier transaction {self.place} {self.within}"

    @property
    def no_fraud(self) -> str:
        """That no fraud is known, so it has no time."""
        return f"no confirmed fraud {self.place} {self.within}"


AggregateSentence = Callable[[_Who, float, Facts], str]


def _of_aggregate(info: FeatureInfo, features: Mapping[str, FeatureInfo]) -> Sentence:
    who, compute = _Who.of(info), info.compute or ""
    statistic, entities = _statistic(compute), [info.entity or ""]
    if compute.startswith(("same_", "distinct_")):
        word, _, other = compute.partition("_")
        entities += [other] if word == "same" else []
        sentence = (_same if word == "same" else _distinct)(other.replace("_", " "))
    elif statistic is not None:
        sentence = _amount_statistic(statistic)
    else:
        sentence = _SENTENCES.get(compute, lambda who, value, facts: f"{info.name} is {number_text(value)}")
    return _unless_missing(entities, features, lambda value, facts: sentence(who, value, facts))


def _unless_missing(entities: list[str], features: Mapping[str, FeatureInfo], sentence: Sentence) -> Sentence:
    """The sentence, unless the record has none of the entities that it is about."""
    flags = {entity.replace("_", " "): f"flag_{missing_flag(entity)}" for entity in entities}
    optional = {entity: flag for entity, flag in flags.items() if flag in features}

    def checked(value: float, facts: Facts) -> str:
        missing = next((entity for entity, flag in optional.items() if facts.value_of(flag)), None)
        return sentence(value, facts) if missing is None else f"the record has no {missing}"

    return checked if optional else sentence


def _statistic(compute: str) -> str | None:
    """`mean`, `90 % quantile`: what follows `this customer's 30-day`."""
    if found := re.fullmatch(r"q([0-9]{1,2})", compute):
        return f"{int(found[1])} % quantile"
    return _OF_AMOUNTS.get(compute)


def _amount_statistic(statistic: str) -> AggregateSentence:
    def sentence(who: _Who, value: float, facts: Facts) -> str:
        if math.isnan(value):
            return who.none_before
        amount = money_text(value, facts.minor_digits)
        return f"{who.owner} {window_adjective(who.window)} {statistic} is {amount}{who.where}"

    return sentence


def _same(other: str) -> AggregateSentence:
    there = f"{_PREPOSITIONS.get(other, 'by')} this {other}"

    def sentence(who: _Who, value: float, facts: Facts) -> str:
        if math.isnan(value):
            return who.none_before
        return f"{ordinal_text(int(value) + 1)} payment {who.place} {there} {who.within}"

    return sentence


def _distinct(other: str) -> AggregateSentence:
    def sentence(who: _Who, value: float, facts: Facts) -> str:
        if math.isnan(value) or value == 0:
            return who.none_before
        number = counted(int(value), other if value == 1 else f"different {other}")
        return f"{number} {who.place} {who.within}"

    return sentence


def _count(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.none_before
    if who.where:  # whether this payment meets the condition is not known here
        return f"{counted(int(value), 'earlier payment')} {who.place} {who.within}"
    return f"{ordinal_text(int(value) + 1)} payment {who.place} {who.within}"


def _sum(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value) or value == 0:
        return f"nothing paid earlier {who.place} {who.within}"
    return f"earlier payments {who.place} {who.within} add up to {money_text(value, facts.minor_digits)}"


def _deviation(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return f"fewer than two earlier transactions {who.place} {who.within}"
    amount = money_text(value, facts.minor_digits)
    return f"{who.owner} {window_adjective(who.window)} standard deviation is {amount}{who.where}"


def _since_last(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.none_before
    return f"the last payment {who.place}{who.where} was {elapsed_text(value)} ago"


def _known(who: _Who, value: float, facts: Facts) -> str:
    number = 0 if math.isnan(value) else int(value)
    verb = "is" if number <= 1 else "are"
    return f"{counted(number, 'payment')} {who.place} {who.within} {verb} known to be good or fraud"


def _frauds(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.no_fraud
    return f"{counted(int(value), 'confirmed fraud')} {who.place} {who.within}"


def _risk(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return f"{who.owner} fraud rate over {window_text(who.window)}{who.where} is unknown"
    return f"{who.owner} fraud rate is {percent_text(value)} over {window_text(who.window)}{who.where}"


def _recent_risk(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return f"no payment {who.place} {who.within} is known to be good or fraud"
    return f"{percent_text(value)} of the newest known payments {who.place} {who.within} were fraud"


def _since_fraud(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.no_fraud
    return f"the newest confirmed fraud {who.place}{who.where} was {elapsed_text(value)} ago"


def _since_first_fraud(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.no_fraud
    return f"the first confirmed fraud {who.place} {who.within} was {elapsed_text(value)} ago"


def _good_since_fraud(who: _Who, value: float, facts: Facts) -> str:
    if math.isnan(value):
        return who.no_fraud
    since = f"since the newest confirmed fraud{who.where}"
    # With a condition, a fraud that does not meet it is among them.
    verdict = "confirmed good" if not who.where else "known to be good or fraud"
    return f"{counted(int(value), 'payment')} {who.place} {verdict} {since}"


_SENTENCES: dict[str, AggregateSentence] = {
    "count": _count, "sum": _sum, "std": _deviation, "since_last": _since_last, "known": _known,
    "frauds": _frauds, "risk": _risk, "recent_risk": _recent_risk, "since_fraud": _since_fraud,
    "since_first_fraud": _since_first_fraud, "good_since_fraud": _good_since_fraud,
}  # fmt: skip


# Derived features


def _of_derived(info: FeatureInfo, features: Mapping[str, FeatureInfo]) -> Sentence:
    text = info.expression or info.name
    recognised = _ratio(text, features) or _deviations(text, features) or _is_zero(text, features)
    return recognised or _any_derived(info, text, features)


def _aggregate(name: str, features: Mapping[str, FeatureInfo]) -> FeatureInfo | None:
    info = features.get(name)
    return info if info is not None and info.kind == "aggregate" else None


def _ratio(text: str, features: Mapping[str, FeatureInfo]) -> Sentence | None:
    """`amount / customer_mean_30d`: the amount as a multiple of a statistic of amounts."""
    found = re.fullmatch(r"\s*amount\s*/\s*(\w+)\s*", text)
    below = _aggregate(found[1], features) if found else None
    statistic = _statistic(below.compute or "") if below else None
    if below is None or statistic is None:
        return None
    who = _Who.of(below)
    against = f"{who.owner} {window_adjective(who.window)} {statistic}{who.where}"

    def sentence(value: float, facts: Facts) -> str:
        if not math.isnan(value):
            return f"amount {facts.amount} is {ratio_text(value)} {against}"
        if math.isnan(facts.value_of(below.name)):
            return who.none_before
        return f"amount {facts.amount}, and {against} is 0"

    return _unless_missing([below.entity or ""], features, sentence)


def _deviations(text: str, features: Mapping[str, FeatureInfo]) -> Sentence | None:
    """`(amount - customer_mean_30d) / customer_std_30d`: distance in standard deviations."""
    found = re.fullmatch(r"\s*\(\s*amount\s*-\s*(\w+)\s*\)\s*/\s*(\w+)\s*", text)
    centre = _aggregate(found[1], features) if found else None
    spread = _aggregate(found[2], features) if found else None
    statistic = _statistic(centre.compute or "") if centre else None
    if centre is None or spread is None or spread.compute != "std" or statistic is None:
        return None
    who = _Who.of(centre)
    same = (centre.entity, centre.window, centre.where) == (spread.entity, spread.window, spread.where)
    unit = "standard deviations" if same else f"times {spread.name}"

    def sentence(value: float, facts: Facts) -> str:
        if math.isnan(value):
            return f"too few different amounts {who.place} {who.within} to compare {facts.amount} with"
        side = "above" if value >= 0 else "below"
        return (
            f"amount {facts.amount} is {abs(value):.1f} {unit} {side} {who.owner}"
            f" {window_adjective(who.window)} {statistic}{who.where}"
        )

    return _unless_missing([centre.entity or "", spread.entity or ""], features, sentence)


def _is_zero(text: str, features: Mapping[str, FeatureInfo]) -> Sentence | None:
    """`customer_same_terminal_30d = 0`: the aggregate's own sentence, for zero or not."""
    found = re.fullmatch(r"\s*(\w+)\s*=\s*0\s*", text)
    info = _aggregate(found[1], features) if found else None
    if info is None:
        return None
    sentence = _of_aggregate(info, features)
    return lambda value, facts: sentence(facts.value_of(info.name), facts)


def _any_derived(info: FeatureInfo, text: str, features: Mapping[str, FeatureInfo]) -> Sentence:
    """Name, value, expression and the values in it: less fluent, never wrong."""
    names, is_condition = _names_in(text, features)

    def sentence(value: float, facts: Facts) -> str:
        values = ", ".join(
            f"{name} {facts.amount if name == 'amount' else number_text(facts.value_of(name))}"
            for name in names
        )
        if is_condition:
            state = "holds" if value else "does not hold"
        else:
            state = "has no value" if math.isnan(value) else f"is {number_text(value)}"
        return f"{info.name} {state}: {text}" + (f", with {values}" if values else "")

    return sentence


def _names_in(text: str, features: Mapping[str, FeatureInfo]) -> tuple[tuple[str, ...], bool]:
    try:
        return parse_expression(text, features.keys(), "condition").names, True
    except ExpressionError:
        pass  # then it is a number, or uses something that is not in the matrix
    try:
        return parse_expression(text, features.keys(), "number").names, False
    except ExpressionError:
        return (), False
