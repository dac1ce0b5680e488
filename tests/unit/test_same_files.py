"""Sources with the same content are found whatever they are called and however they are packed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from zaslon.intake import SameFiles, same_files
from zaslon.monitoring.data_warnings import not_compared_warnings
from zaslon.system.zstd import zstd

CONTENT = b"id,at\n" + b"".join(b"%d,2024-01-01 00:00:00\n" % n for n in range(10_000))


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_the_same_file_is_found_plain_and_packed(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.csv", CONTENT)
    packed = written(tmp_path / "b.csv.gz", gzip.compress(CONTENT))
    other = written(tmp_path / "c.csv.zst", zstd.compress(CONTENT))
    assert same_files([plain, packed, other]).pairs == [(plain, packed), (plain, other)]
    assert same_files([plain, plain]).pairs == [(plain, plain)]


def test_files_that_only_begin_alike_are_two_files(tmp_path: Path) -> None:
    first, longer = written(tmp_path / "a.csv", CONTENT), written(tmp_path / "b.csv", CONTENT + b"7,x\n")
    last_differs = written(tmp_path / "c.csv", CONTENT[:-2] + b"1\n")
    for sources in ([first, longer, last_differs], [first], []):
        assert same_files(sources) == SameFiles([], {})


@pytest.mark.parametrize("order", [0, 1])
def test_a_pipe_is_not_read_to_compare_it(order: int, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sources = [written(tmp_path / "a.csv", CONTENT), str(pipe)]
    assert same_files(sources if order else sources[::-1]) == SameFiles([], {})


def test_a_source_that_has_vanished_or_is_cut_off_is_named(tmp_path: Path) -> None:
    first, second = written(tmp_path / "a.csv", CONTENT), written(tmp_path / "b.csv", CONTENT)
    gone = str(tmp_path / "gone.csv")
    cut = written(tmp_path / "cut.csv.gz", gzip.compress(CONTENT)[:-20])
    cut_zstd = written(tmp_path / "cut.csv.zst", zstd.compress(CONTENT)[:-20])
    found = same_files([first, gone, cut, cut_zstd, second, f"memory://{tmp_path}/none.csv"])
    assert found.pairs == [(first, second)]
    assert found.not_compared.keys() == {gone, cut, cut_zstd, f"memory://{tmp_path}/none.csv"}
    assert found.not_compared[gone].startswith(f"'{gone}' does not exist.")
    warnings = not_compared_warnings(found.not_compared)
    assert [warning.kind for warning in warnings] == ["file_not_compared"] * 4
    assert f"'{gone}' was not compared with the other sources: " in warnings[0].message
