"""Every example on the page about rejections is rejected, for the reason of its section."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.rejections import Reason
from zaslon.intake import clean_batch

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "rejections.md"
ARRIVAL_SECONDS = 1_700_000_000


def _examples() -> list[tuple[str, str, str]]:
    """(reason, kind of record, record) in the order of the page; the first has the reason `accepted`."""
    sections = re.split(r"^## `(\w+)`$", "## `accepted`\n" + PAGE.read_text("utf-8"), flags=re.MULTILINE)
    return [
        (reason, kind, record)
        for reason, text in zip(sections[1::2], sections[2::2], strict=True)
        for kind, record in re.findall(r"^```(record|label)\n(.*)\n```$", text, re.MULTILINE)
    ]


def _kind(kind: str, record: str) -> Kind:
    if kind == "label":
        return Kind.LABEL_JSON
    return Kind.TRANSACTION_JSON if record.startswith("{") else Kind.TRANSACTION_LINE


@pytest.mark.parametrize(("reason", "kind", "record"), _examples())
def test_documented_examples_have_their_documented_reason(reason: str, kind: str, record: str) -> None:
    batch = RecordBatch.of([record.encode()], [_kind(kind, record)], [ARRIVAL_SECONDS])
    rejected = clean_batch(batch, load_catalogue(), b"key").rejected
    found = [Reason(int(r)).code for r in rejected.reason]
    assert found == ([] if reason == "accepted" else [reason])


def test_the_page_has_an_example_for_most_reasons() -> None:
    assert len({reason for reason, _, _ in _examples()}) >= 12
