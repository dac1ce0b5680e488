"""At the gateway: who calls, how much they may ask, and what a body may be."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from zaslon.domain.api_keys import ApiKey, Role
from zaslon.entrypoints.api.problems import Problem
from zaslon.entrypoints.api.service import Service
from zaslon.intake.json_array import array_elements, nesting

# Only describes in the OpenAPI what `authorised` reads.
_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key made by `zaslon keys create`.")


def service_of(request: Request) -> Service:
    """The service that received this request."""
    service: Service = request.scope["zaslon.service"]
    return service


def _header(request: Request, name: bytes) -> str:
    """A header's text, the first where there are several; without a map of them all for one look."""
    for found, value in request.scope["headers"]:
        if found == name:
            text: str = value.decode("latin-1")
            return text
    return ""


def authorised(request: Request, role: Role) -> ApiKey:
    """The caller's key, which must include a role.

    Raises:
        Problem: the key is missing or invalid, or it may not do this.
    """
    scheme, _, secret = _header(request, b"authorization").partition(" ")
    key = service_of(request).keys.find(secret.strip()) if scheme.lower() == "bearer" else None
    if key is None:
        raise Problem(
            "key_missing", "Send a valid key: 'Authorization: Bearer zaslon_…'.",
            headers={"WWW-Authenticate": "Bearer"},
        )  # fmt: skip
    request.scope["zaslon.key"] = key.id
    if not key.role.may_act_as(role):
        raise Problem("role_missing", f"The key's role is {key.role}; {role} is needed.")
    return key


async def _scorer(request: Request, _: Annotated[object, Depends(_bearer)]) -> ApiKey:
    return authorised(request, Role.SCORER)


async def _analyst(request: Request, _: Annotated[object, Depends(_bearer)]) -> ApiKey:
    return authorised(request, Role.ANALYST)


Scorer = Annotated[ApiKey, Depends(_scorer)]
Analyst = Annotated[ApiKey, Depends(_analyst)]


def check_rate(service: Service, key: ApiKey, records: int) -> None:
    """Refuse what is more than this key may ask for now."""
    wait_seconds = service.rates.take(key.id, records, service.clock.monotonic_seconds())
    if wait_seconds > 0:
        settings = service.settings
        raise Problem(
            "rate_exceeded",
            f"A key may send {settings.api_rate_per_second} records a second, and "
            f"{settings.api_rate_burst} at once.",
            headers={"Retry-After": str(max(1, round(wait_seconds)))},
        )


async def read_json(request: Request) -> bytes:
    """The body, after all limits. Whether it is JSON is found where its records are read.

    Raises:
        Problem: it is too large, too deep or of another type.
    """
    settings = service_of(request).settings
    kind = _header(request, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("not_json_type", f"The content type is '{kind[:60]}'; expected application/json.")
    body = await _read(request, settings.api_body_bytes_max)
    if nesting(body) > settings.api_json_depth_max:
        raise Problem("too_deep", f"The body has more than {settings.api_json_depth_max} levels.")
    return body


async def _read(request: Request, most_bytes: int) -> bytes:
    body, goes_on = bytearray(), True
    while goes_on:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise Problem("not_json", "The connection ended before the body did.")
        body += message.get("body", b"")
        if len(body) > most_bytes:
            raise Problem("too_large", f"The body has more than {most_bytes} bytes.")
        goes_on = message.get("more_body", False)
    return bytes(body)


def split_array(body: bytes, most: int) -> list[bytes]:
    """The elements of a JSON array, each with its own original bytes.

    Raises:
        Problem: it is not an array, is empty or has too many elements.
    """
    records = array_elements(body)
    if records is None:
        raise Problem(
            "invalid", f"The body is not a JSON array; expected one of 1 to {most} records.",
            errors=[{"field": None, "problem": "is not a JSON array", "expected": "an array"}],
        )  # fmt: skip
    if not 1 <= len(records) <= most:
        raise Problem(
            "invalid", f"The array has {len(records)} elements; expected 1 to {most}.",
            errors=[
                {"field": None, "problem": f"has {len(records)} elements", "expected": f"1 to {most}"}
            ],
        )  # fmt: skip
    return records
