"""The pages on catalogue and features are complete: every key, role, aggregate and default feature."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from zaslon.domain.catalogue import (
    CONDITIONS_MAX,
    INVISIBLE_CHARACTERS,
    Aggregates,
    Catalogue,
    RecordLayout,
    Retention,
    RiskPrior,
    Role,
    SourceField,
    load_catalogue,
    parse_catalogue,
)
from zaslon.domain.time import parse_duration_seconds
from zaslon.features import plan
from zaslon.features.plan import plan_features

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
SECTIONS: dict[str, type[BaseModel]] = {
    "The file": Catalogue, "`[record]`": RecordLayout, "`[[fields]]`": SourceField,
    "`[retention]`": Retention, "`[prior]`": RiskPrior, "`[[aggregates]]`": Aggregates,
}  # fmt: skip


def _section(page: str, heading: str) -> str:
    text = (REFERENCE / page).read_text("utf-8")
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def _rows(text: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", text, re.MULTILINE)


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_key_of_the_catalogue_is_explained_with_its_default(heading: str) -> None:
    fields = SECTIONS[heading].model_fields
    table = _section("catalogue.md", heading).split("\n\n| role |", 1)[0]
    assert _rows(table) == list(fields)
    for name, field in fields.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}`"))
        if field.is_required():
            assert "must be given" in row
        elif isinstance(field.default, str | int | float) and not isinstance(field.default, bool):
            default = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            assert default in row.rsplit("|", 2)[1], row


def test_every_role_of_a_field_is_explained() -> None:
    assert _rows(_section("catalogue.md", "`[[fields]]`").split("| role |", 1)[1]) == list(get_args(Role))


def test_the_documented_number_of_conditions_is_right() -> None:
    assert f"at most {CONDITIONS_MAX}" in _section("catalogue.md", "The file")


def test_the_durations_that_the_page_shows_are_durations() -> None:
    examples = re.findall(r"`(\d+\w)`", _section("catalogue.md", "Durations"))
    assert len(examples) == 5
    assert all(parse_duration_seconds(text) > 0 for text in examples)


def test_the_documented_catalogue_computes_features() -> None:
    block = re.search(r"```toml\n(.*?)```", _section("catalogue.md", "Another company"), re.DOTALL)
    assert block is not None
    names = plan_features(parse_catalogue(block[1])).names
    assert {"account_distinct_device_30d", "device_frauds_large_7d", "amount_to_account_mean_30d"} <= {*names}


def test_every_aggregate_is_explained_in_the_order_of_the_plan() -> None:
    documented = _rows(_section("features.md", "Aggregates"))
    pattern = {"qNN", "distinct_ENTITY", "same_ENTITY"}
    over_events, over_labels = list(plan._OVER_EVENTS), list(plan._OVER_LABELS)
    assert sorted(set(documented) - pattern) == sorted([*over_events, *over_labels])
    assert pattern < set(documented)
    for word in over_labels:
        assert documented.index(word) > documented.index("since_last")


def test_the_page_names_the_aggregates_that_take_a_condition() -> None:
    text = _section("features.md", "Aggregates").split("With `where`", 1)[1]
    assert [
        w for w in ("count", "since_last", "risk", "recent_risk", "good_since_fraud") if w not in text
    ] == []
    takes = set(plan._WITH_CONDITION)
    assert takes == {"count", "since_last", *plan._OVER_LABELS} - {"known"}


def test_every_default_feature_is_listed_in_the_order_of_the_matrix() -> None:
    assert _rows(_section("features.md", "The default catalogue")) == list(
        plan_features(load_catalogue()).names
    )


def test_transaction_features_and_flags_are_documented() -> None:
    assert _rows(_section("features.md", "Of the transaction itself")) == [*plan.TRANSACTION_FEATURES, "NAME"]
    flags = _rows(_section("features.md", "Flags"))
    of_any = [f"flag_{name}" for name in load_catalogue().flag_names if not name.endswith("_unusual")]
    assert flags == [*of_any, "flag_NAME_unusual", f"flag_{INVISIBLE_CHARACTERS}", "flag_ENTITY_missing"]
