"""Scale: `zaslon run` on simulated mission files of growing length; time and memory by stage.

    python benchmarks/scale.py [--rows 1000000]… [--json]

Each length runs in a process of its own. 47,000,000 rows are one file of the mission (2.8 GB) and
take some twenty minutes and 15 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from zaslon.simulate import simulation_profile, write_simulation

CUSTOMERS_OF_MISSION, ROWS_OF_MISSION = 1_000_000, 47_000_000
DAYS = 30


def measure(rows: int, scratch: Path) -> dict[str, Any]:
    """Simulate 30 days of about `rows` rows and run the whole job on them."""
    customers = max(1_000, CUSTOMERS_OF_MISSION * rows // ROWS_OF_MISSION)
    raw = scratch / f"{rows}.txt"
    profile = simulation_profile("mission", customers=customers)
    simulated = write_simulation(profile, DAYS, 1, raw, rows=rows)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.perf_counter()
    command = [
        str(Path(sys.executable).with_name("zaslon")),
        "run",
        str(raw),
        "--home",
        str(scratch / "home"),
    ]
    shortened = {**os.environ, "ZASLON_TEST_DAYS": "3", "ZASLON_VALIDATION_DAYS": "3"}
    done = subprocess.run(
        [*command, "--no-compare-delays", "--json"], capture_output=True, check=False, env=shortened
    )
    if done.returncode:
        raise SystemExit(f"zaslon run failed: {done.stdout.decode()}{done.stderr.decode()}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    report = json.loads(done.stdout)
    return {
        "rows": simulated.rows,
        "file_mib": raw.stat().st_size >> 20,
        "seconds": report["seconds"],
        "seconds_in_all": round(time.perf_counter() - begin, 1),
        "cpu_seconds": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 1),
        "peak_mib": report["peak_mib"],
        "peak_mib_in_all": max(report["peak_mib"].values()),
        "decisions": report["decisions"],
        "decisions_per_second": report["decisions_per_second"],
        "rows_rejected": report["rows_rejected"],
        "roc_auc": report["roc_auc"],
        "recall": report["recall"],
        "false_positive_rate": report["false_positive_rate"],
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, action="append", default=[])
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    found = []
    for rows in given.rows or [1_000_000]:
        if rows < 100_000:
            parser.error("--rows must be at least 100,000: fewer leave nothing to train on.")
        with tempfile.TemporaryDirectory(prefix="zaslon-scale-") as scratch:
            found.append(measure(rows, Path(scratch)))
        if not given.json:
            print(json.dumps(found[-1], indent=1))
    if given.json:
        print(json.dumps({"scale": found}))


if __name__ == "__main__":
    main()
