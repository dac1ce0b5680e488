"""The quarantine: rejected rows with their original bytes, but without values of pseudonymised fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.events import Rejected
from zaslon.domain.rejections import Reason
from zaslon.intake.chunks import Chunk
from zaslon.intake.cleaning import Int64
from zaslon.intake.examples import example_row
from zaslon.intake.hidden_fields import FieldHider, Kept
from zaslon.intake.layouts import Layout
from zaslon.intake.ordinary import problem_of_fault
from zaslon.intake.settling import ASIDE
from zaslon.system.durable import make_private_file, rename
from zaslon.system.isolation import by_halves

# Of the newest run; earlier ones of an output to which files were added have their numbers behind the name.
QUARANTINE, QUARANTINES = "_quarantine.parquet", "_quarantine*.parquet"
QUARANTINE_SCHEMA = {
    "source": pl.String, "record": pl.Int64, "offset": pl.Int64, "reason": pl.String,
    "field": pl.String, "detail": pl.String, "raw": pl.Binary, "in_clear": pl.Boolean,
}  # fmt: skip
# Rejected rows held in memory before they go to disk, and in a row group of the quarantine.
_QUARANTINE_ROWS_HELD = 100_000
_QUARANTINE_BYTES_HELD = 64 << 20
_CODES = {int(reason): reason.code for reason in Reason}


class QuarantineRows:
    """Makes rows of the quarantine.

    Args:
        catalogue, key: as for cleaning.
    """

    def __init__(self, catalogue: Catalogue, key: bytes) -> None:
        self._catalogue = catalogue
        self._hider = FieldHider(catalogue, key)
        self._layouts: dict[Layout, int] = {}

    def of_lines(self, chunk: Chunk, torn: dict[int, pl.DataFrame]) -> list[pl.DataFrame]:
        """Rows for lines of records that are rejected line by line."""
        if not torn:
            return []
        lines = pl.concat(torn.values()).with_columns(layout=pl.lit(self._number_of(chunk.layout), pl.Int64))
        frame = self._frame(lines.to_dict())
        if self._hider.has_work:  # which line has which fields is a guess
            frame = frame.with_columns(in_clear=pl.lit(value=True))
        return [frame]

    def of(self, chunk: Chunk, rejected: Rejected) -> list[pl.DataFrame]:
        """Rows for rejected records of a chunk."""
        if not len(rejected):
            return []
        codes = [_CODES[r] for r in rejected.reason.tolist()]
        why = {"reason": codes, "field": rejected.field, "detail": rejected.detail}
        return [self.frame(self.originals(chunk, rejected.index), why)]

    def engine_errors(self, rows: pl.DataFrame, error: Exception) -> pl.DataFrame:
        """Rows, as `originals` gives them, that broke our own code."""
        problem, count = problem_of_fault(error), len(rows)
        why = {
            "reason": [problem.reason.code] * count,
            "field": [None] * count,
            "detail": [problem.detail] * count,
        }
        return self.frame(rows, why)

    def frame(self, rows: pl.DataFrame, why: dict[str, Any]) -> pl.DataFrame:
        """Rows, as `originals` gives them, with `reason`, `field` and `detail` of each."""
        return self._frame({**rows.select(ASIDE).to_dict(), **why})

    def _frame(self, columns: dict[str, Any]) -> pl.DataFrame:
        most = self._catalogue.record.max_record_bytes
        frame = self._hidden(pl.DataFrame(columns, schema_overrides=QUARANTINE_SCHEMA))
        too_long = pl.col("reason") == Reason.TOO_LONG.code
        raw = pl.when(too_long).then(pl.col("raw").bin.head(most)).otherwise("raw").alias("raw")
        return frame.with_columns(raw).select(*QUARANTINE_SCHEMA)

    def _hidden(self, rows: pl.DataFrame) -> pl.DataFrame:
        """Rows of the quarantine without values of pseudonymised fields; `in_clear` where one may be left."""
        if not self._hider.has_work:
            return rows.with_columns(in_clear=pl.lit(False))
        layouts, parts = list(self._layouts), []
        for part in rows.partition_by("layout", maintain_order=True):
            kept, broken = self._hide(part["raw"].to_list(), layouts[part["layout"][0]])
            raws, in_clear = zip(*kept, strict=True)
            columns = pl.Series("raw", raws, pl.Binary), pl.Series("in_clear", in_clear, pl.Boolean)
            parts.append(_as_engine_errors(part.with_columns(columns), broken))
        return pl.concat(parts)

    def _hide(self, raws: list[bytes], layout: Layout) -> tuple[list[Kept], dict[int, str]]:
        """Rows as they may be kept. One that breaks the hiding is kept as it came, and named with a sentence."""
        broken: dict[int, str] = {}

        def alone(index: int, error: Exception) -> list[Kept]:
            self._check_hiding(layout, error)
            broken[index] = problem_of_fault(error).detail
            return [Kept(raws[index], in_clear=True)]

        parts = by_halves(lambda begin, end: self._hider.hide(raws[begin:end], layout), len(raws), alone)
        return [kept for part in parts for kept in part], broken

    def _check_hiding(self, layout: Layout, error: Exception) -> None:
        """Raise `error` where an ordinary row breaks the hiding, too: then no row is to blame for it."""
        try:
            self._hider.hide([example_row(self._catalogue, layout)], layout)
        except Exception:  # noqa: BLE001  the first error is more useful
            raise error from None

    def originals(self, chunk: Chunk, rows: Int64) -> pl.DataFrame:
        """The places of rows of a chunk in their source, their bytes, and the number of their layout."""
        return self._originals(
            [chunk.source] * len(rows), chunk.first_record + rows, chunk.offsets(rows), chunk.originals(rows.tolist()),
            chunk.layout,
        )  # fmt: skip

    def places(self, sources: Sequence[str], records: Sequence[int], jsons: Sequence[bytes]) -> pl.DataFrame:
        """The same for rows whose bytes were not kept, with JSON instead of them."""
        layout = Layout(True, (), self._catalogue.record.separator)
        return self._originals(sources, records, [-1] * len(records), jsons, layout)

    def _originals(
        self, sources: Sequence[str], records: Any, offsets: Any, raws: Sequence[bytes], layout: Layout
    ) -> pl.DataFrame:
        return pl.DataFrame(
            {
                "source": pl.Series(sources, dtype=pl.String),
                "record": pl.Series(records, dtype=pl.Int64),
                "offset": pl.Series(offsets, dtype=pl.Int64),
                "raw": pl.Series(raws, dtype=pl.Binary),
                "layout": pl.Series([self._number_of(layout)] * len(raws), dtype=pl.Int64),
            }
        )

    def _number_of(self, layout: Layout) -> int:
        return self._layouts.setdefault(layout, len(self._layouts))


class Quarantine(QuarantineRows):
    """Rejected rows of one run; many of them are held on disk.

    Args:
        staging: directory for those.
        catalogue, key: as for cleaning.

    Attributes:
        reasons: how many rows were taken, by reason and field.
    """

    def __init__(self, staging: Path, catalogue: Catalogue, key: bytes) -> None:
        super().__init__(catalogue, key)
        self._staging = staging
        self._frames: list[pl.DataFrame] = []
        self._held_rows = self._held_bytes = 0
        self._parts: list[Path] = []
        self.reasons: Counter[str] = Counter()

    def take(self, frame: pl.DataFrame) -> None:
        """Count rows and keep them."""
        self.reasons.update(reasons_of(frame))
        self._frames.append(frame)
        self._held_rows += len(frame)
        self._held_bytes += int(frame.estimated_size())
        if self._held_rows >= _QUARANTINE_ROWS_HELD or self._held_bytes >= _QUARANTINE_BYTES_HELD:
            self._spill()

    def _spill(self) -> None:
        path = make_private_file(self._staging / f"quarantine-{len(self._parts):06d}.arrow")
        pl.concat(self._frames).write_ipc(path, compression="uncompressed")
        self._parts.append(path)
        self._frames, self._held_rows, self._held_bytes = [], 0, 0

    def write(self, path: Path) -> None:
        """Write one file, streamed: even where every row of the input was rejected."""
        self._frames.append(pl.DataFrame(schema=QUARANTINE_SCHEMA))
        self._spill()
        make_private_file(path)
        pl.scan_ipc(self._parts).sink_parquet(path, compression="zstd", row_group_size=_QUARANTINE_ROWS_HELD)


def reasons_of(rows: pl.DataFrame) -> Counter[str]:
    """How many rows of the quarantine there are by reason and field."""
    pairs = Counter(zip(rows["reason"], rows["field"], strict=True))
    return Counter({f"{code}:{name}" if name else code: count for (code, name), count in pairs.items()})


def _as_engine_errors(rows: pl.DataFrame, broken: dict[int, str]) -> pl.DataFrame:
    """Rows of the quarantine, some of which, by index, broke our own code as a sentence says."""
    if not broken:
        return rows
    is_broken = pl.Series([index in broken for index in range(len(rows))])
    detail = pl.Series([broken.get(index) for index in range(len(rows))], dtype=pl.String)
    return rows.with_columns(
        reason=pl.when(is_broken).then(pl.lit(Reason.ENGINE_ERROR.code)).otherwise("reason"),
        field=pl.when(is_broken).then(None).otherwise("field"),
        detail=pl.when(is_broken).then(detail).otherwise("detail"),
    )


def forget_raw_rows(quarantine: Path) -> None:
    """Remove the bytes of rejected rows from a quarantine, and what sentences quote of them; reasons and places stay.

    Raises:
        OSError, PolarsError: it cannot be read or written.
    """
    rows = pl.scan_parquet(quarantine, glob=False)
    if rows.select("raw").head(1).collect()["raw"].null_count() or not rows.select(pl.len()).collect().item():
        return
    partial = quarantine.with_name(f".{quarantine.name}.forgetting")
    make_private_file(partial)
    subject = pl.concat_str(pl.lit("Field '"), "field", pl.lit("'")).fill_null("The record")
    without = rows.with_columns(
        raw=pl.lit(None, pl.Binary), in_clear=pl.lit(value=False),
        detail=pl.concat_str(subject, pl.lit(" is no longer kept.")),
    )  # fmt: skip
    without.sink_parquet(partial, compression="zstd", row_group_size=_QUARANTINE_ROWS_HELD)
    rename(partial, quarantine)
