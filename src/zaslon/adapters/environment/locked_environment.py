"""Builds an environment from a lock with hashes, and packs it.

1. install what the lock names, from wheels, each compared with its hash     pip
2. add this Zaslon's own code and description
3. add the interpreter, where it is asked for                              copy_interpreter
4. add the programs, and start Zaslon by them
5. pack it with fixed times, owners and order                              write_archive
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from importlib.metadata import distribution, distributions
from importlib.util import find_spec
from pathlib import Path

import zaslon
from zaslon.adapters.environment.interpreter import copy_interpreter
from zaslon.adapters.environment.launchers import programs, site_customisation, site_packages
from zaslon.adapters.environment.tar_archive import sha256_of, write_archive
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.domain.errors import InputError, ServerError, ZaslonError
from zaslon.ports.environment_archives import BuiltArchive

RELEASE_LOCK = Path(__file__).with_name("locked.txt")  # of this release: `make lock` writes it
# Caches with times; tests of libraries; and what an installer notes about this machine for itself.
_LEFT_OUT = ("__pycache__", "tests", "RECORD", "INSTALLER", "REQUESTED", "direct_url.json")
_DESCRIPTION = ("METADATA", "entry_points.txt", "top_level.txt")
_TAIL_CHARACTERS = 2_000
_START_SECONDS_MAX = 300


class LockedEnvironment:
    """`zaslon.ports.environment_archives.EnvironmentBuilder`.

    Args:
        lock: requirements with `==` and hashes, all that Zaslon needs among them.
        has_interpreter: whether the archive holds this Python, or needs one on the machines that run it.
        timeout_seconds: of the installation.
    """

    def __init__(self, lock: Path, *, has_interpreter: bool, timeout_seconds: float) -> None:
        self._lock, self._has_interpreter, self._timeout_seconds = lock, has_interpreter, timeout_seconds
        self._python = sysconfig.get_python_version()

    def build(self, scratch: Path, stage: Callable[[str], None]) -> BuiltArchive:
        """Build the archive (see the port)."""
        environment, archive = scratch / "environment", scratch / "archive.tar.gz"
        packages = environment / site_packages(self._python)
        stage("install")
        self._install(scratch, packages)
        _add_own_code(packages)
        if self._has_interpreter:
            copy_interpreter(environment, packages)
            (packages / "sitecustomize.py").write_text(site_customisation(), "utf-8")
        self._add_programs(environment)
        self._check(environment)
        stage("pack")
        files = write_archive(environment, archive)
        digest, tag = sha256_of(archive), f"cp{self._python.replace('.', '')}-{platform.machine()}"
        name = (
            f"zaslon-{zaslon.__version__}-{tag}{'-python' if self._has_interpreter else ''}-{digest}.tar.gz"
        )
        return BuiltArchive(
            archive, name, digest, archive.stat().st_size, files, self._python, _versions(packages)
        )

    def _install(self, scratch: Path, packages: Path) -> None:
        """Everything that the lock names, from wheels: no code of a package runs here."""
        if find_spec("pip") is None:
            raise ZaslonError(
                "This Python has no pip, which installs what the archive holds.",
                hint=f"Install it with: {sys.executable} -m ensurepip.",
            )
        installed, log = scratch / "installed", scratch / "pip.log"
        processes = ChildProcesses([sys.executable, "-P", "-m", "pip"], {"PIP_NO_INPUT": "1"})
        words = [
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--no-compile",
            "--no-deps",
            "--require-hashes",
        ]
        words += ["--only-binary=:all:", "--target", str(installed), "--requirement", str(self._lock)]
        ended = processes.run(words, scratch / "pip.out", log, self._timeout_seconds, lambda: False)
        if ended.exit_code != 0:
            raise self._not_installed(ended.timed_out, log)
        shutil.rmtree(installed / "bin", ignore_errors=True)  # programs that name this machine's Python
        shutil.copytree(installed, packages, ignore=shutil.ignore_patterns(*_LEFT_OUT), copy_function=_moved)

    def _not_installed(self, timed_out: bool, log: Path) -> ZaslonError:
        if timed_out:
            return ServerError(
                "The packages of the archive could not be fetched in time.",
                hint="Check pip's index, or set ZASLON_PACKAGE_TIMEOUT.",
            )
        text = log.read_text("utf-8", "replace")[-_TAIL_CHARACTERS:]
        lines = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR: ")]
        why = (lines[0] if lines else "pip does not say why").strip().rstrip(".:")
        kind = InputError if re.search(r"HASH|hash|Invalid requirement|line \d+", why) else ServerError
        return kind(
            f"What '{self._lock}' names cannot be installed: {why}.",
            hint="Every line needs `==`, hashes, and a wheel for this Python that pip's index has.",
        )

    def _add_programs(self, environment: Path) -> None:
        for name, text in programs(self._python, has_interpreter=self._has_interpreter).items():
            path = environment / name
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, "utf-8")
            path.chmod(0o755)

    def _check(self, environment: Path) -> None:
        """Start Zaslon by the environment's own programs."""
        started = subprocess.run(  # noqa: S603  the program that we have just written
            [environment / "bin" / "python", "-B", "-c", "import zaslon.entrypoints.cli as c; print(c.__file__)"],
            check=False, capture_output=True, text=True, timeout=_START_SECONDS_MAX, cwd=environment,
            env=_clean_environment(),
        )  # fmt: skip
        if started.returncode != 0 or not started.stdout.startswith(str(environment.resolve())):
            lines = (started.stderr or started.stdout).strip().splitlines() or ["it does not say why"]
            raise ZaslonError(
                f"Zaslon does not start in its new environment: {lines[-1].rstrip('.')}.",
                hint=f"'{self._lock}' has to name all that Zaslon needs.",
            )


_NOT_CODE = ("__pycache__", ".*", "*~", "*.orig", "*.rej")  # what a checkout may have besides


def _moved(source: str, target: str) -> str:
    Path(source).replace(target)
    return target


def _add_own_code(packages: Path) -> None:
    """This Zaslon, whether it was installed or lies in a checkout."""
    own = Path(zaslon.__file__).parent
    if (packages / "zaslon").exists():
        raise InputError(
            "The lock names Zaslon itself, whose code is added from here.", hint="Take it out of the lock."
        )
    shutil.copytree(own, packages / "zaslon", ignore=shutil.ignore_patterns(*_NOT_CODE))
    described = distribution("zaslon")
    folder = packages / f"zaslon-{zaslon.__version__}.dist-info"
    folder.mkdir()
    for name in _DESCRIPTION:
        if (text := described.read_text(name)) is not None:
            (folder / name).write_text(text, "utf-8")


def _versions(packages: Path) -> Mapping[str, str]:
    found = {one.metadata["Name"].lower(): one.version for one in distributions(path=[str(packages)])}
    return dict(sorted(found.items()))


def _clean_environment() -> dict[str, str]:
    """Of a machine that has nothing of ours."""
    return {"PATH": f"{Path(sys.base_prefix) / 'bin'}:/usr/bin:/bin", "HOME": "/nonexistent"}
