"""Cleaning: one function from fields to clean transactions or named rejections, for every door.

A field is checked in the order of `domain.rejections.Reason`; among equal reasons the first field
of the catalogue wins. What is odd but not malformed is kept and flagged.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import orjson
from numpy.typing import NDArray

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.events import Kind, Labels, RecordBatch, Rejected, Transactions
from zaslon.domain.rejections import Reason
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, SECONDS_PER_DAY, parse_day, parse_duration_seconds
from zaslon.intake import text
from zaslon.intake.detail import detail_of
from zaslon.intake.fields import (
    Fields,
    concatenated,
    fields_of_json,
    fields_of_lines,
    in_order,
)
from zaslon.intake.records import PSEUDONYM_PREFIX

Int64 = NDArray[np.int64]
INT64_MAX = 2**63 - 1
_CONFLICT = "The record has the id of a transaction of long ago but other content."
_NUMBER_DIGITS = 9  # further numeric fields keep nine digits behind the point


@dataclass(frozen=True)
class CleanFields:
    """What n records of fields came to.

    Attributes:
        transactions: the accepted ones, in order.
        index: int64[transactions], which record each is.
        rejected: the others; `index` likewise.
    """

    transactions: Transactions
    index: Int64
    rejected: Rejected


@dataclass(frozen=True)
class Cleaned:
    """What a batch of records came to.

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
    at_labels = np.flatnonzero(kind == Kind.LABEL_JSON)
    at_transactions = np.flatnonzero((kind != Kind.LABEL_JSON) & (kind != Kind.CONFLICT_JSON))
    fields = _fields(batch, kind, at_transactions, catalogue)
    found = clean_fields(fields, catalogue, key, batch.arrival_time_seconds[at_transactions])
    labels, good, bad = _labels(batch, at_labels)
    conflicts = np.flatnonzero(kind == Kind.CONFLICT_JSON).tolist()
    bad += [(i, Reason.CONFLICTING_DUPLICATE, _CONFLICT) for i in conflicts]
    index = at_transactions[found.index]
    order = np.argsort(np.concatenate([index, good]), kind="stable")
    return Cleaned(
        found.transactions, index, labels, good, order >= len(index),
        _all_rejected(found.rejected, at_transactions, bad),
    )  # fmt: skip


def _fields(batch: RecordBatch, kind: text.UInt8, chosen: Int64, catalogue: Catalogue) -> Fields:
    is_json = kind[chosen] == Kind.TRANSACTION_JSON
    lines, jsons = chosen[~is_json], chosen[is_json]
    parts = []
    if len(lines) or not len(jsons):
        parts.append(fields_of_lines(batch.buffer, batch.starts[lines], batch.lengths[lines], catalogue))
    if len(jsons):
        parts.append(fields_of_json([batch.raw(i) for i in jsons.tolist()], catalogue))
    fields = concatenated(parts)
    if len(parts) == 1:
        return fields
    return in_order(fields, np.argsort(np.concatenate([lines, jsons]), kind="stable"))


def _labels(batch: RecordBatch, chosen: Int64) -> tuple[Labels, Int64, list[tuple[int, Reason, str]]]:
    """Labels, their records, and (record, reason, sentence) of what is no label."""
    ids, verdicts, good = [], [], []
    bad: list[tuple[int, Reason, str]] = []
    for i in chosen.tolist():
        raw = batch.raw(i)
        try:
            content = orjson.loads(raw)
        except orjson.JSONDecodeError:
            bad.append((i, Reason.UNREADABLE_LABEL, "The label is not valid JSON."))
            continue
        problem = _label_problem(content)
        if problem:
            bad.append((i, Reason.UNREADABLE_LABEL, problem))
            continue
        ids.append(content["transaction_id"])
        verdicts.append(bool(content["is_fraud"]))
        good.append(i)
    index = np.array(good, np.int64)
    arrivals = batch.arrival_time_seconds[index]
    return Labels(np.array(ids, np.int64), np.array(verdicts, np.bool_), arrivals), index, bad


def _label_problem(content: object) -> str | None:
    if not isinstance(content, dict):
        return "The label is no JSON object."
    identifier, verdict = content.get("transaction_id"), content.get("is_fraud")
    if isinstance(identifier, bool) or not isinstance(identifier, int):
        return f"Field 'transaction_id' is {identifier!r:.60}; expected a whole number."
    if not -INT64_MAX - 1 <= identifier <= INT64_MAX:
        return f"Field 'transaction_id' is {identifier}; expected a 64-bit number."
    if verdict not in (0, 1) or not isinstance(verdict, int):
        return f"Field 'is_fraud' is {verdict!r:.60}; expected true or false."
    return None


def _all_rejected(found: Rejected, chosen: Int64, others: list[tuple[int, Reason, str]]) -> Rejected:
    index = np.concatenate([chosen[found.index], np.array([i for i, _, _ in others], np.int64)])
    reason = np.concatenate([found.reason, np.array([r for _, r, _ in others], np.uint8)])
    order = np.argsort(index, kind="stable")
    field = [*found.field, *(None for _ in others)]
    detail = [*found.detail, *(sentence for _, _, sentence in others)]
    return Rejected(index[order], reason[order], [field[i] for i in order], [detail[i] for i in order])


def clean_fields(
    fields: Fields, catalogue: Catalogue, key: bytes, arrival_time_seconds: Int64 | None
) -> CleanFields:
    """THE cleaning function: fields of n records → clean columns and rejections."""
    reading = _Reading(fields, catalogue, key)
    for number, field in enumerate(catalogue.fields):
        reading.read(number, field)
    if arrival_time_seconds is not None:
        reading.check_arrival(arrival_time_seconds)
    return reading.result()


class _Reading:
    """The columns of n records while they are read field by field."""

    def __init__(self, fields: Fields, catalogue: Catalogue, key: bytes) -> None:
        self.fields, self.catalogue, self.key = fields, catalogue, key
        self.n = len(fields.reason)
        self.best = fields.reason.copy()
        self.best_field = np.full(self.n, -1, np.int16)
        self.has_fields = fields.reason == 0
        self.values: dict[str, Int64] = {}
        self.flags = np.zeros(self.n, np.uint32)

    def read(self, number: int, field: SourceField) -> None:
        """Read one field into `values` by its role."""
        if field.role == "ignored":
            return
        start, length = self.fields.start[number], self.fields.length[number]
        reason = np.where(self.has_fields, 0, 1).astype(np.uint8)  # no second look at what has none
        value = np.zeros(self.n, np.int64)
        buffer = self.fields.buffer
        if field.unknown:
            words = [word.encode() for word in field.unknown]
            ends = np.cumsum([0] + [len(w) for w in words])
            text.find_listed(buffer, start, length, np.frombuffer(b"".join(words), np.uint8), ends, reason)
        if field.role == "amount":
            digits = self.catalogue.minor_digits
            least, most = _bounds(field, 10**digits)
            text.read_decimals(buffer, start, length, True, digits, least, most, value, reason)
        elif field.role == "number":
            least, most = _bounds(field, 10**_NUMBER_DIGITS)
            text.read_decimals(
                buffer, start, length, field.required, _NUMBER_DIGITS, least, most, value, reason
            )
            self.values[f"{field.name} is given"] = (length > 0).astype(np.int64)
        elif field.role == "event_time":
            self._read_time(field, start, length, value, reason)
        elif field.role == "entity" and field.type == "text":
            self._read_text(start, length, value, reason)
        elif field.role == "elapsed_seconds":
            self._check_elapsed(field, start, length)
            return
        else:
            self._read_integer(field, start, length, value, reason)
        reason[~self.has_fields] = 0
        text.keep_first(reason, self.best, self.best_field, number)
        self.values[field.name] = value

    def _read_integer(
        self, field: SourceField, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        least, most = _bounds(field, 1)
        if field.role in ("is_fraud", "scenario"):
            least, most = 0, 1 if field.role == "is_fraud" else 127
            value[length <= 0] = -1
        text.read_integers(self.fields.buffer, start, length, field.required, least, most, value, reason)
        if field.usual_maximum is not None:
            self._flag(f"{field.name}_unusual", value > field.usual_maximum)

    def _read_time(
        self, field: SourceField, start: Int64, length: Int64, value: Int64, reason: text.UInt8
    ) -> None:
        if field.format == "epoch_seconds":
            text.read_integers(
                self.fields.buffer, start, length, True, 0, EVENT_TIME_SECONDS_MAX, value, reason
            )
            return
        dropped = np.zeros(self.n, np.uint8)
        text.read_times(self.fields.buffer, start, length, value, reason, dropped)
        self._flag("fraction_of_second_dropped", dropped == 1)

    def _read_text(self, start: Int64, length: Int64, value: Int64, reason: text.UInt8) -> None:
        """Text identifiers become keyed hashes; a pseudonym of our own is taken as it is."""
        reason[(length <= 0) & (reason == 0)] = Reason.MISSING_FIELD
        known: dict[bytes, int] = {}
        for i in np.flatnonzero(reason == 0).tolist():
            begin = int(start[i])
            word = self.fields.buffer[begin : begin + int(length[i])].tobytes()
            if word not in known:
                known[word] = pseudonym(word, self.key)
            value[i] = known[word]

    def _check_elapsed(self, field: SourceField, start: Int64, length: Int64) -> None:
        """Flag a count of seconds that fits no start; it is no reason to reject."""
        elapsed, reason = np.zeros(self.n, np.int64), np.zeros(self.n, np.uint8)
        text.read_integers(self.fields.buffer, start, length, False, -INT64_MAX, INT64_MAX, elapsed, reason)
        self.values["elapsed"] = elapsed
        self.values["elapsed is given"] = (length > 0).astype(np.int64)
        self.values["elapsed is unreadable"] = (reason > 0).astype(np.int64)

    def _flag(self, name: str, where: NDArray[np.bool_]) -> None:
        bit = self.catalogue.flag_names.index(name)
        self.flags |= where.astype(np.uint32) << np.uint32(bit)

    def check_arrival(self, arrival_time_seconds: Int64) -> None:
        """Reject what says to have happened well after it arrived."""
        time = self._field("event_time")
        skew = parse_duration_seconds(self.catalogue.record.clock_skew)
        late = self.values[time.name] > arrival_time_seconds + skew
        reason = np.where(late & self.has_fields, Reason.AFTER_ARRIVAL, 0).astype(np.uint8)
        text.keep_first(reason, self.best, self.best_field, self.catalogue.fields.index(time))

    def _field(self, role: str) -> SourceField:
        return next(f for f in self.catalogue.fields if f.role == role)

    def result(self) -> CleanFields:
        """Split into clean and rejected."""
        amount, time = self._field("amount"), self._field("event_time")
        self._flag("amount_zero", self.values[amount.name] == 0)
        if "elapsed" in self.values:
            self._flag("elapsed_disagrees", self._elapsed_disagrees(self.values[time.name]))
        index = np.flatnonzero(self.best == 0)
        bad = np.flatnonzero(self.best)
        transactions = self._transactions()
        kept = transactions if not len(bad) else transactions.take(index)
        return CleanFields(kept, index, self._rejected(bad))

    def _elapsed_disagrees(self, event_time: Int64) -> NDArray[np.bool_]:
        field = self.catalogue.field_of("elapsed_seconds")
        assert field is not None
        agrees = np.zeros(self.n, np.bool_)
        for day in field.counts_from:
            agrees |= event_time - parse_day(day) * SECONDS_PER_DAY == self.values["elapsed"]
        given, unreadable = self.values["elapsed is given"] > 0, self.values["elapsed is unreadable"] > 0
        return given & (unreadable | (~agrees if field.counts_from else np.False_))

    def _transactions(self) -> Transactions:
        identifier = self.values[self._field("transaction_id").name]
        moment = self.values[self._field("event_time").name]
        amount = self.values[self._field("amount").name]
        keys = {f.entity: self.values[f.name] for f in self.catalogue.fields if f.entity is not None}
        digest = np.zeros(self.n, np.uint64)
        numbers = {}
        for name in self.catalogue.number_fields:
            given = self.values[f"{name} is given"] > 0
            numbers[name] = np.where(given, self.values[name] / 10.0**_NUMBER_DIGITS, np.nan)
            text.mix_into(digest, np.where(given, self.values[name], -INT64_MAX))
        for column in (identifier, moment, amount, *keys.values()):
            text.mix_into(digest, column)
        return Transactions(
            identifier, moment, amount, keys, numbers, self.flags,
            (digest >> np.uint64(32)).astype(np.uint32), self._answers("is_fraud"),
            self._answers("scenario"),
        )  # fmt: skip

    def _answers(self, role: str) -> NDArray[np.int8]:
        field = next((f for f in self.catalogue.fields if f.role == role), None)
        if field is None:
            return np.full(self.n, -1, np.int8)
        return self.values[field.name].astype(np.int8)

    def _rejected(self, bad: Int64) -> Rejected:
        fields: list[str | None] = []
        details = []
        for i in bad.tolist():
            number, reason = int(self.best_field[i]), Reason(int(self.best[i]))
            field = self.catalogue.fields[number] if number >= 0 else None
            value = self.fields.text(number, i) if field is not None else b""
            fields.append(field.name if field else None)
            details.append(detail_of(reason, field, value, self.catalogue))
        return Rejected(bad, self.best[bad], fields, details)


def _bounds(field: SourceField, scale: int) -> tuple[int, int]:
    least = -INT64_MAX if field.minimum is None else int(field.minimum * scale)
    most = INT64_MAX if field.maximum is None else int(field.maximum * scale)
    return max(least, -INT64_MAX), min(most, INT64_MAX)


def pseudonym(word: bytes, key: bytes) -> int:
    """The int64 that stands for a text identifier: keyed BLAKE2b, or the key written in `word`."""
    prefix = PSEUDONYM_PREFIX.encode()
    if word.startswith(prefix) and len(word) == len(prefix) + 16:
        try:
            return int.from_bytes(bytes.fromhex(word[len(prefix) :].decode()), "big", signed=True)
        except ValueError:
            pass
    digest = hashlib.blake2b(word, digest_size=8, key=key[:64]).digest()
    return int.from_bytes(digest, "big", signed=True)
