"""What became of the rows of files: the report of a cleaning, where its output is, and what is doubtful in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.intake import CleanReport, SameFiles
from zaslon.intake.quarantine import QUARANTINE
from zaslon.monitoring.data_warnings import (
    DataWarning,
    not_compared_warnings,
    over_lines_warnings,
    same_files_warnings,
)


@dataclass(frozen=True)
class Cleaned:
    """What became of the rows, where they are, and which sources have the same content."""

    report: CleanReport
    out: Path
    same_files: SameFiles

    @property
    def warnings(self) -> list[DataWarning]:
        """What in the rows is doubtful."""
        found = self.report.over_lines
        return [
            *same_files_warnings(self.same_files.pairs),
            *not_compared_warnings(self.same_files.not_compared),
            *over_lines_warnings(found.rows, found.lines_like_rows, found.places),
        ]

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, by the names of every command."""
        return {
            **self.report.to_json_dict(),
            "warnings": [warning.to_json_dict() for warning in self.warnings],
            "seconds": {"clean": self.report.seconds},
            "paths": {"clean": str(self.out), "quarantine": str(self.out / QUARANTINE)},
        }
