"""Runs that go on, written by a process of their own: the tracker's client is large, and keeps Python's lock for long.

A line to the process is one call, a line back its answer, both JSON: `{}`, or `error` and `hint`.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import orjson

from zaslon.domain.errors import ServerError, SystemRefusedError

_END_WITHIN_SECONDS = 10.0


class RunProcesses:
    """`zaslon.ports.RunTracker`: a process for each run.

    Args:
        command: starts the process.
        world: what it needs to know before the first call.
    """

    def __init__(self, command: Sequence[str], world: Mapping[str, str]) -> None:
        self._command, self._world = list(command), dict(world)

    def start_run(self, name: str, params: Mapping[str, Any]) -> RunProcess:
        """Begin a run (see the port).

        Raises:
            ServerError: the tracker cannot be reached or written.
            SystemRefusedError: the process cannot be started.
        """
        try:
            process = subprocess.Popen(  # noqa: S603  a command of our own
                self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for us: the last point is still to be written
            )  # fmt: skip
        except OSError as error:
            raise SystemRefusedError(f"The process that writes runs cannot be started: {error}.") from error
        run = RunProcess(process)
        run.ask({**self._world, "name": name, "params": dict(params)})
        return run


class RunProcess:
    """`zaslon.ports.LiveRun`. After an error the process is gone."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """One point of each metric (see the port)."""
        finite = {name: float(value) for name, value in metrics.items() if math.isfinite(value)}
        self.ask({"metrics": finite, "step": step})

    def end(self) -> None:
        """Mark the run as finished (see the port)."""
        self.ask({"end": True})
        self._close()

    def ask(self, call: Mapping[str, Any]) -> None:
        """Make a call and wait for its answer; raises ServerError where it fails."""
        found = self._answer(orjson.dumps(call, default=str) + b"\n")
        if "error" in found:
            self._close()
            raise ServerError(found["error"], hint=found["hint"])

    def _answer(self, line: bytes) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(OSError, ValueError):  # it has ended, and may have left half a line
            self._process.stdin.write(line)
            self._process.stdin.flush()
            found: dict[str, Any] = orjson.loads(self._process.stdout.readline())
            return found
        return {"error": "The process that writes runs has ended.", "hint": "Standard error says why."}

    def _close(self) -> None:
        """It ends by itself when nobody can call it any more."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_END_WITHIN_SECONDS)
            return
        self._process.kill()
        self._process.wait()
