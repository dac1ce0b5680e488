"""What a machine runs: the driver and every process that makes rows have to run the same."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from zaslon import __version__
from zaslon.domain.errors import ServerError
from zaslon.engine.version import ENGINE_VERSION

# What rows pass through, and what compiles the code that makes them.
_LIBRARIES = ("llvmlite", "numba", "numpy", "polars", "pyarrow")


@dataclass(frozen=True)
class Software:
    """Versions of what makes rows."""

    python: str
    zaslon: str
    engine: int
    libraries: tuple[tuple[str, str], ...]

    @staticmethod
    def here() -> Software:
        """Of this process."""
        python = ".".join(platform.python_version_tuple()[:2])
        return Software(
            python, __version__, ENGINE_VERSION, tuple((name, _version(name)) for name in _LIBRARIES)
        )

    def check_here(self) -> None:
        """Refuse to make rows with another software: every task does this first.

        Raises:
            ServerError: this process runs something else.
        """
        here = Software.here()
        pairs = [
            ("Python", self.python, here.python),
            ("Zaslon", self.zaslon, here.zaslon),
            ("Zaslon's engine", self.engine, here.engine),
            *((name, own, dict(here.libraries).get(name)) for name, own in self.libraries),
        ]
        differences = [f"{what} {theirs} instead of {own}" for what, own, theirs in pairs if own != theirs]
        if differences:
            raise ServerError(
                f"An executor of Spark has {'; '.join(differences)}.",
                hint="Ship this environment to the cluster: docs/guides/cluster.md says how.",
            )


def _version(library: str) -> str:
    try:
        return version(library)
    except PackageNotFoundError:
        return "none"
