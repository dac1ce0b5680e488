"""Sources with the same content are found whatever they are called and however they are packed."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from zaslon.intake import same_files
from zaslon.system.zstd import zstd

CONTENT = b"id,at\n" + b"".join(b"%d,2024-01-01 00:00:00\n" % n for n in range(10_000))


def written(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    return str(path)


def test_the_same_file_is_found_plain_and_packed(tmp_path: Path) -> None:
    plain = written(tmp_path / "a.csv", CONTENT)
    packed = written(tmp_path / "b.csv.gz", gzip.compress(CONTENT))
    other = written(tmp_path / "c.csv.zst", zstd.compress(CONTENT))
    assert same_files([plain, packed, other]) == [[plain, packed], [plain, other]]
    assert same_files([plain, plain]) == [[plain, plain]]


def test_files_that_only_begin_alike_are_two_files(tmp_path: Path) -> None:
    first, longer = written(tmp_path / "a.csv", CONTENT), written(tmp_path / "b.csv", CONTENT + b"7,x\n")
    last_differs = written(tmp_path / "c.csv", CONTENT[:-2] + b"1\n")
    assert same_files([first, longer, last_differs]) == []
    assert same_files([first]) == same_files([]) == []


@pytest.mark.parametrize("order", [0, 1])
def test_a_pipe_is_not_read_to_compare_it(order: int, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    sources = [written(tmp_path / "a.csv", CONTENT), str(pipe)]
    assert same_files(sources if order else sources[::-1]) == []
