"""`zaslon stream` whose own code fails at a stage on chosen transactions.

    python -m tests.integration.faulty_scorer STAGE POISONS HOME

STAGE is one of `STREAM_STAGES` and `STREAM_LABEL_STAGES` in `tests.recovery.faults`; POISONS are `id:amount`, separated by commas.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tests.recovery.faults import Poison, inject

from zaslon.entrypoints.cli import main


def command(stage: str, poisons: Sequence[Poison], home: Path) -> tuple[str, ...]:
    """Python's arguments for such a scorer."""
    words = ",".join(f"{poison.transaction_id}:{poison.amount}" for poison in poisons)
    return "-m", "tests.integration.faulty_scorer", stage, words, str(home)


if __name__ == "__main__":
    stage, words, home = sys.argv[1:]
    for word in words.split(","):
        identifier, amount = word.split(":")
        inject(pytest.MonkeyPatch(), stage, Poison(int(identifier), float(amount)))
    sys.argv[1:] = ["stream", "--home", home, "--json"]
    sys.exit(main())
