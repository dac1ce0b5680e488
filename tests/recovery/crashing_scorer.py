"""A nursery of scorers for the recovery test: each is forked warm, decides, and may be killed.

Reads lines `HOME BATCH_SIZE` on standard input and answers with the child's process id; the child
writes `done` into HOME/done when it has decided everything. Nothing that uses threads runs before
a fork.
"""

import os
import sys
from pathlib import Path

import orjson

from zaslon.bootstrap import build_context
from zaslon.domain.events import RecordBatch
from zaslon.flows.context import Silent
from zaslon.flows.decide import decide_records
from zaslon.flows.home import recover_engine
from zaslon.settings import load_settings


def decide_everything(home: Path, batch_size: int, log: dict[str, list[object]]) -> None:
    context = build_context(load_settings(home=home, threads=1))
    records = [str(r).encode("latin-1") for r in log["records"]]
    kinds, arrivals = log["kinds"], log["arrivals"]
    journal, snapshots = context.open_journal(), context.open_snapshots()
    engine = recover_engine(context, journal, snapshots)
    batches = (
        RecordBatch.of(
            records[b : b + batch_size],
            kinds[b : b + batch_size],  # type: ignore[arg-type]
            arrivals[b : b + batch_size],  # type: ignore[arg-type]
            b,
        )
        for b in range(0, len(records), batch_size)
    )
    decide_records(
        engine, journal, snapshots, batches, "small-world", snapshot_every_records=300, progress=Silent()
    )
    (home / "done").touch()


def main(log_path: Path) -> None:
    log = orjson.loads(log_path.read_bytes())
    print("ready", flush=True)
    for line in sys.stdin:
        home, batch_size = line.split()
        child = os.fork()
        if child == 0:
            try:
                decide_everything(Path(home), int(batch_size), log)
            except BaseException as error:
                (Path(home) / "failed").write_text(repr(error))
                os._exit(1)
            os._exit(0)
        print(child, flush=True)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
