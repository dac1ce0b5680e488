"""A nursery of scorers for the recovery test: each is forked warm, decides, and may be killed.

Reads lines `HOME BATCH_SIZE` on standard input. A child reports its process id, then `deciding` when
its state is recovered; the nursery prints `ended` when the child is gone. The child leaves a file
HOME/done when everything is decided, or HOME/failed with what it raised. Nothing that uses threads
runs before a fork.
"""

import os
import sys
from pathlib import Path

import orjson

from zaslon.admission import admit
from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import LogBatch, RecordBatch
from zaslon.engine import Engine
from zaslon.services.context import Silent
from zaslon.services.decision_loop import decide_records
from zaslon.services.poison import guarded_engine
from zaslon.settings import load_settings


class Log:
    """The records that every scorer decides."""

    def __init__(self, path: Path) -> None:
        content = orjson.loads(path.read_bytes())
        self.records = [record.encode("latin-1") for record in content["records"]]
        self.kinds: list[int] = content["kinds"]
        self.arrivals: list[int] = content["arrivals"]

    def batch(self, begin: int, end: int, key: bytes) -> LogBatch:
        part = slice(begin, end)
        raw = RecordBatch.of(self.records[part], self.kinds[part], self.arrivals[part], begin)
        return admit(raw, load_catalogue(), key)


def decide_everything(home: Path, batch_size: int, log: Log) -> None:
    context = build_context(load_settings(home=home, threads=1))
    journal = context.open_journal()
    snapshots = context.open_snapshots(journal)
    guard = guarded_engine(context, journal, snapshots)
    batches = (
        log.batch(begin, begin + batch_size, context.key) for begin in range(0, len(log.records), batch_size)
    )
    print("deciding", flush=True)
    decide_records(
        guard, journal, snapshots, batches, "small-world", snapshot_every_records=100, progress=Silent()
    )
    (home / "done").touch()


def main(log_path: Path) -> None:
    log = Log(log_path)
    Engine(load_catalogue(), key=b"warm").replay(log.batch(0, 100, b"warm"))  # children inherit compiled code
    print("ready", flush=True)
    for line in sys.stdin:
        home, batch_size = line.split()
        child = os.fork()
        if child == 0:
            print(os.getpid(), flush=True)
            code = 1
            try:
                decide_everything(Path(home), int(batch_size), log)
                code = 0
            except Exception as error:  # noqa: BLE001  the test shows it
                (Path(home) / "failed").write_text(repr(error))
            os._exit(code)
        os.waitpid(child, 0)
        print("ended", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
