"""The reference pages describe all that the code accepts, and their examples work."""

from __future__ import annotations

import re
from pathlib import Path

from zaslon.decisions.policy import Costs, RuleText, Thresholds, parse_policy
from zaslon.expressions.expression import FUNCTIONS, NESTING_MAX, TEXT_CHARACTERS_MAX, parse_expression
from zaslon.expressions.parser import RESERVED_WORDS

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
COLUMNS = (
    "amount", "hour", "terminal_frauds_1d", "terminal_frauds_7d", "terminal_risk_30d",
    "customer_mean_30d", "customer_since_last_30d",
)  # fmt: skip


def _page(name: str) -> str:
    return (REFERENCE / name).read_text("utf-8")


def _example(page: str, language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_page_on_expressions_names_every_word_of_the_language() -> None:
    page = _page("expressions.md")
    for word in (*FUNCTIONS, *RESERVED_WORDS):
        assert re.search(rf"\b{word}\b", page), word
    assert f"{TEXT_CHARACTERS_MAX:,} characters and {NESTING_MAX} levels" in page


def test_the_examples_of_expressions_are_accepted() -> None:
    for line in _example(_page("expressions.md"), "sql").splitlines():
        assert parse_expression(line, COLUMNS, "condition").names


def test_the_policy_page_names_every_key() -> None:
    page = _page("policy.md")
    for part in (Thresholds, Costs, RuleText):
        for key in part.model_fields:
            assert key in page, key
    policy = parse_policy(_example(page, "toml"), COLUMNS)
    assert len(policy.rules) == 2
    assert policy.costs == Costs()
