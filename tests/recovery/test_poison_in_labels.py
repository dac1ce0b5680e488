"""A label that breaks our own code, or is no text, is one rejection; the other rows of its file count."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import Any

import orjson
import pytest
from tests.recovery.faults import EMBEDDED_LABEL_STAGES, LABEL_STAGES, InjectedError, Poison, inject
from tests.recovery.given_calls import GivenCalls, call, transaction
from tests.recovery.test_poison_records import Warnings
from tests.unit.intake_cases import MISSION

from zaslon.bootstrap import build_clock
from zaslon.domain.clean_report import OverLines
from zaslon.domain.errors import InputError
from zaslon.domain.events import Kind
from zaslon.domain.rejections import Reason
from zaslon.flows.reconcile import reconcile
from zaslon.flows.replay import replay
from zaslon.flows.score import label
from zaslon.flows.serve import DecisionWorker
from zaslon.intake import label_files, record_blocks
from zaslon.intake.chunks import TextChunk
from zaslon.intake.label_files import LabelRow, label_rows
from zaslon.services.context import Context
from zaslon.testing import SmallWorld

POISON = b"77777"
HEADER = "transaction_id,note,is_fraud\n"
ROWS = [f"{number},ok,1\n" for number in range(1, 9)]


def fail_on_poison(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, always: bool = False) -> None:
    """Let a function fail, after its work, when its first argument is or holds the poison."""
    real = getattr(owner, name)

    def failing(*given: Any, **named: Any) -> Any:
        found = real(*given, **named)
        if always or POISON in held(given):
            raise InjectedError
        return found

    monkeypatch.setattr(owner, name, failing)


def held(given: tuple[Any, ...]) -> bytes:
    """The bytes in the arguments of a function of intake."""
    if isinstance(given[0], TextChunk):
        chunk, *rest = given
        rows = [rest[0]] if rest and isinstance(rest[0], int) else range(len(chunk))
        return b"\n".join(chunk.originals(rows))
    return b" ".join(argument for argument in given if isinstance(argument, bytes))


def rows_of(path: Path, content: str | bytes, over: OverLines | None = None) -> list[LabelRow]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return list(label_rows(path, MISSION, over))


PLACES = [
    (TextChunk, "fields", "77777,ok,1\n"),
    (label_files, "_parts", "77777,ok,1\n"),
    (label_files, "_labels", "77777,ok,1\n"),
    (label_files, "torn_field", '"77777\n",ok,1\n'),
    (record_blocks, "_block", "77777,ok,1\n"),
]


@pytest.mark.parametrize(("owner", "name", "row"), PLACES)
def test_a_row_that_breaks_the_reading_is_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, row: str
) -> None:
    fail_on_poison(monkeypatch, owner, name)
    found = rows_of(tmp_path / "labels", HEADER + "".join([*ROWS[:3], row, *ROWS[3:]]))
    broken = [place for place, one in enumerate(found) if one.problem is not None]
    assert broken == [3]
    assert found[3].content == row[:-1].encode()
    assert found[3].problem is not None and found[3].problem.reason == Reason.ENGINE_ERROR
    ids = [orjson.loads(one.content)["transaction_id"] for one in found if one.problem is None]
    assert ids == [str(number) for number in range(1, 9)]


def test_a_header_behind_a_poison_row_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fail_on_poison(monkeypatch, label_files, "_labels")
    content = "transaction_id,is_fraud\n1,1\n77777,1\nis_fraud,transaction_id\n0,2\n77777,1\n1,3\n"
    found = rows_of(tmp_path / "labels", content)
    assert [orjson.loads(one.content) for one in found if one.problem is None] == [
        {"transaction_id": str(number), "is_fraud": str(verdict)}
        for number, verdict in ((1, 1), (2, 0), (3, 1))
    ]
    assert sum(one.problem is not None for one in found) == 2


def test_rows_over_lines_beside_a_poison_row_are_counted_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_poison(monkeypatch, label_files, "_labels")
    over = OverLines()
    content = HEADER + '1,"two\nlines",1\n77777,ok,1\n2,"two\nlines",1\n'
    assert len(rows_of(tmp_path / "labels", content, over)) == 3
    assert over.rows == len(over.places) == 2


@pytest.mark.parametrize(("owner", "name", "row"), PLACES[1:3])
def test_code_that_breaks_every_label_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, row: str
) -> None:
    fail_on_poison(monkeypatch, owner, name, always=True)
    with pytest.raises(InjectedError):
        rows_of(tmp_path / "labels", HEADER + row)


def test_a_header_that_breaks_our_code_is_an_error_of_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_on_poison(monkeypatch, label_files, "_known", always=True)
    with pytest.raises(InputError, match="own code failed on it: InjectedError"):
        rows_of(tmp_path / "labels", HEADER + ROWS[0])


def decided(context: Context, path: Path, content: bytes) -> tuple[dict[str, int], int]:
    path.write_bytes(content)
    report = label(context, path, None)
    return report.rejected, report.labels


def test_a_poison_row_of_a_label_file_is_in_the_log(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = small_world.in_home(tmp_path / "home")
    fail_on_poison(monkeypatch, label_files, "_labels")
    rows, notices = [line.encode() for line in ROWS], Warnings([])
    context = world.context
    object.__setattr__(context, "progress", notices)
    rejected, labels = decided(
        context, tmp_path / "labels", b"".join([HEADER.encode(), rows[0], b"77777,ok,1\n", rows[1]])
    )
    assert (rejected, labels) == ({"engine_error": 1}, 2)
    journal = context.open_journal()
    outcomes = [orjson.loads(outcome) for _, outcome in journal.outcomes()]
    journal.close()
    assert [outcome["outcome"] for outcome in outcomes] == ["label", "rejection", "label"]
    assert outcomes[1]["raw"] == "77777,ok,1"
    assert any("Position 1 is an engine_error" in sentence for sentence in notices.printed)


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("byte", [b"\xff", b"\xc3", b"\x80"])
def test_a_byte_that_is_no_text_refuses_one_label(
    small_world: SmallWorld, tmp_path: Path, form: str, byte: bytes
) -> None:
    world = small_world.in_home(tmp_path / "home")
    if form == "csv":
        rows = [HEADER.encode(), b"1,ok,1\n", b"2,Caf" + byte + b",1\n", b"3,ok,0\n"]
    else:
        names = (b"ok", b"Caf" + byte, b"ok")
        rows = [b'{"transaction_id": %d, "note": "%s", "is_fraud": 1}\n' % pair for pair in enumerate(names)]
    rejected, labels = decided(world.context, tmp_path / "labels", b"".join(rows))
    assert (rejected, labels) == ({"unreadable_label": 1}, 2)


def test_labels_in_utf16_or_binary_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is UTF-16"):
        rows_of(tmp_path / "labels", (HEADER + ROWS[0]).encode("utf-16"))
    with pytest.raises(InputError, match="is binary"):
        rows_of(tmp_path / "labels", b"PAR1\x01\x02\x03\n")


LABELS = [orjson.dumps({"transaction_id": number, "is_fraud": True}) for number in range(10)]
LABEL = Poison(7, 0.0)


@pytest.mark.parametrize("stage", EMBEDDED_LABEL_STAGES)
def test_a_poison_label_does_not_end_the_service(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, stage, LABEL)
    transactions = [transaction(number, 20.0 + number) for number in range(10)]
    groups = [
        [call(0, transactions)],
        [call(1, LABELS[:5], Kind.LABEL_JSON), call(2, LABELS[5:], Kind.LABEL_JSON)],
    ]
    calls = GivenCalls(deque([*groups, [call(3, transactions[:1])]]))
    DecisionWorker(world.context, 100, build_clock(), calls).run()
    assert calls.readiness == [True], "the worker goes on"
    found = calls.outcomes(1) + calls.outcomes(2)
    assert [outcome["outcome"] for outcome in found] == [
        "rejection" if n == 7 else "label" for n in range(10)
    ]
    assert (found[7]["reason"], found[7]["raw"]) == ("engine_error", LABELS[7].decode())
    assert len(calls.outcomes(3)) == 1
    monkeypatch.undo()
    assert all(replay(world.context, position).identical for position in range(20))
    assert reconcile(world.context).is_whole


@pytest.mark.parametrize("stage", EMBEDDED_LABEL_STAGES)
def test_a_poison_label_of_a_file_is_rejected_alone(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, stage, LABEL)
    assert decided(world.context, tmp_path / "labels", b"\n".join(LABELS)) == ({"engine_error": 1}, 9)


@pytest.mark.parametrize("stage", LABEL_STAGES)
def test_code_that_breaks_every_label_stops_the_command(
    small_world: SmallWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    world = small_world.in_home(tmp_path / "home")
    inject(monkeypatch, stage, None)
    with pytest.raises(InjectedError):
        decided(world.context, tmp_path / "labels", b"\n".join(LABELS))
