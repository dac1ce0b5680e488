"""Cleaning: one function from fields to clean transactions or named rejections, for every ingress.

Every field is checked, so a rejection names all that is wrong. Its primary reason is the first in the
order of `domain.rejections.Reason`; among equal reasons the first field of the catalogue wins. What is odd but not malformed is kept and flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.catalogue import (
    AMOUNT_ZERO,
    ELAPSED_DISAGREES,
    FRACTION_DROPPED,
    INVISIBLE_CHARACTERS,
    Catalogue,
    Role,
    SourceField,
)
from zaslon.domain.events import ID_TEXT, NO_KEY, IdText, Kind, Labels, RecordBatch, Rejected, Transactions
from zaslon.domain.rejections import PROBLEMS_MAX, Reason, RecordProblem
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, SECONDS_PER_DAY, parse_day
from zaslon.intake import text
from zaslon.intake.characters import key_text
from zaslon.intake.detail import problem_of_field
from zaslon.intake.digests import digests_of
from zaslon.intake.field_plans import INT64_MAX, FieldPlan, field_plans, null_words
from zaslon.intake.fields import (
    Fields,
    concatenated,
    fields_of_json,
    fields_of_lines,
    in_order,
)
from zaslon.intake.identifiers import is_identifier, numbers_of
from zaslon.intake.labels import label_layout, label_problems
from zaslon.intake.pseudonyms import pseudonym
from zaslon.intake.words import ANSWERS

Int64 = NDArray[np.int64]
_NOT_GIVEN = -(2**63)  # no text reads as this
# As plain integers: NumPy takes microseconds to compare with a member of an enumeration.
_LABEL_JSON, _TRANSACTION_JSON = int(Kind.LABEL_JSON), int(Kind.TRANSACTION_JSON)
_NOT_AN_INTEGER = int(Reason.NOT_AN_INTEGER)


@dataclass(frozen=True)
class CleanFields:
    """The result for n records of fields.

    Attributes:
        transactions: the accepted ones, in order.
        index: int64[transactions], which record each is.
        rejected: the others; `index` likewise.
    """

    transactions: Transactions
    index: Int64
    rejected: Rejected

    @staticmethod
    def concatenate(parts: Sequence[CleanFields]) -> CleanFields:
        """The result for the records of all parts (at least one), in order."""
        if len(parts) == 1:
            return parts[0]
        begins = np.cumsum([0, *(len(p.index) + len(p.rejected) for p in parts)]).tolist()
        return CleanFields(
            Transactions.concatenate([p.transactions for p in parts]),
            np.concatenate([p.index + begin for p, begin in zip(parts, begins, strict=False)]),
            Rejected(
                np.concatenate([p.rejected.index + b for p, b in zip(parts, begins, strict=False)]),
                [problems for p in parts for problems in p.rejected.problems],
            ),
        )  # fmt: skip


@dataclass(frozen=True)
class Cleaned:
    """The result for a batch of records.

    Attributes:
        transactions, transaction_index: accepted transactions and their records in the batch.
        labels, label_index: labels and their records.
        is_label: bool[transactions + labels], which kind the k-th accepted record is.
        rejected: everything else.
    """

    transactions: Transactions
    transaction_index: Int64
    labels: Labels
    label_index: Int64
    is_label: NDArray[np.bool_]
    rejected: Rejected


def clean_batch(batch: RecordBatch, catalogue: Catalogue, key: bytes) -> Cleaned:
    """Clean a batch of records of any kinds. Nothing that a record contains raises.

    Args:
        batch: records in log order.
        catalogue: how they look.
        key: secret for the pseudonyms of text identifiers, up to 64 bytes.
    """
    kind = batch.kind
    is_label = kind == _LABEL_JSON
    at_labels, at_transactions = is_label.nonzero()[0], (~is_label).nonzero()[0]
    fields = _fields(batch, kind, at_transactions, catalogue)
    found = clean_fields(fields, catalogue, key, batch.arrival_time_seconds[at_transactions])
    labels, good, bad = clean_labels(batch, at_labels, catalogue, key)
    index = at_transactions[found.index]
    order = np.argsort(np.concatenate([index, good]), kind="stable")
    return Cleaned(
        found.transactions, index, labels, good, order >= len(index),
        _all_rejected(found.rejected, at_transactions, bad),
    )  # fmt: skip


def clean_labels(
    batch: RecordBatch, chosen: Int64, catalogue: Catalogue, key: bytes
) -> tuple[Labels, Int64, list[tuple[int, tuple[RecordProblem, ...]]]]:
    """The labels among the chosen records, their places in the batch, and what is wrong with the others."""
    layout = label_layout(catalogue)
    reading = _Reading(fields_of_json([batch.raw(i) for i in chosen.tolist()], layout), layout, key)
    for plan in field_plans(layout):
        reading.read(plan)
    good, rejected = reading.split()
    identifier, verdict = (reading.values[f.name][good] for f in layout.fields)
    index = chosen[good]
    text = None if reading.id_text is None else reading.id_text[good]
    labels = Labels(identifier, verdict == 1, batch.arrival_time_seconds[index], text, are_live=True)
    bad = zip(chosen[rejected.index].tolist(), map(label_problems, rejected.problems), strict=True)
    return labels, index, list(bad)


def _fields(batch: RecordBatch, kind: text.UInt8, chosen: Int64, catalogue: Catalogue) -> Fields:
    is_json = kind[chosen] == _TRANSACTION_JSON
    lines, jsons = chosen[~is_json], chosen[is_json]
    parts = []
    if len(lines):
        parts.append(fields_of_lines(batch.buffer, batch.starts[lines], batch.lengths[lines], catalogue))
    if len(jsons) or not len(lines):
        parts.append(fields_of_json([batch.raw(i) for i in jsons.tolist()], catalogue))
    fields = concatenated(parts)
    if len(parts) == 1:
        return fields
    return in_order(fields, np.argsort(np.concatenate([lines, jsons]), kind="stable"))


def _all_rejected(
    found: Rejected, chosen: Int64, others: list[tuple[int, tuple[RecordProblem, ...]]]
) -> Rejected:
    index = np.concatenate([chosen[found.index], np.array([i for i, _ in others], np.int64)])
    problems = [*found.problems, *(problems for _, problems in others)]
    order = np.argsort(index, kind="stable")
    return Rejected(index[order], [problems[i] for i in order.tolist()])


def clean_fields(
    fields: Fields, catalogue: Catalogue, key: bytes, arrival_time_seconds: Int64 | None
) -> CleanFields:
    """THE cleaning function: fields of n records and when each arrived → clean columns and rejections.

    An arrival of None is for those who only look at records and decide nothing.
    """
    reading = _Reading(fields, catalogue, key)
    for plan in field_plans(catalogue):
        reading.read(plan)
    if arrival_time_seconds is not None:
        reading.check_arrival(arrival_time_seconds)
    return reading.result()


class _Reading:
    """The columns of n records while they are read field by field."""

    def __init__(self, fields: Fields, catalogue: Catalogue, key: bytes) -> None:
        self.fields, self.catalogue, self.key = fields, catalogue, key
        is_null = null_words(catalogue).find(fields.buffer, fields.start, fields.length)
        self.length = fields.length if is_null is None else np.where(is_null, -1, fields.length)
        self.n = len(fields.reason)
        # By field why records are rejected, 0 where they are not; the last row is for the time of arrival.
        self.reasons = np.zeros((len(catalogue.fields) + 1, self.n), np.uint8)
        self.without_fields = fields.reason != 0
        self.all_have_fields = not np.count_nonzero(self.without_fields)
        self.values: dict[str, Int64] = {}
        self.numbers: dict[str, NDArray[np.float64]] = {}
        self.id_text: IdText | None = None
        self.id_beside = np.zeros(0, np.int64)
        self.flags = np.zeros(self.n, np.uint32)
        self.elapsed_is_odd = np.zeros(self.n, np.bool_)

    def read(self, plan: FieldPlan) -> None:
        """Read one field into `values` by its role."""
        start, length = self.fields.start[plan.number], self.length[plan.number]
        reason = self.reasons[plan.number]
        if not self.all_have_fields:
            reason[self.without_fields] = 1  # no second look at what has none
        is_unknown = plan.unknown.find(self.fields.buffer, start, self.fields.length[plan.number])
        if is_unknown is not None and plan.field.required:
            reason[is_unknown] = Reason.UNKNOWN_ENTITY
        elif is_unknown is not None:
            length = np.where(is_unknown, -1, length)
        self._read_by_role(plan, start, length, reason)
        if plan.missing_bit:
            self._flag(plan.missing_bit, self.values[plan.field.name] == NO_KEY)
        if not self.all_have_fields:
            reason[self.without_fields] = 0

    def _read_by_role(self, plan: FieldPlan, start: Int64, length: Int64, reason: text.UInt8) -> None:
        field = plan.field
        value = np.zeros(self.n, np.int64)
        self.values[field.name] = value
        if field.role == "amount":
            digits = self.catalogue.minor_digits
            text.read_decimals(
                self.fields.buffer, start, length, field.required, digits, field.thousandths,
                plan.least, plan.most, value, reason,
            )  # fmt: skip
            self._flag_unusual(plan, value, 10**digits)
        elif field.role == "number":
            self._read_number(plan, start, length, reason)
        elif field.role == "event_time":
            self._read_time(field, start, length, value, reason)
        elif field.role == "elapsed_seconds":
            self._read_elapsed(field, start, length, value, reason)
        elif field.is_text_id:
            self._read_identifier(start, length, value, reason)
        elif field.type == "text":
            self._read_text(plan, start, length, value, reason)
        else:
            self._read_integer(plan, start, length, value, reason)

    def _read_integer(
        self, plan: FieldPlan, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        field = plan.field
        if field.role in ("is_fraud", "scenario"):
            value[length <= 0] = -1
        elif not field.required:
            value[length <= 0] = NO_KEY
        text.read_integers(
            self.fields.buffer, start, length, field.required, plan.has_one_form,
            plan.least, plan.most, value, reason,
        )  # fmt: skip
        if field.role == "is_fraud" and np.count_nonzero(reason == _NOT_AN_INTEGER):
            self._read_answers_in_words(start, length, value, reason)
        self._flag_unusual(plan, value, 1)
        if field.is_pseudonymised:
            self._hash_numbers(np.flatnonzero((reason == 0) & (length > 0)), value)

    def _read_answers_in_words(self, start: Int64, length: Int64, value: Int64, reason: text.UInt8) -> None:
        for answer, words in ANSWERS.items():
            where = words.find(self.fields.buffer, start, length)
            if where is not None:
                where &= reason == _NOT_AN_INTEGER
                value[where], reason[where] = answer, 0

    def _hash_numbers(self, given: Int64, value: Int64) -> None:
        """Put in place of the given numbers the pseudonyms of their plain digits, as a text of them has."""
        numbers, places = np.unique(value[given], return_inverse=True)
        hashes = [pseudonym(b"%d" % number, self.key) for number in numbers.tolist()]
        value[given] = np.array(hashes, np.int64)[places]

    def _flag_unusual(self, plan: FieldPlan, value: NDArray[Any], scale: int) -> None:
        if plan.field.usual_maximum is not None:
            self._flag(plan.unusual_bit, value > plan.field.usual_maximum * scale)

    def _read_number(self, plan: FieldPlan, start: Int64, length: Int64, reason: text.UInt8) -> None:
        """The nearest float64; NaN where the field is absent."""
        field = plan.field
        value, is_long = np.full(self.n, np.nan), np.zeros(self.n, np.uint8)
        text.read_numbers(self.fields.buffer, start, length, field.required, value, reason, is_long)
        for i in np.flatnonzero(is_long).tolist():
            begin = int(start[i])
            value[i] = float(self.fields.buffer[begin : begin + int(length[i])].tobytes()) + 0.0
        least = -np.inf if field.minimum is None else field.minimum
        most = np.inf if field.maximum is None else field.maximum
        reason[(reason == 0) & (np.isinf(value) | (value < least) | (value > most))] = Reason.OUT_OF_RANGE
        self._flag_unusual(plan, value, 1)
        self.numbers[field.name] = value

    def _read_time(
        self, field: SourceField, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        buffer = self.fields.buffer
        if field.format == "epoch_seconds":
            text.read_integers(buffer, start, length, True, False, 0, EVENT_TIME_SECONDS_MAX, value, reason)
            reason[reason == Reason.NOT_AN_INTEGER] = Reason.NOT_A_TIME
            reason[reason == Reason.OUT_OF_RANGE] = Reason.IMPOSSIBLE_TIME
            return
        dropped = np.zeros(self.n, np.uint8)
        text.read_times(buffer, start, length, value, reason, dropped)
        self._flag(FRACTION_DROPPED, dropped == 1)

    def _read_text(
        self, plan: FieldPlan, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        """Keys that are texts become keyed hashes."""
        is_absent = length <= 0
        if np.count_nonzero(is_absent):
            value[is_absent], refused = self._without_text(plan)
            reason[is_absent & (reason == 0)] = refused
        given = ((reason == 0) & ~is_absent).nonzero()[0]
        words = self._words(start[given], length[given])
        known = {word: self._key_of(word, plan) for word in set(words)}
        value[given] = [known[word][0] for word in words]
        if any(refused for _, refused, _ in known.values()):
            reason[given] = [known[word][1] for word in words]
        if any(has_unseen for _, _, has_unseen in known.values()):
            unseen = given[[known[word][2] for word in words]]
            self.flags[unseen] |= np.uint32(1 << self.catalogue.flag_names.index(INVISIBLE_CHARACTERS))

    def _words(self, start: Int64, length: Int64) -> list[bytes]:
        """The texts that begin at `start`."""
        content = self.fields.buffer.data
        ends = (start + length).tolist()
        return [bytes(content[begin:end]) for begin, end in zip(start.tolist(), ends, strict=True)]

    def _key_of(self, word: bytes, plan: FieldPlan) -> tuple[int, int, bool]:
        """The keyed hash of a text, why it is refused (0 if it is not), whether it has unseen characters."""
        key, has_unseen = key_text(word)
        if key is None:
            return 0, int(Reason.NOT_AN_INTEGER), has_unseen
        if key in plan.unknown and plan.field.required:
            return 0, int(Reason.UNKNOWN_ENTITY), has_unseen
        if not key or key in plan.unknown or key in plan.null:
            return *self._without_text(plan), has_unseen
        return pseudonym(key, self.key), 0, has_unseen

    @staticmethod
    def _without_text(plan: FieldPlan) -> tuple[int, int]:
        """The key of a record without one, and why it is refused, if it is."""
        return (0, int(Reason.MISSING_FIELD)) if plan.field.required else (NO_KEY, 0)

    def _read_identifier(self, start: Int64, length: Int64, value: Int64, reason: text.UInt8) -> None:
        """A transaction's id that is a text: kept as it is, and known inside by a keyed hash."""
        reason[(length <= 0) & (reason == 0)] = Reason.MISSING_FIELD
        self.id_text, self.id_beside = np.zeros(self.n, ID_TEXT), np.zeros(self.n, np.int64)
        given = (reason == 0).nonzero()[0]
        for i, word in zip(given.tolist(), self._words(start[given], length[given]), strict=True):
            if is_identifier(word):
                self.id_text[i] = word
                value[i], self.id_beside[i] = numbers_of(word, self.key)
            else:
                reason[i] = Reason.OUT_OF_RANGE

    def _read_elapsed(
        self, field: SourceField, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        """A count of seconds is compared later; one that cannot be read is odd, no reason to reject."""
        text.read_integers(
            self.fields.buffer, start, length, field.required, False, -INT64_MAX, INT64_MAX, value, reason
        )
        self.elapsed_is_odd = reason > Reason.MISSING_FIELD
        reason[self.elapsed_is_odd] = 0
        value[length <= 0] = _NOT_GIVEN

    def _flag(self, bit: int, where: NDArray[np.bool_]) -> None:
        if np.count_nonzero(where):
            self.flags[where] |= np.uint32(bit)

    def check_arrival(self, arrival_time_seconds: Int64) -> None:
        """Reject what claims to have happened well after it arrived."""
        skew = self.catalogue.record.clock_skew_seconds
        late = self.values[self._field("event_time").name] > arrival_time_seconds + skew
        self.reasons[-1, late & ~self.without_fields] = Reason.AFTER_ARRIVAL

    def _field(self, role: Role) -> SourceField:
        field = self.catalogue.field_of(role)
        assert field is not None, "the catalogue checks this"
        return field

    def result(self) -> CleanFields:
        """The transactions, clean and rejected."""
        amount, time = self._field("amount"), self._field("event_time")
        self._flag(AMOUNT_ZERO, self.values[amount.name] == 0)
        elapsed = self.catalogue.field_of("elapsed_seconds")
        if elapsed is not None:
            self._flag(ELAPSED_DISAGREES, self._elapsed_disagrees(elapsed, self.values[time.name]))
        index, rejected = self.split()
        transactions = self._transactions()
        kept = transactions if len(index) == self.n else transactions.take(index)
        return CleanFields(kept, index, rejected)

    def split(self) -> tuple[Int64, Rejected]:
        """The records of which every field could be read, and the others."""
        is_bad = self.without_fields | self.reasons.any(axis=0)
        return (~is_bad).nonzero()[0], self._rejected(is_bad.nonzero()[0])

    def _elapsed_disagrees(self, field: SourceField, event_time: Int64) -> NDArray[np.bool_]:
        elapsed = self.values[field.name]
        agrees = np.full(self.n, not field.counts_from)
        for day in field.counts_from:
            agrees |= event_time - elapsed == parse_day(day) * SECONDS_PER_DAY
        agrees |= elapsed == _NOT_GIVEN
        return np.asarray(self.elapsed_is_odd | ~agrees)

    def _transactions(self) -> Transactions:
        identifier = self.values[self._field("transaction_id").name]
        moment = self.values[self._field("event_time").name]
        amount = self.values[self._field("amount").name]
        keys = {f.entity: self.values[f.name] for f in self.catalogue.fields if f.entity is not None}
        content = [identifier, moment, amount, *keys.values()]
        if self.id_text is not None:  # two texts with one hash are a conflict, no duplicate
            content.append(self.id_beside)
        return Transactions(
            identifier, moment, amount, keys, self.numbers, self.flags,
            digests_of(content, list(self.numbers.values()), self.key),
            self._answers("is_fraud"), self._answers("scenario"), self.id_text,
        )  # fmt: skip

    def _answers(self, role: Role) -> NDArray[np.int8]:
        field = self.catalogue.field_of(role)
        if field is None:
            return np.full(self.n, -1, np.int8)
        return self.values[field.name].astype(np.int8)

    def _rejected(self, bad: Int64) -> Rejected:
        """All problems of the bad records, by precedence."""
        if not len(bad):
            return Rejected(bad, [])
        reasons = self.reasons[:, bad].T.tolist()
        whole = self.fields.problems
        found = [
            (whole[i],) if i in whole else self._problems(i, reasons[m]) for m, i in enumerate(bad.tolist())
        ]
        return Rejected(bad, found)

    def _problems(self, record: int, reasons: list[int]) -> tuple[RecordProblem, ...]:
        fields = self.catalogue.fields
        found = [(reason, number) for number, reason in enumerate(reasons[:-1]) if reason]
        if reasons[-1]:
            found.append((reasons[-1], fields.index(self._field("event_time"))))
        return tuple(
            problem_of_field(
                Reason(reason), fields[number], self.fields.text(number, record), self.catalogue
            )
            for reason, number in sorted(found)[:PROBLEMS_MAX]
        )  # fmt: skip
