"""The decision worker's process: only `zaslon serve` starts it, at the other end of a channel.

python -m zaslon.entrypoints.decision_worker FILE_DESCRIPTOR
"""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace

from zaslon.bootstrap import build_clock, build_context, open_calls, settings_from
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints.json_log import LogProgress, log_as_json
from zaslon.flows.serve import DecisionWorker

_SWITCH_SECONDS = (
    0.0001  # the deciding thread waits at most so long, at each turn, for one that prepares something
)


def main(end: socket.socket) -> None:
    """Decide the calls that come over the channel, until the service closes it."""
    calls = open_calls(end)
    try:
        settings = settings_from(calls.settings)
        context = replace(build_context(settings), progress=LogProgress())
        DecisionWorker(context, settings.api_group_records_max, build_clock(), calls).run()
    except ZaslonError as error:
        calls.fail(error)


if __name__ == "__main__":
    sys.setswitchinterval(_SWITCH_SECONDS)
    log_as_json()
    try:
        main(socket.socket(fileno=int(sys.argv[1])))
    except (EOFError, ConnectionError):
        os._exit(1)  # the service was killed, and so is its worker: what is recorded is safe
