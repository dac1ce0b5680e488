"""Schemathesis over the service's own description: no server error, no answer outside the schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.serving import Caller, serving

from zaslon.testing import SmallWorld

EXAMPLES = 25
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_no_call_of_any_operation_is_a_server_error_or_leaves_the_schema(
    admin: Caller, callers: Callable[[str | None], Caller]
) -> None:
    schema = schemathesis.openapi.from_asgi("/openapi.json", admin.client.app)
    tried = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES, deadline=None, database=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(), has_key=st.booleans())
        def every_answer_fits(case: schemathesis.Case[Any], has_key: bool) -> None:
            nonlocal tried
            tried += 1
            case.call_and_validate(headers=admin.headers if has_key else {}, checks=CHECKS)

        every_answer_fits()
    assert tried > 5 * EXAMPLES


def test_the_description_states_the_most_records_of_a_call_as_set(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    with serving(small_world, tmp_path / "home", api_batch_records_max=7) as callers:
        paths = callers(None).get("/openapi.json").json()["paths"]

    def taken(path: str) -> dict[str, Any]:
        schema: dict[str, Any] = paths[path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        return schema

    assert taken("/v1/transactions/batch")["maxItems"] == 7
    assert taken("/v1/labels")["oneOf"][1]["maxItems"] == 7
