"""Errors that a person can act on: what is wrong, where, and what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any


class ZaslonError(Exception):
    """An error that the user can fix. Its text is a complete sentence; `hint` is what to do.

    `warnings`: `kind`, `message` and `hint` of what was found doubtful before; None where nothing looked for it.

    Raise a subclass, so that callers can distinguish the kinds. A programmer's mistake is not a
    `ZaslonError`: it raises whatever Python raises and stops.
    """

    exit_code = 2

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.warnings: list[dict[str, str]] | None = None

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message} {self.hint}"


def sentence_of(error: Mapping[str, Any]) -> str:
    """What pydantic found wrong, in the words of our own check where it was one: it writes a prefix before those."""
    own = error.get("ctx", {}).get("error")
    return str(own if isinstance(own, ValueError) else error["msg"])


class InputError(ZaslonError):
    """A file or stream that cannot be read as what it should be (wrong format, missing, damaged)."""

    exit_code = 3


class CatalogueError(ZaslonError):
    """A catalogue that is inconsistent."""

    exit_code = 4


class PolicyError(ZaslonError):
    """A policy file (rules, thresholds) that is inconsistent."""

    exit_code = 5


class ArtefactError(ZaslonError):
    """A model, snapshot or store on disk that is damaged or belongs to something else."""

    exit_code = 6


class DataError(ZaslonError):
    """Data that are well formed but do not allow what was asked (no frauds to train on, …)."""

    exit_code = 7


class BusyError(ZaslonError):
    """Not now: another process is at work in the same place, or the service has too much to do."""

    exit_code = 9


class TooLargeError(ZaslonError):
    """A record that is larger than what must take it."""


class SystemRefusedError(ZaslonError):
    """The machine refused: no space, no permission, or a path that is not a directory."""

    exit_code = 10


class ServerError(ZaslonError):
    """A server that cannot be reached, refuses us, or lacks what was asked of it."""

    exit_code = 11


class TooManyRejectedError(ZaslonError):
    """So many rows were rejected that a model of the rest would be about other data."""

    exit_code = 13


class GuardError(ZaslonError):
    """A model that breaks a guard, or is worse than the champion, and therefore does not serve."""

    exit_code = 14


class UncertainError(ServerError):
    """A server did not confirm whether, or where, it accepted a record, which may still be decided."""


class BrokenCallError(ZaslonError):
    """A call that broke our own code before any of its records was in the log."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the known word nearest to `word`, or a list of what is known."""
    names = sorted(known)
    near = get_close_matches(word, names, n=1, cutoff=0.6)
    if near:
        return f"Did you mean '{near[0]}'?"
    return f"Known: {', '.join(names)}." if names else "None is known."
