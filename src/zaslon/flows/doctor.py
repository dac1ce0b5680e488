"""Doctor: is everything here that is needed, and does it work?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from zaslon.admission import admit
from zaslon.admission.log_format import decode, encode
from zaslon.decisions.policy import load_policy
from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.errors import ZaslonError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.intake.examples import EXAMPLE_SECONDS, example_record, read_examples
from zaslon.ports.streams import Topics
from zaslon.services.home import policy_names
from zaslon.simulate import simulation_profile, write_simulation

_LIBRARIES = (
    "numpy",
    "numba",
    "polars",
    "lightgbm",
    "sqlglot",
    "pydantic",
    "scikit-learn",
    "sqlalchemy",
    "alembic",
)
_EXTRAS = (
    "mlflow", "optuna", "confluent-kafka", "psycopg", "s3fs", "pyspark", "fastapi", "uvicorn", "httpx2",
)  # fmt: skip
_FREE_BYTES_MIN = 1 << 30


@dataclass(frozen=True)
class Check:
    """One thing that was looked at."""

    name: str
    is_ok: bool
    detail: str

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def examine(
    home: Path, catalogue: Path | None, *, warm: bool, original_retention_days: int,
    topics: Callable[[], Topics] | None = None,
) -> list[Check]:  # fmt: skip
    """Look at the installation, the catalogue and the home; `warm` compiles what one transaction needs.

    Args:
        original_retention_days: after which original bytes are removed; 0 for never.
        topics: opens those of the stream, where one is set up.
    """
    checks = [*_checks(home, catalogue, warm), _originals(original_retention_days)]
    if topics is not None:
        checks.append(_attempt("topics of the stream", lambda: _topics(topics())))
    return checks


def _originals(retention_days: int) -> Check:
    """Whether what was sent is kept as it was; a choice, and no fault."""
    kept = (
        f"removed after {retention_days} days"
        if retention_days
        else (
            "kept permanently, as they were sent: also what the catalogue pseudonymises (ZASLON_ORIGINAL_RETENTION_DAYS)"
        )
    )
    return Check("original bytes of records", True, kept)


def _topics(topics: Topics) -> str:
    states = topics.check()
    wrong = [f"{s.name}: {'; '.join(s.complaints)}" for s in states if s.complaints]
    if wrong:
        raise ZaslonError(" · ".join(wrong))
    return ", ".join(f"{s.name} ({s.partitions})" for s in states)


def _checks(home: Path, catalogue: Path | None, warm: bool) -> Iterator[Check]:
    fits = sys.version_info >= (3, 11)
    yield Check("Python 3.11 or newer", fits, platform.python_version())
    for library in _LIBRARIES:
        yield _library(library, required=True)
    for library in _EXTRAS:
        yield _library(library, required=False)
    yield _attempt("catalogue", lambda: _catalogue(catalogue))
    yield _attempt("policy", lambda: _policy(home, catalogue))
    yield _attempt("compiled path", lambda: _one_transaction(load_catalogue(catalogue)))
    if warm:
        yield _attempt("compiled cache", _warm)
    yield _home(home)


def _attempt(name: str, look: Callable[[], str]) -> Check:
    try:
        return Check(name, True, look())
    except ZaslonError as error:
        return Check(name, False, str(error))


def _library(name: str, *, required: bool) -> Check:
    try:
        return Check(name, True, version(name))
    except PackageNotFoundError:
        return Check(name, not required, "not installed" if required else "extra, not installed")


def _catalogue(path: Path | None) -> str:
    found = load_catalogue(path)
    return f"{found.label}: {len(plan_features(found).names)} features"


def _policy(home: Path, catalogue: Path | None) -> str:
    path = home / "policy.toml"
    known = policy_names(plan_features(load_catalogue(catalogue)))
    policy = load_policy(path if path.exists() else None, known)
    return f"{policy.label}: {len(policy.rules)} rules"


def _one_transaction(catalogue: Catalogue) -> str:
    """Send one transaction through admission, the log's format and features."""
    engine = Engine(catalogue, key=b"doctor")
    batch = RecordBatch.of([example_record(catalogue)], [Kind.TRANSACTION_JSON], [EXAMPLE_SECONDS])
    admitted = admit(batch, catalogue, b"doctor")
    if not len(admitted.transactions):
        raise ZaslonError(f"the example record was rejected: {admitted.rejected.detail[0]}")
    if encode(decode(encode(admitted, catalogue), catalogue), catalogue) != encode(admitted, catalogue):
        raise ZaslonError("a record does not come back from the log as it was")
    applied = engine.apply(admitted.transactions, admitted.labels, admitted.is_label)
    return f"one transaction admitted and featurised, {applied.matrix.shape[1]} features"


def _warm() -> str:
    """Compile what the check above did not touch: the bodies of requests and the simulator's writer."""
    read_examples()
    with TemporaryDirectory(prefix="zaslon-doctor-") as scratch:
        profile = simulation_profile("mission", customers=200, terminals=20)
        write_simulation(profile, 1, 1, Path(scratch) / "warm.txt")
    return "what one transaction needs is compiled and on disk"


def _home(home: Path) -> Check:
    place = home.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return Check("home", False, f"{home} cannot be created: '{place}' is not a directory")
    free = shutil.disk_usage(place).free
    writable = os.access(place, os.W_OK)
    detail = f"{home}: {free >> 30} GiB free" if writable else f"{home} cannot be written"
    return Check("home", writable and free >= _FREE_BYTES_MIN, detail)
