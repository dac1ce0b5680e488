"""Errors as problem details (RFC 9457): what is wrong, where, and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from zaslon.domain.errors import sentence_of
from zaslon.domain.outcomes import Rejection
from zaslon.domain.rejections import Reason

MEDIA_TYPE = "application/problem+json"
_CONFLICTS = (Reason.DUPLICATE, Reason.CONFLICTING_DUPLICATE)

# By code: status and title. A code is also the end of the problem's `type`.
PROBLEMS: dict[str, tuple[int, str]] = {
    "not_json": (400, "The body is not JSON"),
    "too_deep": (400, "The body is nested too deeply"),
    "key_missing": (401, "A valid key is needed"),
    "role_missing": (403, "The key's role does not allow this"),
    "not_found": (404, "There is nothing here"),
    "method_not_allowed": (405, "This method is not known here"),
    "conflict": (409, "The transaction's id is taken"),
    "too_large": (413, "The body is too large"),
    "not_json_type": (415, "The body's type is not JSON"),
    "rejected": (422, "The record is rejected"),
    "invalid": (422, "The request cannot be used"),
    "rate_exceeded": (429, "Too much was asked"),
    "internal": (500, "Something went wrong here"),
    "busy": (503, "The service cannot take this now"),
    "not_in_time": (503, "There was no decision in time"),
}


class FieldProblem(BaseModel):
    """One field and what is wrong with it."""

    field: str | None = Field(description="the field's name; null for the whole body")
    problem: str = Field(description="the value's problem")
    expected: str | None = Field(default=None, description="what was expected")


class ProblemDetails(BaseModel):
    """Why a request was refused (RFC 9457)."""

    type: str = Field(examples=["urn:zaslon:problem:rejected"])
    title: str = Field(examples=[PROBLEMS["rejected"][1]])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["Field 'tx_amount' is missing; expected a value."])
    request_id: str
    errors: list[FieldProblem] = Field(default=[], description="everything that is wrong, by field")
    reason: str | None = Field(
        default=None, description="of a rejection, as recorded in the log: the primary one of several"
    )
    position: int | None = Field(default=None, description="of the rejection in the log")
    fallback_action: str | None = Field(default=None, description="the policy's action without a decision")
    in_log: bool | None = Field(
        default=None,
        description="of what was not decided in time: true if it is in the log and will be decided all "
        "the same, null where that is not known",
    )


class Problem(Exception):  # noqa: N818  the name in RFC 9457
    """A refusal, by its code in `PROBLEMS`."""

    def __init__(
        self, code: str, detail: str, *, errors: Sequence[Mapping[str, str | None]] = (),
        headers: Mapping[str, str] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.code, self.detail, self.errors, self.headers, self.more = code, detail, errors, headers, more

    def response(self, request_id: str) -> Response:
        """The answer, with the request's id for the log."""
        status, title = PROBLEMS[self.code]
        content = {
            "type": f"urn:zaslon:problem:{self.code}", "title": title, "status": status,
            "detail": self.detail, "request_id": request_id, "errors": list(self.errors), **self.more,
        }  # fmt: skip
        return Response(orjson.dumps(content), status, dict(self.headers or {}), MEDIA_TYPE)


def rejected(rejection: Rejection) -> Problem:
    """The problem for a recorded rejection."""
    code = "conflict" if rejection.reason in _CONFLICTS else "rejected"
    errors = [
        {"field": field, "problem": problem, "expected": expected}
        for _, field, problem, expected in rejection.problems
    ]
    return Problem(code, rejection.detail, errors=errors, reason=rejection.code, position=rejection.position)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """The refusal of parameters that pydantic found wrong."""
    found = [
        {
            "field": ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path")),
            "problem": f"{str(error.get('input'))[:60]!r} cannot be used",
            "expected": sentence_of(error),
        }
        for error in errors
    ]
    first = found[0]
    detail = f"Field '{first['field']}': {first['problem']}; {first['expected']}."
    return Problem("invalid", detail, errors=found)


def answer_with_problems(app: FastAPI) -> None:
    """Make every error of the application a problem; what is inside stays inside."""

    async def of_problem(request: Request, error: Exception) -> Response:
        assert isinstance(error, Problem)
        return error.response(request_id(request))

    async def of_validation(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        return invalid(error.errors()).response(request_id(request))

    async def of_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return _of_status(error, request).response(request_id(request))

    async def of_mistake(request: Request, error: Exception) -> Response:
        del error  # it goes to the log, with the request's id
        return internal_error(request)

    app.add_exception_handler(Problem, of_problem)
    app.add_exception_handler(RequestValidationError, of_validation)
    app.add_exception_handler(HTTPException, of_http)
    app.add_exception_handler(Exception, of_mistake)


def internal_error(request: Request) -> Response:
    """The answer to an unexpected exception."""
    problem = Problem("internal", "Internal error; see the log for this request id.")
    return problem.response(request_id(request))


def _of_status(error: HTTPException, request: Request) -> Problem:
    path = request.url.path[:100]
    if error.status_code == 404:
        return Problem("not_found", f"'{path}' is not a resource of this service.")
    if error.status_code == 405:
        detail = f"{request.method} is not known for '{path}'."
        return Problem("method_not_allowed", detail, headers=error.headers)
    return Problem("invalid", "The request cannot be used.")


def request_id(request: Request) -> str:
    """The id under which the log knows this request."""
    return str(request.scope.get("zaslon.request_id", ""))
