"""A typed client of the decision service, sync and async: `Client` and `AsyncClient`."""

from zaslon.client.client import AsyncClient, Client
from zaslon.client.refusals import RefusedError, UnavailableError
from zaslon.client.responses import Decision, LabelAccepted, Reason, RecordProblem, Rejection

__all__ = [
    "AsyncClient", "Client", "Decision", "LabelAccepted", "Reason", "RecordProblem", "RefusedError",
    "Rejection", "UnavailableError",
]  # fmt: skip
