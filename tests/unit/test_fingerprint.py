"""The fingerprint of clean days depends on their content and on nothing else."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.domain.errors import InputError
from zaslon.intake import clean_days, clean_fingerprint
from zaslon.testing import SmallWorld

_ROWS = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.none() | st.integers(-1, 1), st.none() | st.text(max_size=3)),
    max_size=20,
)  # fmt: skip


def frame(rows: list[tuple[int, int | None, str | None]]) -> pl.DataFrame:
    schema = {"transaction_id": pl.Int64, "is_fraud": pl.Int8, "text_id": pl.String}
    return pl.DataFrame(rows, schema, orient="row")


@pytest.mark.slow
@given(rows=_ROWS, other=_ROWS)
def test_other_content_is_another_fingerprint(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[int, int | None, str | None]],
    other: list[tuple[int, int | None, str | None]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "content.parquet"
    found = []
    for content in (rows, other):
        frame(content).write_parquet(path)
        found.append(clean_fingerprint([(1, path)]))
    assert (found[0] == found[1]) == (rows == other)


def test_the_form_of_a_file_is_not_its_content(small_world: SmallWorld, tmp_path: Path) -> None:
    days = clean_days(small_world.context.home / "clean", small_world.context.catalogue)
    copied = []
    for day, path in days[:3]:
        content = pl.read_parquet(path)
        shuffled = content.select(sorted(content.columns, reverse=True))
        shuffled.write_parquet(tmp_path / f"{day}.parquet", compression="uncompressed", row_group_size=7)
        copied.append((day, tmp_path / f"{day}.parquet"))
    assert clean_fingerprint(copied) == clean_fingerprint(days[:3])
    assert clean_fingerprint(copied[:2]) != clean_fingerprint(days[:3])
    assert clean_fingerprint([(day + 1, path) for day, path in copied]) != clean_fingerprint(copied)


def test_one_changed_answer_is_another_fingerprint(small_world: SmallWorld, tmp_path: Path) -> None:
    day, path = clean_days(small_world.context.home / "clean", small_world.context.catalogue)[0]
    content = pl.read_parquet(path)
    answers = content["is_fraud"].to_numpy().copy()
    answers[len(answers) // 2] ^= 1
    changed = tmp_path / "changed.parquet"
    content.with_columns(pl.Series("is_fraud", answers)).write_parquet(changed)
    assert clean_fingerprint([(day, changed)]) != clean_fingerprint([(day, path)])
    same = content.with_columns(digest_0=pl.lit(np.uint64(7)))
    same.write_parquet(changed)
    assert clean_fingerprint([(day, changed)]) == clean_fingerprint([(day, path)]), (
        "digests are the home's own"
    )


def test_a_damaged_day_is_named(tmp_path: Path) -> None:
    (tmp_path / "day.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"Clean day '.*day\.parquet' cannot be read"):
        clean_fingerprint([(1, tmp_path / "day.parquet")])
