"""The policy file: its meaning, errors for nonsense, and that it survives writing."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from zaslon.decisions.policy import (
    RULES_MAX,
    Policy,
    PolicyText,
    RuleText,
    Thresholds,
    load_policy,
    parse_policy,
)
from zaslon.domain.errors import PolicyError
from zaslon.domain.outcomes import Action

KNOWN = ("amount", "hour", "customer_mean_30d", "terminal_frauds_7d")
GOOD = """
name = "shop"
version = 3

[thresholds]
review = 0.3
block = inf

[costs]
review_minor = 5000

[[rules]]
name = "big_at_night"
when = "amount > 500 AND hour < 6"
action = "review"
reason = "amount {amount} at {hour} o'clock, against a mean of {customer_mean_30d} {{30 days}}"

[[rules]]
name = "known_terminal"
when = "terminal_frauds_7d >= 3"
action = "block"
reason = "\\"{terminal_frauds_7d}\\" frauds\\tat this terminal \\u007f"
shadow = true
"""


def _rule(**changes: str) -> str:
    fields = {"name": '"a"', "when": '"amount > 5"', "action": '"block"', "reason": '"r"'} | changes
    return "[[rules]]\n" + "".join(f"{key} = {value}\n" for key, value in fields.items())


def test_a_policy_is_read_with_its_defaults() -> None:
    policy = parse_policy(GOOD, KNOWN)
    assert policy.thresholds == Thresholds(review=0.3, block=math.inf)
    assert policy.costs.review_minor == 5000
    assert [(r.name, r.action, r.shadow) for r in policy.rules] == [
        ("big_at_night", Action.REVIEW, False), ("known_terminal", Action.BLOCK, True),
    ]  # fmt: skip
    assert policy.condition_names == ("amount", "hour", "terminal_frauds_7d")
    assert policy.label.startswith("shop@3 (")


def test_a_policy_written_and_read_again_is_equal() -> None:
    policy = parse_policy(GOOD, KNOWN)
    again = parse_policy(policy.to_toml(), KNOWN)
    assert again == policy
    assert again.hash == policy.hash
    assert parse_policy(load_policy(None, KNOWN).to_toml(), KNOWN) == load_policy(None, KNOWN)


def test_the_default_policy_reviews_from_05_and_blocks_from_09() -> None:
    policy = load_policy(None, KNOWN)
    assert (policy.thresholds.review, policy.thresholds.block, policy.rules) == (0.5, 0.9, ())


def test_a_policy_is_read_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "policy.toml").write_text(GOOD, "utf-8")
    assert load_policy(tmp_path / "policy.toml", KNOWN) == parse_policy(GOOD, KNOWN)


@pytest.mark.parametrize(
    "change",
    [("version = 3", "version = 4"), ("0.3", "0.31"), ("= 500", "= 501"), ("5000", "5001"),
     ("hour < 6", "hour < 7"), ('"review"', '"block"'), ("o'clock", "h"), ("shadow = true", ""),
     ('"shop"', '"shops"')],
)  # fmt: skip
def test_the_hash_changes_with_any_change_of_meaning(change: tuple[str, str]) -> None:
    changed = parse_policy(GOOD.replace(*change, 1), KNOWN)
    assert changed.hash != parse_policy(GOOD, KNOWN).hash
    assert len(changed.hash) == 12


def test_the_hash_does_not_change_with_layout() -> None:
    assert parse_policy("# a comment\n\n" + GOOD, KNOWN).hash == parse_policy(GOOD, KNOWN).hash


def test_new_thresholds_change_the_hash_and_nothing_else() -> None:
    policy = parse_policy(GOOD, KNOWN)
    changed = policy.with_thresholds(0.1, 0.2)
    assert (changed.thresholds.review, changed.thresholds.block) == (0.1, 0.2)
    assert changed.hash != policy.hash
    assert changed.rules == policy.rules
    with pytest.raises(PolicyError, match=r"review = 0\.9 is above block = 0\.2"):
        policy.with_thresholds(0.9, 0.2)
    with pytest.raises(PolicyError, match="greater than or equal to 0"):
        policy.with_thresholds(math.nan, 0.2)


def test_a_reason_is_filled_with_numbers_and_keeps_its_braces() -> None:
    reason = parse_policy(GOOD, KNOWN).rules[0].reason
    row = {"amount": 812.4, "hour": 3.0, "customer_mean_30d": 133.333333}
    assert reason.fill(row) == "amount 812.40 at 3 o'clock, against a mean of 133.33 {30 days}"
    row["customer_mean_30d"] = math.nan
    assert reason.fill(row, minor_digits=0).endswith("against a mean of unknown {30 days}")


NONSENSE = [
    (f"version = {10**30}", "version: Input should be less than"),
    (f"[costs]\nreview_minor = {10**30}", "costs.review_minor: Input should be less than"),
    ("x = [", "is not valid TOML"),
    ('thresholds = "a"', "with its keys below [thresholds]"),
    ("rules = 5", "below [[rules]]"),
    ("[thresholds]\nreview = 2.0\nblock = 3.0", "review = 2.0 is not a probability"),
    ("[thresholds]\nreview = 0.9\nblock = 0.5", "let review be at most block"),
    ("[thresholds]\nreview = nan", "thresholds.review"),
    ("[thresholds]\nreview = -0.1", "thresholds.review"),
    ('[thresholds]\nreview = "0.5"', "thresholds.review: Input should be a valid number"),
    ("[thresholds]\nreveiw = 0.9", "Did you mean 'review'?"),
    ("[treshold]\nreview = 0.9", "Did you mean 'thresholds'?"),
    ("[limits]\nreviews_per_day_max = 5", "limits: business limits are settings"),
    ("[costs]\nreview = 5", "Did you mean 'review_minor'?"),
    ("version = 0", "version"),
    ('name = "Ünser"', "is not a name"),
    ("[[rules]]", "rules.1.name: Field required"),
    (_rule(name='"A b"'), "rules.1.name: 'A b' is not a name"),
    (_rule(action='"stop"'), "rules.1.action: Input should be 'allow', 'review' or 'block'"),
    (_rule(reason='""'), "rules.1.reason"),
    (_rule(reason=f'"{"x" * 501}"'), "rules.1.reason"),
    (_rule(when="5"), "rules.1.when: Input should be a valid string"),
    (_rule(shadow='"yes"'), "rules.1.shadow"),
    (_rule(wehn='"x"'), "Did you mean 'when'?"),
    (_rule() + _rule(), "two rules are named 'a'"),
    (_rule(when='"amuont > 5"'), "rule 'a', when: Unknown name 'amuont'.\n    amuont > 5\n    ^^^^^^\n"),
    (_rule(when='"amount"'), "A condition is needed here"),
    (_rule(when='"DROP TABLE x"'), "no tables"),
    (_rule(reason='"at {huor}"'), "rule 'a', reason: Unknown name 'huor'.\n    at {huor}\n       ^^^^^^\n"),
    (_rule(reason='"at {hour"'), "belongs to no pair"),
    (_rule(reason='"at hour}"'), "belongs to no pair"),
    (_rule(reason='"at {}"'), "Unknown name ''"),
    (_rule(reason='"at {hour:.2f}"'), "Unknown name 'hour:.2f'"),
    ("".join(_rule(name=f'"r{i}"') for i in range(RULES_MAX + 1)), "65 rules are given; 64"),
]


@pytest.mark.parametrize(("text", "message"), NONSENSE, ids=[n[0][:40] for n in NONSENSE])
def test_nonsense_is_refused_with_a_sentence_that_helps(text: str, message: str) -> None:
    with pytest.raises(PolicyError) as raised:
        parse_policy(text, KNOWN, origin="Policy 'p.toml'")
    assert message in str(raised.value)
    assert str(raised.value).startswith("Policy 'p.toml'")


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "none.toml", tmp_path, tmp_path / "binary.toml"):
        with pytest.raises(PolicyError, match="cannot be read") as raised:
            load_policy(path, KNOWN)
        assert str(path) in str(raised.value)


def test_the_greatest_number_of_rules_is_accepted() -> None:
    policy = parse_policy("".join(_rule(name=f'"r{i}"') for i in range(RULES_MAX)), KNOWN)
    assert len(policy.rules) == RULES_MAX


def test_a_policy_can_be_built_from_parts() -> None:
    rule = RuleText(name="a", when="amount > 5", action="block", reason="r")
    text = PolicyText(rules=(rule,))
    assert parse_policy(Policy(text, ()).to_toml(), KNOWN).rules[0].condition.text == "amount > 5"
