"""The decision: how rules and model combine, and that a batch decides as one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.calls import count_calls

from zaslon.decisions.deciding import decide
from zaslon.decisions.policy import Policy, parse_policy
from zaslon.domain.outcomes import Action

NAMES = ("allow_rule", "review_rule", "block_rule", "amount")


def _policy(*rules: str, shadow: str = "") -> Policy:
    text = "[thresholds]\nreview = 0.5\nblock = 0.9\n"
    for action in rules:
        text += (
            f'[[rules]]\nname = "{action}_it"\nwhen = "{action}_rule = 1"\naction = "{action}"\n'
            f'reason = "{action} because of {{amount}}"\nshadow = {str(action == shadow).lower()}\n'
        )
    return parse_policy(text, NAMES)


def _columns(rows: int = 1, **values: float) -> dict[str, np.ndarray]:
    return {name: np.full(rows, values.get(name, 0.0)) for name in NAMES}


# rules that fire, score, action
TABLE = [
    ((), 0.1, Action.ALLOW),
    ((), 0.5, Action.REVIEW),
    ((), 0.8999, Action.REVIEW),
    ((), 0.9, Action.BLOCK),
    ((), math.nan, Action.ALLOW),
    (("review",), 0.1, Action.REVIEW),
    (("review",), 0.95, Action.BLOCK),
    (("block",), 0.1, Action.BLOCK),
    (("block",), math.nan, Action.BLOCK),
    (("allow",), 0.95, Action.ALLOW),
    (("allow", "review"), 0.95, Action.REVIEW),
    (("allow", "block"), 0.1, Action.BLOCK),
    (("allow", "review", "block"), 0.6, Action.BLOCK),
]


@pytest.mark.parametrize(("fired", "score", "action"), TABLE)
def test_the_strictest_acts_and_an_allow_rule_silences_the_model(
    fired: tuple[str, ...], score: float, action: Action
) -> None:
    policy = _policy("allow", "review", "block")
    columns = {f"{name}_rule": 1.0 for name in fired}
    for rows in (1, 3):
        decided = decide(policy, np.full(rows, score), _columns(rows, **columns))
        assert decided.action.tolist() == [action] * rows
        assert decided.action.dtype == np.uint8
        assert decided.rule_names(rows - 1) == tuple(f"{name}_it" for name in fired)


def test_a_shadow_rule_counts_and_never_acts() -> None:
    for action in ("allow", "review", "block"):
        policy = _policy(action, shadow=action)
        for rows in (1, 2):
            columns = _columns(rows, **{f"{action}_rule": 1.0})
            decided = decide(policy, np.full(rows, 0.6), columns)
            assert decided.action.tolist() == [Action.REVIEW] * rows
            assert decided.fired.tolist() == [1] * rows
            assert decided.rule_names(0) == ()
            assert decided.rule_names(0, shadow=True) == (f"{action}_it",)
            assert decided.rule_reasons(0, columns) == ()


def test_reasons_list_the_strictest_rules_first() -> None:
    policy = _policy("allow", "review", "block")
    columns = _columns(2, allow_rule=1, review_rule=1, block_rule=1, amount=812.4)
    decided = decide(policy, np.array([0.1, 0.1]), columns)
    assert [(r.code, r.text, r.weight) for r in decided.rule_reasons(1, columns)] == [
        ("rule:block_it", "block because of 812.40", 0.0),
        ("rule:review_it", "review because of 812.40", 0.0),
    ]
    allowed = decide(policy, np.array([0.1]), _columns(1, allow_rule=1))
    assert allowed.rule_reasons(0, columns) == ()


def test_the_models_own_action_is_kept_beside_the_final_one() -> None:
    decided = decide(_policy("allow"), np.array([0.95, 0.6]), _columns(2, allow_rule=1))
    assert decided.model_action.tolist() == [Action.BLOCK, Action.REVIEW]
    assert decided.action.tolist() == [Action.ALLOW, Action.ALLOW]


def test_no_transactions_give_no_decisions() -> None:
    decided = decide(_policy("block"), np.zeros(0), _columns(0))
    assert len(decided) == 0
    assert decided.fired.tolist() == []


def test_a_threshold_of_inf_is_never_reached() -> None:
    policy = parse_policy("[thresholds]\nreview = inf\nblock = inf", ())
    assert decide(policy, np.array([1.0, 0.5]), {}).action.tolist() == [0, 0]
    assert decide(policy, np.array([1.0]), {}).action.tolist() == [0]


def test_the_64th_rule_has_its_bit() -> None:
    rules = "".join(
        f'[[rules]]\nname = "r{i}"\nwhen = "amount > {i}"\naction = "review"\nreason = "r"\n'
        for i in range(64)
    )
    policy = parse_policy(rules, NAMES)
    for rows in (1, 2):
        decided = decide(policy, np.zeros(rows), _columns(rows, amount=63.5))
        assert decided.fired.tolist() == [2**64 - 1] * rows
        assert decided.rule_names(0)[-1] == "r63"


values = st.sampled_from([0.0, 1.0, 2.0, math.nan])
scores = st.sampled_from([0.0, 0.3, 0.5, 0.7, 0.9, 1.0, math.nan])


@given(
    rows=st.lists(st.tuples(values, values, values, values, scores), min_size=2, max_size=20),
    rules=st.lists(st.sampled_from(["allow", "review", "block"]), unique=True),
    shadow=st.sampled_from(["", "allow", "review", "block"]),
)
def test_a_batch_decides_as_one_by_one(rows: list[tuple[float, ...]], rules: list[str], shadow: str) -> None:
    policy = _policy(*rules, shadow=shadow)
    table = np.array(rows)
    columns = {name: table[:, i] for i, name in enumerate(NAMES)}
    at_once = decide(policy, table[:, 4], columns)
    for i in range(len(rows)):
        exclusive = decide(policy, table[i : i + 1, 4], {n: c[i : i + 1] for n, c in columns.items()})
        assert exclusive.action[0] == at_once.action[i]
        assert exclusive.model_action[0] == at_once.model_action[i]
        assert exclusive.fired[0] == at_once.fired[i]
        assert (exclusive.action.dtype, exclusive.fired.dtype) == (at_once.action.dtype, at_once.fired.dtype)


def test_a_rule_more_costs_a_few_calls_for_one_transaction() -> None:
    """`benchmarks/rules.py` measures how long these take."""

    def calls(rules: int) -> int:
        text = "".join(
            f'[[rules]]\nname = "r{i}"\nwhen = "amount > {i}00 AND review_rule < {i} AND amount / block_rule'
            f' > 2"\naction = "review"\nreason = "r"\n'
            for i in range(rules)
        )
        policy, score, columns = parse_policy(text, NAMES), np.array([0.4]), _columns(1, amount=450)
        return count_calls(lambda: decide(policy, score, columns))

    assert calls(10) - calls(1) <= 9 * 12
    assert calls(1) <= 40
