"""How long the journal takes to look things up when it is large.

    python benchmarks/journal.py [--decisions 10000000] [--group 4] [--lookups 2000] [--directory DIR]

Fills a journal with decisions, in groups as the service writes them, and then asks in random order for what
a repeat asks (the newest decision about a transaction before a position), for the outcome at a position and
for the record at a position. Times are wall clock, in microseconds, in the thread that asks; the file's
pages are as warm as filling has left them.

Then the index by entity is built from it, and an entity's newest 20 decisions are asked for. `--on-path N` shows
why who decides does not write that index: the CPU of a decision for recording N more, by turns without and with
its rows in the same transaction.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from zaslon.adapters.embedded.entity_index import SqliteEntityIndex
from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.admission import from_clean
from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.events import Labels, LogBatch, Originals, Transactions
from zaslon.domain.outcomes import Action, Decision, Versions
from zaslon.services.entity_decisions import INDEXED_RECORDS

_VERSIONS = Versions("0123456789ab", "0123456789ab", "0123456789ab", 1)
_RECORD = b'{"transaction_id":1000000000,"tx_datetime":"2019-08-22 06:51:03","customer_id":7,"tx_amount":1.0}'
_MOMENT = 1_566_456_663
_TURN = 24_000  # decisions of each turn
KEYS = 49_999  # of each entity; a prime, so that those of a group are far from each other


def group_of(catalogue: Catalogue, first: int, count: int) -> tuple[LogBatch, list[Decision]]:
    """Records of the log at positions from `first` on, with their decisions."""
    number = np.arange(first, first + count, dtype=np.int64)
    none = np.full(count, -1, np.int8)
    transactions = Transactions(
        number * 7, number + _MOMENT, number % 997, dict.fromkeys(catalogue.entities, number * 7_919 % KEYS), {},
        np.zeros(count, np.uint32), np.stack([number, number], axis=1).astype(np.uint64), none, none,
    )  # fmt: skip
    labels = Labels(number[:0], np.zeros(0, np.bool_), number[:0])
    (batch,) = from_clean(transactions, labels, np.zeros(count, np.bool_), first)
    lengths = np.full(count, len(_RECORD), np.int64)
    originals = Originals(
        np.frombuffer(_RECORD * count, np.uint8), np.cumsum(lengths) - lengths, lengths
    )  # fmt: skip
    decisions = [
        Decision(position, 7 * position, _MOMENT + position, Action.ALLOW, 0.01, (), (), (), _VERSIONS)
        for position in range(first, first + count)
    ]
    return LogBatch(**{**vars(batch), "originals": originals}), decisions


def fill(journal: SqliteJournal, catalogue: Catalogue, decisions: int, group: int) -> None:
    """Record so many; the disk is not waited for, which changes nothing of what is written."""
    journal._connection.execute("PRAGMA synchronous = OFF")
    begin = time.perf_counter()
    for first in range(0, decisions, group):
        journal.record(*group_of(catalogue, first, min(group, decisions - first)), None)
        if first % 500_000 < group:
            print(f"{first:,} in {time.perf_counter() - begin:.0f} s", file=sys.stderr)


def percentiles(ask: Callable[[int], object], positions: list[int]) -> str:
    """p50, p99 and the longest, in microseconds."""
    taken = []
    for position in positions:
        begin = time.perf_counter()
        ask(position)
        taken.append(1e6 * (time.perf_counter() - begin))
    p50, p99, longest = np.percentile(taken, [50, 99, 100])
    return f"{p50:9.0f} {p99:9.0f} {longest:9.0f}"


def by_entity(path: Path, journal: SqliteJournal, catalogue: Catalogue, lookups: int) -> None:
    """Build the index, and look entities up."""
    name = catalogue.entities[0]
    with closing(SqliteEntityIndex(path, catalogue)) as index:
        begin, left = time.process_time(), journal.next_position
        while left:
            left = index.catch_up(journal, INDEXED_RECORDS)
        cpu_us = 1e6 * (time.process_time() - begin) / journal.next_position
        size = path.stat().st_size / journal.next_position
        print(
            f"index by entity: {cpu_us:.1f} us of CPU and {size:.0f} bytes a decision, not on the deciding path"
        )

        def ask(key: int) -> object:
            return [journal.outcome(p) for p in index.positions(name, key, None, 20)]

        keys = np.random.default_rng(2).integers(0, KEYS, lookups).tolist()
        print(f"{'an entity, newest 20':28} {percentiles(ask, keys)}")


class IndexedJournal(SqliteJournal):
    """A journal that has the rows of the index in its own file, and writes them with the outcomes."""

    keys: Sequence[tuple[int, int, int]] = ()

    def take_over(self, index: Path) -> None:
        """Begin with the rows of an index."""
        connection = self._connection
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("ATTACH ? AS built", (str(index),))
        connection.execute(
            "CREATE TABLE transactions (entity INTEGER, key INTEGER, position INTEGER,"
            " PRIMARY KEY (entity, key, position)) WITHOUT ROWID"
        )
        connection.execute("INSERT INTO transactions SELECT * FROM built.transactions")
        connection.execute("DETACH built")

    def _insert(self, rows: Sequence[tuple[int, int | None, int, bytes]]) -> None:
        super()._insert(rows)
        self._connection.executemany("INSERT INTO transactions VALUES (?, ?, ?)", self.keys)


def on_path(
    journals: tuple[SqliteJournal, IndexedJournal], catalogue: Catalogue, decisions: int, group: int
) -> None:
    """Record more by turns, without and with the rows of the index beside the outcomes."""
    used = [0.0, 0.0]
    turns = max(2, decisions // _TURN)
    for turn in range(turns):
        for number in ((0, 1), (1, 0))[turn % 2]:
            journal = journals[number]
            journal.refresh()
            begins = range(journal.next_position, journal.next_position + _TURN, group)
            batches = [group_of(catalogue, first, group) for first in begins]
            begin = time.process_time()
            for batch, outcomes in batches:
                if isinstance(journal, IndexedJournal):
                    columns = enumerate(batch.transactions.entity_keys.values())
                    places = range(batch.first_position, batch.end_position)
                    journal.keys = [
                        (n, *row) for n, keys in columns for row in zip(keys.tolist(), places, strict=True)
                    ]
                journal.record(batch, outcomes, None)
            used[number] += time.process_time() - begin
    without, with_index = (1e6 * seconds / turns / _TURN for seconds in used)
    print(
        f"recording, groups of {group}: {without:.1f} us of CPU a decision, with the index {with_index:.1f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--decisions", type=int, default=10_000_000)
    parser.add_argument("--group", type=int, default=4)
    parser.add_argument("--lookups", type=int, default=2_000)
    parser.add_argument("--on-path", type=int, default=0)
    parser.add_argument("--directory", type=Path)
    given = parser.parse_args()
    catalogue = load_catalogue()
    with tempfile.TemporaryDirectory(prefix="zaslon-journal-", dir=given.directory) as name:
        path = Path(name) / "journal.db"
        with closing(SqliteJournal(path, catalogue)) as journal:
            fill(journal, catalogue, given.decisions, given.group)
            positions = np.random.default_rng(1).integers(0, given.decisions, given.lookups).tolist()
            size = path.stat().st_size / given.decisions
            print(f"{given.decisions:,} decisions in groups of {given.group}, {size:.0f} bytes each")
            print(f"{'look-up':28} {'p50 us':>9} {'p99 us':>9} {'max us':>9}")
            asked: dict[str, Callable[[int], object]] = {
                "a repeat's decision": lambda p: journal.newest_decision(7 * p, given.decisions),
                "an unknown transaction": lambda p: journal.newest_decision(7 * p + 1),
                "the outcome at a position": journal.outcome,
                "the record at a position": lambda p: list(journal.read(p, p + 1)),
            }
            for what, ask in asked.items():
                print(f"{what:28} {percentiles(ask, positions)}")
            index = path.with_name("entities.db")
            by_entity(index, journal, catalogue, given.lookups)
            if given.on_path:
                with closing(IndexedJournal(path, catalogue)) as indexed:
                    indexed.take_over(index)
                    for group in (given.group, 1_000):
                        on_path((journal, indexed), catalogue, given.on_path, group)


if __name__ == "__main__":
    main()
