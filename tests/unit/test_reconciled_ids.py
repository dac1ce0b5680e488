"""Whatever id a rejected record has, an id that was sent counts as answered."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest
from tests.unit.intake_cases import ARRIVAL_SECONDS

from zaslon.domain.events import Kind, RecordBatch
from zaslon.flows.reconcile import reconcile
from zaslon.testing import SmallWorld

HUGE = 10**30 + 7
RECORDS = {
    str(HUGE): f'{{"transaction_id": {HUGE}, "tx_amount": 1}}',
    str(2**64): f'{{"transaction_id": "{2**64}", "tx_amount": 1}}',
    str(-(2**63) - 1): f'{{"transaction_id": {-(2**63) - 1}}}',
    "17": '{"transaction_id": 17.00, "tx_amount": "x"}',
    "18": '{"transaction_id": 18, "TRANSACTION_ID": 19}',
    "19": '{"transaction_id": 19, "transaction_id": 20}',
    "9" * 4000: f'{{"transaction_id": {"9" * 4000}}}',
    "21": '{"more": {"transaction_id": 22}, "transaction_id": 21}',
}


@pytest.mark.parametrize("sent", RECORDS)
def test_an_id_of_a_rejected_record_is_answered(small_world: SmallWorld, tmp_path: Path, sent: str) -> None:
    world = small_world.in_home(tmp_path / "home")
    raw = RecordBatch.of([RECORDS[sent].encode()], [Kind.TRANSACTION_JSON], [ARRIVAL_SECONDS], 0)
    batch = world.admit(raw)
    assert len(batch.rejected) == 1
    with closing(world.context.open_journal()) as journal:
        journal.record(batch, world.engine().process(batch).outcomes, None)
    (tmp_path / "ids").write_text(f"{sent}\n23\n")
    found = reconcile(world.context, tmp_path / "ids")
    assert (found.sent, found.unanswered) == (2, [23])
