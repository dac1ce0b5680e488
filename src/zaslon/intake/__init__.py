"""Bytes → clean columns or a named rejection: one cleaning function for every ingress."""

from zaslon.intake.cleaning import Cleaned, clean_batch
from zaslon.intake.files import CleanReport, clean_arrival_seconds, clean_days, clean_files, read_clean_day
from zaslon.intake.fingerprint import clean_fingerprint

__all__ = [
    "CleanReport", "Cleaned", "clean_arrival_seconds", "clean_batch", "clean_days", "clean_files", "clean_fingerprint",
    "read_clean_day",
]  # fmt: skip
