"""What is loaded when. The import contracts themselves are run by `make check`."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "zaslon"
HEAVY = ("duckdb", "mlflow", "optuna", "pandas", "pyspark")
# Where a heavy library may be loaded by name at run time, which import contracts cannot see.
ADAPTED = {"mlflow": "adapters/cluster/", "optuna": "models/"}


def test_the_command_starts_without_heavy_libraries() -> None:
    # LightGBM looks for pandas by itself, so it is not in this list.
    program = (
        "import sys, zaslon.entrypoints.cli\n"
        "print(sorted({'alembic', 'duckdb', 'mlflow', 'optuna', 'pyspark', 'matplotlib', 'sqlalchemy'} & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_what_decides_imports_neither_mlflow_nor_what_writes_to_it() -> None:
    program = (
        "import sys, zaslon.entrypoints.decision_worker, zaslon.entrypoints.api.app, zaslon.flows.stream\n"
        "print(sorted(name for name in sys.modules if name in ('mlflow', 'zaslon.services.publishing')))"
    )
    found = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert found.stdout.strip() == "[]"


def test_heavy_libraries_are_imported_only_by_adapters() -> None:
    elsewhere = []
    for path in SOURCE.rglob("*.py"):
        text, name = path.read_text("utf-8"), path.relative_to(SOURCE).as_posix()
        for library in re.findall(r"""import_module\(\s*f?["'](\w+)""", text):
            if library in HEAVY and not name.startswith(ADAPTED.get(library, "nowhere")):
                elsewhere.append(f"{name}: {library}")
    assert elsewhere == []


def test_nothing_is_evaluated_or_unpickled() -> None:
    forbidden = re.compile(r"\b(eval|exec)\(|\bimport pickle\b|\bimport (joblib|cloudpickle|dill)\b")
    found = [p.name for p in SOURCE.rglob("*.py") if forbidden.search(p.read_text("utf-8"))]
    assert found == []


def test_numpy_archives_are_read_with_pickles_forbidden() -> None:
    for path in SOURCE.rglob("*.py"):
        for call in re.findall(r"np\.load\([^)]*\)", path.read_text("utf-8")):
            assert "allow_pickle=False" in call, f"{path.name}: {call}"


def test_only_public_modules_of_the_kafka_client_are_imported() -> None:
    private = re.compile(r"(from|import) confluent_kafka[\w.]*\._")
    files = [f for folder in ("src", "deploy", "tests", "benchmarks") for f in (ROOT / folder).rglob("*.py")]
    assert [f.name for f in files if private.search(f.read_text("utf-8"))] == []
