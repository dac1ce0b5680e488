"""The golden log gives its recorded bytes: in this version, and on every processor that can be imitated."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.parity import golden_log
from tests.parity.golden_log import computed, recorded, version_of

ROOT = Path(__file__).resolve().parents[2]
# All that NumPy, the C library, LAPACK and our compiled code may choose by the processor.
USED_BY_NUMPY = np.show_config(mode="dicts")["SIMD Extensions"]["found"]
NUMPY_WITHOUT = {"NPY_DISABLE_CPU_FEATURES": " ".join(USED_BY_NUMPY)}
LIBC_WITHOUT = {
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4,-AVX2_Usable,-FMA_Usable,-FMA4_Usable,-AVX512F_Usable"
}
FUSED = re.compile("v?fn?m(add|sub|la|ls)")  # of x86 and ARM
OLDEST = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "OPENBLAS_CORETYPE": "Prescott"}
MACHINES = {
    "oldest": NUMPY_WITHOUT | LIBC_WITHOUT | OLDEST,
    "haswell": {"NUMBA_CPU_NAME": "haswell", "OPENBLAS_CORETYPE": "Haswell"} | NUMPY_WITHOUT,
}


def in_another_process(environment: dict[str, str], *arguments: str) -> dict[str, str | int]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.parity.golden_log", *arguments],
        cwd=ROOT, env=os.environ | environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    found: dict[str, str | int] = json.loads(done.stdout)
    return found


def test_the_bytes_of_the_golden_log_change_only_with_a_version() -> None:
    for what, value in computed().items():
        known = recorded()[what].get(version_of(what))
        assert known == value, (
            f"The golden log gives other {what}. If that is meant and the version is released, raise "
            "ENGINE_VERSION (for the state STATE_VERSION) and describe it in docs/reference/engine-versions.md. "
            "Then keep the new hash: python -m tests.parity.golden_log --record"
        )


def test_a_released_version_keeps_its_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    versions, hashes = tmp_path / "versions.md", tmp_path / "hashes.json"
    monkeypatch.setattr(golden_log, "VERSIONS", versions)
    monkeypatch.setattr(golden_log, "HASHES", hashes)
    row = f"| {version_of('outcomes')} | {version_of('state')} | {{}} | why |\n"
    versions.write_text(row.format("not released yet"))
    golden_log.record({"outcomes": "a", "state": "b"})
    golden_log.record({"outcomes": "c", "state": "d"})
    versions.write_text(row.format("1.2.3"))
    golden_log.record({"outcomes": "c", "state": "d"})
    for changed in ({"outcomes": "e"}, {"state": "e"}):
        with pytest.raises(SystemExit, match="had other bytes: raise"):
            golden_log.record(changed)
    assert {what: list(by.values()) for what, by in recorded().items()} == {"outcomes": ["c"], "state": ["d"]}


@pytest.mark.slow
@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.skipif(platform.machine() != "x86_64", reason="imitates x86 processors")
def test_another_processor_gives_the_same_bytes(machine: str) -> None:
    known = {what: hashes[version_of(what)] for what, hashes in recorded().items()}
    assert in_another_process(MACHINES[machine]) == known


@pytest.mark.slow
def test_compiled_code_fuses_no_multiplication_with_an_addition(tmp_path: Path) -> None:
    found = in_another_process(
        {"NUMBA_CACHE_DIR": str(tmp_path)}, "--code"
    )  # recompiled: its machine code is read
    assert sum(int(count) for count in found.values()) > 200
    assert [name for name in found if FUSED.match(name)] == []
