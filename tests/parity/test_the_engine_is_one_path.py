"""The same log gives the same bytes, whatever the batches, and every record has one outcome."""

import json
from collections import Counter
from pathlib import Path

import pytest

from zaslon.admission import admit
from zaslon.domain.events import Kind, RecordBatch
from zaslon.engine import restore_engine
from zaslon.services.decision_loop import answers_in
from zaslon.testing import SmallWorld


def outcome_bytes(world: SmallWorld, size: int, end: int | None = None) -> list[bytes]:
    engine = world.engine()
    end = len(world.records) if end is None else end
    out: list[bytes] = []
    for begin in range(0, end, size):
        batch = world.batch(begin, min(begin + size, end))
        out += [outcome.to_json() for outcome in engine.process(batch).outcomes]
    return out


@pytest.mark.parametrize("size", [7, 1000])
def test_batches_of_any_size_give_identical_bytes(small_world: SmallWorld, size: int) -> None:
    assert outcome_bytes(small_world, size) == outcome_bytes(small_world, len(small_world.records))


def test_batches_of_one_give_identical_bytes(small_world: SmallWorld) -> None:
    assert outcome_bytes(small_world, 1, 600) == outcome_bytes(small_world, 600, 600)


def test_every_record_has_exactly_one_outcome_in_its_place(small_world: SmallWorld) -> None:
    outcomes = [json.loads(o) for o in outcome_bytes(small_world, 500)]
    assert [o["position"] for o in outcomes] == list(range(len(small_world.records)))
    kinds = Counter(o["outcome"] for o in outcomes)
    labels = sum(kind == Kind.LABEL_JSON for kind in small_world.kinds)
    assert kinds["decision"] > 0.9 * (len(outcomes) - labels)
    assert kinds["label"] > 0.9 * labels
    assert kinds["rejection"] > 0


def test_what_is_not_allowed_has_reasons_in_words_with_numbers(small_world: SmallWorld) -> None:
    outcomes = [json.loads(o) for o in outcome_bytes(small_world, 1000)]
    stopped = [o for o in outcomes if o["outcome"] == "decision" and o["action"] != "allow"]
    allowed = [o for o in outcomes if o["outcome"] == "decision" and o["action"] == "allow"]
    assert stopped
    assert all(o["reasons"] for o in stopped)
    assert not any(o["reasons"] for o in allowed)
    assert any(character.isdigit() for o in stopped for r in o["reasons"] for character in r["text"])


def test_a_restored_engine_continues_with_the_same_bytes(small_world: SmallWorld, tmp_path: Path) -> None:
    whole = outcome_bytes(small_world, 500)
    context = small_world.context.in_home(tmp_path)
    snapshots = context.open_snapshots(context.open_journal())
    for cut in (1, 501, 1777):
        engine = small_world.engine()
        engine.process(small_world.batch(0, cut))
        engine.save(snapshots)
        found = snapshots.newest(cut)
        assert found is not None
        position, content, complaints = found
        assert (position, complaints) == (cut, [])
        again = restore_engine(
            small_world.context.catalogue, position, content,
            key=small_world.context.key, model=engine.model, policy=engine.policy,
        )  # fmt: skip
        assert sum(array.nbytes for array in content.values()) < 100, "gigabytes are held twice"
        rest = again.process(small_world.batch(cut, len(small_world.records))).outcomes
        assert [outcome.to_json() for outcome in rest] == whole[cut:]


def test_a_label_between_two_transactions_changes_the_second(small_world: SmallWorld) -> None:
    def features_of_last(verdict: bytes | None) -> bytes:
        engine = small_world.engine()
        rows = [
            b"1,2020-01-01 10:00:00,5,7,20.00,0,0,0,0",
            b'{"transaction_id":1,"is_fraud":%s}' % (verdict or b"false"),
            b"2,2020-01-01 11:00:00,6,7,20.00,0,0,0,0",
        ]
        kinds = [Kind.TRANSACTION_LINE, Kind.LABEL_JSON, Kind.TRANSACTION_LINE]
        moment = 1_577_874_600  # 10:30, between the two
        batch = small_world.admit(RecordBatch.of(rows, kinds, [moment] * 3))
        engine.process(batch.part(0, 2))
        last = batch.part(2, 3)
        applied = engine.apply(last.transactions, last.labels, last.is_label)
        row: bytes = applied.matrix[0, engine.plan.names.index("terminal_frauds_7d")].tobytes()
        return row

    assert features_of_last(b"true") != features_of_last(b"false")


def test_a_batch_out_of_turn_is_a_programming_error(small_world: SmallWorld) -> None:
    with pytest.raises(ValueError, match="expected 0"):
        small_world.engine().process(small_world.batch(5, 10))


def test_an_answer_in_a_record_changes_no_outcome(small_world: SmallWorld) -> None:
    found = []
    for answer in (b"", b"0", b"1"):
        engine, records = small_world.engine(), []
        for record, kind in zip(small_world.records, small_world.kinds, strict=True):
            fields = record.split(b",")
            with_answer = [*fields[:7], answer, *fields[8:]]
            records.append(b",".join(with_answer) if kind == Kind.TRANSACTION_LINE else record)
        raw = RecordBatch.of(records, small_world.kinds, small_world.arrivals)
        batch = admit(raw, small_world.context.catalogue, small_world.context.key)
        assert (answers_in(batch) > 0) == (answer != b"")
        found.append([o.to_json() for o in engine.process(batch.without_originals()).outcomes])
    assert found[0] == found[1] == found[2]
