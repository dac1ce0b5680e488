"""Errors that the client raises when there is no decision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zaslon.domain.errors import BusyError, DataError


class RefusedError(DataError):
    """The service refused the request; the same again would be refused again.

    Attributes:
        code: what the problem's type ends in, for example `conflict` or `rejected`.
        status: of HTTP.
        problem: all members of the problem (RFC 9457).
    """

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status, self.problem = status, dict(problem)
        self.code = str(problem.get("type", "")).rpartition(":")[2]
        super().__init__(str(problem.get("detail") or f"The service answered with status {status}."))


class UnavailableError(BusyError):
    """No decision after all attempts; what was sent may have been decided, once. Send it again later.

    Attributes:
        fallback_action: the policy's action without a decision, if the service named it.
    """

    def __init__(self, message: str, fallback_action: str | None = None) -> None:
        super().__init__(message, hint="Act on your fallback, and send the same again later.")
        self.fallback_action = fallback_action
