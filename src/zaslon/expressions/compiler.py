"""From a syntax tree to closures: one meaning, written over two sets of primitive operations.

`VECTORS` works on float64 columns with NumPy, `SCALARS` on the floats of one row, which is ten
times as fast for one row as NumPy is. Both follow IEEE 754, so a row's value is the same to the last bit.
A condition is compiled to where it is known to hold; NOT is pushed down to the comparisons
(`NOT a > 1` becomes `a <= 1`), which gives SQL's three-valued logic without a third value.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray
from sqlglot import exp

from zaslon.expressions.parser import FUNCTION_PREFIX, KNOWN_WORDS, ExpressionError
from zaslon.system.portable_math import fill_logarithms, logarithm

Compute = Callable[[Mapping[str, Any]], Any]  # values by column name → the expression's value
Binary = Callable[[Any, Any], Any]
Unary = Callable[[Any], Any]


@dataclass(frozen=True)
class Primitives:
    """Elementwise operations on one representation of a column."""

    add: Binary
    subtract: Binary
    multiply: Binary
    divide: Binary  # null where the divisor is zero
    negative: Unary
    absolute: Unary
    square_root: Unary  # null below zero
    logarithm: Unary  # natural; null up to zero
    equal: Binary
    less: Binary
    less_equal: Binary
    greater: Binary
    greater_equal: Binary
    both: Binary
    either: Binary
    invert: Unary
    is_null: Unary
    choose: Callable[[Any, Any, Any], Any]  # condition, where it holds, where not
    among: Callable[[NDArray[np.float64]], Unary]


def _divide_columns(a: Any, b: Any) -> Any:
    return np.divide(a, np.where(np.equal(b, 0.0), np.nan, b))


def _logarithm_of_column(a: Any) -> Any:
    if np.ndim(a) == 0:
        return logarithm(float(a))
    values = np.ascontiguousarray(a, np.float64)
    result = np.empty_like(values)
    fill_logarithms(values, result)
    return result


def _among_columns(numbers: NDArray[np.float64]) -> Unary:
    last = len(numbers) - 1
    return lambda x: np.equal(numbers[np.minimum(numbers.searchsorted(x), last)], x)


def _among_scalars(numbers: NDArray[np.float64]) -> Unary:
    members = frozenset(numbers.tolist())
    return lambda x: x in members


VECTORS = Primitives(
    np.add, np.subtract, np.multiply, _divide_columns, np.negative, np.abs, np.sqrt,
    _logarithm_of_column, np.equal, np.less, np.less_equal, np.greater, np.greater_equal,
    np.logical_and, np.logical_or, np.logical_not, np.isnan, np.where, _among_columns,
)  # fmt: skip
SCALARS = Primitives(
    operator.add, operator.sub, operator.mul,
    lambda a, b: a / b if b != 0.0 else math.nan,
    operator.neg, abs,
    lambda a: math.sqrt(a) if a >= 0.0 else math.nan,
    logarithm,
    operator.eq, operator.lt, operator.le, operator.gt, operator.ge,
    operator.and_, operator.or_, operator.not_, math.isnan,
    lambda holds, yes, no: yes if holds else no,
    _among_scalars,
)  # fmt: skip

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=", exp.NEQ: "<>", exp.LT: "<", exp.LTE: "<=", exp.GT: ">", exp.GTE: ">=",
}  # fmt: skip
_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class _Constant:
    """A number of the text as a closure. What it is combined with takes its value and saves the call."""

    __slots__ = ("value",)

    def __init__(self, value: float) -> None:
        self.value = value

    def __call__(self, columns: Mapping[str, Any]) -> float:
        return self.value


class Compiler:
    """Turns a syntax tree into a closure. `names` collects the columns met on the way."""

    def __init__(self, text: str, primitives: Primitives) -> None:
        self.text = text
        self.names: set[str] = set()
        self.p = p = primitives
        self._compare: dict[str, Binary] = {
            "=": p.equal, "<>": lambda a, b: p.either(p.less(a, b), p.greater(a, b)),
            "<": p.less, "<=": p.less_equal, ">": p.greater, ">=": p.greater_equal,
        }  # fmt: skip
        self._arithmetic: dict[type[exp.Expr], Binary] = {
            exp.Add: p.add, exp.Sub: p.subtract, exp.Mul: p.multiply, exp.Div: p.divide,
        }  # fmt: skip
        # Equal values: the first, so that a zero's sign never depends on a vector instruction.
        # Nulls are passed over, as in PostgreSQL.
        self._functions: dict[str, tuple[int | None, Unary | Binary]] = {
            "abs": (1, p.absolute),
            "ln": (1, p.logarithm),
            "sqrt": (1, p.square_root),
            "nullif": (2, lambda a, b: p.choose(p.equal(a, b), math.nan, a)),
            "coalesce": (None, lambda a, b: p.choose(p.is_null(a), b, a)),
            "greatest": (None, lambda a, b: p.choose(p.either(p.greater(b, a), p.is_null(a)), b, a)),
            "least": (None, lambda a, b: p.choose(p.either(p.less(b, a), p.is_null(a)), b, a)),
        }

    def _fail(self, problem: str, node: exp.Expr, hint: str | None = None) -> NoReturn:
        spans = [n.meta for n in node.walk() if "start" in n.meta]
        start = min((m["start"] for m in spans), default=0)
        end = max((m["end"] + 1 for m in spans), default=len(self.text))
        raise ExpressionError(problem, self.text, start, end, hint=hint)

    def value(self, tree: exp.Expr, kind: str) -> Compute:
        """The closure of a whole tree: a truth value for `condition`, float64 for `number`.

        Raises:
            ExpressionError: the tree mixes numbers and conditions, or a list or function is used
                in a way that is not part of the subset.
        """
        choose, is_null = self.p.choose, self.p.is_null
        if kind == "condition":
            return self._condition(tree, True)
        if _is_condition(tree):
            condition = self._condition(tree, True)
            return lambda columns: choose(condition(columns), 1.0, 0.0)
        number = self._number(tree)

        def with_one_null(columns: Mapping[str, Any]) -> Any:
            """Every null as the same NaN, whose sign and payload would else depend on the way."""
            value = number(columns)
            return choose(is_null(value), math.nan, value)

        return with_one_null

    def _condition(self, node: exp.Expr, holds: bool) -> Compute:
        """Where the node is known to be true (`holds`), or known to be false (not `holds`)."""
        if isinstance(node, exp.Paren):
            return self._condition(node.this, holds)
        if isinstance(node, exp.Not):
            return self._condition(node.this, not holds)
        if isinstance(node, exp.And | exp.Or):
            parts = [self._condition(p, holds) for p in _chain(node, type(node))]
            return _combined(parts, self.p.both if isinstance(node, exp.And) == holds else self.p.either)
        if isinstance(node, exp.Boolean):
            constant = bool(node.this) == holds
            return lambda columns: constant
        if type(node) in _COMPARISONS:
            return self._comparison(node, _COMPARISONS[type(node)], holds)
        if isinstance(node, exp.Between):
            return self._between(node, holds)
        if isinstance(node, exp.In):
            return self._in(node, holds)
        if isinstance(node, exp.Is):
            return self._is_null(node, holds)
        self._number(node)  # reports an error inside the node first
        self._fail("A condition is needed here, and this is a number.", node,
                  "Compare it, for example with > 0.")  # fmt: skip

    def _comparison(self, node: exp.Expr, sign: str, holds: bool) -> Compute:
        for side in (node.this, node.expression):
            if isinstance(side, exp.Null):
                self._fail("A comparison with NULL never holds.", node, "Write IS NULL or IS NOT NULL.")
        compare = self._compare[sign if holds else _OPPOSITE[sign]]
        return _combined([self._number(node.this), self._number(node.expression)], compare)

    def _between(self, node: exp.Expr, holds: bool) -> Compute:
        value, low, high = (self._number(node.args[part]) for part in ("this", "low", "high"))
        above, below, join = (
            (self.p.greater_equal, self.p.less_equal, self.p.both) if holds
            else (self.p.less, self.p.greater, self.p.either)
        )  # fmt: skip

        if isinstance(low, _Constant) and isinstance(high, _Constant):
            least, most = low.value, high.value

            def between_constants(columns: Mapping[str, Any]) -> Any:
                x = value(columns)
                return join(above(x, least), below(x, most))

            return between_constants

        def between(columns: Mapping[str, Any]) -> Any:
            x = value(columns)
            return join(above(x, low(columns)), below(x, high(columns)))

        return between

    def _in(self, node: exp.Expr, holds: bool) -> Compute:
        listed = node.args.get("expressions") or []
        if not listed:
            self._fail("IN needs a list of numbers.", node, "Write for example IN (1, 2, 3).")
        value = self._number(node.this)
        among = self.p.among(np.unique([self._constant(item) for item in listed]))
        if holds:
            return lambda columns: among(value(columns))
        either, invert, is_null = self.p.either, self.p.invert, self.p.is_null

        def not_in(columns: Mapping[str, Any]) -> Any:
            x = value(columns)
            return invert(either(among(x), is_null(x)))

        return not_in

    def _constant(self, node: exp.Expr) -> float:
        negative = isinstance(node, exp.Neg)
        literal = node.this if negative else node
        if not isinstance(literal, exp.Literal):
            self._fail("The list of IN may hold numbers only.", node, "Use OR for anything else.")
        return -float(literal.this) if negative else float(literal.this)

    def _is_null(self, node: exp.Expr, holds: bool) -> Compute:
        if not isinstance(node.expression, exp.Null):
            self._fail("After IS comes NULL or NOT NULL.", node, "For numbers, use =.")
        value, is_null, invert = self._number(node.this), self.p.is_null, self.p.invert
        if holds:
            return lambda columns: is_null(value(columns))
        return lambda columns: invert(is_null(value(columns)))

    def _number(self, node: exp.Expr) -> Compute:
        """The node's value as float64, NaN for null."""
        if isinstance(node, exp.Paren):
            return self._number(node.this)
        if isinstance(node, exp.Column):
            self.names.add(node.name)
            return operator.itemgetter(node.name)
        if isinstance(node, exp.Literal | exp.Null):
            return _Constant(math.nan if isinstance(node, exp.Null) else float(node.this))
        if isinstance(node, exp.Neg):
            return _applied(self.p.negative, self._number(node.this))
        if type(node) in self._arithmetic:
            return self._sum_or_product(node)
        if isinstance(node, exp.Case):
            return self._case(node)
        if isinstance(node, exp.Anonymous):
            return self._function(node)
        self._refuse(node)

    def _refuse(self, node: exp.Expr) -> NoReturn:
        if _is_condition(node):
            self._fail("A number is needed here, and this is a condition.", node,
                      "Join conditions by AND and OR; as a number, write CASE WHEN … THEN 1 ELSE 0"
                      " END.")  # fmt: skip
        if isinstance(node, exp.Alias | exp.Aliases):
            self._fail("An operator is missing between these words.", node, KNOWN_WORDS)
        self._fail("This is not part of the language.", node, KNOWN_WORDS)

    def _sum_or_product(self, node: exp.Expr) -> Compute:
        """A chain such as a - b / c + d: left to right, without recursion into the left."""
        steps: list[tuple[Binary, Compute]] = []
        while type(node) in self._arithmetic:
            steps.insert(0, (self._arithmetic[type(node)], self._number(node.expression)))
            node = node.this
        first = self._number(node)
        if len(steps) == 1:
            return _combined([first, steps[0][1]], steps[0][0])

        def chain(columns: Mapping[str, Any]) -> Any:
            value = first(columns)
            for combine, operand in steps:
                value = combine(value, operand(columns))
            return value

        return chain

    def _case(self, node: exp.Expr) -> Compute:
        if node.this is not None:
            self._fail("CASE is followed by WHEN and a condition.", node, "CASE WHEN x = 1 THEN …")
        branches = [
            (self._condition(b.this, True), self._number(b.args["true"])) for b in reversed(node.args["ifs"])
        ]
        default = node.args.get("default")
        otherwise = self._number(default if default is not None else exp.Null())
        choose = self.p.choose

        def case(columns: Mapping[str, Any]) -> Any:
            value = otherwise(columns)
            for holds, then in branches:
                value = choose(holds(columns), then(columns), value)
            return value

        return case

    def _function(self, node: exp.Expr) -> Compute:
        name = str(node.this).removeprefix(FUNCTION_PREFIX)
        wanted, function = self._functions[name]
        given = [self._number(argument) for argument in node.expressions]
        if len(given) != wanted if wanted else not given:
            values = "2 values" if wanted == 2 else f"{'' if wanted else 'at least '}1 value"
            self._fail(f"{name.upper()} takes {values}, not {len(given)}.", node)
        return _applied(function, given[0]) if wanted == 1 else _combined(given, function)


def _is_condition(node: exp.Expr) -> bool:
    if isinstance(node, exp.Paren):
        return _is_condition(node.this)
    return type(node) in _COMPARISONS or isinstance(
        node, exp.And | exp.Or | exp.Not | exp.Between | exp.In | exp.Is | exp.Boolean
    )


def _chain(node: exp.Expr, kind: type[exp.Expr]) -> Iterator[exp.Expr]:
    """The members of a AND b AND c, without recursion into the left."""
    members = []
    while type(node) is kind:
        members.append(node.expression)
        node = node.this
    yield node
    yield from reversed(members)


def _applied(function: Callable[..., Any], argument: Compute) -> Compute:
    return lambda columns: function(argument(columns))


def _combined(parts: Sequence[Compute], combine: Callable[..., Any]) -> Compute:
    if len(parts) == 2:
        first, second = parts
        if isinstance(second, _Constant):
            constant = second.value
            return lambda columns: combine(first(columns), constant)
        return lambda columns: combine(first(columns), second(columns))

    def combined(columns: Mapping[str, Any]) -> Any:
        value = parts[0](columns)
        for part in parts[1:]:
            value = combine(value, part(columns))
        return value

    return combined
