"""Exponential and logarithm with the same bits on every processor and with every library.

NumPy, the C library and the compiler each have their own `exp` and `log`, and choose among several by
what the processor can do; their last bits differ. What decides must not, so these two use nothing but
additions, multiplications and divisions of float64, which IEEE 754 defines to the last bit, in a fixed
order. The compiler keeps that order and fuses none of them (see `compiled`; a test looks at the code).

Both split their argument by a table of 128 values (Tang, "Table-driven implementation of the exponential
function in IEEE floating-point arithmetic", 1989) and carry what a float64 cannot hold in a second one
(Dekker, "A floating-point technique for extending the available precision", 1971). The error is below
0.5001 units in the last place: all but a few of a million arguments are rounded correctly. A
change of any bit here needs a new engine version and a new state version.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext

import numpy as np
from numpy.typing import NDArray

from zaslon.system.compiled import Number, compiled, inlined

Float64 = NDArray[np.float64]

_STEPS = 128  # of the tables, to a doubling
_DIGITS = 40  # of the constants, before they become two float64, which hold 32

_SPLITTER = 134217729.0  # 2**27 + 1: a half of a float64's digits
_EXPONENT_BIAS, _FRACTION_BITS = 1023, 52
_FRACTION = (1 << _FRACTION_BITS) - 1
_ONE = _EXPONENT_BIAS << _FRACTION_BITS  # 1.0 as bits
_HEAD = ~((1 << 13) - 1)  # as bits: the 40 first digits of a float64

_EXP_MAX, _EXP_MIN = 709.79, -745.2  # beyond: infinite, 0
_EXP_NORMAL = -708.396418532264  # below: exp has less than 53 digits
_LEAST_NORMAL = sys.float_info.min
_SUBNORMAL_POWER = 54
_SUBNORMAL_FACTOR = float(1 << _SUBNORMAL_POWER)
_CENTRE_FIRST, _CENTRE_LAST = 91, 181  # of 128: between the square roots of 1/2 and of 2


def _pair(value: Decimal) -> tuple[float, float]:
    """The float64 nearest to a value, and the one nearest to what is left."""
    return float(value), float(value - Decimal(float(value)))


def _cut(value: Decimal, bits: int) -> tuple[float, float]:
    """The value down to the binary place `-bits`, and what is left."""
    head = int(value * 2**bits) / 2**bits
    return head, float(value - Decimal(head))


def _columns(pairs: Iterable[tuple[float, ...]]) -> tuple[Float64, ...]:
    return tuple(np.array(column, np.float64) for column in zip(*pairs, strict=True))


def _reciprocal(centre: int) -> float:
    """1 / (centre / 128) with 12 digits: times 40 of a float64's it is exact."""
    return round(2048 * _STEPS / centre) / 2048


with localcontext(Context(prec=_DIGITS)):
    _LN2 = Decimal(2).ln()
    _STEP = float(_LN2 / _STEPS)
    # Cut so that multiples are exact: of a step up to 2**18 of them, of ln 2 up to 2**11.
    _STEP_HEAD, _STEP_TAIL = _cut(_LN2 / _STEPS, 42)
    _LN2_HEAD, _LN2_TAIL = _cut(_LN2, 42)
    _POWERS, _POWER_TAILS = _columns(_pair((_LN2 * j / _STEPS).exp()) for j in range(_STEPS))
    _RECIPROCALS, _LOGARITHMS, _LOGARITHM_TAILS = _columns(
        (_reciprocal(i), *_pair(-Decimal(_reciprocal(i)).ln()))
        for i in range(_CENTRE_FIRST, _CENTRE_LAST + 1)
    )


@inlined
def _sum(a: Number, b: Number) -> tuple[Number, Number]:
    """A + b, and what the sum has lost."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


@inlined
def _product(a: Number, b: Number) -> tuple[Number, Number]:
    """A · b, and what the product has lost. Neither may be beyond 2**996."""
    total = a * b
    wide = _SPLITTER * a
    a_head = wide - (wide - a)
    wide = _SPLITTER * b
    b_head = wide - (wide - b)
    a_tail, b_tail = a - a_head, b - b_head
    return total, a_tail * b_tail - (((total - a_head * b_head) - a_tail * b_head) - a_head * b_tail)


@inlined
def _power_of_two(exponent: Number) -> Number:
    """2**exponent for -1022 … 1023."""
    return np.int64((exponent + _EXPONENT_BIAS) << _FRACTION_BITS).view(np.float64)


@inlined
def exponential(x: Number) -> Number:
    """E to the power x, as float64; NaN for NaN. In compiled code, or of a single float.

    x = (128 k + j) · ln 2 / 128 + r: the result is 2**k · 2**(j/128) · (1 + r + r²/2 + …), |r| < 0.0028.
    """
    if x != x:  # noqa: PLR0124  NaN alone
        return x
    if x > _EXP_MAX:
        return np.inf
    if x < _EXP_MIN:
        return 0.0
    n = np.int64(x / _STEP + (0.5 if x >= 0.0 else -0.5))
    r, r_tail = _sum(x - n * _STEP_HEAD, -(n * _STEP_TAIL))
    series = r * r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r / 5040)))))
    k, j = n >> 7, n & (_STEPS - 1)
    linear, lost = _product(_POWERS[j], r)
    tail = _POWERS[j] * (series + r_tail * (1.0 + r)) + _POWER_TAILS[j] * (1.0 + r)
    head, head_tail = _sum(_POWERS[j], linear)
    tail = head_tail + (lost + tail)
    if x >= _EXP_NORMAL:
        return (head + tail) * _power_of_two(k - 1) * 2.0 if k > 0 else (head + tail) * _power_of_two(k)
    # Added to 1, the digits that do not fit are rounded once, not twice.
    scale = _power_of_two(k + 1022)
    total, lost = _sum(1.0, head * scale)
    return ((total + (lost + tail * scale)) - 1.0) * _LEAST_NORMAL


@inlined
def logarithm(x: Number) -> Number:
    """The natural logarithm of x, as float64; NaN where x is not above 0. Called as `exponential` is.

    x = 2**k · m with m near c = i/128 and 1/c rounded to 12 digits: the result is
    k · ln 2 - ln(1/c) + ln(1 + r) with r = m/c - 1, |r| < 0.006.
    """
    if not x > 0.0:
        return np.nan
    if x == np.inf:
        return np.inf
    k = np.int64(0)
    if x < _LEAST_NORMAL:
        x *= _SUBNORMAL_FACTOR
        k -= _SUBNORMAL_POWER
    bits = np.float64(x).view(np.int64)
    k += (bits >> _FRACTION_BITS) - _EXPONENT_BIAS
    m = np.int64((bits & _FRACTION) | _ONE).view(np.float64)
    i = np.int64(m * _STEPS + 0.5)
    if i > _CENTRE_LAST:
        m *= 0.5
        k += 1
        i = np.int64(m * _STEPS + 0.5)
    i -= _CENTRE_FIRST
    m_head = np.int64(np.float64(m).view(np.int64) & _HEAD).view(np.float64)
    r, r_tail = _sum(m_head * _RECIPROCALS[i] - 1.0, (m - m_head) * _RECIPROCALS[i])
    square, lost = _product(r, r)
    series = 1 / 7 - r * (1 / 8 - r * (1 / 9 - r / 10))
    series = 1 / 3 - r * (1 / 4 - r * (1 / 5 - r * (1 / 6 - r * series)))
    tail = (square * r * series - r * r_tail - 0.5 * lost) + (r_tail + (_LOGARITHM_TAILS[i] + k * _LN2_TAIL))
    head, tail_1 = _sum(k * _LN2_HEAD, _LOGARITHMS[i])
    head, tail_2 = _sum(head, r)
    head, tail_3 = _sum(head, -0.5 * square)
    return head + (tail_1 + tail_2 + tail_3 + tail)


@compiled
def fill_logarithms(values: Float64, result: Float64) -> None:
    """The logarithm of each of `values`, into `result`."""
    for i in range(values.size):
        result[i] = logarithm(values[i])
