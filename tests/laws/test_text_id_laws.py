"""Laws of ids that are texts: renaming changes nothing but names, and a text comes back as it was."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from tests.text_ids import TEXT_MISSION, renamed
from tests.unit.intake_cases import KEY, MISSION, line

from zaslon.admission import admit
from zaslon.admission.log_format import decode, encode
from zaslon.domain.catalogue import NULL_WORDS, Catalogue
from zaslon.domain.events import Kind, RecordBatch, public_ids
from zaslon.engine import Engine
from zaslon.intake import clean_batch
from zaslon.intake.identifiers import is_identifier

Record = tuple[bytes, Kind]


@st.composite
def _records(draw: st.DrawFn) -> Record:
    number = draw(st.integers(0, 6))
    if draw(st.booleans()) and draw(st.booleans()):
        return json.dumps(
            {"transaction_id": number, "is_fraud": draw(st.booleans())}
        ).encode(), Kind.LABEL_JSON
    hour, customer = draw(st.integers(0, 23)), draw(st.integers(1, 3))
    amount = draw(st.sampled_from(["10", "20.5"]))
    text = line(transaction_id=number, tx_datetime=f"2019-08-22 {hour:02}:00:00", customer_id=customer,
                tx_amount=amount)  # fmt: skip
    return text.encode(), Kind.TRANSACTION_LINE


def _applied(records: list[Record], catalogue: Catalogue) -> tuple[bytes, list[int], list[int]]:
    arrivals = [1_566_432_000 + 3_600 * i for i in range(len(records))]
    raw, kinds = [record for record, _ in records], [kind for _, kind in records]
    engine = Engine(catalogue, key=KEY)
    batch = admit(RecordBatch.of(raw, kinds, arrivals), catalogue, KEY)
    applied = engine.apply(batch.transactions, batch.labels, batch.is_label)
    return applied.matrix.tobytes(), applied.status.tolist(), applied.label_status.tolist()


@given(st.lists(_records(), max_size=30))
def test_text_ids_change_no_feature_and_no_rejection(
    records: list[Record],
) -> None:
    by_text = [(renamed(record, kind), kind) for record, kind in records]
    assert _applied(by_text, TEXT_MISSION) == _applied(records, MISSION)


@given(st.lists(st.text(max_size=70), min_size=1, max_size=5, unique_by=lambda text: text.strip(" \t")))
def test_any_text_is_refused_or_comes_back_from_the_log_as_it_was(texts: list[str]) -> None:
    records = [
        json.dumps({"transaction_id": text, "tx_datetime": "2019-08-22 06:51:03", "customer_id": 1,
                    "terminal_id": 2, "tx_amount": 3}).encode()
        for text in texts
    ]  # fmt: skip
    kinds, arrivals = [Kind.TRANSACTION_JSON] * len(records), [1_700_000_000] * len(records)
    batch = admit(RecordBatch.of(records, kinds, arrivals), TEXT_MISSION, KEY)
    bare = [text.strip(" \t") for text in texts]
    assert public_ids(batch.transactions) == [text for text in bare if _is_id(text)]
    again = decode(encode(batch, TEXT_MISSION), TEXT_MISSION)
    assert public_ids(again.transactions) == public_ids(batch.transactions)


def _is_id(text: str) -> bool:
    return is_identifier(text.encode("utf-8", "surrogatepass")) and text.lower() not in NULL_WORDS


@given(st.binary(max_size=80))
def test_no_bytes_where_a_text_should_be_raise(word: bytes) -> None:
    record = line(transaction_id="ID").encode().replace(b"ID", word)
    batch = RecordBatch.of([record], [Kind.TRANSACTION_LINE], [1_700_000_000])
    cleaned = clean_batch(batch, TEXT_MISSION, KEY)
    assert len(cleaned.transactions) + len(cleaned.rejected) == 1
    if len(cleaned.transactions):
        assert all(_is_id(text) for text in map(str, public_ids(cleaned.transactions)))
