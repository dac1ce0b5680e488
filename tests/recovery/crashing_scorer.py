"""A process that decides a small world into a home until it is killed. Run by the recovery test."""

import pickle
import sys
from pathlib import Path

from zaslon.bootstrap import build_context
from zaslon.domain.events import RecordBatch
from zaslon.flows.context import Silent
from zaslon.flows.decide import decide_records
from zaslon.flows.home import recover_engine
from zaslon.settings import load_settings


def main(home: Path, log: Path, batch_size: int) -> None:
    context = build_context(load_settings(home=home, threads=1))
    with log.open("rb") as file:
        records, kinds, arrivals = pickle.load(file)
    journal, snapshots = context.open_journal(), context.open_snapshots()
    engine = recover_engine(context, journal, snapshots)
    print("ready", flush=True)
    decide_records(
        engine,
        journal,
        snapshots,
        (
            RecordBatch.of(
                records[b : b + batch_size], kinds[b : b + batch_size], arrivals[b : b + batch_size], b
            )
            for b in range(0, len(records), batch_size)
        ),
        "small-world",
        snapshot_every_records=300,
        progress=Silent(),
    )
    print("done", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
