"""What became of the rows of files: the report of a cleaning, where its output is, and what is doubtful in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.intake import CleanReport, Found, SameFiles
from zaslon.intake.quarantine import QUARANTINE
from zaslon.monitoring.data_warnings import (
    DataWarning,
    not_compared_warnings,
    over_lines_warnings,
    same_files_warnings,
)


@dataclass(frozen=True)
class Cleaned:
    """What became of the rows, where they are, and which sources have the same content.

    Attributes:
        report: of the sources that were cleaned.
        found: which of the sources are new, where only such ones were cleaned.
    """

    report: CleanReport
    out: Path
    same_files: SameFiles
    found: Found | None = None

    @property
    def has_news(self) -> bool:
        """Whether anything was cleaned."""
        return self.found is None or bool(self.found.new)

    @property
    def no_news(self) -> str:
        """Why nothing was cleaned, in one sentence."""
        assert self.found is not None
        return f"No news: '{self.out}' holds the rows of all {self.found.known + len(self.found.same)} files."

    @property
    def warnings(self) -> list[DataWarning]:
        """What in the rows is doubtful."""
        return warnings_of(self.report, self.same_files)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        return {
            **self._files(),
            **self.report.to_json_dict(),
            "warnings": [warning.to_json_dict() for warning in self.warnings],
            "seconds": {"clean": self.report.seconds},
            "paths": {"clean": str(self.out), "quarantine": str(self.out / QUARANTINE)},
        }

    def _files(self) -> dict[str, Any]:
        if self.found is None:
            return {}
        return {
            "news": self.has_news,
            "files_new": list(self.found.new),
            "files_known": self.found.known,
            "files_same": dict(self.found.same),
        }


def warnings_of(report: CleanReport, same: SameFiles) -> list[DataWarning]:
    """What in the rows of files is doubtful."""
    found = report.over_lines
    return [
        *same_files_warnings(same.pairs),
        *not_compared_warnings(same.not_compared),
        *over_lines_warnings(found.rows, found.lines_like_rows, found.places),
    ]
