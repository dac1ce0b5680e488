"""The one way in which functions are compiled: ahead of the second start, on disk, without fast-math.

Compiled machine code is cached below the source (or in NUMBA_CACHE_DIR), so only the first start
after an installation pays for it. Numba looks only at the file of the function that it compiles, but
ours are inlined across files and take constants from others; so the cache's folder is named by the
content of all packages that hold either. Fast-math is off, because it
would let results depend on how the compiler orders additions and on whether the processor can multiply
and add at once: without it LLVM does neither. Compiled code leaves the interpreter to
other threads while it runs: what it works on must belong to the thread that called it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ParamSpec, TypeAlias, TypeVar, cast

from numba import config, njit

# Inside compiled code an integer is int64 and a number float64, whether NumPy or Python made it; the
# checker would distinguish those where Numba does not.
Integer: TypeAlias = Any
Number: TypeAlias = Any

_OPTIONS: dict[str, Any] = {"error_model": "numpy", "_nrt": False}

P = ParamSpec("P")
R = TypeVar("R")


# Packages that hold compiled functions, or constants that these take.
_PACKAGES = ("decisions", "domain", "expressions", "features", "intake", "models", "simulate", "system")


def _cache_folder(source: Path) -> Path:
    """A folder whose name changes with the content of every file that compiled code depends on."""
    digest = hashlib.sha256()
    for package in _PACKAGES:
        for file in sorted((source / package).rglob("*.py")):
            digest.update(str(file.relative_to(source)).encode() + b"\0" + file.read_bytes() + b"\0")
    return source / "__pycache__" / f"compiled-{digest.hexdigest()[:12]}"


if not config.CACHE_DIR:  # type: ignore[attr-defined]
    config.CACHE_DIR = str(_cache_folder(Path(__file__).parents[1]))  # type: ignore[attr-defined]


def compiled(function: Callable[P, R]) -> Callable[P, R]:
    """Compile `function` with Numba in nopython mode, cached, keeping its type for the checker.

    Divisions are not checked for zero, which costs the kernel a 15th: none may divide by it. References
    to arrays are not counted, which cost it a third: compiled code takes arrays and makes none (Numba
    refuses to compile what would).
    """
    return cast(Callable[P, R], njit(cache=True, nogil=True, **_OPTIONS)(function))


def inlined(function: Callable[P, R]) -> Callable[P, R]:
    """As `compiled`, and the machine code is inlined into compiled callers: for inner steps."""
    return cast(Callable[P, R], njit(cache=True, forceinline=True, **_OPTIONS)(function))
