"""What became of one record that a caller has submitted."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from zaslon.domain.events import TransactionId
from zaslon.domain.outcomes import Outcome, Rejection

_REPEATED = {repeated: orjson.dumps({"repeated": repeated})[1:-1] for repeated in (False, True)}


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

    def to_json(self, time_used_ms: float | None = None) -> bytes:
        """What a caller gets: the outcome's members, `repeated`, and how long the call took where that is given.

        The outcome is encoded once, when it is recorded; to parse and encode it again for every caller would take
        three times as long as all this. So two members are written behind its own, instead of the last brace.
        """
        used = b"" if time_used_ms is None else b',"time_used_ms":%.3f' % time_used_ms
        return b"%b,%b%b}" % (self.outcome[:-1], _REPEATED[self.repeated], used)

    @staticmethod
    def of(outcome: Outcome, recorded: bytes, *, repeated: bool = False) -> Answer:
        """The answer that an outcome is, with its JSON as recorded."""
        rejection = outcome if isinstance(outcome, Rejection) else None
        return Answer(recorded, outcome.transaction_id, rejection, repeated)
