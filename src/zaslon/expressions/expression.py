"""Expressions over columns: a small, exact subset of SQL, compiled once, never given to `eval`.

Numbers are float64 and NaN is null; a condition holds where SQL's WHERE would keep the row. The
subset and its limits are in `docs/reference/expressions.md`. `expression_words` reads the text,
`expression_compiler` gives it its meaning.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from zaslon.expressions.compiler import SCALARS, VECTORS, Compiler, Compute
from zaslon.expressions.parser import (
    FUNCTIONS,
    NESTING_MAX,
    TEXT_CHARACTERS_MAX,
    ExpressionError,
    parse_words,
)

__all__ = [
    "FUNCTIONS", "NESTING_MAX", "TEXT_CHARACTERS_MAX", "Expression", "ExpressionError",
    "as_columns", "as_row", "parse_expression",
]  # fmt: skip

Kind = Literal["condition", "number"]
Columns = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Expression:
    """A compiled expression. Two are equal when their text and kind are.

    Attributes:
        text: as written.
        names: the columns that it uses, sorted.
        kind: `condition` (evaluates to bool) or `number` (to float64, NaN for null).
        evaluate_row: gives the value for one row that `as_row` gave: some ten times faster than an
            array of one.
    """

    text: str
    names: tuple[str, ...]
    kind: Kind
    _of_columns: Compute = field(repr=False, compare=False)
    evaluate_row: Compute = field(repr=False, compare=False)

    def evaluate(self, columns: Columns) -> NDArray[Any]:
        """The value for every row: bool (n,) or float64 (n,).

        A row's value depends on that row alone, to the last bit, whatever the batch. `columns`
        has at least `names`, arrays of one length n; others are not read. An expression without
        names takes n from any column; where there is none, n is 1.

        Raises:
            KeyError: `columns` lacks one of `names`.
        """
        some = columns[self.names[0]] if self.names else next(iter(columns.values()), np.zeros(1))
        if len(some) == 1:
            return np.array([self.evaluate_row(as_row(self.names, columns))])
        with np.errstate(all="ignore"):
            return self.evaluate_columns(as_columns(self.names, columns), len(some))

    def evaluate_columns(self, columns: Columns, rows: int) -> NDArray[Any]:
        """`evaluate` for what `as_columns` gave, within the caller's `np.errstate(all="ignore")`.

        For many expressions over the same columns, which are then converted once.
        """
        values = np.asarray(self._of_columns(columns))
        return values if values.ndim else np.full(rows, values)


def as_columns(names: Sequence[str], columns: Columns) -> dict[str, NDArray[np.float64]]:
    """Each of `names` as float64 (n,), without a copy where it is that already."""
    return {name: np.asarray(columns[name], np.float64) for name in names}


def as_row(names: Sequence[str], columns: Columns, row: int = 0) -> dict[str, float]:
    """The values of one row by name."""
    return {name: float(columns[name][row]) for name in names}


def parse_expression(text: str, known: Collection[str], kind: Kind) -> Expression:
    """Check and compile `text`, which may use the column names in `known`.

    Names are taken as they are or, where there is no such name, in lower case; a name may be put
    in double quotes. Where `kind` is `number`, a condition counts as 1 where it holds, else as 0.

    Raises:
        ExpressionError: the text is empty, too long or too deep, is outside the subset, uses an
            unknown name, or is a number where a condition is asked for.
    """
    tree = parse_words(text, known)
    of_columns = Compiler(text, VECTORS)
    of_row = Compiler(text, SCALARS)
    vectorised, single = of_columns.value(tree, kind), of_row.value(tree, kind)
    return Expression(text, tuple(sorted(of_columns.names)), kind, vectorised, single)
