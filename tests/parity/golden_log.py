"""The golden log: 2,785 recorded records whose every outcome is known to the byte, on any machine.

    python -m tests.parity.golden_log            the hashes that this machine computes
    python -m tests.parity.golden_log --record   keeps them, under the versions in force
    python -m tests.parity.golden_log --code     what its compiled functions multiply and add with

`golden/` holds what was recorded once and never changes: simulated lines, JSON records and labels with
data defects, repeats, conflicts and degraded records; a model of 12 trees that was trained before them;
a catalogue and a policy that use logarithms, roots and divisions. `hashes.json` has the hashes by version.
"""

from __future__ import annotations

import gc
import gzip
import hashlib
import json
import re
import sys
import tempfile
import zipfile
from collections import Counter
from functools import cached_property
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np

from zaslon.admission import admit
from zaslon.decisions.policy import load_policy
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Kind, Labels, RecordBatch, Transactions, terms
from zaslon.engine import ENGINE_VERSION, Engine
from zaslon.features.history import STATE_VERSION, Applied
from zaslon.features.plan import plan_features
from zaslon.models.artefact import load_model
from zaslon.services.home import policy_names
from zaslon.system.portable_math import fill_logarithms

GOLDEN = Path(__file__).parent / "golden"
HASHES = GOLDEN / "hashes.json"
VERSIONS = Path(__file__).parents[2] / "docs" / "reference" / "engine-versions.md"
_KEY = b"the key of the golden log"
_KINDS = {"line": Kind.TRANSACTION_LINE, "json": Kind.TRANSACTION_JSON, "label": Kind.LABEL_JSON}
# Of x86 and ARM: multiplications, divisions, roots, and the fused ones (fmadd, fmla, vfmadd231sd, …).
_ON_FLOATS = re.compile(r"\b(v?(?:f?mul|f?div|f?sqrt)(?:sd|pd|ss|ps)?|v?fn?m(?:add|sub|la|ls)[a-z0-9]*)\b")
_COMPILED: Any = type(fill_logarithms)
_BATCHES = (1, 1, 1, 40, 1, 400)  # single rows and columns take different paths
Hashes = dict[str, dict[str, str]]  # what was hashed and its version → hash


class _RecordingEngine(Engine):
    """An engine that hashes the features which it computes."""

    @cached_property
    def features(self) -> Any:
        return hashlib.sha256()

    def apply(self, transactions: Transactions, labels: Labels, is_label: np.ndarray) -> Applied:
        applied = super().apply(transactions, labels, is_label)
        self.features.update(applied.matrix.astype("<f4").tobytes())
        return applied


def golden_engine() -> _RecordingEngine:
    """The engine that decides the golden log, before its first record."""
    catalogue = load_catalogue(GOLDEN / "catalogue.toml")
    plan = plan_features(catalogue)
    with tempfile.TemporaryDirectory() as directory:
        zipfile.ZipFile(GOLDEN / "model.zip").extractall(directory)
        model = load_model(directory)
    policy = load_policy(GOLDEN / "policy.toml", policy_names(plan))
    return _RecordingEngine(catalogue, key=_KEY, model=model, policy=policy, plan=plan)


def golden_records() -> tuple[list[bytes], list[int], list[int]]:
    """(records, kinds, arrivals) of the golden log."""
    rows = [json.loads(line) for line in gzip.decompress((GOLDEN / "log.jsonl.gz").read_bytes()).splitlines()]
    kinds = [terms(_KINDS[kind], degradation) for kind, degradation, _, _ in rows]
    return [raw.encode("latin-1") for *_, raw in rows], kinds, [arrival for _, _, arrival, _ in rows]


def computed() -> dict[str, str]:
    """Hashes of all features, outcomes and the state at the end, as this process computes them."""
    engine, (records, kinds, arrivals) = golden_engine(), golden_records()
    outcomes, sizes = hashlib.sha256(), cycle(_BATCHES)
    while engine.position < len(records):
        part = slice(engine.position, engine.position + next(sizes))
        batch = RecordBatch.of(records[part], kinds[part], arrivals[part], engine.position)
        for outcome in engine.process(admit(batch, engine.catalogue, engine.key)).outcomes:
            outcomes.update(outcome.to_json() + b"\n")
    return {
        "features": engine.features.hexdigest(), "outcomes": outcomes.hexdigest(), "state": _hash_of_state(engine),
    }  # fmt: skip


def _hash_of_state(engine: Engine) -> str:
    digest = hashlib.sha256()
    for name, array in sorted(engine.history.save().items()):
        digest.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def version_of(what: str) -> str:
    """The version that names the bytes of features, outcomes or state."""
    return str(STATE_VERSION if what == "state" else ENGINE_VERSION)


def recorded() -> Hashes:
    """By what was hashed, and then by version, the hashes that were kept."""
    hashes: Hashes = json.loads(HASHES.read_bytes())
    return hashes


def record(found: dict[str, str]) -> None:
    """Keep hashes under the versions in force.

    Raises:
        SystemExit: one of these versions gave other bytes and is released: it must rise first.
    """
    hashes = recorded() if HASHES.exists() else {}
    for what, value in found.items():
        known = hashes.setdefault(what, {}).get(version_of(what), value)
        if known != value and is_released(what):
            name = "STATE_VERSION" if what == "state" else "ENGINE_VERSION"
            sys.exit(f"The {what} of version {version_of(what)} had other bytes: raise {name} first.")
        hashes[what][version_of(what)] = value
    HASHES.write_text(json.dumps(hashes, indent=2) + "\n")


def is_released(what: str) -> bool:
    """Whether a release has the version that names these bytes: then they never change again."""
    rows = re.findall(r"^\| (\d+) \| (\d+) \| ([^|]+) \|", VERSIONS.read_text("utf-8"), re.MULTILINE)
    number = 1 if what == "state" else 0
    return any(row[number] == version_of(what) and row[2] != "not released yet" for row in rows)


def instructions() -> dict[str, int]:
    """How often each instruction on floats occurs in our functions that this process compiled."""
    counted: Counter[str] = Counter()
    for function in gc.get_objects():
        if isinstance(function, _COMPILED) and function.py_func.__module__.startswith("zaslon"):
            for code in function.inspect_asm().values():
                counted.update(_ON_FLOATS.findall(code))
    return dict(counted)


if __name__ == "__main__":
    found = computed()
    if "--record" in sys.argv:
        record(found)
    print(json.dumps(instructions() if "--code" in sys.argv else found))
