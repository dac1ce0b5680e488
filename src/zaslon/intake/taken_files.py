"""The ledger of a clean output: which files it was made of, so that each is taken once.

It lies in the output and takes its place together with the rows: a reader, or the next run after a kill, never sees one
without the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import orjson

from zaslon.domain.clean_report import DatedRows
from zaslon.domain.errors import InputError
from zaslon.domain.time import day_text, parse_day
from zaslon.intake.same_files import UNREADABLE, content_digest
from zaslon.system.opening import content_version, is_read_once, local_path

LEDGER = "_ledger.json"


@dataclass(frozen=True)
class TakenFile:
    """A file whose rows are in the output.

    Attributes:
        address: absolute, where it is a local path.
        version: what changes with its content, as its storage gives it; None where nothing is to be trusted.
        sha256: of its unpacked content, in hex; None for a pipe.
        run: the number of the run that took it.
    """

    address: str
    version: tuple[str, ...] | None
    sha256: str | None
    run: int


@dataclass(frozen=True)
class CleanRun:
    """A run that took files; its rejected rows are in `quarantine`, its clean ones in `days`."""

    number: int
    arrived: str
    rows_in: int
    rows_clean: int
    rows_rejected: dict[str, int]
    days: list[str]
    quarantine: str
    answers_changed: int = 0


@dataclass(frozen=True)
class Ledger:
    """What was taken into an output.

    Attributes:
        key: identifies the home's key, which digests and pseudonyms are made with.
        mapping: of the catalogue.
        dated: what dates were judged by.
    """

    key: str
    mapping: str
    files: tuple[TakenFile, ...] = ()
    runs: tuple[CleanRun, ...] = ()
    dated: DatedRows = field(default_factory=DatedRows)

    def to_bytes(self) -> bytes:
        """As it is written."""
        values = asdict(self)
        wrong_from = self.dated.wrong_from
        values["dated"] = {
            "rows_by_day": {day_text(day): rows for day, rows in self.dated.rows_by_day.items()},
            "wrong_from": None if wrong_from is None else day_text(wrong_from),
        }
        return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: it is none.
        """
        values: dict[str, Any] = orjson.loads(content)
        dated = values["dated"]
        if not values["runs"]:
            raise ValueError("it has no run")
        return cls(
            values["key"], values["mapping"],
            tuple(TakenFile(**{**one, "version": _version(one["version"])}) for one in values["files"]),
            tuple(CleanRun(**{**one, "number": _count(one["number"])}) for one in values["runs"]),
            DatedRows(
                {parse_day(day): _count(rows) for day, rows in dated["rows_by_day"].items()},
                None if dated["wrong_from"] is None else parse_day(dated["wrong_from"]),
            ),
        )  # fmt: skip

    def followed_by(self, files: Sequence[TakenFile], run: CleanRun, dated: DatedRows) -> Ledger:
        """The ledger after a run; a file that was known under an address before has another entry for that."""
        given = {file.address for file in files}
        kept = [file for file in self.files if file.address not in given]
        return Ledger(self.key, self.mapping, (*kept, *files), (*self.runs, run), dated)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 62:
        raise ValueError(f"{value!r:.40} is no number of rows or runs")
    return value


def _version(values: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if values is None else tuple(values)


@dataclass(frozen=True)
class Found:
    """What a ledger says of sources.

    Attributes:
        new: sources that were not taken, as they were given, in their order.
        same: sources with the content of one that was taken, or comes before: that one's address, by source.
        known: how many were taken under their address.
        files: entries of the ledger for `new` and `same`, and for what is as it was but has another version.
    """

    new: tuple[str, ...]
    same: Mapping[str, str]
    known: int
    files: tuple[TakenFile, ...]


def find_new(sources: Sequence[str], ledger: Ledger) -> Found:
    """Which sources were not taken yet. Of those that the ledger does not know as they are the content is read.

    Raises:
        InputError: one does not exist, can be read only once, or was taken and has changed.
    """
    by_address = {file.address: file for file in ledger.files}
    by_content = {file.sha256: file for file in ledger.files if file.sha256 is not None}
    number = _next_run(ledger)
    new: list[str] = []
    same: dict[str, str] = {}
    files: list[TakenFile] = []
    given = list(dict.fromkeys(sources))
    for source in given:
        file = seen(source, number)
        before = by_address.get(file.address)
        if before is not None and file.version is not None and file.version == before.version:
            continue
        file = with_digest(file, source)
        if before is not None:
            _refuse_changed(source, before, file)
            files.append(TakenFile(file.address, file.version, file.sha256, before.run))
            continue
        other = None if file.sha256 is None else by_content.get(file.sha256)
        if other is None or _answers_since(other, ledger, files[-1:] if other.run == number else []):
            if file.sha256 is not None:
                by_content[file.sha256] = file
            new.append(source)
            files.append(file)
        else:
            same[source] = other.address
            files.append(TakenFile(file.address, file.version, file.sha256, other.run))
    return Found(tuple(new), same, len(given) - len(new) - len(same), tuple(files))


def _answers_since(same: TakenFile, ledger: Ledger, newest: Sequence[TakenFile]) -> bool:
    """Whether answers have changed, or may have, since a file was taken: then the same content changes them back.

    `newest` is the entry before, where the file belongs to this run: what a file between the two changes is not known yet.
    """
    if newest:
        return newest[0].sha256 != same.sha256
    return any(run.number > same.run and run.answers_changed for run in ledger.runs)


def _refuse_changed(source: str, before: TakenFile, file: TakenFile) -> None:
    if before.sha256 is None or file.sha256 != before.sha256:
        raise InputError(
            f"'{source}' was taken in run {before.run} and has changed since.",
            hint="Give further rows, or rows with later answers, in a file of another name; or clean all files again,"
            " without --only-new.",
        )


def all_of(sources: Sequence[str]) -> tuple[TakenFile, ...]:
    """Entries for sources that an output is begun with; their contents are not read yet."""
    return tuple(seen(source, 1) for source in dict.fromkeys(sources))


def seen(source: str, run: int) -> TakenFile:
    """A source as it is now, without its digest.

    Raises:
        InputError: it does not exist or may not be read.
    """
    path = local_path(source)
    if path is None:
        version = content_version(source)
        # A size alone says nothing of the content.
        return TakenFile(source, version if version and len(version) > 1 else None, None, run)
    if is_read_once(source):
        return TakenFile(str(path.absolute()), None, None, run)
    version = content_version(source)
    # Another file may have taken its name, and kept the time of its own last change.
    return TakenFile(
        str(path.absolute()), None if version is None else (*version, str(path.stat().st_ino)), None, run
    )


def with_digest(file: TakenFile, source: str) -> TakenFile:
    """The same with the digest of its content; without, where that cannot be read: cleaning says why."""
    if is_read_once(source):
        return file
    try:
        return TakenFile(file.address, file.version, content_digest(source).hex(), file.run)
    except UNREADABLE:
        return file


def check_as_seen(source: str, file: TakenFile) -> None:
    """Refuse a source that is another than when it was looked at.

    Raises:
        InputError: it is, or it is gone.
    """
    if seen(source, file.run).version != file.version:
        raise changed_meanwhile(source)


def changed_meanwhile(source: str) -> InputError:
    """The error of a source that became another one while it was cleaned."""
    return InputError(
        f"'{source}' changed while it was read.", hint="Wait until it is complete, and give it again."
    )


def _next_run(ledger: Ledger) -> int:
    return ledger.runs[-1].number + 1 if ledger.runs else 1
