"""Zaslon's side: the product's own functions, `clean_files` and `Featuriser`."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.engine import Engine
from zaslon.intake import clean_days, clean_files
from zaslon.services.featurising import Featuriser

LABEL_DELAY_SECONDS = 7 * SECONDS_PER_DAY
# The 15 features in the order of every tool's answer.
FEATURES = (
    "amount", "is_weekend", "is_night",
    "customer_payments_1d", "customer_average_1d", "customer_payments_7d", "customer_average_7d",
    "customer_payments_30d", "customer_average_30d",
    "terminal_known_1d", "terminal_share_1d", "terminal_known_7d", "terminal_share_7d",
    "terminal_known_30d", "terminal_share_30d",
)  # fmt: skip


def handbook_catalogue() -> Catalogue:
    """The default fields with the handbook's 15 features."""
    features = tomllib.loads(Path(__file__).with_name("handbook15.toml").read_text())
    fields = load_catalogue().model_dump(
        exclude={"aggregates", "derived", "conditions", "not_for_model", "name"}
    )
    return Catalogue.model_validate({**fields, "name": "handbook", **features})


def clean(raw: Path, out: Path) -> dict[str, Any]:
    """Text to Parquet by day, with quarantine, flags and digests, sorted by time."""
    report = clean_files(
        [str(raw)], out, load_catalogue(), key=b"benchmark", arrival_time_seconds=int(time.time()),
        chunk_bytes=32 << 20, repeat_filter_bytes=32 << 20,
    )  # fmt: skip
    return {"rows_clean": report.rows_clean, **report.rows_rejected}


def features(clean: Path, out: Path) -> dict[str, Any]:
    """Clean days to the matrix of features in memory, labels arriving on their way."""
    _, parts = _features(clean)
    return {"rows": sum(len(matrix) for _, matrix in parts)}


def features_checked(clean: Path, out: Path) -> dict[str, Any]:
    """The same, written as Parquet to be compared."""
    engine, parts = _features(clean)
    out.mkdir(parents=True)
    matrix = np.concatenate([m for _, m in parts])
    columns = {name: matrix[:, engine.plan.column_of[name]] for name in FEATURES}
    ids = np.concatenate([i for i, _ in parts])
    pl.DataFrame({"transaction_id": ids, **columns}).write_parquet(out / "features.parquet")
    return {"rows": len(matrix)}


def _features(clean: Path) -> tuple[Engine, list[tuple[NDArray[np.int64], NDArray[np.float32]]]]:
    catalogue = handbook_catalogue()
    featuriser = Featuriser(catalogue, b"benchmark", LABEL_DELAY_SECONDS, print)
    parts = [
        (part.transactions.transaction_id, part.matrix)
        for part in featuriser.days(clean_days(clean, catalogue))
    ]
    return featuriser.engine, parts
