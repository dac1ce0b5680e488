"""Bytes → clean columns or a named rejection: one cleaning function for every ingress."""

from zaslon.domain.clean_report import CleanReport
from zaslon.intake.cleaning import Cleaned, clean_batch
from zaslon.intake.doubtful import commonest_problems, unchanging_columns
from zaslon.intake.earlier_output import Earlier, Taking, earlier_output
from zaslon.intake.files import (
    check_complete,
    checked_report,
    clean_arrival_seconds,
    clean_days,
    clean_files,
    publish_clean,
    read_clean_day,
)
from zaslon.intake.fingerprint import clean_fingerprint
from zaslon.intake.same_files import SameFiles, same_files
from zaslon.intake.taken_files import Found

__all__ = [
    "CleanReport", "Cleaned", "Earlier", "Found", "SameFiles", "Taking", "check_complete", "checked_report", "clean_arrival_seconds", "clean_batch", "clean_days",
    "clean_files", "clean_fingerprint", "commonest_problems", "earlier_output", "publish_clean", "read_clean_day", "same_files",
    "unchanging_columns",
]  # fmt: skip
