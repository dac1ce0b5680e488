"""Whatever a home depends on is written through `system/durable.py`: nothing else writes a file, but for what is named.

See docs/decisions/0021.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "src" / "zaslon"
# Modules that write files themselves, and why no content of a home is lost by it.
RAW_WRITERS = {
    "system/durable.py": "it is the module",
    "intake/files.py": "into a directory that `replacing` puts on disk before it takes its name",
    "intake/earlier_output.py": "into the same directory, or a second name of a file that was put on disk",
    "intake/quarantine.py": "into the same directory",
    "intake/staging.py": "into the same directory",
    "flows/export_features.py": "into a directory that `replacing` puts on disk before it takes its name",
    "flows/cluster_features.py": "into the same, where a cluster has written the rest",
    "models/artefact.py": "into a directory that `rename` puts on disk before it takes its name",
    "simulate/writing.py": "into files that `rename` puts on disk before they take their names",
    "adapters/embedded/snapshots.py": "into a file that `writing` opened",
    "models/dataset.py": "temporary parts of one training, in a directory that goes with it",
    "adapters/environment/locked_environment.py": "into an environment that is packed and removed",
    "adapters/environment/interpreter.py": "into the same environment",
    "adapters/environment/tar_archive.py": "an archive that its store keeps by `writing`, or uploads",
    "models/plots.py": "into a buffer in memory",
    "intake/columnar.py": "a temporary copy of a packed table",
    "adapters/process/job_process.py": "what a job prints, which nothing depends on",
    "adapters/cluster/mlflow/packaging.py": "a package for MLflow, which keeps a copy",
    "adapters/cluster/s3.py": "into an object store",
    "entrypoints/console.py": "to the null device",
    "entrypoints/run_writer.py": "to a pipe",
    "flows/demo.py": "a mark without content",
    "adapters/embedded/lock.py": "a lock, which has no content",
    "services/context.py": "to the kernel, in /proc",
}
_WRITERS = {"write_text", "write_bytes", "savez", "savez_compressed", "tofile", "savefig", "touch"}
_WRITER_PREFIXES = (
    "write_parquet",
    "write_ipc",
    "write_csv",
    "write_ndjson",
    "write_json",
    "write_avro",
    "sink_",
)
_OF_LIBRARIES = {("np", "save"), ("pyfunc", "save_model"), ("shutil", "copy"), ("shutil", "copy2"),
                 ("shutil", "copyfile"), ("shutil", "copytree"), ("shutil", "move")}  # fmt: skip


def _writes(tree: ast.AST) -> Iterator[int]:
    """The lines that write a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _is_write(node):
            yield node.lineno


def _is_write(call: ast.Call) -> bool:
    function = call.func
    if isinstance(function, ast.Name):
        return function.id == "open" and _opens_for_writing(call, 1)
    if not isinstance(function, ast.Attribute):
        return False
    name, owner = function.attr, function.value
    of = owner.id if isinstance(owner, ast.Name) else owner.attr if isinstance(owner, ast.Attribute) else ""
    if name == "open" and of == "os":
        return any(isinstance(n, ast.Attribute) and n.attr in ("O_WRONLY", "O_RDWR") for n in ast.walk(call))
    if name in ("open", "fdopen"):
        return _opens_for_writing(call, 0) or _opens_for_writing(call, 1)
    return name in _WRITERS or name.startswith(_WRITER_PREFIXES) or (of, name) in _OF_LIBRARIES


def _opens_for_writing(call: ast.Call, place: int) -> bool:
    """Whether the mode, which is the argument at a place or has its name, is one for writing."""
    given = [*call.args[place : place + 1], *(k.value for k in call.keywords if k.arg == "mode")]
    modes = [n.value for n in given if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    return any(set(mode) <= set("rwaxbt+") and set(mode) & set("wax+") for mode in modes)


def _raw_writers() -> set[str]:
    paths = SOURCE.rglob("*.py")
    return {
        str(p.relative_to(SOURCE)) for p in paths if any(_writes(ast.parse(p.read_text("utf-8"))))
    }  # fmt: skip


def test_only_named_modules_write_files_themselves() -> None:
    assert _raw_writers() == set(RAW_WRITERS)


@pytest.mark.parametrize(
    "code",
    [
        'open("a", "w")', 'open("a", mode="ab")', 'path.open("wb")', 'path.open(mode="x")', 'path.write_text("")',
        'path.write_bytes(b"")', "np.savez(path, a=a)", "np.save(path, a)", "frame.write_parquet(path)",
        "frame.lazy().sink_ipc(path)", "os.open(path, os.O_WRONLY)", 'os.fdopen(1, "wb")', "shutil.copyfile(a, b)",
        'path.open("r+b")', "path.touch()",
    ],
)  # fmt: skip
def test_every_way_to_write_a_file_is_seen(code: str) -> None:
    assert list(_writes(ast.parse(code))) == [1]


@pytest.mark.parametrize(
    "code", ['open("w")', 'path.open("rb")', "open(a, 'rt')", "os.open(path, os.O_RDONLY)", "file.write(b'')"]
)
def test_reading_is_no_writing(code: str) -> None:
    assert not list(_writes(ast.parse(code)))
