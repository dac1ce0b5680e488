"""Admission: one entry of the log for every record, and a format that refuses what is not its own."""

from __future__ import annotations

import zlib
from dataclasses import asdict, replace

import numpy as np
import orjson
import pytest
from tests.log_batches import content_of
from tests.unit.intake_cases import ARRIVAL_SECONDS, GOOD, KEY, MISSION, SHOP, line

from zaslon.admission import admit, change_entry, from_clean, log_format
from zaslon.admission.log_format import decode, encode
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import Change, Degradation, EntryKind, Kind, LogBatch, RecordBatch, terms
from zaslon.domain.rejections import Reason
from zaslon.features.history import merge_by_time

LABEL = b'{"transaction_id":17,"is_fraud":true}'
RECORDS = (GOOD.encode(), LABEL, b"nonsense", line(transaction_id=18).encode())
KINDS = (
    terms(Kind.TRANSACTION_LINE), Kind.LABEL_JSON, Kind.TRANSACTION_LINE,
    terms(Kind.TRANSACTION_LINE, Degradation.MODEL),
)  # fmt: skip


CHANGE = Change("5f2c1d0a9b3e", "0a9b3e5f2c1d", 7, "Анна", 'fewer "false" stops', entry=3)


def admitted(first_position: int = 100) -> LogBatch:
    arrivals = [ARRIVAL_SECONDS] * len(RECORDS)
    return admit(RecordBatch.of(RECORDS, KINDS, arrivals, first_position), MISSION, KEY)


def test_every_record_has_one_entry() -> None:
    batch = admitted()
    assert batch.kind.tolist() == [
        EntryKind.TRANSACTION, EntryKind.LABEL, EntryKind.REJECTED, EntryKind.TRANSACTION,
    ]  # fmt: skip
    assert (len(batch), batch.first_position, batch.end_position) == (4, 100, 104)
    assert batch.transactions.transaction_id.tolist() == [17, 18]
    assert batch.labels.transaction_id.tolist() == [17]
    assert batch.rejected.reason.tolist() == [Reason.WRONG_FIELD_COUNT]
    assert batch.rejected.index.tolist() == [2]


def test_an_entry_keeps_its_original_bytes_and_its_degradation() -> None:
    batch = admitted()
    assert tuple(batch.original(i) for i in range(4)) == RECORDS
    assert batch.degradation.tolist() == [0, 0, 0, Degradation.MODEL]
    assert batch.without_originals().original(0) is None


def test_events_keep_their_order() -> None:
    batch = admitted()
    assert batch.is_label.tolist() == [False, True, False]
    assert batch.transaction_index.tolist() == [0, 3]
    assert batch.label_index.tolist() == [1]


def test_a_part_has_its_own_positions() -> None:
    part = admitted().part(1, 3)
    assert (part.first_position, len(part)) == (101, 2)
    assert part.rejected.index.tolist() == [1]
    assert part.original(0) == LABEL
    assert part.at(7).end_position == 9


def test_batches_with_buffers_of_their_own_are_put_together() -> None:
    batch = LogBatch.concatenate([admitted(), admitted(104)])
    assert tuple(batch.original(i) for i in range(8)) == RECORDS * 2
    assert batch.rejected.index.tolist() == [2, 6]


def test_clean_rows_become_entries_without_original_bytes() -> None:
    source = admitted()
    moments = source.transactions.event_time_seconds + np.array([0, 10])
    is_label = merge_by_time(moments, source.labels.arrival_time_seconds)
    (batch,) = from_clean(source.transactions, source.labels, is_label, 5)
    assert batch.kind.tolist() == [EntryKind.TRANSACTION, EntryKind.TRANSACTION, EntryKind.LABEL]
    assert batch.arrival_time_seconds.tolist() == [
        *source.transactions.event_time_seconds.tolist(), ARRIVAL_SECONDS,
    ]  # fmt: skip
    assert batch.original(0) is None
    assert content_of(decode(encode(batch, MISSION), MISSION)) == content_of(batch)


def test_an_empty_batch_is_written_and_read() -> None:
    batch = admit(RecordBatch.of([], [], [], 3), MISSION, KEY)
    assert content_of(decode(encode(batch, MISSION), MISSION)) == content_of(replace(batch, originals=None))


def test_decoded_columns_can_be_written_and_are_aligned() -> None:
    """Compiled code is recompiled, or refuses, for others."""
    batch = decode(encode(admitted(), MISSION), MISSION)
    for column in (batch.transactions.transaction_id, batch.transactions.flags, batch.arrival_time_seconds):
        assert column.flags.writeable
        assert column.flags.aligned
        assert column.flags.c_contiguous


def test_another_format_is_refused_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = log_format.FORMAT
    monkeypatch.setattr(log_format, "FORMAT", ours + 1)
    content = encode(change_entry(CHANGE, 100, ARRIVAL_SECONDS, MISSION), MISSION)
    monkeypatch.undo()
    with pytest.raises(
        ArtefactError, match=f"has format {ours + 1} at position 100; this version reads format {ours}"
    ):
        decode(content, MISSION)


def test_a_log_with_other_fields_is_refused_by_name() -> None:
    with pytest.raises(ArtefactError, match="other fields than those of shop@1"):
        decode(encode(admitted(), MISSION), SHOP)


def test_a_change_is_read_from_the_log_as_it_was_written() -> None:
    entry = change_entry(CHANGE, 100, ARRIVAL_SECONDS, MISSION)
    read = decode(encode(entry, MISSION), MISSION)
    assert (read.change, read.first_position, len(read)) == (CHANGE, 100, 1)
    assert (len(read.transactions), len(read.labels), len(read.rejected), len(read.is_label)) == (0, 0, 0, 0)
    assert read.part(0, 1).change == read.at(100).without_originals().change == CHANGE
    assert decode(encode(admitted(), MISSION), MISSION).change is None


@pytest.mark.parametrize(
    ("reason", "entry"),
    [
        ("promote, entry 3", 3),
        ("policy, entry 12", 12),
        ("policy.toml", None),
        ("entry 3, by hand", None),
        ("", None),
    ],
)
def test_a_change_of_format_3_has_its_entry_in_words(reason: str, entry: int | None) -> None:
    change = Change("5f2c1d0a9b3e", "0a9b3e5f2c1d", 7, "Анна", reason)
    assert decode(_in_format_3(change), MISSION).change == replace(change, entry=entry)
    written = encode(change_entry(change, 100, ARRIVAL_SECONDS, MISSION), MISSION)
    assert decode(written, MISSION).change == change, "words mean nothing in format 4"


def test_only_changes_need_the_newer_format() -> None:
    changed = change_entry(CHANGE, 100, ARRIVAL_SECONDS, MISSION)
    formats = [int.from_bytes(encode(batch, MISSION)[8:10], "little") for batch in (admitted(), changed)]
    assert formats == [3, log_format.FORMAT]


def _in_format_3(change: Change) -> bytes:
    """A change as releases before format 4 wrote it: without the field."""
    content = encode(change_entry(change, 100, ARRIVAL_SECONDS, MISSION), MISSION)
    columns, _, _ = content[10:].partition(b'{"model"')
    written = {name: value for name, value in asdict(change).items() if name != "entry"}
    body = (3).to_bytes(2, "little") + columns + orjson.dumps(written)
    return content[:4] + zlib.crc32(body).to_bytes(4, "little") + body
