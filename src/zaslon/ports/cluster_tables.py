"""Tables on a storage of the cluster: files of a run below a folder, and a small file that says which run counts.

    OUT/_table.json              names a run and its files; written last, in one piece
    OUT/runs/RUN/days/day=YYYY-MM-DD/*.parquet
    OUT/runs/RUN/quarantine/*.parquet

A reader that begins with `_table.json` sees all of a run or all of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Protocol

import orjson

from zaslon.domain.errors import InputError

FORMAT = 1
DAYS, QUARANTINE = "days", "quarantine"  # folders of a run


class TableFile(NamedTuple):
    """A Parquet file. `path` is from the table's folder; `day` is YYYY-MM-DD, None for a file of the quarantine."""

    path: str
    day: str | None
    rows: int
    bytes: int


@dataclass(frozen=True)
class TableManifest:
    """Which run a table is, and all its files.

    Attributes:
        made_by: the command.
        run: its folder, from the table's.
        files: of the days, one for each, oldest first; rows are in the order of the log.
        quarantine: files with the rejected rows.
        report: of the command.
    """

    made_by: str
    run: str
    files: tuple[TableFile, ...]
    quarantine: tuple[TableFile, ...]
    report: Mapping[str, Any]

    @property
    def rows(self) -> int:
        """Of all days."""
        return sum(file.rows for file in self.files)

    def to_bytes(self) -> bytes:
        """As JSON."""
        values = asdict(self) | {
            "format": FORMAT, "rows": self.rows, "files": [file._asdict() for file in self.files],
            "quarantine": [file._asdict() for file in self.quarantine],
        }  # fmt: skip
        return orjson.dumps(values, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)

    @staticmethod
    def from_bytes(content: bytes, place: str) -> TableManifest:
        """The inverse.

        Raises:
            InputError: it is none; `place` is where it was.
        """
        try:
            values = orjson.loads(content)
            if values["format"] != FORMAT:
                raise InputError(f"'{place}' has another format than this Zaslon.", hint="Use the newer one.")
            files, quarantine = (
                tuple(TableFile(**file) for file in values[part]) for part in ("files", "quarantine")
            )
            return TableManifest(values["made_by"], values["run"], files, quarantine, dict(values["report"]))
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"'{place}' does not describe a table: {error}.", hint="Make the table again."
            ) from error


class NewTable(Protocol):
    """A run that is written. It is nothing to readers until it is published."""

    @property
    def address(self) -> str:
        """The table's."""

    @property
    def folder(self) -> str:
        """The run's address; `days` and `quarantine` are written below."""

    def publish(self, report: Mapping[str, Any], rows: int) -> TableManifest:
        """Count what was written, and let the table be this run.

        Args:
            report: of the command.
            rows: that the days must have.

        Raises:
            BusyError: another run was published meanwhile.
            ServerError: the storage refused, or what was written is not whole.
        """

    def remove_old(self) -> None:
        """Remove runs that are neither this one nor the one before, and began over a day ago: readers need less.

        Raises:
            ServerError: the storage refused.
        """
