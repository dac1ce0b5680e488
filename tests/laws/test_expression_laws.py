"""Laws of the expression language: it means what SQL means, and row by row what it means at once."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from zaslon.expressions.expression import ExpressionError, parse_expression

NAMES = ("amount", "hour", "terminal_frauds_7d")
# A few values, so that ties, zeros and nulls meet often.
VALUES = st.sampled_from([math.nan, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 1e6])
LITERALS = st.sampled_from(["0.0", "0.5", "1.0", "2.0", "3.0"])


def _numbers(children: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    def joined(pattern: str, count: int) -> st.SearchStrategy[str]:
        return st.tuples(*[children] * count).map(lambda parts: pattern.format(*parts))

    return st.one_of(
        *(joined(f"({{}} {sign} {{}})", 2) for sign in "+-*/"),
        joined("{} - {} * {} / {}", 4).map("({})".format),
        joined("(-{})", 1), joined("ABS({})", 1), joined("LN({})", 1), joined("SQRT({})", 1),
        joined("COALESCE({}, {})", 2), joined("NULLIF({}, {})", 2),
        joined("GREATEST({}, {}, {})", 3), joined("LEAST({}, {})", 2),
        joined("CASE WHEN {} > {} THEN {} WHEN {} IS NULL THEN {} ELSE {} END", 6),
        joined("CASE WHEN {} = {} THEN {} END", 3),
    )  # fmt: skip


numbers = st.recursive(st.one_of(st.sampled_from(NAMES), LITERALS), _numbers, max_leaves=6)


def _comparisons() -> st.SearchStrategy[str]:
    signs = st.sampled_from(["=", "<>", "!=", "<", "<=", ">", ">="])
    return st.one_of(
        st.tuples(numbers, signs, numbers).map(" ".join),
        st.tuples(numbers, st.sampled_from(["BETWEEN", "NOT BETWEEN"]), numbers, numbers).map(
            lambda p: f"{p[0]} {p[1]} {p[2]} AND {p[3]}"
        ),
        st.tuples(numbers, st.sampled_from(["IN", "NOT IN"]), LITERALS, LITERALS).map(
            lambda p: f"{p[0]} {p[1]} ({p[2]}, -{p[3]}, 7.0)"
        ),
        st.tuples(numbers, st.sampled_from(["IS NULL", "IS NOT NULL"])).map(" ".join),
        st.sampled_from(["TRUE", "FALSE"]),
    )


conditions = st.recursive(
    _comparisons(),
    lambda children: st.one_of(
        st.tuples(children, st.sampled_from(["AND", "OR"]), children).map(" ".join),
        st.tuples(children, st.sampled_from(["AND", "OR"]), children).map(lambda p: f"({' '.join(p)})"),
        children.map(lambda c: f"NOT ({c})"),
        children.map(lambda c: f"NOT {c}"),
    ),
    max_leaves=5,
)
rows = st.lists(st.tuples(VALUES, VALUES, VALUES), min_size=1, max_size=12)


def _columns(table: list[tuple[float, float, float]]) -> dict[str, NDArray[np.float64]]:
    return dict(zip(NAMES, np.array(table, np.float64).T, strict=True))


def _known(choose: Callable[..., float]) -> Callable[..., float | None]:
    return lambda *values: choose((v for v in values if v is not None), default=None)


@pytest.fixture(scope="module")
def sqlite() -> sqlite3.Connection:
    """SQLite with the functions that it lacks or may lack."""
    connection = sqlite3.connect(":memory:", check_same_thread=False)
    connection.create_function("LEAST", -1, _known(min))
    connection.create_function("GREATEST", -1, _known(max))
    connection.create_function("LN", 1, lambda x: math.log(x) if x is not None and x > 0 else None)
    connection.create_function("SQRT", 1, lambda x: math.sqrt(x) if x is not None and x >= 0 else None)
    columns = ", ".join(f"{name} REAL" for name in NAMES)
    connection.execute(f"CREATE TABLE rows (id INTEGER, {columns})")
    return connection


def _fill(connection: sqlite3.Connection, table: list[tuple[float, float, float]]) -> None:
    connection.execute("DELETE FROM rows")
    connection.executemany("INSERT INTO rows VALUES (?, ?, ?, ?)", [(i, *row) for i, row in enumerate(table)])


@given(text=conditions, table=rows)
def test_a_condition_holds_where_sql_keeps_the_row(
    sqlite: sqlite3.Connection, text: str, table: list[tuple[float, float, float]]
) -> None:
    _fill(sqlite, table)
    kept = {row[0] for row in sqlite.execute(f"SELECT id FROM rows WHERE {text}")}
    holds = parse_expression(text, NAMES, "condition").evaluate(_columns(table))
    assert holds.dtype == np.bool_
    assert set(np.flatnonzero(holds).tolist()) == kept


@given(text=numbers, table=rows)
def test_a_number_is_what_sql_computes(
    sqlite: sqlite3.Connection, text: str, table: list[tuple[float, float, float]]
) -> None:
    _fill(sqlite, table)
    expected = [
        math.nan if row[0] is None else row[0]
        for row in sqlite.execute(f"SELECT {text} FROM rows ORDER BY id")
    ]
    values = parse_expression(text, NAMES, "number").evaluate(_columns(table))
    assert values.dtype == np.float64
    np.testing.assert_allclose(values, expected, rtol=1e-12, equal_nan=True)


anything = st.floats(width=64, allow_nan=True, allow_infinity=True)


@given(
    text=st.one_of(numbers, conditions),
    table=st.lists(st.tuples(anything, anything, anything), min_size=1, max_size=40),
    first=st.integers(0, 40),
)
def test_a_row_has_the_same_bits_alone_and_in_any_batch(
    text: str, table: list[tuple[float, float, float]], first: int
) -> None:
    columns = {name: column.copy() for name, column in _columns(table).items()}
    strided = dict(zip(NAMES, np.array(table, np.float64).T, strict=True))
    expression = parse_expression(text, NAMES, "number")
    at_once = expression.evaluate(columns).tobytes()
    one_by_one = [
        expression.evaluate({n: c[i : i + 1] for n, c in columns.items()}) for i in range(len(table))
    ]
    parts = [
        expression.evaluate({n: c[part] for n, c in strided.items()})
        for part in (slice(0, first), slice(first, None))
    ]
    assert np.concatenate(one_by_one).tobytes() == at_once
    assert np.concatenate(parts).tobytes() == at_once


@given(text=conditions, table=rows)
def test_a_condition_as_a_number_is_one_where_it_holds(
    text: str, table: list[tuple[float, float, float]]
) -> None:
    holds = parse_expression(text, NAMES, "condition").evaluate(_columns(table))
    number = parse_expression(text, NAMES, "number").evaluate(_columns(table))
    assert np.array_equal(number, holds.astype(np.float64))


WORDS = """amount hour amuont ( ) , + - * / = <> < >= AND OR NOT IN IS NULL BETWEEN CASE WHEN THEN ELSE END
1 2.5 1e999 ABS LN COALESCE COUNT SELECT FROM DROP ; -- /* */ ' \" . :: [ ] { } @ ? % # CAST AS INTERVAL DATE
\x00 é 🙂 LIKE EXISTS OVER LIMIT"""
words = st.sampled_from(WORDS.split())


@given(st.one_of(st.text(max_size=80), st.lists(words, max_size=25).map(" ".join)))
def test_any_text_is_either_compiled_or_refused_with_a_sentence(text: str) -> None:
    try:
        expression = parse_expression(text, NAMES, "condition")
    except ExpressionError as error:
        assert error.problem.endswith(".") and len(error.problem) > 15
        assert 0 <= error.start <= error.end <= len(text)
        assert "^" in str(error)
        return
    columns = {name: np.array([1.0, math.nan, 3.0]) for name in NAMES}
    assert expression.evaluate(columns).shape == (3,)
    assert set(expression.names) <= set(NAMES)
