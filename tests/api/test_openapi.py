"""Schemathesis over the service's own description: no server error, no answer outside the schema."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.api.serving import Caller, serving
from tests.effort import IS_THOROUGH

from zaslon.entrypoints.api import schemas
from zaslon.testing import SmallWorld

EXAMPLES = 50 if IS_THOROUGH else 8
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.mark.law
def test_every_answer_matches_the_schema(admin: Caller, callers: Callable[[str | None], Caller]) -> None:
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


def example_of(schema: dict[str, Any], others: dict[str, Any]) -> Any:
    """An example put together from those of the fields; a field without one is an error."""
    if "$ref" in schema:
        return example_of(others[schema["$ref"].rpartition("/")[2]], others)
    if "properties" in schema:
        return {name: example_of(field, others) for name, field in schema["properties"].items()}
    if "items" in schema and "examples" not in schema:
        return [example_of(schema["items"], others)]
    for variant in schema.get("anyOf", ()):
        if "$ref" in variant:
            return example_of(variant, others)
    return schema["const"] if "const" in schema else [*schema.get("enum", ()), *schema.get("examples", ())][0]


@pytest.mark.parametrize(
    "model",
    [
        schemas.DecisionAnswer, schemas.BatchAnswer, schemas.LabelsAnswer, schemas.Decision, schemas.RejectionItem,
        schemas.DecisionsPage, schemas.ModelShown, schemas.PolicyShown, schemas.Health,
    ],
)  # fmt: skip
def test_every_answer_field_has_a_consistent_example(model: type[BaseModel]) -> None:
    schema = model.model_json_schema()
    model.model_validate(example_of(schema, schema.get("$defs", {})))
