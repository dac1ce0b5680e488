"""The one way in which functions are compiled: ahead of the second start, on disk, without fast-math.

Compiled machine code is cached beside the source (or in NUMBA_CACHE_DIR), so only the first start
after an installation pays for it. Fast-math is off, because it would let results depend on how
the compiler orders additions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from numba import njit

# Inside compiled code an integer is int64 and a number float64, whether NumPy or Python made it; the
# checker would tell those apart where Numba does not.
Integer: TypeAlias = Any
Number: TypeAlias = Any

P = ParamSpec("P")
R = TypeVar("R")


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with Numba in nopython mode, cached, keeping its type for the checker."""
    return cast(Callable[P, R], njit(cache=True)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `compiled`, and the machine code is inlined into compiled callers: for inner steps."""
    return cast(Callable[P, R], njit(cache=True, forceinline=True)(function))
