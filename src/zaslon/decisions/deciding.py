"""The decision: rules and model together give one action for every transaction.

How they combine, in one sentence: the strictest action wins, except that an allow rule silences
the model. Written out, for the rules that fired and are not in shadow:

    rules:  the strictest of their actions, allow where none fired
    model:  by thresholds; allow where an allow rule fired, or where there is no score (NaN)
    action: the stricter of the two

So an allow rule (an allow-list) beats the model, and a block or review rule beats an allow rule.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.decisions.policy import Policy, Rule
from zaslon.domain.events import Degradation
from zaslon.domain.outcomes import Action, ReasonGiven
from zaslon.expressions.expression import as_columns, as_row

UInt8 = NDArray[np.uint8]


@dataclass(frozen=True)
class Decided:
    """The outcome of a policy for n transactions.

    Attributes:
        policy: the policy that decided.
        action: uint8[n], `Action` values.
        model_action: uint8[n], what the thresholds alone would have done.
        fired: uint64[n], bit b is set where `policy.rules[b]` holds, shadow rules too.
    """

    policy: Policy
    action: UInt8
    model_action: UInt8
    fired: NDArray[np.uint64]

    def __len__(self) -> int:
        """How many transactions."""
        return len(self.action)

    def rules_fired(self, index: int) -> tuple[Rule, ...]:
        """The rules that hold for one transaction, in the policy's order, shadow rules too."""
        mask = int(self.fired[index])
        return tuple(rule for bit, rule in enumerate(self.policy.rules) if mask >> bit & 1)

    def rule_names(self, index: int, *, shadow: bool = False) -> tuple[str, ...]:
        """Names of the rules that fired and may act; with `shadow`, of those that only count."""
        return tuple(rule.name for rule in self.rules_fired(index) if rule.shadow == shadow)

    def rule_reasons(
        self, index: int, columns: Mapping[str, NDArray[Any]], minor_digits: int = 2
    ) -> tuple[ReasonGiven, ...]:
        """Reasons by the rules that demand a review or a block, where the action is not allow.

        `columns` are those given to `decide`. The strictest rules come first.
        """
        if self.action[index] == Action.ALLOW:
            return ()
        demanding = [r for r in self.rules_fired(index) if r.action > Action.ALLOW and not r.shadow]
        demanding.sort(key=lambda rule: -rule.action)
        return tuple(
            ReasonGiven(
                f"rule:{rule.name}",
                rule.reason.fill(as_row(rule.reason.names, columns, index), minor_digits),
            )
            for rule in demanding
        )


def decide(policy: Policy, score: NDArray[np.float64], columns: Mapping[str, NDArray[Any]]) -> Decided:
    """Decide n transactions.

    A transaction's decision depends on its own score and columns alone, whatever the batch.

    Args:
        policy: the policy in force.
        score: float64[n], probability of fraud, NaN where no model could score.
        columns: by name, arrays of length n: at least what the policy's rules use.
    """
    if len(score) == 1:
        return _decide_one(policy, float(score[0]), columns)
    bounds = np.array([policy.thresholds.review, policy.thresholds.block])
    with np.errstate(invalid="ignore"):
        model_action = (score[:, np.newaxis] >= bounds).sum(axis=1).astype(np.uint8)
    fired = np.zeros(len(score), np.uint64)
    demanded = np.zeros(len(score), np.uint8)
    model_counts = np.ones(len(score), np.bool_)
    with np.errstate(all="ignore"):
        prepared = as_columns(policy.condition_names, columns)
        for bit, rule in enumerate(policy.rules):
            holds = rule.condition.evaluate_columns(prepared, len(score))
            fired |= holds.astype(np.uint64) << np.uint64(bit)
            if rule.shadow:
                continue
            if rule.action == Action.ALLOW:
                model_counts &= ~holds
            else:
                np.maximum(demanded, holds * np.uint8(rule.action), out=demanded)
    action = np.maximum(demanded, model_action * model_counts)
    return Decided(policy, action, model_action, fired)


def fall_back(decided: Decided, degradation: UInt8) -> Decided:
    """The decisions where there was no time for the model, or for the rules either.

    Args:
        decided: by rules, and by scores that are NaN where the model was left out.
        degradation: uint8[n], `Degradation` values. From MODEL on a rule that may act decides where one
            fires, else the policy's fallback; from RULES on the fallback decides.
    """
    policy = decided.policy
    acting = sum(1 << bit for bit, rule in enumerate(policy.rules) if not rule.shadow)
    fired = np.where(degradation >= Degradation.RULES, np.uint64(0), decided.fired)
    defaulted = (degradation >= Degradation.MODEL) & (fired & np.uint64(acting) == 0)
    action = np.where(defaulted, np.uint8(policy.fallback), decided.action)
    return Decided(policy, action, decided.model_action, fired)


def _decide_one(policy: Policy, score: float, columns: Mapping[str, NDArray[Any]]) -> Decided:
    """`decide` for one transaction, without arrays on the way: some ten times faster."""
    thresholds = policy.thresholds
    model = int(score >= thresholds.review) + int(score >= thresholds.block)
    row = as_row(policy.condition_names, columns)
    fired, demanded, counted = 0, 0, model
    for bit, rule in enumerate(policy.rules):
        if not rule.condition.evaluate_row(row):
            continue
        fired |= 1 << bit
        if rule.shadow:
            continue
        if rule.action == Action.ALLOW:
            counted = 0
        else:
            demanded = max(demanded, rule.action)
    return Decided(
        policy,
        np.array([max(demanded, counted)], np.uint8),
        np.array([model], np.uint8),
        np.array([fired], np.uint64),
    )
