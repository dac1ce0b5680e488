"""A clean output that files are added to: what it holds, and how the next one takes over what stays as it is.

Days without a new row are not written again: they are the same files under another name.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import polars as pl

from zaslon.domain.catalogue import Catalogue
from zaslon.domain.clean_report import CleanReport
from zaslon.domain.errors import InputError, ZaslonError
from zaslon.domain.time import DAYS_MAX, day_text, parse_day
from zaslon.intake.date_gaps import WrongDates
from zaslon.intake.pseudonyms import key_mark
from zaslon.intake.quarantine import QUARANTINE, QUARANTINES
from zaslon.intake.taken_files import (
    LEDGER,
    CleanRun,
    Found,
    Ledger,
    TakenFile,
    all_of,
    changed_meanwhile,
    check_as_seen,
    find_new,
    seen,
    with_digest,
)

REPORT = "_report.json"
_HINT = "Clean all files again, without --only-new."


@dataclass(frozen=True)
class Earlier:
    """An output that files are added to.

    Attributes:
        out: where it is.
        ledger, report: of all files that it was made of.
        content: the ledger as it is written, by which the output is recognised.
    """

    out: Path
    ledger: Ledger
    report: CleanReport
    content: bytes

    @property
    def days(self) -> dict[int, Path]:
        """The file of each day number."""
        return {parse_day(day): self.out / f"day={day}" / "part-0.parquet" for day in self.report.days}

    def check_dates(self, wrong: WrongDates | None) -> None:
        """Refuse new files with which dates of earlier ones would be judged otherwise: those rows were dealt with.

        Args:
            wrong: what is wrong with the dates of all rows.

        Raises:
            InputError: rows that were accepted have wrong dates now, or the other way round.
        """
        dated = self.ledger.dated
        first = DAYS_MAX if wrong is None else wrong.first_day
        before = DAYS_MAX if dated.wrong_from is None else dated.wrong_from
        odd = {day: rows for day, rows in dated.rows_by_day.items() if (day >= first) != (day >= before)}
        if odd:
            was, now = ("right", "wrong") if min(odd) >= first else ("wrong", "right")
            raise InputError(
                f"{sum(odd.values())} rows of files that were taken before are on {day_text(min(odd))} or later. Their"
                f" dates were {was} by the days until then, and are {now} with the new files (record.gap_max).",
                hint=_HINT,
            )


def earlier_output(out: Path, catalogue: Catalogue, key: bytes) -> Earlier | None:
    """What is in an output; None where there is none yet.

    Raises:
        InputError: its files are not known, or it was made with another mapping or key.
    """
    if not (out / REPORT).exists():
        return None
    try:
        content = (out / LEDGER).read_bytes()
        ledger, report = Ledger.from_bytes(content), orjson.loads((out / REPORT).read_bytes())
        found = Earlier(out, ledger, CleanReport.from_json_dict(report), content)
        if found.report.days != sorted({day for run in ledger.runs for day in run.days}):
            raise ValueError("its days are not those of its runs")
    except FileNotFoundError as error:
        raise InputError(
            f"'{out}' does not say which files it was made of: an older Zaslon or a cluster wrote it.",
            hint=_HINT,
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZaslonError) as error:
        raise InputError(f"'{out / LEDGER}' is damaged: {error}.", hint=_HINT) from error
    if ledger.mapping != catalogue.mapping_hash:
        raise InputError(
            f"'{out}' was cleaned with catalogue {report['catalogue']}, whose fields or horizons differ from those of"
            f" {catalogue.label}.",
            hint=_HINT,
        )
    if ledger.key != key_mark(key).hex():
        raise InputError(f"'{out}' was cleaned with another pseudonym key.", hint=_HINT)
    return found


@dataclass(frozen=True)
class Taking:
    """Files that become a part of an output.

    Attributes:
        sources: that are cleaned.
        files: their entries in the ledger, and those of sources that need no cleaning.
        key: identifies the home's key.
        mapping: of the catalogue.
        earlier: what the output holds; None where it is begun.
        adds: whether they are added to what is there: then that has to be `earlier`, also where that is nothing.
    """

    sources: tuple[str, ...]
    files: tuple[TakenFile, ...]
    key: str
    mapping: str
    earlier: Earlier | None = None
    adds: bool = False

    @classmethod
    def begin(cls, sources: Sequence[str], catalogue: Catalogue, key: bytes) -> Taking:
        """All files of a new output.

        Raises:
            InputError: one does not exist or may not be read.
        """
        return cls(tuple(sources), all_of(sources), key_mark(key).hex(), catalogue.mapping_hash)

    @classmethod
    def of_new(
        cls, sources: Sequence[str], catalogue: Catalogue, key: bytes, earlier: Earlier | None
    ) -> tuple[Taking, Found]:
        """Those of the sources that an output does not hold, and what was found out about all of them.

        Raises:
            InputError: as `find_new`.
        """
        begun = Ledger(key_mark(key).hex(), catalogue.mapping_hash)
        found = find_new(sources, begun if earlier is None else earlier.ledger)
        return cls(found.new, found.files, begun.key, begun.mapping, earlier, adds=True), found

    def check_place(self, out: Path) -> None:
        """Refuse an output into which another run has put files meanwhile, or which a killed one has left aside.

        Raises:
            InputError: it has.
        """
        if not self.adds:
            return
        content: bytes | None
        try:
            content = (out / LEDGER).read_bytes()
        except FileNotFoundError:
            content = b"" if (out / REPORT).exists() else None
        if content != (None if self.earlier is None else self.earlier.content):
            raise InputError(f"Another run has written '{out}' meanwhile.", hint="Run it again.")

    def finish(self, building: Path, report: CleanReport) -> CleanReport:
        """Complete a new output: what stays of the earlier one, and the ledger; returns the report of all of it.

        Raises:
            InputError: a source is another than when it was looked at.
        """
        files = self._as_read()
        earlier = self.earlier
        number = 1 if earlier is None else earlier.ledger.runs[-1].number + 1
        run = CleanRun(
            number, report.arrived, report.rows_in, report.rows_clean, report.rows_rejected, report.days, QUARANTINE,
            report.answers_changed,
        )  # fmt: skip
        if earlier is None:
            ledger, whole = Ledger(self.key, self.mapping), report
        else:
            ledger, whole = _with_names(earlier.ledger), earlier.report.followed_by(report)
            _take_over(earlier, building)
            _check_rows(building, whole)
        ledger = ledger.followed_by(files, run, report.dated)
        (building / LEDGER).write_bytes(ledger.to_bytes())
        return whole

    def _as_read(self) -> list[TakenFile]:
        """The entries with digests; every source is still what it was before it was cleaned."""
        by_address = {file.address: file for file in self.files}
        for source in dict.fromkeys(self.sources):
            file = by_address[seen(source, 1).address]
            if file.sha256 is None or file.version is None:
                found = with_digest(file, source)
                if file.sha256 not in (None, found.sha256):
                    raise changed_meanwhile(source)
                by_address[file.address] = found
            check_as_seen(source, file)
        return list(by_address.values())


def _check_rows(building: Path, whole: CleanReport) -> None:
    """The days that were taken over have the rows that the report says; the files' own ends count them."""
    try:
        rows = sum(
            int(pl.scan_parquet(path).select(pl.len()).collect().item())
            for path in building.glob("day=*/*.parquet")
        )
    except (OSError, pl.exceptions.PolarsError) as error:
        raise InputError(f"A clean day cannot be read: {error}.", hint=_HINT) from error
    if rows != whole.rows_clean:
        raise InputError(f"The clean days have {rows:,} of {whole.rows_clean:,} rows.", hint=_HINT)


def _with_names(ledger: Ledger) -> Ledger:
    """The ledger of an output whose quarantine gets the name of its run."""
    runs = [
        replace(run, quarantine=_quarantine_of(run.number)) if run.quarantine == QUARANTINE else run
        for run in ledger.runs
    ]
    return replace(ledger, runs=tuple(runs))


def _quarantine_of(run: int) -> str:
    return f"_quarantine-{run:05d}.parquet"


def _take_over(earlier: Earlier, building: Path) -> None:
    """Days that were not written, and the quarantines: they keep their age, by which original bytes leave."""
    for path in earlier.days.values():
        target = building / path.parent.name / path.name
        if not target.exists():
            target.parent.mkdir(exist_ok=True)
            _link(path, target)
    newest = earlier.ledger.runs[-1].number
    for path in earlier.out.glob(QUARANTINES):
        _link(path, building / (_quarantine_of(newest) if path.name == QUARANTINE else path.name))


def _link(path: Path, target: Path) -> None:
    try:
        os.link(path, target)
    except FileNotFoundError as error:
        raise InputError(f"'{path}' is gone.", hint=_HINT) from error
    except OSError:  # a file system without such names
        shutil.copy2(path, target)
