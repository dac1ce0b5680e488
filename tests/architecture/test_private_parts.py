"""What we use of libraries beyond their public interface: where, up to which version, and whether it works.

A failure here after an upgrade names the part that broke; docs/decisions/0022 explains its purpose.
"""

from __future__ import annotations

import ast
import inspect
import platform
import re
import resource
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
import uvicorn
from numpy.typing import NDArray
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from zaslon.system.c_library import exchange_names, return_freed_memory
from zaslon.system.compiled import Number, compiled, inlined
from zaslon.system.intrinsics import prefetch, trailing_zeros

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "zaslon"
RECORD = (ROOT / "docs" / "decisions" / "0022-private-parts-have-one-module-each.md").read_text("utf-8")
# Modules that are not meant for others, and the one place of ours that may import them.
PRIVATE = {
    "ctypes": "system/c_library.py",
    "llvmlite": "system/intrinsics.py",
    "numba.core": "system/intrinsics.py",
    "numba.extending": "system/intrinsics.py",
    "numba": "system/compiled.py",
    "uvicorn": "entrypoints/api/http_server.py",
}
# Libraries whose next minor version may break what we use of them.
CAPPED_BY_MINOR = ("numba", "uvicorn")


def _imports(path: Path) -> Iterator[str]:
    """Every name that a file imports from elsewhere, dotted."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _owner(imported: str) -> str | None:
    """The longest private module that an import belongs to."""
    owners = [name for name in PRIVATE if f"{imported}.".startswith(f"{name}.")]
    return max(owners, key=len, default=None)


def _is_private(imported: str) -> bool:
    """Whether a name looks private."""
    first, *rest = imported.split(".")
    is_foreign = first not in sys.stdlib_module_names and first != "zaslon"
    return is_foreign and any(
        re.match(r"_[a-z]|c?impl$|(.*_)?(core|impl)$|unsafe$|internals?$", part) for part in rest
    )


def test_private_parts_of_libraries_have_one_module_each() -> None:
    elsewhere = []
    for path in SOURCE.rglob("*.py"):
        place = path.relative_to(SOURCE).as_posix()
        for imported in _imports(path):
            owner = _owner(imported)
            if (owner is None and _is_private(imported)) or (owner is not None and PRIVATE[owner] != place):
                elsewhere.append(f"{place}: {imported}")
    assert elsewhere == []


@pytest.mark.parametrize(
    "imported",
    [
        "confluent_kafka.cimpl.NewTopic",
        "a.impl",
        "a.http_impl.B",
        "a._b",
        "a.core.B",
        "a.b_core",
        "a.internal",
        "a.unsafe",
    ],
)
def test_a_private_name_is_recognised(imported: str) -> None:
    assert _is_private(imported)


@pytest.mark.parametrize(
    "imported", ["confluent_kafka.admin.NewTopic", "a.simple", "a.score", "zaslon.a._b", "os._exit"]
)
def test_a_public_name_is_not_taken_for_private(imported: str) -> None:
    assert not _is_private(imported)


def test_private_error_codes_of_the_kafka_client_are_in_one_module() -> None:
    users = {p.name for p in SOURCE.rglob("*.py") if re.search(r"KafkaError\._", p.read_text("utf-8"))}
    assert users == {"error_codes.py"}


def test_undocumented_options_of_numba_are_in_one_module() -> None:
    users = [p.name for p in SOURCE.rglob("*.py") if re.search(r"\b_nrt\b|forceinline", p.read_text("utf-8"))]
    assert users == ["compiled.py"]


def test_the_record_names_every_module() -> None:
    assert [module for module in {*PRIVATE.values()} if f"`{module}`" not in RECORD] == []


@pytest.mark.parametrize("library", CAPPED_BY_MINOR)
def test_the_next_minor_version_is_not_taken_unseen(library: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [*project["dependencies"], *project["optional-dependencies"]["api"]]
    (requirement,) = [r for r in asked if re.match(rf"{library}\b", r)]
    major, minor = version(library).split(".")[:2]
    assert requirement.endswith(f",<{major}.{int(minor) + 1}"), f"{requirement} with {version(library)}"


# --- Numba


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The LLVM code of small functions, freshly compiled; each has the right result."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(numba.config, "CACHE_DIR", str(tmp_path_factory.mktemp("machine-code")))
        half, sum_of_halves, zeros_behind = _functions()
    assert sum_of_halves(np.arange(5.0), np.ones(1)) == 5.0
    assert [zeros_behind(np.uint64(n)) for n in (1, 8, 12, 1 << 63, 0)] == [0, 3, 2, 63, 64]
    named = {"half": half, "sum_of_halves": sum_of_halves, "zeros_behind": zeros_behind}
    return {name: "\n".join(function.inspect_llvm().values()) for name, function in named.items()}


def _functions() -> tuple[Any, Any, Any]:
    @inlined
    def half(value: Number) -> Number:
        return value / 2

    @compiled
    def sum_of_halves(values: NDArray[np.float64], scale: NDArray[np.float64]) -> Number:
        total = 0.0
        for i in range(values.shape[0]):
            prefetch(values, i)
            total += half(values[i]) * scale[0]
        return total

    @compiled
    def zeros_behind(value: Number) -> Number:
        return trailing_zeros(value)

    return half, sum_of_halves, zeros_behind


def test_numba_counts_no_references_in_compiled_code(code: dict[str, str]) -> None:
    assert "NRT_" not in code["sum_of_halves"], "the option _nrt does nothing: the kernel is a third slower"


def test_numba_refuses_code_that_would_need_them() -> None:
    def makes_an_array(n: int) -> object:
        return np.zeros(n)

    with pytest.raises(numba.core.errors.NumbaError, match="Only accept returning of array"):
        compiled(makes_an_array)(3)


def test_numba_inlines_what_must_be_inlined(code: dict[str, str]) -> None:
    assert "alwaysinline" in code["half"], "the option forceinline does nothing"


def test_prefetch_is_one_instruction(code: dict[str, str]) -> None:
    assert "call void @llvm.prefetch" in code["sum_of_halves"], (
        "the intrinsic `prefetch` makes no instruction"
    )


def test_trailing_zeros_are_one_instruction(code: dict[str, str]) -> None:
    assert "@llvm.cttz.i64" in code["zeros_behind"], "the intrinsic `trailing_zeros` makes no instruction"


# --- uvicorn


def test_uvicorn_makes_connections_as_we_override_them() -> None:
    parameters = list(inspect.signature(HttpToolsProtocol.connection_made).parameters)
    assert parameters == ["self", "transport"]
    source = inspect.getsource(HttpToolsProtocol)
    for used in ("self.loop", "self.flow", "self.pipeline", "self.url", "self.headers"):
        assert used in source, f"the protocol has no `{used}` any more"


def test_uvicorn_parses_requests_as_we_limit_them() -> None:
    for step in (
        "on_message_begin", "on_headers_complete", "on_message_complete", "on_response_complete",
        "pause_writing",
    ):  # fmt: skip
        assert list(inspect.signature(getattr(HttpToolsProtocol, step)).parameters) == ["self"], step
    for step in ("data_received", "on_body", "send_400_response", "connection_lost"):
        assert len(inspect.signature(getattr(HttpToolsProtocol, step)).parameters) == 2, step
    assert "self.send_400_response(" in inspect.getsource(HttpToolsProtocol.data_received)
    assert list(inspect.signature(uvicorn.Server.on_tick).parameters) == ["self", "counter"]


def test_uvicorn_starts_servers_as_we_override_it() -> None:
    assert list(inspect.signature(uvicorn.Server.startup).parameters) == ["self", "sockets"]
    assert inspect.iscoroutinefunction(uvicorn.Server.startup)
    source = inspect.getsource(uvicorn.Server)
    for used in ("self.servers", "self.should_exit"):
        assert used in source, f"a server has no `{used}` any more"


# --- the C library and the Kafka client


def test_two_directories_change_names_in_one_step(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.write_bytes(b"")
    assert exchange_names(one, other), "renameat2 is missing, or the file system cannot do it"
    assert one.is_file() and other.is_dir()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library keeps no freed memory")
def test_freed_memory_goes_back_to_the_system() -> None:
    blocks = [bytearray(b"x" * 100_000) for _ in range(600)]
    del blocks[:-1]  # the newest one keeps the others from being given back
    before = _resident_bytes()
    return_freed_memory()
    assert before - _resident_bytes() > 30_000_000, "malloc_trim does nothing"


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * resource.getpagesize()


def test_the_kafka_client_has_the_error_codes_that_we_name() -> None:
    kafka = pytest.importorskip("confluent_kafka")
    codes = pytest.importorskip("zaslon.adapters.cluster.kafka.error_codes")
    named = {code: kafka.KafkaError(code).name() for code in (codes.PARTITION_END, codes.FENCED, codes.TLS)}
    assert list(named.values()) == ["_PARTITION_EOF", "_FENCED", "_SSL"]
    assert all(code < 0 for code in codes.UNREACHABLE), "a broker's code, not the client's"
