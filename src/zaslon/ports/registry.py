"""The port of the model registry, where people look runs and models up. Nothing that decides asks it.

What it holds is copied from the home and from the promotion ledger, which are the truth; whatever was lost on the
way can be copied again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

# Tag of a run and of a version: the id of the artefact that they are about.
ARTEFACT = "artefact"


@dataclass(frozen=True)
class RunRecord:
    """One run: what was done, and what came out.

    Attributes:
        key: names this run and no other; a run whose key is known is not written twice.
        name: for people.
        params: what went in, plain values.
        metrics: what came out; those that are not finite are left out.
        tags: texts to find it by.
        files: files and directories that belong to it; a directory keeps its name.
    """

    key: str
    name: str
    params: Mapping[str, Any]
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    files: Sequence[Path] = ()


@dataclass(frozen=True)
class Candidate:
    """A trained model to register with its run.

    Attributes:
        directory: its artefact, as `save_model` writes it.
        features: names of its features, in the order of the columns.
        example: some rows of them, None where a feature has no value.
    """

    directory: Path
    features: Sequence[str]
    example: Sequence[Sequence[float | None]]


class Registry(Protocol):
    """Runs and versions of models: candidates, which were trained, and served models, which were promoted.

    The right to write the first is not the right to write the second.

    Every method raises a ServerError where the registry cannot be reached, or refuses us. It does so within
    seconds. What a crash interrupts can be done again: nothing is written twice.
    """

    @property
    def place(self) -> str:
        """Where it is, for people."""

    def write(self, run: RunRecord, candidate: Candidate | None = None) -> str:
        """Write down a finished run; returns its id.

        A candidate becomes a version with the tags of the run, and the alias `challenger` names it.
        """

    def promote(self, artefact: str, tags: Mapping[str, str]) -> bool:
        """Let the alias `champion` name the served version of an artefact, with some tags more.

        The version is made of the candidate's where it is not there. Two who do this at once both succeed and
        the later one counts: ask for the champion afterwards.

        Returns:
            False where there is no candidate either, and nothing was changed.
        """

    def champion(self) -> Mapping[str, str] | None:
        """The tags of the version that the alias `champion` names; None without one."""

    def challenger(self) -> Mapping[str, str] | None:
        """The tags of the version that the alias `challenger` names; None without one."""
