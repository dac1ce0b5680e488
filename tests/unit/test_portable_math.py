"""Exponential, logarithm and quadrature: correctly rounded, and the same bits wherever they are computed."""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Iterator
from decimal import Context, Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zaslon.expressions.expression import parse_expression
from zaslon.models.quadrature import gauss_legendre
from zaslon.system.portable_math import exponential, logarithm

DIGITS = Context(prec=50, Emin=-9999, Emax=9999)
WORST_ULPS = 0.5001
LEAST = sys.float_info.min  # that has all digits
# Arguments whose results lie nearest to a float64 or to the middle of two (Lefèvre and Muller, "Worst cases
# for correct rounding of the elementary functions in double precision", 2001).
HARD_EXP = ("0x1.9e9cbbfd6080bp-31", "-0x1.ed318efb627eap-27", "-0x1.290ea09e36479p-3")
HARD_LOG = ("0x1.62a88613629b6p+678",)


def ulps(found: float, exact: Decimal) -> float:
    """How far a result is from the exact value, in units of its last place."""
    with localcontext(DIGITS):
        return float(abs(Decimal(found) - exact) / Decimal(math.ulp(float(exact))))


def integers(count: int) -> Iterator[int]:
    """Random 64 bits without a library: Marsaglia's xorshift."""
    state = 88172645463325252
    for _ in range(count):
        state ^= state << 13 & 0xFFFFFFFFFFFFFFFF
        state ^= state >> 7
        state ^= state << 17 & 0xFFFFFFFFFFFFFFFF
        yield state


@pytest.mark.parametrize("hard", HARD_EXP)
def test_exponential_of_hard_cases(hard: str) -> None:
    x = float.fromhex(hard)
    assert ulps(exponential(x), Decimal(x).exp(DIGITS)) < WORST_ULPS


@pytest.mark.parametrize("hard", HARD_LOG)
def test_logarithm_of_hard_cases(hard: str) -> None:
    x = float.fromhex(hard)
    assert ulps(logarithm(x), Decimal(x).ln(DIGITS)) < WORST_ULPS


@given(st.floats(-745.13, 709.78))
@example(-708.3964185322641)
@example(-708.3964185322642)
@example(709.782712893384)
@example(-745.1332191019411)
def test_exponential_is_rounded_correctly(x: float) -> None:
    assert ulps(exponential(x), Decimal(x).exp(DIGITS)) < WORST_ULPS


@given(st.floats(5e-324, exclude_max=True, allow_infinity=False, max_value=sys.float_info.max))
@example(5e-324)
@example(LEAST)
@example(math.nextafter(LEAST, 0))
@example(math.sqrt(2))
def test_logarithm_is_rounded_correctly(x: float) -> None:
    assert ulps(logarithm(x), Decimal(x).ln(DIGITS)) < WORST_ULPS


@given(st.floats(0, 0.01), st.booleans())
@example(math.ulp(1.0), False)
@example(math.ulp(1.0) / 2, True)
def test_logarithm_near_one_keeps_its_digits(distance: float, below: bool) -> None:
    x = 1.0 - distance if below else 1.0 + distance
    if x != 1.0:
        assert ulps(logarithm(x), Decimal(x).ln(DIGITS)) < WORST_ULPS


def test_where_there_is_no_result() -> None:
    assert [exponential(x) for x in (math.inf, 710.0, -math.inf, -746.0, 0.0)] == [
        math.inf,
        math.inf,
        0,
        0,
        1,
    ]
    assert logarithm(1.0) == 0.0
    assert logarithm(math.inf) == math.inf
    assert all(math.isnan(logarithm(x)) for x in (0.0, -0.0, -1.0, -math.inf, math.nan))
    assert math.isnan(exponential(math.nan))


def first_bits(values: Iterator[float]) -> str:
    return hashlib.sha256(np.array(list(values), "<f8").tobytes()).hexdigest()[:16]


def test_every_machine_gives_these_bits() -> None:
    exponentials = (exponential((bits / 2**64 - 0.5) * 1400) for bits in integers(20_000))
    logarithms = (
        logarithm(math.ldexp(1 + (bits >> 12) / 2**52, bits % 2000 - 1000)) for bits in integers(20_000)
    )
    assert (first_bits(exponentials), first_bits(logarithms)) == ("85d8553a58d08f07", "43e1b9d08e42784f")


@given(st.lists(st.floats(allow_nan=True), min_size=2, max_size=40))
def test_columns_and_rows_have_the_same_bits(values: list[float]) -> None:
    expression = parse_expression("LN(x)", ["x"], "number")
    column = expression.evaluate({"x": np.array(values)})
    strided = expression.evaluate({"x": np.repeat(np.array(values), 3)[::3]})
    rows = [expression.evaluate({"x": np.array([value])})[0] for value in values]
    assert column.tobytes() == strided.tobytes() == np.array(rows).tobytes()


def test_the_logarithm_of_a_constant_is_a_number() -> None:
    column = parse_expression("LN(2) * x", ["x"], "number").evaluate({"x": np.array([1.0, 2.0])})
    assert column.tolist() == [logarithm(2.0), 2 * logarithm(2.0)]
    assert (
        parse_expression("LN(2)", ["x"], "number").evaluate({"x": np.zeros(3)}).tolist()
        == [logarithm(2.0)] * 3
    )


@pytest.mark.parametrize("points", [1, 2, 3, 7, 20])
def test_quadrature_integrates_polynomials_exactly(points: int) -> None:
    pairs = gauss_legendre(points)
    assert [node for node, _ in pairs] == sorted(node for node, _ in pairs)
    for power in range(2 * points):
        found = math.fsum(weight * node**power for node, weight in pairs)
        assert found == pytest.approx(1 / (power + 1), rel=1e-14)
