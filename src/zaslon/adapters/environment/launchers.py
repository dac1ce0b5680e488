"""The programs of an environment: shell, so that they find everything from where they lie."""

from __future__ import annotations

NATIVE = "lib/native"  # shared libraries of a copied interpreter
INTERPRETER = "libexec/python"  # the copied interpreter, which only the program below starts

# What Hadoop says about its libraries comes back before a child could be started without it: sitecustomize.
_LIBRARY_PATH_BEFORE = "LD_LIBRARY_PATH_BEFORE_PYTHON"

_BEGIN = """#!/bin/sh
# Python of this environment, wherever it was unpacked.
here=$(CDPATH= cd -- "$(dirname -- "$0")/.." && pwd) || exit 127
# Compiled code is cached beside the source; an archive that many share may be read-only.
[ -w "$here" ] || export NUMBA_CACHE_DIR="${{NUMBA_CACHE_DIR:-$PWD/.numba}}"
export PYTHONNOUSERSITE=1 PYTHONPATH="$here/{site}${{PYTHONPATH:+:$PYTHONPATH}}"
"""

_OWN = """unset PYTHONHOME
export {before}="${{LD_LIBRARY_PATH-}}"
export LD_LIBRARY_PATH="$here/{native}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}"
exec "$here/{interpreter}" "$@"
"""

# Data Proc's images have conda's Python, which the containers of YARN may not have on their path.
_OF_THE_MACHINE = """for python in python{version} /opt/conda/bin/python{version}; do
    command -v "$python" >/dev/null 2>&1 && exec "$python" "$@"
done
echo "python{version} is not on the PATH of this machine: install it, or build the archive with --interpreter." >&2
exit 127
"""

_SITE = '''"""The interpreter of this environment needs its own libraries to start; the programs that it starts do not."""

import os
import sys

sys.executable = os.path.join(sys.prefix, "bin", "python")
before = os.environ.pop("{before}", None)
if before is not None:
    os.environ.pop("LD_LIBRARY_PATH", None)
    if before:
        os.environ["LD_LIBRARY_PATH"] = before
'''

_COMMAND = """#!/bin/sh
exec "$(dirname -- "$0")/python" -m zaslon.entrypoints.cli "$@"
"""


def site_packages(python: str) -> str:
    """Where the packages are, for Python of a version such as `3.11`."""
    return f"lib/python{python}/site-packages"


def programs(python: str, *, has_interpreter: bool) -> dict[str, str]:
    """The texts of the programs, by their names in the environment."""
    end = (
        _OWN.format(before=_LIBRARY_PATH_BEFORE, native=NATIVE, interpreter=INTERPRETER)
        if has_interpreter
        else _OF_THE_MACHINE.format(version=python)
    )
    launcher = _BEGIN.format(site=site_packages(python)) + end
    return {"bin/python": launcher, "bin/python3": launcher, "bin/zaslon": _COMMAND}


def site_customisation() -> str:
    """The text of `sitecustomize.py` beside the packages of an environment with an interpreter."""
    return _SITE.format(before=_LIBRARY_PATH_BEFORE)
