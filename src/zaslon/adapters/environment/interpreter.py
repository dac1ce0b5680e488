"""A copy of the Python that runs, with its standard library and the shared libraries that another machine may lack."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from zaslon.adapters.environment.launchers import INTERPRETER, NATIVE
from zaslon.domain.errors import SystemRefusedError

# Parts of the standard library that a job does not use, or that are only of this machine.
_LEFT_OUT = (
    "__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "site-packages", "sitecustomize.py", "test",
    "tests", "tkinter", "_tkinter*", "turtle.py", "turtledemo",
)  # fmt: skip
# Those of glibc must be the machine's own. Those of GCC are on every machine that wheels are made for: PEP 600.
_OF_EVERY_MACHINE = re.compile(
    r"(ld-linux.*|linux-vdso|lib(c|m|dl|rt|pthread|util|resolv|nsl|anl|gcc_s|stdc\+\+))\.so"
)
# Libraries that wheels of ours expect on the machine, although PEP 600 does not promise them.
_EXPECTED_BY = ("lightgbm/lib/lib_lightgbm.so",)
_LDD, _LDD_SECONDS_MAX = "ldd", 60  # of the machine's glibc


def copy_interpreter(environment: Path, site_packages: Path) -> None:
    """Copy what runs this process into an environment whose packages are in `site_packages`.

    It runs on machines with this processor and a glibc that is not older than this machine's.

    Raises:
        SystemRefusedError: a part of it cannot be found or read.
    """
    version = f"python{sysconfig.get_python_version()}"
    library = environment / "lib" / version
    try:
        shutil.copytree(
            sysconfig.get_path("stdlib"),
            library,
            ignore=shutil.ignore_patterns(*_LEFT_OUT),
            dirs_exist_ok=True,
        )
        program = environment / INTERPRETER
        program.parent.mkdir()
        shutil.copy2(Path(sys.base_prefix) / "bin" / version, program)
        native = environment / NATIVE
        native.mkdir()
        binaries = [
            program,
            *library.rglob("lib-dynload/*.so"),
            *(site_packages / name for name in _EXPECTED_BY),
        ]
        for found in sorted(_shared_libraries(one for one in binaries if one.exists())):
            shutil.copyfile(found, native / found.name)
    except (OSError, shutil.Error) as error:
        raise SystemRefusedError(f"This Python cannot be copied: {error}.") from error


def _shared_libraries(binaries: Iterable[Path]) -> set[Path]:
    """The files that the dynamic linker would load here, less those that every machine has."""
    listed = subprocess.run(  # noqa: S603  files that we have just copied
        [_LDD, *map(str, binaries)], check=False, capture_output=True, text=True, timeout=_LDD_SECONDS_MAX
    ).stdout
    found = re.findall(r"=> (/\S+)", listed)
    return {Path(path) for path in found if not _OF_EVERY_MACHINE.match(Path(path).name)}
