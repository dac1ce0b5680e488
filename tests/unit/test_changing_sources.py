"""A source that changes while it is read is refused: its last record may be half a one."""

from __future__ import annotations

import gzip
import io
import os
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from tests.unit.intake_cases import GOOD, HEADER, MISSION, NAMES, line

from zaslon.domain.errors import InputError
from zaslon.intake import label_files
from zaslon.intake.label_files import label_rows
from zaslon.intake.sources import read_source
from zaslon.system.opening import version_of
from zaslon.system.zstd import zstd

ROWS = [line(**{NAMES[0]: n}) for n in range(2_000)]
TEXT = "\n".join([HEADER, *ROWS, ""]).encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    rows = [row.split(",") for row in ROWS]
    pl.DataFrame(rows, schema=list(NAMES), orient="row").write_parquet(out)
    return out.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "text": lambda: TEXT, "gzip": lambda: gzip.compress(TEXT), "zstd": lambda: zstd.compress(TEXT), "parquet": _parquet,
}  # fmt: skip


def _append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


def _write_same(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))  # a clock may be too coarse to see it


CHANGES: dict[str, Callable[[Path, bytes], None]] = {
    "grown": _append, "written again": _write_same, "cut off": lambda path, _: os.truncate(path, 0),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("form", FORMS)
def test_a_source_that_changes_while_it_is_read_is_refused(form: str, change: str, tmp_path: Path) -> None:
    content, path = FORMS[form](), tmp_path / "in"
    path.write_bytes(content)
    chunks = read_source(str(path), MISSION, 1 << 10)
    next(chunks)
    CHANGES[change](path, content)
    with pytest.raises(InputError, match=r"changed while it was read|is damaged|cannot be read"):
        list(chunks)


def test_a_source_removed_while_it_is_read_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(TEXT)
    chunks = read_source(str(path), MISSION, 1 << 10)
    first = next(chunks)
    path.unlink()
    assert len(first) + sum(map(len, chunks)) == len(ROWS)


def test_labels_that_change_while_they_are_read_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "labels"
    path.write_text("transaction_id,is_fraud\n1,1\n")
    assert len(list(label_rows(path, MISSION))) == 1
    monkeypatch.setattr(label_files, "version_of", lambda file: (0, 0))
    with pytest.raises(InputError, match="changed while it was read"):
        list(label_rows(path, MISSION))


def test_what_is_no_file_has_no_version() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as file, os.fdopen(writing, "wb"):
        assert version_of(file) is None
    assert version_of(io.BytesIO(GOOD.encode())) is None
