"""The repository as others find it: nothing private, nothing oversized, locks that bind."""

from __future__ import annotations

import re
import stat
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import pytest

from zaslon.settings import load_settings

ROOT = Path(__file__).resolve().parents[2]
CLUSTER_LOCK = ROOT / "src" / "zaslon" / "adapters" / "environment" / "locked.txt"
LOCKS = [*sorted((ROOT / "requirements").glob("*.txt")), CLUSTER_LOCK]
LINES_MAX = 500
# Texts that are not edited by hand: lock files are written by `make lock`, the licence by its authors.
UNLIMITED = {"LICENSE", "uv.lock"}

# Written in pieces, so that this file does not contain what it looks for.
MACHINE_PATHS = re.compile("/" + r"(work|root|home/[a-z]+|Users/[A-Za-z]+|tmp/bash)" + "/")
PRIVATE_ADDRESSES = re.compile(
    r"\b(10\.\d{1,3}|192\.168|172\.(1[6-9]|2\d|3[01]))\.\d{1,3}\.\d{1,3}\b"
    r"|https?://[\w.-]+\.(internal|corp|lan|intranet)\b"
    r"|--(extra-)?index-url"
)


@cache
def _texts() -> dict[str, str]:
    """Every text file that git knows or would add, by its path."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    texts = {}
    for name in listed:
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            texts[name] = content.decode("utf-8")
    return texts


def _own_texts() -> dict[str, str]:
    return {name: text for name, text in _texts().items() if ROOT / name not in LOCKS}


def test_the_repository_has_files_to_look_at() -> None:
    assert {"README.md", "Makefile", "pyproject.toml"} <= _texts().keys()


def test_no_file_names_a_path_of_one_machine() -> None:
    found = {name: MACHINE_PATHS.search(text) for name, text in _own_texts().items()}
    assert {name: hit[0] for name, hit in found.items() if hit} == {}


def test_no_file_names_a_private_address() -> None:
    this = Path(__file__).relative_to(ROOT).as_posix()
    found = {n: PRIVATE_ADDRESSES.search(t) for n, t in _own_texts().items() if n != this}
    assert {name: hit[0] for name, hit in found.items() if hit} == {}


def test_no_file_is_longer_than_a_person_reads() -> None:
    lengths = {n: t.count("\n") for n, t in _own_texts().items() if n not in UNLIMITED}
    assert {name: lines for name, lines in lengths.items() if lines > LINES_MAX} == {}


def test_a_file_name_occurs_once_in_source_and_benchmarks() -> None:
    paths = [Path(n) for n in _texts() if n.startswith(("src/", "benchmarks/")) and n.endswith(".py")]
    names = [path.name for path in paths if path.name != "__init__.py"]
    assert {name for name in names if names.count(name) > 1} == set()


def test_no_file_leaves_work_for_later() -> None:
    later = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
    assert [name for name, text in _own_texts().items() if later.search(text)] == []


def test_every_text_ends_with_one_line_break() -> None:
    ragged = [n for n, t in _own_texts().items() if t and (t[-1] != "\n" or t.endswith("\n\n"))]
    assert ragged == []


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_pins_every_package_with_hashes_and_names_no_host(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert "://" not in text
    assert not re.search(r"^(--|-[a-z])", text, re.MULTILINE), "an option is in the lock"
    requirements = re.split(r"^(?=[A-Za-z0-9])", text, flags=re.MULTILINE)[1:]
    assert requirements
    for requirement in requirements:
        assert re.match(r"[A-Za-z0-9._-]+(\[[\w,-]+\])?==\S+", requirement), requirement
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", requirement), requirement


def test_the_locks_agree_with_each_other() -> None:
    versions: dict[tuple[str, str], str] = {}
    # Those of Airflow, Spark and peers are for environments of their own.
    for lock in (
        lock for lock in LOCKS if lock.name not in ("airflow.txt", "bento.txt", "quix.txt", "spark.txt")
    ):
        for name, version, marker in re.findall(
            r"^([A-Za-z0-9._-]+)==([^\s;]+)(?: *;([^\\\n]*))?", lock.read_text("utf-8"), re.MULTILINE
        ):
            # A package may have one version for each kind of machine; its marker distinguishes them.
            known = versions.setdefault((name, marker.strip()), version)
            assert known == version, f"{name}: {known} and {version}"


def _without_pyspark(requirements: list[str]) -> list[str]:
    """A cluster has its own."""
    return [requirement for requirement in requirements if not requirement.startswith("pyspark")]


def test_the_locks_hold_everything_that_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked: dict[str | Path, list[str]] = {
        "core.txt": project["dependencies"],
        "dev.txt": [
            *project["dependencies"],
            *(needed for name in ("dev", "mlflow", "tune", "api", "client") for needed in extras[name]),
        ],
        "bench.txt": [*project["dependencies"], *extras["bench"]],
        CLUSTER_LOCK: [*project["dependencies"], *extras["hadoop"], *_without_pyspark(extras["spark"])],
    }
    for lock, requirements in asked.items():
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        for requirement in requirements:
            name = re.split(r"[^A-Za-z0-9._-]", requirement)[0]
            assert re.search(rf"^{re.escape(name)}==", text, re.MULTILINE), f"{name} is not in {lock}"


def test_the_build_tool_is_the_same_in_the_project_and_in_its_lock() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    lock = (ROOT / "requirements" / "build.txt").read_text("utf-8")
    for requirement in project["build-system"]["requires"]:
        assert requirement in lock


def test_ci_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & stat.S_IXUSR
    text = script.read_text("utf-8")
    assert "set -euo pipefail" in text
    assert "make check" in text
    assert "make test" in text


def test_make_clean_removes_only_the_demos_home() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    removed = {
        word for line in re.findall(r"^\trm -rf (.*)$", makefile, re.MULTILINE) for word in line.split()
    }
    home = load_settings().home
    assert {word for word in removed if word.split("/")[0] == str(home)} == {f"{home}/demo"}


def test_no_module_of_ours_is_exempt_from_type_checking() -> None:
    mypy = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert mypy["strict"] is True
    assert "exclude" not in mypy
    for override in mypy["overrides"]:
        assert not any(module.startswith(("zaslon", "*", "tests")) for module in override["module"])
        assert override.keys() - {"module"} <= {"ignore_missing_imports", "implicit_reexport"}


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text("utf-8")
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text
