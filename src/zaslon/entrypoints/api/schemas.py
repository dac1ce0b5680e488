"""What the service takes and gives, for its OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from zaslon.domain.catalogue import Catalogue, SourceField
from zaslon.domain.events import ID_BYTES_MAX, Degradation
from zaslon.entrypoints.api.problems import ProblemDetails

INT64_MAX = 2**63 - 1
IdNumber = Field(ge=-(2**63), le=INT64_MAX, description="the transaction's id", examples=[1])
EXAMPLE_TEXT = "0d9f7a3e-52c1-4e0b-9a55-6f0e4f1f7c11"
_TEXT_ID = {
    "type": "string", "title": "Transaction Id", "minLength": 1, "maxLength": ID_BYTES_MAX,
    "description": f"the transaction's id: visible characters, at most {ID_BYTES_MAX} bytes in UTF-8",
    "examples": [EXAMPLE_TEXT],
}  # fmt: skip
_Position = Field(description="log position", examples=[1234])
_Version = Field(description="version: a hash of the content", examples=["5f2c1d0a9b3e"])
_Milliseconds = Field(description="from the request to this answer", examples=[3.2])
Verdict = Literal["confirmed_fraud", "confirmed_good", "chargeback"]


class GivenReason(BaseModel):
    """Why a transaction is not simply allowed."""

    code: str = Field(examples=["feature:terminal_frauds_7d"])
    text: str = Field(examples=["3 confirmed frauds at this terminal within 7 days"])
    weight: float = Field(description="contribution to the score in log-odds; 0 for rules", examples=[1.42])


class Decision(BaseModel):
    """A decision as it is in the log."""

    outcome: Literal["decision"]
    position: int = _Position
    transaction_id: int = IdNumber
    event_time: str = Field(examples=["2019-08-22 10:15:00"])
    action: Literal["allow", "review", "block"]
    score: float | None = Field(
        description="probability of fraud; null without a model in time", examples=[0.61]
    )
    reasons: list[GivenReason]
    rules: list[str] = Field(
        description="rules that fired and may act", examples=[["night_and_new_terminal"]]
    )
    shadow_rules: list[str] = Field(description="rules that fired and only count", examples=[[]])
    flags: list[str] = Field(description="what is odd but valid", examples=[["amount_zero"]])
    model: str = _Version
    policy: str = _Version
    catalogue: str = _Version
    engine: int = Field(description="version of the engine that decided", examples=[1])
    degraded: Literal["explanation", "model", "rules"] | None = Field(
        description="what was left out for lack of time: " + ", ".join(x.code for x in Degradation if x),
        examples=[None],
    )


class RecordProblem(BaseModel):
    """One thing that is wrong with a record."""

    reason: str = Field(examples=["not_a_number"])
    field: str | None = Field(description="null for the whole record", examples=["tx_amount"])
    problem: str = Field(examples=["is 'x'"])
    expected: str | None = Field(description="what was expected", examples=["a plain decimal such as 12.34"])


class Rejection(BaseModel):
    """A rejection as it is in the log."""

    outcome: Literal["rejection"]
    position: int = _Position
    reason: str = Field(examples=["not_a_number:tx_amount"])
    detail: str = Field(examples=["Field 'tx_amount' is 'x'; expected a plain decimal such as 12.34."])
    problems: list[RecordProblem] = Field(
        [], description="all that is wrong with the record, the primary one first; none where it is a repeat"
    )
    transaction_id: int | None = Field(None, description="of a record that itself is fine", examples=[17])
    raw: str | None = Field(None, description="the record, where it is text", examples=['{"tx_amount":"x"}'])
    raw_hex: str | None = Field(None, description="the record, where it is not", examples=[None])


class LabelAccepted(BaseModel):
    """A label as it is in the log."""

    outcome: Literal["label"]
    position: int = _Position
    transaction_id: int = IdNumber
    is_fraud: bool = Field(examples=[True])
    waiting: bool = Field(description="whether its transaction has not come yet", examples=[False])


class _Answered(BaseModel):
    repeated: bool = Field(description="answered from the log; nothing was changed", examples=[False])


class DecisionAnswer(Decision, _Answered):
    """A decision, and how long this call took."""

    time_used_ms: float = _Milliseconds


class DecisionItem(Decision, _Answered):
    """A decision among others."""


class RejectionItem(Rejection, _Answered):
    """A rejection among others."""


class BatchAnswer(BaseModel):
    """One outcome per transaction, in order."""

    outcomes: list[DecisionItem | RejectionItem]
    time_used_ms: float = _Milliseconds


class LabelsAnswer(BaseModel):
    """One outcome per label, in order."""

    outcomes: list[LabelAccepted | Rejection]
    time_used_ms: float = _Milliseconds


class DecisionsPage(BaseModel):
    """Decisions, newest first. While `next` is given, there may be more."""

    decisions: list[Decision]
    next: int | None = Field(description="`before` of the next page; null at the end", examples=[1184])


class ModelShown(BaseModel):
    """The model that serves."""

    model_config = ConfigDict(protected_namespaces=())

    model: str = _Version
    catalogue: str = _Version
    features: list[str] = Field(examples=[["amount", "terminal_frauds_7d"]])
    facts: dict[str, Any] = Field(
        description="training period and rows, metrics, thresholds, settings",
        examples=[{"train_rows": 300_000}],
    )


class PolicyShown(BaseModel):
    """The policy that serves."""

    policy: str = _Version
    content: dict[str, Any] = Field(
        description="thresholds, limits, costs, rules; null means never",
        examples=[{"thresholds": {"review": 0.31, "block": 0.87}}],
    )


class Health(BaseModel):
    """How the service does."""

    status: Literal["alive", "ready"]


def label_schema(catalogue: Catalogue) -> dict[str, Any]:
    """JSON schema of a label: a verdict on a transaction."""
    identifier = catalogue.field_of("transaction_id")
    assert identifier is not None, "the catalogue checks this"
    return {
        "title": "Label",
        "description": "A verdict on a transaction; it counts from the next transaction on.",
        "type": "object",
        "required": ["transaction_id", "verdict"],
        "properties": {
            "transaction_id": {"title": "Transaction Id", **_field_schema(identifier, catalogue)},
            "verdict": {"title": "Verdict", "enum": list(get_args(Verdict)), "examples": ["chargeback"]},
        },
    }


def label_example(catalogue: Catalogue) -> dict[str, Any]:
    """A label that the service takes."""
    return {"transaction_id": EXAMPLE_TEXT if catalogue.has_text_ids else 1, "verdict": "chargeback"}


def describe_text_ids(description: dict[str, Any]) -> dict[str, Any]:
    """The OpenAPI description where ids are texts: answers name transactions by a text, too."""
    for schema in description["components"]["schemas"].values():
        described = schema.get("properties", {})
        if "transaction_id" in described:
            may_be_null = {"type": "null"} in described["transaction_id"].get("anyOf", ())
            described["transaction_id"] = {"anyOf": [_TEXT_ID, {"type": "null"}]} if may_be_null else _TEXT_ID
    return description


def transaction_schema(catalogue: Catalogue) -> dict[str, Any]:
    """JSON schema of a transaction, from the catalogue's fields."""
    fields = [f for f in catalogue.fields if f.role not in ("is_fraud", "scenario", "ignored")]
    return {
        "type": "object",
        "required": [f.name for f in fields if f.required],
        "properties": {f.name: _field_schema(f, catalogue) for f in fields},
        "example": transaction_example(catalogue),
    }


def transaction_example(catalogue: Catalogue) -> dict[str, Any]:
    """A transaction that the catalogue accepts."""
    by_role = {
        "transaction_id": EXAMPLE_TEXT if catalogue.has_text_ids else 1,
        "amount": 49.9, "number": 1, "elapsed_seconds": 0,
    }  # fmt: skip
    return {
        f.name: "2019-08-22 10:15:00" if f.role == "event_time" and f.format == "datetime"
        else 1_566_468_900 if f.role == "event_time"
        else ("a" if f.type == "text" else 7) if f.role == "entity" else by_role[f.role]
        for f in catalogue.fields
        if f.role in by_role or (f.role in ("entity", "event_time") and f.required)
        if f.required
    }  # fmt: skip


def _field_schema(field: SourceField, catalogue: Catalogue) -> dict[str, Any]:
    if field.role == "event_time" and field.format == "datetime":
        return {"type": "string", "description": "YYYY-MM-DD HH:MM:SS", "examples": ["2019-08-22 10:15:00"]}
    if field.is_text_id:
        return dict(_TEXT_ID)
    if field.role == "entity" and field.type == "text":
        return {"type": "string", "minLength": 1}
    is_number = field.role in ("amount", "number")
    schema: dict[str, Any] = {"type": "number" if is_number else "integer"}
    if field.minimum is not None:
        schema["minimum"] = field.minimum if is_number else int(field.minimum)
    if not is_number or field.maximum is not None:
        schema["maximum"] = INT64_MAX if field.maximum is None else field.maximum
    if field.role == "amount":
        schema["description"] = f"{catalogue.currency}, at most {catalogue.minor_digits} digits"
    return schema


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI responses of a route: the problems that it may answer with."""
    always = (401, 403, 422, 429, 500, 503)
    return {
        status: {
            "description": "A problem",
            "content": {"application/problem+json": {"schema": ProblemDetails.model_json_schema()}},
        }
        for status in sorted({*always, *statuses})
    }
