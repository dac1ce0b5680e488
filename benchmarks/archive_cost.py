"""What the archive of decisions costs: how fast it copies, how much room it takes.

    python benchmarks/archive_cost.py --url postgresql://user@host/database [--decisions 100000]

The database must be empty and may be thrown away. A log of simulated decisions is written into a new home with the
engine; then `store archive` copies it. docs/benchmarks.md has the figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

from zaslon.bootstrap import build_context, migrate_store
from zaslon.flows.archive import archive
from zaslon.flows.run import run
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation


def main(arguments: Sequence[str]) -> int:
    """Measure, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--url", required=True)
    parser.add_argument("--decisions", type=int, default=100_000)
    given = parser.parse_args(arguments)
    os.environ["ZASLON_STORE_URL"] = given.url
    with tempfile.TemporaryDirectory(prefix="archive-") as scratch:
        home = Path(scratch) / "home"
        raw = Path(scratch) / "all.csv"
        profile = simulation_profile(
            "handbook", customers=given.decisions // 40, terminals=given.decisions // 20
        )
        write_simulation(profile, 60, 1, raw)
        migrate_store(load_settings(home=home))
        context = build_context(load_settings(home=home, test_days=20, period_days_max=20))
        run(context, [str(raw)], compare_delays=False)
        begin, cpu = time.perf_counter(), _cpu_seconds()
        done = archive(context, keep_days=None, is_over=lambda _: True, notify=print, waits=False)
        seconds, cpu = time.perf_counter() - begin, _cpu_seconds() - cpu
    with psycopg.connect(given.url) as connection:
        found = connection.execute(
            "SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits WHERE inhparent = 'archive.decisions'::regclass"
        ).fetchone()
    size = int(found[0]) if found else 0
    print(
        f"{done.decisions:,} decisions in {seconds:.1f} s: {done.decisions / seconds:,.0f}/s, "
        f"{cpu / done.decisions * 1e6:.0f} µs CPU of ours each, {size / done.decisions:,.0f} bytes each on disk"
    )
    return 0


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
