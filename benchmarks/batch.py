"""Speed: ours beside PySpark, DuckDB, Polars and pandas on the same rows, and what our parts cost.

    python benchmarks/batch.py [--rows 200000] [--section NAME]… [--json]

Sections: `engine` (one decision end to end in micro-batches, by stage). One JSON object with
--json, else tables for people.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.speed.engine import engine_costs, train_champion

Section = Callable[[int, Path], dict[str, Any]]


def _engine(rows: int, scratch: Path) -> dict[str, Any]:
    return engine_costs(train_champion(scratch, rows))


SECTIONS: dict[str, Section] = {"engine": _engine}


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--section", action="append", choices=SECTIONS, default=[])
    parser.add_argument("--json", action="store_true", help="only one JSON object on standard output")
    given = parser.parse_args()
    if given.rows < 20_000:
        parser.error("--rows must be at least 20,000: fewer leave nothing to measure.")
    found: dict[str, Any] = {"rows": given.rows}
    for name in given.section or SECTIONS:
        with tempfile.TemporaryDirectory(prefix="zaslon-speed-") as scratch:
            found[name] = SECTIONS[name](given.rows, Path(scratch))
    print(json.dumps(found) if given.json else json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
