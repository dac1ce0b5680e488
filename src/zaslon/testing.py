"""Tools for tests of Zaslon and of what is built on it: small worlds with real parts, no mocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from zaslon.admission import admit
from zaslon.bootstrap import build_context
from zaslon.domain.events import Kind, LogBatch, RecordBatch
from zaslon.engine import Engine
from zaslon.features.plan import plan_features
from zaslon.intake import clean_days, clean_files
from zaslon.models.training import TrainSettings
from zaslon.services.context import KEY, Context
from zaslon.services.home import keep_champion, load_champion
from zaslon.services.model_training import train_and_evaluate
from zaslon.services.samples import collect_samples
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation
from zaslon.system.durable import write_file

SECONDS_PER_DAY = 86_400
_RAW = "small.txt"


@dataclass(frozen=True)
class SmallWorld:
    """A trained home and the records of the days after training.

    Attributes:
        context: with the home; its champion serves.
        records: raw records in log order, transactions as mission lines with defects, labels as
            JSON among them.
        kinds, arrivals: of each record.
    """

    context: Context
    records: tuple[bytes, ...]
    kinds: tuple[int, ...]
    arrivals: tuple[int, ...]

    def engine(self) -> Engine:
        """A new engine at log position 0 with an empty history."""
        plan = plan_features(self.context.catalogue)
        model, policy = load_champion(self.context, plan)
        return Engine(self.context.catalogue, key=self.context.key, model=model, policy=policy, plan=plan)

    def raw_batch(self, begin: int, end: int) -> RecordBatch:
        """Records [begin, end) as they arrive."""
        part = slice(begin, end)
        return RecordBatch.of(self.records[part], self.kinds[part], self.arrivals[part], begin)

    def batch(self, begin: int, end: int) -> LogBatch:
        """Records [begin, end) as a batch of the log."""
        return self.admit(self.raw_batch(begin, end))

    def admit(self, batch: RecordBatch) -> LogBatch:
        """What the home's log would hold of raw records."""
        return admit(batch, self.context.catalogue, self.context.key)

    def in_home(self, home: Path) -> SmallWorld:
        """The same world with another home, into which champion and key are copied."""
        context = self.context.in_home(home)
        write_file(home / KEY, context.key)
        plan = plan_features(context.catalogue)
        model, policy = load_champion(self.context, plan)
        from zaslon.models.artefact import save_model  # noqa: PLC0415

        save_model(model, home / "models" / model.artefact_id)
        keep_champion(context, model, policy)
        return replace(self, context=context)


def make_small_world(
    home: Path,
    *,
    customers: int = 300,
    days: int = 45,
    log_rows: int = 3_000,
    seed: int = 5,
    rounds: int = 30,
) -> SmallWorld:
    """Simulate, clean, train a small model, and make records of what came last.

    Takes a few seconds; meant to be made once for a whole test session.
    """
    profile = simulation_profile(
        "mission", customers=customers, terminals=max(20, customers // 10), defects=300
    )
    raw = home / _RAW
    write_simulation(profile, days, seed, raw)
    context = _context(home)
    clean_files(
        [str(raw)], home / "clean", context.catalogue, key=context.key,
        arrival_time_seconds=int(context.adapters.clock.now_seconds()),
        chunk_bytes=context.options.chunk_bytes, repeat_filter_bytes=1 << 16, progress=None,
    )  # fmt: skip
    samples = collect_samples(
        context, clean_days(home / "clean", context.catalogue), label_delay_seconds=7 * SECONDS_PER_DAY
    )
    trained = train_and_evaluate(context, samples, TrainSettings(rounds=rounds, rounds_max=rounds, threads=1))
    keep_champion(context, trained.model, trained.policy)
    return open_small_world(home, log_rows=log_rows, seed=seed)


def open_small_world(home: Path, *, log_rows: int = 3_000, seed: int = 5) -> SmallWorld:
    """The small world that `make_small_world` has made in a home with the same arguments."""
    lines = (home / _RAW).read_bytes().splitlines()[-log_rows:]
    return SmallWorld(_context(home), *_with_labels(lines, seed))


def _context(home: Path) -> Context:
    return build_context(load_settings(home=home, threads=1, batch_records=500))


def _with_labels(
    lines: Sequence[bytes], seed: int
) -> tuple[tuple[bytes, ...], tuple[int, ...], tuple[int, ...]]:
    """Lines with labels for some of them mixed in: early, late, repeated, corrected, unknown."""
    random = np.random.default_rng(seed)
    records: list[bytes] = []
    kinds: list[int] = []
    for line in lines:
        records.append(line)
        kinds.append(Kind.TRANSACTION_LINE)
        if random.random() < 0.2:
            other = lines[int(random.integers(len(lines)))].split(b",")[0]
            verdict = b"true" if random.random() < 0.3 else b"false"
            records.append(b'{"transaction_id":%s,"is_fraud":%s}' % (other, verdict))
            kinds.append(Kind.LABEL_JSON)
    last_day = np.datetime64(lines[-1].split(b",")[1][:10].decode(), "s").astype(np.int64)
    arrivals = int(last_day) + np.arange(len(records)) * SECONDS_PER_DAY // len(records)
    return tuple(records), tuple(kinds), tuple(arrivals.tolist())
