"""What became of one record that a caller has submitted."""

from __future__ import annotations

from dataclasses import dataclass

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

    @staticmethod
    def of(outcome: Outcome, recorded: bytes, *, repeated: bool = False) -> Answer:
        """The answer that an outcome is, with its JSON as recorded."""
        rejection = outcome if isinstance(outcome, Rejection) else None
        return Answer(recorded, outcome.transaction_id, rejection, repeated)
