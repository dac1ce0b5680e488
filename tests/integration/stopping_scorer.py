"""`zaslon stream` that stops itself like `kill -STOP` before a step of a commit, once.

    python stopping_scorer.py STEP COMMIT HOME

STEP is one of `STEPS`, the numbered steps of `zaslon.adapters.cluster.kafka.commit`; COMMIT says at
which commit of this process it stops, counted from 1.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from zaslon.adapters.cluster.kafka.commit import Committer
from zaslon.adapters.cluster.kafka.source import Partitions
from zaslon.services.snapshot_writer import SnapshotWriter

# What is about to be called when it stops, by step.
STEPS: dict[str, tuple[type[Any], str]] = {
    "1 take": (Partitions, "by_arrival"),
    "2 decide": (Committer, "submit"),
    "3 begin": (Committer, "begin_transaction"),
    "5 outcomes": (Committer, "_send_outcomes"),
    "6 offsets": (Committer, "send_offsets_to_transaction"),
    "7 commit": (Committer, "commit_transaction"),
    "7 committed": (Committer, "_committed"),
    "8 state": (SnapshotWriter, "save"),
}


def stop_before(step: str, commit: int) -> None:
    """Let this process stop itself before a step of a commit."""
    commits = 0

    def count_and_stop(name: str) -> None:
        nonlocal commits
        commits += name == "_transaction"
        if commits >= commit and name == STEPS[step][1]:
            commits = -sys.maxsize
            os.kill(os.getpid(), signal.SIGSTOP)

    def watched(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*given: Any, **more: Any) -> Any:
            # `_with_retries` calls the client; what it is about to call is the name that counts.
            count_and_stop(given[1].__name__ if name == "_with_retries" else name)
            return call(*given, **more)

        return wrapper

    for owner, name in {(Committer, "_transaction"), (Committer, "_with_retries"), *STEPS.values()}:
        if name == "_committed":
            continue
        if hasattr(owner, name):
            setattr(owner, name, watched(name, getattr(owner, name)))
    first = Committer.__init__

    def begin(self: Committer, *given: Any, committed: Callable[..., None], **more: Any) -> None:
        first(self, *given, committed=watched("_committed", committed), **more)

    Committer.__init__ = begin  # type: ignore[method-assign]


if __name__ == "__main__":
    from zaslon.entrypoints.cli import main

    step, commit, home = sys.argv[1:]
    stop_before(step, int(commit))
    sys.argv[1:] = ["stream", "--home", home, "--json"]
    sys.exit(main())
