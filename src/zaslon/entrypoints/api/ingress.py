"""At the gateway: who calls, how much they may ask, and what a body may be."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Annotated

import orjson
from fastapi import Depends, Request
from fastapi.security import HTTPBearer

from zaslon.domain.api_keys import ApiKey, Role
from zaslon.entrypoints.api.problems import Problem
from zaslon.entrypoints.api.service import Service

# Only says in the OpenAPI what `authorised` reads.
_bearer = HTTPBearer(auto_error=False, scheme_name="key", description="A key made by `zaslon keys create`.")
_BRACKETS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)
_LARGE_BODY_BYTES = 1 << 15  # from here on a body is taken apart beside the event loop
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)  # values are not wanted, only where they end
_JSON_SPACE = re.compile(r"[ \t\n\r]*")


def service_of(request: Request) -> Service:
    """The service that this request came to."""
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
        Problem: there is no valid key, or it may not do this.
    """
    scheme, _, shown = _header(request, b"authorization").partition(" ")
    key = service_of(request).keys.find(shown.strip()) if scheme.lower() == "bearer" else None
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
    """The body, after all limits; it is JSON.

    Raises:
        Problem: it is too large, too deep, of another type or no JSON.
    """
    settings = service_of(request).settings
    kind = _header(request, b"content-type").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise Problem("not_json_type", f"The content type is '{kind[:60]}'; expected application/json.")
    body = await _read(request, settings.api_body_bytes_max)
    if len(body) < _LARGE_BODY_BYTES:
        _check_json(body, settings.api_json_depth_max)
    else:
        await asyncio.to_thread(_check_json, body, settings.api_json_depth_max)
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


def _check_json(body: bytes, depth_max: int) -> None:
    # A body with so few opening brackets cannot be deeper: most need no second look.
    if body.count(b"{") + body.count(b"[") > depth_max and _depth(body) > depth_max:
        raise Problem("too_deep", f"The body has more than {depth_max} levels.")
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Problem("not_json", f"The body is not valid JSON: {error}.") from error


def _depth(body: bytes) -> int:
    depth = deepest = 0
    for found in _BRACKETS.finditer(body):
        token = found[0]
        if token in (b"{", b"["):
            depth += 1
            deepest = max(deepest, depth)
        elif token in (b"}", b"]"):
            depth -= 1
    return deepest


async def split_array(body: bytes, most: int) -> list[bytes]:
    """The elements of a JSON array, each with its own original bytes.

    Raises:
        Problem: it is no array, is empty or has too many elements.
    """
    text = body.decode().strip(" \t\n\r")
    if not text.startswith("["):
        raise Problem(
            "invalid", f"The body is no array; expected one of 1 to {most} transactions.",
            errors=[{"field": None, "problem": "is no array", "expected": "an array"}],
        )  # fmt: skip
    records = _elements(text) if len(body) < _LARGE_BODY_BYTES else await asyncio.to_thread(_elements, text)
    if not 1 <= len(records) <= most:
        raise Problem(
            "invalid", f"The array has {len(records)} elements; expected 1 to {most}.",
            errors=[
                {"field": None, "problem": f"has {len(records)} elements", "expected": f"1 to {most}"}
            ],
        )  # fmt: skip
    return records


def _elements(text: str) -> list[bytes]:
    """Elements of an array that is known to be valid."""
    elements = []
    place = _after_space(text, 1)
    while text[place] != "]":
        _, end = _DECODER.raw_decode(text, place)
        elements.append(text[place:end].encode())
        place = _after_space(text, end)
        if text[place] == ",":
            place = _after_space(text, place + 1)
    return elements


def _after_space(text: str, place: int) -> int:
    found = _JSON_SPACE.match(text, place)
    return found.end() if found else place
