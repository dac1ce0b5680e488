"""The rows that all tools are given: mission text with every defect, and clean days made of it."""

from __future__ import annotations

import random
import time
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


def write_raw(rows: int, path: Path, seed: int = 11) -> int:
    """About `rows` lines of the mission with defects; returns how many without the header."""
    profile = simulation_profile(
        "mission", customers=max(100, int(rows / _ROWS_PER_CUSTOMER)), defects=_DEFECTS
    )
    written = write_simulation(profile, DAYS, seed, path).rows
    lines = [template.format(id=10**12 + 7 * i + n) for n in range(_TIMES)
             for i, template in enumerate(_FURTHER_DEFECTS)]  # fmt: skip
    random.Random(seed).shuffle(lines)
    with path.open("a") as file:
        file.write("\n".join(lines) + "\n")
    return written + len(lines)


def write_clean(raw: Path, out: Path, catalogue: Catalogue) -> int:
    """Clean days without the few payments that a customer made in one second with another.

    A frame of SQL takes all rows of the same second or none, the engine takes them in log order;
    without such rows both mean the same. Returns the number of rows.
    """
    clean_files(
        [str(raw)], out, catalogue, key=b"benchmark", arrival_time_seconds=int(time.time()),
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
