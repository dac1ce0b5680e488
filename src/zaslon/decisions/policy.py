"""The policy: thresholds for the score, costs, and rules beside the model.

A TOML file, checked here against the columns that rules may use, hashed and versioned; it is
described in `docs/reference/policy.md`. How rules and model combine is in `decide`.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import orjson
import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from zaslon.decisions.wording import money_text, number_text
from zaslon.domain.catalogue import Name
from zaslon.domain.errors import PolicyError, did_you_mean, sentence_of
from zaslon.domain.money import AMOUNT_MINOR_MAX
from zaslon.domain.outcomes import Action
from zaslon.expressions.expression import Expression, ExpressionError, parse_expression

RULES_MAX = 64  # one bit each in the mask of rules that fired
REASON_CHARACTERS_MAX = 500


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Thresholds(_Strict):
    """A score from `review` on is reviewed, from `block` on blocked; `inf` means never.

    Scores are probabilities of fraud, 0 … 1.
    """

    review: float = Field(default=0.5, ge=0)
    block: float = Field(default=0.9, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Thresholds:
        for name, value in (("review", self.review), ("block", self.block)):
            if value > 1 and not math.isinf(value):
                raise ValueError(f"{name} = {value} is not a probability: use 0 … 1, or inf for never")
        if self.review > self.block:
            raise ValueError(
                f"review = {self.review} is above block = {self.block}: a score that blocks would"
                " not be reviewed; let review be at most block"
            )
        return self


class Costs(_Strict):
    """What stopping costs, in minor units; a missed fraud costs its amount.

    The defaults are an assumption in proportion to a mean payment of about 54.00; every bank
    should set its own. With them, blocking is cheaper than reviewing above a score of 0.8.

    Attributes:
        review_minor: an analyst's look at one transaction.
        blocked_good_minor: a good transaction that is blocked (lost fee, complaint, goodwill).
    """

    review_minor: int = Field(default=200, ge=0, le=AMOUNT_MINOR_MAX)
    blocked_good_minor: int = Field(default=1_000, ge=0, le=AMOUNT_MINOR_MAX)


class RuleText(_Strict):
    """A rule as written: where `when` holds, `action` is demanded for `reason`.

    A rule with `shadow = true` is evaluated and counted and never acts.
    """

    name: Name
    when: str
    action: Literal["allow", "review", "block"]
    reason: str = Field(min_length=1, max_length=REASON_CHARACTERS_MAX)
    shadow: bool = False


class PolicyText(_Strict):
    """The content of a policy file.

    `fallback`: the action where time allows neither the model nor a rule.
    """

    name: Name = "default"
    version: int = Field(default=1, ge=1, lt=2**63)
    fallback: Literal["allow", "review", "block"] = "review"
    thresholds: Thresholds = Thresholds()
    costs: Costs = Costs()
    rules: tuple[RuleText, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _consistent(self) -> PolicyText:
        if len(self.rules) > RULES_MAX:
            raise ValueError(f"{len(self.rules)} rules are given; {RULES_MAX} are the most")
        names = [rule.name for rule in self.rules]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ValueError(f"two rules are named '{min(twice)}'; rename one of them")
        return self


@dataclass(frozen=True)
class ReasonTemplate:
    """A rule's reason: literal parts and, between them, names of columns to put in."""

    text: str
    parts: tuple[str, ...]
    names: tuple[str, ...]

    def fill(self, row: Mapping[str, float], minor_digits: int = 2) -> str:
        """The sentence for one row. `amount` is written as money, everything else as a number."""
        filled = [self.parts[0]]
        for name, literal in zip(self.names, self.parts[1:], strict=True):
            value = row[name]
            filled += [money_text(value, minor_digits) if name == "amount" else number_text(value), literal]
        return "".join(filled)


@dataclass(frozen=True)
class Rule:
    """A compiled rule."""

    name: str
    condition: Expression
    action: Action
    reason: ReasonTemplate
    shadow: bool


@dataclass(frozen=True)
class Policy:
    """A checked policy. `load_policy` and `parse_policy` make it."""

    text: PolicyText
    rules: tuple[Rule, ...] = field(repr=False)

    @property
    def thresholds(self) -> Thresholds:
        """From which scores to review and to block."""
        return self.text.thresholds

    @property
    def costs(self) -> Costs:
        """What stopping costs."""
        return self.text.costs

    @property
    def fallback(self) -> Action:
        """The action where time allows neither the model nor a rule."""
        return Action[self.text.fallback.upper()]

    @property
    def acting_rules(self) -> tuple[Rule, ...]:
        """The rules that are not in shadow."""
        return tuple(rule for rule in self.rules if not rule.shadow)

    @cached_property
    def condition_names(self) -> tuple[str, ...]:
        """Columns that the conditions use, sorted."""
        return tuple(sorted({name for rule in self.rules for name in rule.condition.names}))

    @cached_property
    def hash(self) -> str:
        """Twelve hex digits that change with any change of meaning."""
        # JSON has no infinity: it becomes null, which no threshold is otherwise.
        text = self.text.model_dump(mode="python")
        if text["fallback"] == "review":  # policies from before there was a choice keep their hash
            del text["fallback"]
        content = orjson.dumps(text, option=orjson.OPT_SORT_KEYS)
        return hashlib.sha256(content).hexdigest()[:12]

    @property
    def label(self) -> str:
        """`name@version (hash)`, for people."""
        return f"{self.text.name}@{self.text.version} ({self.hash})"

    def with_thresholds(self, review: float, block: float) -> Policy:
        """The same policy with other thresholds; its hash changes.

        Raises:
            PolicyError: the two are not thresholds.
        """
        try:
            thresholds = Thresholds(review=float(review), block=float(block))
        except ValidationError as error:
            raise PolicyError(f"The thresholds cannot be used: {_problems(error)}") from error
        return Policy(self.text.model_copy(update={"thresholds": thresholds}), self.rules)

    @property
    def states_thresholds(self) -> bool:
        """Whether somebody wrote the thresholds down, instead of leaving them to training."""
        return "thresholds" in self.text.model_fields_set

    def to_toml(self, *, thresholds: bool = True) -> str:
        """The policy as a file that `parse_policy` reads back to an equal one, or to one that leaves them to training."""
        left_out = None if thresholds else {"thresholds"}
        return tomli_w.dumps(self.text.model_dump(mode="python", exclude_none=True, exclude=left_out))


def parse_policy(text: str, known: Collection[str], *, origin: str = "policy") -> Policy:
    """The policy in a TOML text; its rules may use the columns in `known`.

    Raises:
        PolicyError: names the place and what was expected; for a condition it points at the word.
    """
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError(f"{origin} is not valid TOML: {error}.") from error
    try:
        checked = PolicyText.model_validate(content)
    except ValidationError as error:
        raise PolicyError(f"{origin} cannot be used: {_problems(error)}") from error
    return Policy(checked, tuple(_compiled(rule, known, origin) for rule in checked.rules))


def load_policy(path: str | Path | None, known: Collection[str]) -> Policy:
    """The policy in a file; for None the default: thresholds 0.5 and 0.9, no rules.

    Raises:
        PolicyError: the file is missing or inconsistent.
    """
    if path is None:
        return Policy(PolicyText(), ())
    try:
        text = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PolicyError(f"Policy '{path}' cannot be read: {error}.") from error
    return parse_policy(text, known, origin=f"Policy '{path}'")


def _compiled(rule: RuleText, known: Collection[str], origin: str) -> Rule:
    try:
        condition = parse_expression(rule.when, known, "condition")
    except ExpressionError as error:
        raise PolicyError(f"{origin}, rule '{rule.name}', when: {error.message}", hint=error.hint) from error
    reason = _template(rule, known, origin)
    return Rule(rule.name, condition, Action[rule.action.upper()], reason, rule.shadow)


_PLACEHOLDER = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def _template(rule: RuleText, known: Collection[str], origin: str) -> ReasonTemplate:
    parts, names, last = [""], [], 0
    for found in _PLACEHOLDER.finditer(rule.reason):
        parts[-1] += rule.reason[last : found.start()]
        last = found.end()
        if found[0] in ("{{", "}}"):
            parts[-1] += found[0][0]
            continue
        name = (found[1] or "").strip()
        if name not in known:
            raise _placeholder_error(rule, found, name, known, origin)
        names.append(name)
        parts.append("")
    parts[-1] += rule.reason[last:]
    return ReasonTemplate(rule.reason, tuple(parts), tuple(names))


def _placeholder_error(
    rule: RuleText, found: re.Match[str], name: str, known: Collection[str], origin: str
) -> PolicyError:
    problem, hint = f"Unknown name '{name}'.", did_you_mean(name, known)
    if found[1] is None:
        problem = f"This '{found[0]}' belongs to no pair."
        hint = "Write {name} for a column's value, {{ or }} for a brace itself."
    pointed = ExpressionError(problem, rule.reason, found.start(), found.end())
    return PolicyError(f"{origin}, rule '{rule.name}', reason: {pointed.message}", hint=hint)


def _problems(error: ValidationError) -> str:
    return " ".join(_problem(e["loc"], e["type"], sentence_of(e)) for e in error.errors())


def _problem(location: tuple[int | str, ...], kind: str, message: str) -> str:
    place = ".".join(str(part + 1) if isinstance(part, int) else part for part in location) or "policy"
    if location == ("limits",):
        return "limits: business limits are settings, for example ZASLON_FALSE_POSITIVE_RATE_MAX = 0.03."
    if kind == "extra_forbidden":
        return f"{place}: this key is not known. {did_you_mean(str(location[-1]), _keys(location))}"
    if kind == "model_type":
        return f"{place}: write it as a section, with its keys below [{place}]."
    if kind == "tuple_type":
        return f"{place}: write every one as a section of its own, below [[{place}]]."
    return f"{place}: {message}."


def _keys(location: tuple[int | str, ...]) -> Collection[str]:
    sections: dict[str | int, type[BaseModel]] = {
        "thresholds": Thresholds, "costs": Costs, "rules": RuleText,
    }  # fmt: skip
    owner = sections.get(location[0], PolicyText) if len(location) > 1 else PolicyText
    return owner.model_fields
