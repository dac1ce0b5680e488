"""The ports of the schedule: processes of jobs, and alerts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True)
class Ended:
    """How a job's process ended.

    Attributes:
        exit_code: None if it was ended by us.
        timed_out: it took too long, and was ended with all its children.
    """

    exit_code: int | None
    timed_out: bool = False


class JobProcesses(Protocol):
    """Runs commands of `zaslon` as child processes."""

    def run(
        self, arguments: Sequence[str], output: Path, messages: Path, timeout_seconds: float,
        is_over: Callable[[], bool],
    ) -> Ended:  # fmt: skip
        """Run one and wait for its end. Then no process of its group is left that was not left by a good end.

        Args:
            arguments: of the `zaslon` command.
            output, messages: files that get standard output and standard error.
            timeout_seconds: after which the process and all its children are ended.
            is_over: asked again and again; if true they are ended as well.

        Raises:
            SystemRefusedError: the process cannot be started.
        """

    def end_left(self, output: Path) -> int:
        """End what is left of a process that was run with this `output` by a scheduler that was killed meanwhile.

        It is asked to end, and ended some seconds later, with all that it has started. Returns how many there were.

        Raises:
            SystemRefusedError: some do not end.
        """


class Alerts(Protocol):
    """Tells people that something failed."""

    def send(self, alert: Mapping[str, Any]) -> None:
        """Send plain values, with a sentence under `text`. Takes at most some seconds.

        Raises:
            ServerError: it did not arrive.
        """
