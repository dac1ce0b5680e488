"""Repeats are found twice: within the input of a run, and by the log. Both ways give every row the same outcome."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.effort import IS_THOROUGH
from tests.feature_logs import SECRET, SHORT
from tests.unit.intake_cases import KEY, quarantine_of, rows_of, run

from zaslon.admission import admit
from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.rejections import Reason
from zaslon.features.history import History
from zaslon.features.plan import plan_features

CATALOGUE = parse_catalogue(SHORT)  # an id is known for 100 seconds
PLAN = plan_features(CATALOGUE)
START = 1_500_000_000
# An id, seconds since the row before (around `remember` and within it), an amount.
ROWS = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from((0, 0, 1, 40, 99, 100, 101)), st.integers(1, 2)),
    min_size=1, max_size=25,
)  # fmt: skip
Row = tuple[int, int, int]


def records_of(drawn: Sequence[Row]) -> list[bytes]:
    """Records in the order of time and id, which is the order in which a file becomes a log."""
    rows, moment = [], START
    for identifier, step, amount in drawn:
        moment += step
        rows.append((moment, identifier, amount))
    rows.sort(key=lambda row: row[:2])
    return [b'{"id":%d,"at":%d,"paid":%d,"card":"1","shop":"1"}' % (i, at, paid) for at, i, paid in rows]


def by_log(records: Sequence[bytes], sizes: int) -> list[str]:
    """What the deduplication index says of each record, in batches of a size."""
    history, found = History(PLAN, secret=SECRET), []
    for begin in range(0, len(records), sizes):
        part = records[begin : begin + sizes]
        raw = RecordBatch.of(part, [Kind.TRANSACTION_JSON] * len(part), [START + 10**6] * len(part), begin)
        batch = admit(raw, CATALOGUE, KEY)
        assert len(batch.transactions) == len(part)
        applied = history.apply(batch.transactions, batch.labels, batch.is_label)
        found += [Reason(status).code for status in applied.status.tolist()]
    return found


def by_file(records: Sequence[bytes], directory: Path, chunk_bytes: int, filter_bytes: int) -> list[str]:
    """What cleaning says of each row of one file."""
    file, out = directory / "rows.jsonl", directory / "out"
    file.write_bytes(b"\n".join(records))
    run(
        [file], out, catalogue=CATALOGUE, chunk_bytes=chunk_bytes, filter_bytes=filter_bytes,
        arrival=START + 10**6,
    )  # fmt: skip
    found = [Reason.ACCEPTED.code] * len(records)
    rejected = quarantine_of(out)
    for record, reason in rejected.select("record", "reason").iter_rows():
        found[record - 1] = reason
    assert len(rows_of(out)) == found.count(Reason.ACCEPTED.code)
    return found


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None,
    max_examples=500 if IS_THOROUGH else 25,
)  # fmt: skip
@given(ROWS, st.integers(1, 400), st.sampled_from((1, 1 << 16)), st.integers(1, 30))
def test_a_file_finds_the_repeats_that_the_log_finds(
    tmp_path: Path, drawn: list[Row], chunk_bytes: int, filter_bytes: int, batch_records: int
) -> None:
    records = records_of(drawn)
    expected = by_log(records, batch_records)
    assert by_file(records, tmp_path, chunk_bytes, filter_bytes) == expected
    assert by_log(records, 1) == expected


def test_the_law_meets_every_outcome() -> None:
    records = records_of([(1, 0, 1), (1, 0, 1), (1, 99, 2), (1, 1, 2), (1, 0, 1)])
    assert by_log(records, 5) == [
        "accepted", "duplicate", "conflicting_duplicate", "accepted", "conflicting_duplicate",
    ]  # fmt: skip
