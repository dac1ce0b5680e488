"""The process that writes a run in progress into the tracker: the stream starts it and calls it line by line.

python -m zaslon.entrypoints.run_writer
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import orjson

from zaslon.bootstrap import build_run_tracker, settings_from
from zaslon.domain.errors import ZaslonError
from zaslon.ports import LiveRun

_NICENESS = 10  # whoever decides goes first


def main() -> None:
    """Make the calls that come, until nobody can make any more."""
    os.nice(_NICENESS)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what libraries print is no answer
        run: LiveRun | None = None
        for line in sys.stdin.buffer:
            try:
                run = _done(orjson.loads(line), run)
                answer = {}
            except ZaslonError as error:
                answer = {"error": error.message, "hint": error.hint}
            answers.write(orjson.dumps(answer) + b"\n")
            answers.flush()


def _done(call: dict[str, Any], run: LiveRun | None) -> LiveRun:
    """Make one call: the first begins the run, the last ends it."""
    if run is None:
        tracker = build_run_tracker(settings_from(call["settings"]), Path(call["home"]))
        return tracker.start_run(call["name"], call["params"])
    if "metrics" in call:
        run.log(call["metrics"], call["step"])
    else:
        run.end()
    return run


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # whoever called has ended meanwhile
