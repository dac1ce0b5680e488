"""One adversarial log as every ingress can carry it, and what each ingress recorded of it.

The log is a list of groups: a group is one file, one HTTP batch or one micro-batch. Within a group
transactions are in the order of time and id, because that is the order in which a file is applied.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from tests.api.serving import Caller
from tests.recovery.faults import Poison
from tests.text_ids import BY_TEXT, text_of, world_by_text

from zaslon.domain.events import Kind, RecordBatch
from zaslon.services.context import Context
from zaslon.services.decision_loop import decide_records
from zaslon.services.poison import guarded_engine
from zaslon.testing import SmallWorld

# One transaction breaks our own code at this stage.
POISON, STAGE = Poison(30, 6666.66), "apply"
DAY = "2019-09-{:02d} {:02d}:00:00"
Row = dict[str, Any]


@dataclass(frozen=True)
class Group:
    """Records of one kind that arrive together."""

    rows: tuple[Row, ...]
    is_labels: bool = False


def payment(identifier: int | str, time: str, amount: object = "49.90", **changed: object) -> Row:
    """A transaction with the mission's fields."""
    return {
        "transaction_id": identifier, "tx_datetime": time, "customer_id": 7, "terminal_id": 5,
        "tx_amount": amount, **changed,
    }  # fmt: skip


def verdict(identifier: int, is_fraud: object) -> Row:
    """A label; one whose verdict is no truth value is malformed."""
    return {"transaction_id": identifier, "is_fraud": is_fraud}


def adversarial_log() -> list[Group]:
    """Repeats, conflicts, reuse after `remember`, late, future, malformed and poison records, labels around them."""
    highest = 2**63 - 1
    first = payment(1, DAY.format(2, 10))
    waits = payment(40, DAY.format(6, 9), customer_id=8)
    poison = payment(30, DAY.format(8, 10), str(POISON.amount), customer_id=8)
    reused = payment(1, "2019-11-20 10:00:00", "12.34", customer_id=9)
    return [
        Group((first, payment(2, DAY.format(2, 11), "500.00", customer_id=8))),
        # The same id again: equal content, another amount, another time, another customer.
        Group((first, payment(3, DAY.format(2, 12)))),
        Group((payment(1, DAY.format(2, 10), "49.91"), payment(4, DAY.format(2, 13)))),
        Group((payment(5, DAY.format(2, 14)), payment(1, DAY.format(2, 15)))),
        Group((payment(2, DAY.format(2, 11), "500.00", customer_id=9), payment(6, DAY.format(2, 16)))),
        # Labels: applied, the same again, corrected, before their transaction, and what that becomes.
        Group((verdict(1, True), verdict(2, False), verdict(1, True), verdict(40, True)), is_labels=True),
        Group((payment(7, DAY.format(5, 9)), waits)),
        Group((verdict(1, False), verdict(40, True)), is_labels=True),
        Group((payment(8, DAY.format(7, 9), "9.99"), payment(9, DAY.format(7, 10), "5000.00"))),
        # One that breaks our own code, among others and sent again; its label; and the same customer's next.
        Group((payment(29, DAY.format(8, 9)), poison, payment(31, DAY.format(8, 11), customer_id=8))),
        Group((poison, payment(32, DAY.format(8, 12)))),
        Group((verdict(30, True), verdict(31, True)), is_labels=True),
        Group((payment(33, DAY.format(8, 13), customer_id=8),)),
        # Late by five days, and by more than seven; a repeat that is older than that.
        Group((payment(10, DAY.format(2, 18)), payment(11, DAY.format(7, 11)))),
        Group((payment(12, DAY.format(16, 9)), payment(13, DAY.format(16, 10), terminal_id=6))),
        Group((first, payment(14, DAY.format(7, 12)), payment(15, DAY.format(16, 11)))),
        # Ids at the edges of 64 bits, and neighbours that a weak hash would confuse.
        Group(tuple(payment(i, DAY.format(17, 9)) for i in (0, highest - 1, highest))),
        Group(tuple(payment(2**k, DAY.format(17, 10), customer_id=k + 1) for k in range(5, 60, 6))),
        Group(tuple(payment(i << 32, DAY.format(17, 11)) for i in range(1, 8))),
        # One number in several forms.
        Group(tuple(payment(22 + i, DAY.format(17, 12), "49.9000", customer_id=n) for i, n in enumerate((7.0, "7.00")))),
        # Malformed: every one is rejected by its own name.
        *(Group((row,)) for row in malformed_rows()),
        Group((verdict(4, "perhaps"), verdict(-5, "perhaps")), is_labels=True),
        # After `remember` an id may be used again; then its own repeats count.
        Group((payment(16, "2019-11-19 10:00:00"),)),
        Group((reused, payment(17, "2019-11-20 11:00:00"))),
        Group((reused, payment(18, "2019-11-20 12:00:00"))),
        Group((payment(1, "2019-11-20 10:00:00", "12.35", customer_id=9), payment(19, "2019-11-20 13:00:00"))),
        Group((first, payment(20, "2019-11-20 14:00:00"))),
        Group((verdict(1, True), verdict(2, True)), is_labels=True),
        Group((payment(21, "2019-11-20 15:00:00", customer_id=9),)),
        # The same among records that arrive together: used again, repeated, and in conflict with the newer use.
        Group((
            payment(50, "2019-11-21 10:00:00"), payment(51, "2019-11-21 11:00:00"),
            *(payment(52 + i, f"2020-01-05 09:0{i}:00", customer_id=i) for i in range(6)),
            payment(50, "2020-01-05 10:00:00", "1.00"), payment(50, "2020-01-05 10:00:00", "1.00"),
            payment(50, "2020-01-05 10:00:00", "2.00"), payment(50, "2020-01-05 10:00:01", "1.00"),
        )),
        Group((verdict(50, True), verdict(51, True)), is_labels=True),
        Group((payment(51, "2020-01-05 09:59:59"), payment(58, "2020-01-05 12:00:00"))),
    ]  # fmt: skip


# Texts that a careless reader would take for each other, or for the end of a field.
ODD_IDS = (
    "5", "05", "5.0", "+5", "-5", "1e5", "a", "A", "a b", "a  b", "a,b", 'say "hi"', "it's", "a;b", "a/../b", "{}",
    "[1]", "key:1", "true", "платёж №7", "caf\u00e9", "cafe\u0301", "\u0430", "x" * 64,
)  # fmt: skip
# None of these is an id: too long, with an invisible character, empty.
NO_IDS = ("x" * 65, "\u00e9" * 33, "a\u200bb", "a\u00adb", "\ufeffa", "a\u0007b", "", "NULL")


def text_log() -> list[Group]:
    """The same log with texts as ids; then odd texts, and each of them again."""
    odd = [payment(name, f"2019-11-21 10:{minute:02d}:00") for minute, name in enumerate(ODD_IDS)]
    new = [
        payment(f"after {name}"[:64], f"2019-11-21 11:{minute:02d}:00") for minute, name in enumerate(ODD_IDS)
    ]
    return [
        *map(named_by_text, adversarial_log()),
        *(Group((row,)) for row in odd),
        *(Group(pair) for pair in zip(odd, new, strict=True)),
        *(
            Group((payment(f"before {n}", f"2019-11-21 11:59:{n:02d}"), payment(name, "2019-11-21 12:00:00")))
            for n, name in enumerate(NO_IDS)
        ),
    ]


def named_by_text(group: Group) -> Group:
    """The same group with a text in the place of every id, in the order of time and text."""
    rows = [{**row, "transaction_id": text_of(row["transaction_id"])} for row in group.rows]
    if not group.is_labels:
        rows.sort(key=lambda row: (row["tx_datetime"], row["transaction_id"]))
    return replace(group, rows=tuple(rows))


def malformed_rows() -> list[Row]:
    """Rows that no ingress may decide."""
    time = DAY.format(17, 12)
    return [
        payment(100, time, "12.3.4"), payment(101, time, "1.234"), payment(102, time, ""),
        payment(103, "2019-09-17 24:00:00"), payment(104, "2019-02-30 10:00:00"), payment(105, "yesterday"),
        payment(106, time, customer_id="-999999"), payment(107, time, terminal_id="Err"),
        payment(108, time, customer_id="1e5"), payment(-109, time), payment(110, "2099-01-01 00:00:00"),
        payment(111, time, "-5.00"), payment(112, time, customer_id="007"), payment(113, time, "1.000"),
        payment(114, time, customer_id="NULL"), payment(115, time, terminal_id="none"),
        payment(116, time, customer_id="7\u200b"), payment("0117", time), payment(118, time, "n/a"),
        payment(-119, "yesterday", "12.3.4", customer_id="Err"),
    ]  # fmt: skip


def as_json(row: Row) -> bytes:
    """One record as JSON."""
    return orjson.dumps(row)


def by_engine(world: SmallWorld, groups: Sequence[Group], arrival: int) -> list[bytes]:
    """The reference: every record through admission, engine and journal, in batches of a group."""
    context = world.context
    journal = context.open_journal()
    snapshots = context.open_snapshots(journal)
    guard = guarded_engine(context, journal, snapshots)

    def batches() -> Any:
        position = 0
        for group in groups:
            kind = Kind.LABEL_JSON if group.is_labels else Kind.TRANSACTION_JSON
            raws = [as_json(row) for row in group.rows]
            raw = RecordBatch.of(raws, [kind] * len(raws), [arrival] * len(raws), position)
            yield world.admit(raw)
            position += len(raws)

    decide_records(
        guard, journal, snapshots, batches(), None, snapshot_every_records=10**6, progress=context.progress
    )
    return recorded(context)


def recorded(context: Context) -> list[bytes]:
    """All outcomes of the home's log in order."""
    journal = context.open_journal()
    found = [outcome for _, outcome in journal.outcomes()]
    journal.close()
    return found


@dataclass(frozen=True)
class Ids:
    """The log with one kind of ids, and the world and settings of a home that reads them."""

    world: SmallWorld
    groups: list[Group]
    settings: dict[str, Any]


def ids_of(kind: str, world: SmallWorld, scratch: Path) -> Ids:
    """Ids that are `numbers` or `texts`."""
    if kind == "numbers":
        return Ids(world, adversarial_log(), {})
    catalogue = scratch / "catalogue.toml"
    catalogue.write_text(BY_TEXT, "utf-8")
    return Ids(world_by_text(world, scratch / "home"), text_log(), {"catalogue": catalogue})


def relabelled(group: Group) -> Group:
    """The same group with verdicts as the HTTP interface names them, where they are truth values."""
    names = {True: "confirmed_fraud", False: "confirmed_good"}
    rows = tuple(
        {"transaction_id": row["transaction_id"], "verdict": names[row["is_fraud"]]}
        if row["is_fraud"] in names
        else row
        for row in group.rows
    )
    return replace(group, rows=rows)


def send_one_by_one(caller: Caller, groups: Sequence[Group]) -> None:
    """Every record in a call of its own."""
    for group in groups:
        if group.is_labels:
            for row in relabelled(group).rows:
                assert caller.post("/v1/labels", row).status_code in (200, 422)
        else:
            for row in group.rows:
                assert caller.post("/v1/transactions", row).status_code in (200, 409, 422)


def send_in_batches(caller: Caller, groups: Sequence[Group]) -> list[dict[str, object]]:
    """Every group in one call; all answers in the order of the log."""
    answers: list[dict[str, object]] = []
    for group in groups:
        path = "/v1/labels" if group.is_labels else "/v1/transactions/batch"
        given = caller.post(path, (relabelled(group) if group.is_labels else group).rows)
        assert given.status_code == 200, given.text
        answers += given.json()["outcomes"]
    return answers
