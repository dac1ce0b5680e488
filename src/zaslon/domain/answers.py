"""What became of one record that a caller has submitted."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import Outcome, Rejection


@dataclass(frozen=True)
class Answer:
    """What became of a submitted record.

    Attributes:
        outcome: its outcome as recorded.
        transaction_id: of the transaction that it is about; None where that could not be read.
        rejection: the outcome itself, where it is one.
        repeated: it is the decision on the same content sent before; now nothing changed. A rejection
            is never repeated: an invalid record sent again is rejected again.
    """

    outcome: bytes
    transaction_id: TransactionId | None
    rejection: Rejection | None = None
    repeated: bool = False

    def to_json(self, **more: object) -> bytes:
        """What a caller gets: the outcome's members, `repeated`, and `more`.

        The outcome is encoded once, when it is recorded; encoding it again for every caller would take as long. So
        members are written behind its own: a JSON object without its brace, a comma, and another one without its own.
        """
        return self.outcome[:-1] + b"," + orjson.dumps({"repeated": self.repeated, **more})[1:]

    @staticmethod
    def of(outcome: Outcome, recorded: bytes, *, repeated: bool = False) -> Answer:
        """The answer that an outcome is, with its JSON as recorded."""
        rejection = outcome if isinstance(outcome, Rejection) else None
        return Answer(recorded, outcome.transaction_id, rejection, repeated)
