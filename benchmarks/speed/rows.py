"""The rows that all tools are given: mission text with every defect, and clean days made of it."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.intake import clean_days, clean_files
from zaslon.simulate import simulation_profile, write_simulation

DAYS = 45  # long enough for the longest window: 30 days before a delay of 7
_ROWS_PER_CUSTOMER = DAYS * 1.6
_DEFECTS = 20.0  # times the real rates, so that small runs have all of them
# What the simulator does not break, by the reasons that ours gives; each is in the file 7 times.
_FURTHER_DEFECTS = (
    "{id},2019-09-01 10:00:00,5,7,-3.10,0,0,0,0",  # out_of_range:tx_amount
    "{id},2019-09-01 10:00:00,5,7,12.3.4,0,0,0,0",  # not_a_number:tx_amount
    "{id},2019-09-01 10:00:00,five,7,12.34,0,0,0,0",  # not_an_integer:customer_id
    "{id},2019-09-01 10:00:00,,7,12.34,0,0,0,0",  # missing_field:customer_id
    "{id},yesterday,5,7,12.34,0,0,0,0",  # not_a_time:tx_datetime
    "{id},2019-02-30 10:00:00,5,7,12.34,0,0,0,0",  # impossible_time:tx_datetime
    "{id},2019-09-01 10:00:00,5,7,12.34,0",  # wrong_field_count
)
_TIMES = 7
_ROWS_OF_A_REPEAT = 1_000


def write_raw(rows: int, path: Path, seed: int = 11, *, is_skewed: bool = True) -> int:
    """About `rows` lines of the mission with defects; returns how many without the header.

    With skew one of 1,000 terminals has 4.2 % of the rows and another 2.7 %, as in the mission's files.
    """
    profile = simulation_profile(
        "mission", customers=max(100, int(rows / _ROWS_PER_CUSTOMER)), defects=_DEFECTS
    )
    if not is_skewed:
        profile = replace(profile, busy_terminals=())
    written = write_simulation(profile, DAYS, seed, path).rows
    lines = [template.format(id=10**12 + 7 * i + n) for n in range(_TIMES)
             for i, template in enumerate(_FURTHER_DEFECTS)]  # fmt: skip
    random.Random(seed).shuffle(lines)
    with path.open("a") as file:
        file.write("\n".join(lines) + "\n")
    return written + len(lines)


def write_sources(raw: Path, directory: Path, count: int) -> list[str]:
    """The lines of a file in `count` files; the last one also repeats some of the first one's, one in a thousand of all.

    Of the repeats a third are as they were, a third have another amount and a third another answer.
    """
    directory.mkdir()
    paths = [directory / f"{number:03}.txt" for number in range(count)]
    lines = -(-_lines_of(raw) // count)
    with raw.open("rb") as file:
        header = file.readline()
        for number, path in enumerate(paths):
            with path.open("wb") as part:
                part.write(header)
                part.writelines(islice(file, lines))
                if number == count - 1:
                    part.writelines(_repeats(paths[0], max(count * lines // _ROWS_OF_A_REPEAT, 3)))
    return [str(path) for path in paths]


def _lines_of(path: Path) -> int:
    with path.open("rb") as file:
        return sum(1 for _ in file)


def _repeats(path: Path, count: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        for number, line in enumerate(islice(file, 1, 1 + count)):
            fields = line.rstrip().split(b",")
            if number % 3 == 1:
                fields[4:5] = [b"1.23"]
            elif number % 3 == 2:
                fields[-2:] = [b"1", b"3"]
            yield b",".join(fields) + b"\n"


def write_clean(raws: Sequence[Path], out: Path, catalogue: Catalogue) -> int:
    """Clean days without the few payments that a customer made in one second with another.

    A frame of SQL takes all rows of the same second or none, the engine takes them in log order;
    without such rows both mean the same. Returns the number of rows.
    """
    clean_files(
        [str(raw) for raw in raws], out, catalogue, key=b"benchmark", arrival_time_seconds=int(time.time()),
        chunk_bytes=32 << 20, repeat_filter_bytes=32 << 20,
    )  # fmt: skip
    rows = 0
    for _, path in clean_days(out, catalogue):
        day = pl.read_parquet(path).unique(
            ["customer_key", "event_time_seconds"], keep="first", maintain_order=True
        )
        day.write_parquet(path, compression="lz4", statistics=False)
        rows += len(day)
    return rows
