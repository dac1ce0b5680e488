"""Laws of the log's typed records: what is written is read, damage is refused, parts make the whole."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.log_batches import CATALOGUES, content_of, log_batches
from tests.unit.intake_cases import MISSION

from zaslon.admission.log_format import decode, encode
from zaslon.domain.errors import ArtefactError
from zaslon.domain.events import EntryKind, LogBatch
from zaslon.domain.rejections import Reason, RecordProblem


@given(st.sampled_from(CATALOGUES).flatmap(lambda c: st.tuples(st.just(c), log_batches(c))))
def test_what_is_encoded_is_decoded(drawn: tuple[object, LogBatch]) -> None:
    catalogue, batch = drawn
    content = encode(batch, catalogue)  # type: ignore[arg-type]
    decoded = decode(content, catalogue)  # type: ignore[arg-type]
    assert content_of(decoded) == content_of(replace(batch, originals=None))
    assert encode(decoded, catalogue) == content  # type: ignore[arg-type]


@given(log_batches(MISSION), st.data())
def test_any_changed_byte_is_refused(batch: LogBatch, data: st.DataObject) -> None:
    content = bytearray(encode(batch, MISSION))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(ArtefactError, match="damaged"):
        decode(bytes(content), MISSION)


@given(log_batches(MISSION), st.data())
def test_a_batch_cut_short_or_with_more_behind_it_is_refused(batch: LogBatch, data: st.DataObject) -> None:
    content = encode(batch, MISSION)
    shorter = content[: data.draw(st.integers(0, len(content) - 1))]
    for other in (shorter, content + b"\0"):
        with pytest.raises(ArtefactError, match="damaged"):
            decode(other, MISSION)


@given(log_batches(MISSION), st.data())
def test_parts_put_together_are_the_whole(batch: LogBatch, data: st.DataObject) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(batch)), max_size=3)))
    ends = [0, *cuts, len(batch)]
    parts = [batch.part(begin, end) for begin, end in itertools.pairwise(ends)]
    assert [len(part) for part in parts] == [b - a for a, b in itertools.pairwise(ends)]
    assert content_of(LogBatch.concatenate(parts)) == content_of(batch)


@given(log_batches(MISSION), st.data())
def test_rejecting_records_leaves_the_others_as_they_were(batch: LogBatch, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, len(batch) - 1))) if len(batch) else set()
    changed = batch.rejecting(sorted(chosen), RecordProblem(Reason.ENGINE_ERROR, None, "It broke"))
    for i in range(len(batch)):
        before, after = batch.part(i, i + 1), changed.part(i, i + 1)
        if i not in chosen:
            assert content_of(after) == content_of(before)
            continue
        assert after.kind.tolist() == [EntryKind.REJECTED]
        assert after.rejected.reason.tolist() == [Reason.ENGINE_ERROR]
        assert after.rejected.detail == ["It broke."]
        assert after.original(0) == before.original(0)
        assert not len(after.transactions)
        assert not len(after.labels)
