"""The expression language: what it computes, and what it answers to nonsense."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import pytest
from tests.calls import count_calls

from zaslon.expressions.expression import (
    NESTING_MAX,
    TEXT_CHARACTERS_MAX,
    ExpressionError,
    as_row,
    parse_expression,
)

KNOWN = (
    "amount", "hour", "date", "order", "customer_mean_30d", "customer_count_1h", "customer_max_30d",
    "customer_same_terminal_30d", "customer_since_last_30d", "terminal_frauds_1d",
    "terminal_frauds_7d", "terminal_risk_30d",
)  # fmt: skip
NAN = math.nan
TYPICAL_RULES = (
    "amount > 500 AND hour < 6",
    "terminal_frauds_7d >= 3",
    "amount > 220",
    "amount / customer_mean_30d > 5 AND customer_count_1h >= 10",
    "customer_same_terminal_30d = 0 AND amount > 300",
    "terminal_risk_30d > 0.2 OR terminal_frauds_1d >= 1",
    "amount BETWEEN 900 AND 1000 AND hour IN (0, 1, 2, 3)",
    "customer_count_1h >= 5",
    "customer_since_last_30d < 60 AND amount > 100",
    "COALESCE(amount / customer_max_30d, 1) > 2 AND NOT hour BETWEEN 8 AND 20",
)


def _one(text: str, **values: float) -> object:
    columns = {name: np.array([value, value]) for name, value in values.items()}
    kind: Literal["condition", "number"] = "condition" if text.startswith("? ") else "number"
    expression = parse_expression(text.removeprefix("? "), KNOWN, kind)
    result = expression.evaluate(columns)
    assert result.shape == (2,)
    single = expression.evaluate({name: column[:1] for name, column in columns.items()})
    assert single.tobytes() == result[:1].tobytes() == result[1:].tobytes()
    return result[0].item()


@pytest.mark.parametrize(
    ("text", "amount", "expected"),
    [
        ("amount + 2 * 3", 1, 7.0),
        ("(amount + 2) * 3", 1, 9.0),
        ("10 - amount - 3", 2, 5.0),
        ("16 / amount / 2", 4, 2.0),
        ("-amount * 2", 3, -6.0),
        ("- - amount", 3, 3.0),
        ("ABS(-amount)", 3, 3.0),
        ("abs(amount - 5)", 3, 2.0),
        ("LEAST(amount, 2, 5)", 3, 2.0),
        ("GREATEST(amount, 2)", 3, 3.0),
        ("GREATEST(NULL, amount)", 3, 3.0),
        ("COALESCE(NULL, NULL, amount)", 3, 3.0),
        ("COALESCE(amount, 7)", NAN, 7.0),
        ("NULLIF(amount, 3)", 3, NAN),
        ("SQRT(amount)", 9, 3.0),
        ("SQRT(amount)", -9, NAN),
        ("LN(amount)", 1, 0.0),
        ("LN(amount)", 0, NAN),
        ("amount / 0", 5, NAN),
        ("0 / amount", 0, NAN),
        ("amount + 1", NAN, NAN),
        ("CASE WHEN amount > 2 THEN 10 WHEN amount > 1 THEN 5 ELSE 0 END", 2, 5.0),
        ("CASE WHEN amount > 2 THEN 10 END", 2, NAN),
        ("CASE WHEN amount > 2 THEN 10 ELSE 1 END", NAN, 1.0),
        ("amount > 2", 3, 1.0),
        ("amount > 2", NAN, 0.0),
        ('"amount" + 0', 4, 4.0),
        ("AMOUNT + 0", 4, 4.0),
        ("1e3 + 2.", 4, 1002.0),
    ],
)
def test_numbers_have_their_values(text: str, amount: float, expected: float) -> None:
    assert _one(text, amount=amount) == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize(
    ("text", "amount", "expected"),
    [
        ("amount = 2", 2, True),
        ("amount <> 2", 2, False),
        ("amount != 3", 2, True),
        ("amount BETWEEN 1 AND 2", 2, True),
        ("amount NOT BETWEEN 1 AND 2", 2, False),
        ("amount IN (1, 2, 3)", 2, True),
        ("amount IN (-1, 7)", -1, True),
        ("amount NOT IN (1, 3)", 2, True),
        ("NOT amount = 2", 2, False),
        ("NOT NOT amount = 2", 2, True),
        ("amount > 1 AND amount > 5 OR amount < 3", 2, True),
        ("amount < 3 OR amount > 1 AND amount > 5", 2, True),
        ("NOT amount > 5 AND amount > 1", 2, True),
        ("amount IS NULL", NAN, True),
        ("amount IS NOT NULL", NAN, False),
        ("amount / 0 IS NULL", 2, True),
        ("TRUE AND amount = 2", 2, True),
        ("FALSE OR NOT TRUE", 2, False),
    ],
)
def test_conditions_hold_as_in_sql(text: str, amount: float, expected: bool) -> None:
    assert _one(f"? {text}", amount=amount) is expected


@pytest.mark.parametrize(
    "text",
    ["amount = 1", "amount <> 1", "NOT amount = 1", "amount < 1", "NOT amount < 1", "amount IN (1)",
     "amount NOT IN (1)", "amount BETWEEN 0 AND 1", "amount NOT BETWEEN 0 AND 1",
     "NOT (amount > 1 AND hour = 1)", "NOT (amount > 1 OR hour <> 1)"],
)  # fmt: skip
def test_nothing_that_compares_null_holds_not_even_negated(text: str) -> None:
    assert _one(f"? {text}", amount=NAN, hour=1) is False


def test_a_constant_is_given_for_every_row() -> None:
    columns = {"amount": np.zeros(3)}
    assert parse_expression("1 < 2", KNOWN, "condition").evaluate(columns).tolist() == [True] * 3
    assert parse_expression("1 + 2", KNOWN, "number").evaluate(columns).tolist() == [3.0] * 3
    assert parse_expression("1 < 2", KNOWN, "condition").evaluate({}).tolist() == [True]


def test_no_rows_give_no_values() -> None:
    for text in ("amount > 2 AND hour IN (1, 2)", "1 < 2"):
        empty = {"amount": np.zeros(0), "hour": np.zeros(0)}
        assert parse_expression(text, KNOWN, "condition").evaluate(empty).shape == (0,)


def test_columns_of_other_types_count_as_float64() -> None:
    expression = parse_expression("amount + hour > 2.5", KNOWN, "condition")
    columns: dict[str, Any] = {"amount": np.array([1, 2], np.int64), "hour": np.array([1, 1], np.float32)}
    assert expression.evaluate(columns).tolist() == [False, True]


def test_the_result_never_shares_memory_with_a_column() -> None:
    amount = np.array([1.0, 2.0])
    parse_expression("amount", KNOWN, "number").evaluate({"amount": amount})[0] = 9
    assert amount.tolist() == [1.0, 2.0]


def test_an_expression_names_its_columns_and_is_equal_to_its_like() -> None:
    first = parse_expression("hour < 6 AND AMOUNT > 1 AND hour > 1", KNOWN, "condition")
    assert first.names == ("amount", "hour")
    assert first == parse_expression(first.text, KNOWN, "condition")
    assert first != parse_expression(first.text, KNOWN, "number")


def test_a_column_may_be_called_like_a_word_of_sql() -> None:
    expression = parse_expression("date > 1 AND order < 3", KNOWN, "condition")
    assert expression.names == ("date", "order")


def test_a_long_chain_is_computed_without_nesting() -> None:
    text = "+".join(["hour"] * 399)
    values = parse_expression(text, KNOWN, "number").evaluate({"hour": np.array([1.0, 2.0])})
    assert values.tolist() == [399.0, 798.0]
    text = " OR ".join(f"hour={i}" for i in range(150))
    holds = parse_expression(text, KNOWN, "condition").evaluate({"hour": np.array([149.0, 150.0])})
    assert holds.tolist() == [True, False]


def test_the_greatest_allowed_nesting_is_parsed() -> None:
    text = "(" * NESTING_MAX + "amount" + ")" * NESTING_MAX
    assert parse_expression(text, KNOWN, "number").names == ("amount",)


# text, part of the message, the word above the carets
NONSENSE = [
    ("", "is empty", ""),
    ("   ", "is empty", ""),
    ("amuont > 5", "Unknown name 'amuont'.", "amuont"),
    ("amount > 5 AND huor < 6", "Did you mean 'hour'?", "huor"),
    ("amount > 'big'", "Only numbers can be compared", "'big'"),
    ("amount > 1; DROP TABLE amount", "exactly one expression", ";"),
    ("amount > 1 -- why", "Comments are not part", "-- why"),
    ("amount > 1 /* why */", "Comments are not part", "/* why */"),
    ("amount --5 > 1", "for minus minus, use parentheses", "--5 > 1"),
    ("CAST(amount AS int) > 1", "'CAST' is not a function", "CAST"),
    ("(SELECT 1) > 0", "reads one transaction, no tables", "SELECT"),
    ("EXISTS(SELECT 1)", "reads one transaction, no tables", "EXISTS"),
    ("COUNT(*) > 1", "Define the aggregate in the catalogue", "COUNT"),
    ("MAX(amount, 1) > 1", "use GREATEST or LEAST", "MAX"),
    ("IF(amount > 1, 1, 2) > 1", "'IF' is not a function", "IF"),
    ("eval(amount) > 1", "'eval' is not a function", "eval"),
    ("amount(5) > 1", "is a column, not a function", "amount"),
    ("amount > ABS", "The function 'ABS' needs parentheses", "ABS"),
    ("ABS() > 1", "ABS takes 1 value, not 0", "ABS"),
    ("LN(amount, 2) > 1", "LN takes 1 value, not 2", "LN(amount, 2"),
    ("NULLIF(amount) > 1", "NULLIF takes 2 values, not 1", "NULLIF(amount"),
    ("COALESCE() > 1", "COALESCE takes at least 1 value, not 0", "COALESCE"),
    ("amount hour", "An operator is missing", "amount hour"),
    ("amount >", "Something is missing after '>'", ">"),
    ("amount > 1 OR", "Something is missing after 'OR'", "OR"),
    ("AND amount > 1", "Something is missing before 'AND'", "AND"),
    ("amount BETWEEN 1", "Something is missing after '1'", "1"),
    ("amount > 1 2", "'2' is not possible here", "2"),
    ("(amount > 1", "is not closed by ')'", "("),
    ("amount > 1)", "This ')' closes nothing", ")"),
    ("CASE WHEN amount > 1 THEN 2", "is not closed by 'END'", "CASE"),
    ("amount > 1 END", "This 'END' closes nothing", "END"),
    ("CASE amount WHEN 1 THEN 2 END > 1", "CASE is followed by WHEN", None),
    ("amount IN ()", "IN needs a list of numbers", "amount"),
    ("amount IN (hour)", "The list of IN may hold numbers only", "hour"),
    ("amount IN hour", "IN needs a list of numbers", None),
    ("amount IS 5", "After IS comes NULL or NOT NULL", None),
    ("amount = NULL", "Write IS NULL or IS NOT NULL", None),
    ("1 < amount < 3", "A number is needed here, and this is a condition", "1 < amount"),
    ("amount", "A condition is needed here, and this is a number", "amount"),
    ("amount AND hour > 1", "Compare it, for example with > 0", "amount"),
    ("(amount > 1) + 1 > 2", "CASE WHEN", "amount > 1"),
    ("amount > TRUE", "A number is needed here", None),
    ("amount LIKE 5", "'LIKE' is not part of the language", "LIKE"),
    ("amount == 5", "Write = for 'equal'", "=="),
    (".5 > amount", "0.5 instead of .5", "."),
    ("tx.amount > 5", "Unknown name 'tx'", "tx"),
    ("amount.x > 5", "Write names without a table", "."),
    ("amount % 2 = 0", "write 0.05 for 5 %", "%"),
    ("amount > 5%", "write 0.05 for 5 %", "%"),
    ("amount ** 2 > 4", "is not possible here", "2"),
    ("amount[0] > 4", "The sign '['", "["),
    ("amount::int > 4", "The sign '::'", "::"),
    ("amount > 1e999", "is not a number that can be used", "1e999"),
    ("amount > 1_000", "Unknown name '_000'", "_000"),
    ("amount > '", "is not closed", "'"),
    ("*", "Something is missing before '*'", "*"),
    ("amount > 5€", "The sign '€'", "€"),
    ("amount\n> amuont\nAND hour < 1", "Did you mean 'amount'?", "amuont"),
    ("import os", "Unknown name 'import'", "import"),
    ("__import__('os')", "is not a function", "__import__"),
    ("(" * 30 + "amount" + ")" * 30, f"{NESTING_MAX} levels are the most", None),
    ("NOT " * 30 + "amount > 1", f"{NESTING_MAX} levels are the most", None),
    ("hour > 1 AND " * 200 + "amount > 1", f"{TEXT_CHARACTERS_MAX} is the most", None),
]


@pytest.mark.parametrize(("text", "message", "word"), NONSENSE, ids=[n[0][:40] for n in NONSENSE])
def test_errors_point_at_the_wrong_word(text: str, message: str, word: str | None) -> None:
    with pytest.raises(ExpressionError) as raised:
        parse_expression(text, KNOWN, "condition")
    error = raised.value
    assert message in str(error)
    if word is not None:
        assert text[error.start : error.end] == word
        line, carets = error.message.rstrip("\n").split("\n")[1:]
        at = carets.index("^")
        assert carets.count("^") == max(1, len(word))
        assert word == "" or line[at : at + len(word)] == word


def test_carets_mark_a_word_far_inside_a_long_text() -> None:
    text = "hour > 1 AND " * 40 + "amuont > 1" + " AND hour > 1" * 40
    with pytest.raises(ExpressionError) as raised:
        parse_expression(text, KNOWN, "condition")
    _, line, carets = raised.value.message.rstrip("\n").split("\n")
    assert len(line) < 100
    assert line[carets.index("^") : carets.rindex("^") + 1] == "amuont"


def test_a_typical_rule_costs_a_few_calls_for_one_transaction() -> None:
    """`benchmarks/rules.py` measures how long these take."""
    rules = [parse_expression(rule, KNOWN, "condition") for rule in TYPICAL_RULES]
    names = sorted({name for rule in rules for name in rule.names})
    columns = {name: np.array([3.0]) for name in names}
    row = as_row(names, columns)
    assert count_calls(lambda: [rule.evaluate_row(row) for rule in rules]) <= 8 * len(rules)
