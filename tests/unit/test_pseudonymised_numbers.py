"""Numbers that name customers: a keyed hash of their plain digits replaces them, through every ingress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from tests.unit.intake_cases import GOOD, KEY, MISSION, NAMES, clean, line, reasons, rows_of, run

from zaslon.domain.catalogue import Catalogue, SourceField, parse_catalogue
from zaslon.domain.errors import CatalogueError
from zaslon.domain.events import Kind
from zaslon.engine import Engine
from zaslon.intake.pseudonyms import pseudonym


def with_pseudonyms(**changes: object) -> Catalogue:
    """The mission's catalogue with pseudonyms of both entities; more changes concern the customer."""

    def changed(field: SourceField) -> SourceField:
        if field.role != "entity":
            return field
        more = changes if field.name == "customer_id" else {}
        return SourceField.model_validate(field.model_dump() | {"pseudonymise": True} | more)

    fields = [changed(field).model_dump() for field in MISSION.fields]
    return Catalogue.model_validate(MISSION.model_dump() | {"fields": fields})


HASHED = with_pseudonyms()
SEVEN = pseudonym(b"7", KEY)


def keys_of(*records: str, kind: Kind = Kind.TRANSACTION_LINE, key: bytes = KEY) -> list[int]:
    found = clean(*records, kind=kind, catalogue=HASHED, key=key).transactions
    assert len(found) == len(records)
    keys: list[int] = found.entity_keys["customer"].tolist()
    return keys


@pytest.mark.parametrize("written", ["7", "7.0", " 7 ", '"7"'])
def test_every_form_of_a_number_has_one_pseudonym(written: str) -> None:
    assert keys_of(line(customer_id=written)) == [SEVEN]


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0"])
def test_json_gives_the_same_hash(value: Any) -> None:
    record = json.dumps(dict(zip(NAMES, GOOD.split(","), strict=True)) | {"customer_id": value})
    assert keys_of(record, kind=Kind.TRANSACTION_JSON) == [SEVEN]


def test_files_of_every_form_give_the_same_hash(tmp_path: Path) -> None:
    rows = {name: [value] for name, value in zip(NAMES, line(customer_id=7).split(","), strict=True)}
    pl.DataFrame(rows).write_csv(tmp_path / "csv")
    pl.DataFrame(rows).write_ndjson(tmp_path / "json")
    for name, kind in (("whole", pl.Int64), ("float", pl.Float64), ("text", pl.String)):
        pl.DataFrame(rows).with_columns(pl.col("customer_id").cast(kind)).write_parquet(tmp_path / name)
    for name in ("csv", "json", "whole", "float", "text"):
        run([tmp_path / name], tmp_path / "out", catalogue=HASHED)
        assert rows_of(tmp_path / "out")["customer_key"].to_list() == [SEVEN]


def test_the_hash_needs_the_key_and_is_the_same_in_any_batch() -> None:
    numbers = [3, 7, 5, 7, 2**31 - 1]
    together = keys_of(*(line(transaction_id=i, customer_id=n) for i, n in enumerate(numbers)))
    assert together == [pseudonym(b"%d" % n, KEY) for n in numbers]
    assert together == [keys_of(line(customer_id=n))[0] for n in numbers]
    assert keys_of(line(customer_id=7), key=b"another key") != [SEVEN]
    assert not set(together) & set(numbers)


def test_ranges_and_flags_apply_to_the_plain_number() -> None:
    catalogue = with_pseudonyms(minimum=1, maximum=1000, usual_maximum=500)
    tried = [line(transaction_id=i, customer_id=n) for i, n in enumerate([0, 1, 1000, 1001, -999999, "x"])]
    assert reasons(*tried, catalogue=catalogue) == [
        "out_of_range:customer_id", None, None, "out_of_range:customer_id", "unknown_entity:customer_id",
        "not_an_integer:customer_id",
    ]  # fmt: skip
    flags = clean(*tried, catalogue=catalogue).transactions.flags
    bit = catalogue.flag_names.index("customer_id_unusual")
    assert (flags >> np.uint32(bit) & np.uint32(1)).tolist() == [0, 1]


def test_a_rejection_does_not_show_the_number() -> None:
    catalogue = with_pseudonyms(maximum=1000)
    for value, expected in (
        ("4711", "0 to 1000"),
        ("47-11", "a whole number in plain digits"),
        ("047", "a number without a leading 0 or +: as text they would count"),
    ):
        (problem,) = clean(line(customer_id=value), catalogue=catalogue).rejected.problems[0]
        assert "47" not in problem.detail and problem.detail == (
            "Field 'customer_id' has a value that is not shown because the field is pseudonymised;"
            f" expected {expected}."
        )
    (problem,) = clean(line(customer_id="-999999"), catalogue=catalogue).rejected.problems[0]
    assert problem.detail == "Field 'customer_id' is '-999999', which means an unknown customer."


def test_pseudonyms_change_no_feature() -> None:
    random = np.random.default_rng(6)
    lines = [
        line(transaction_id=i, tx_datetime=f"2019-08-{22 + i // 60} {i // 3 % 20:02d}:{i % 60:02d}:00",
             customer_id=random.integers(9), terminal_id=random.integers(5), tx_amount=random.integers(1, 90))
        for i in range(300)
    ]  # fmt: skip
    matrices = []
    for catalogue in (MISSION, HASHED):
        found = clean(*lines, catalogue=catalogue)
        engine = Engine(catalogue, key=KEY)
        matrices.append(engine.apply(found.transactions, found.labels, found.is_label).matrix)
    np.testing.assert_array_equal(matrices[0], matrices[1])


def test_only_entity_keys_can_be_pseudonymised() -> None:
    text = (
        'name = "a"\nversion = 1\n[[fields]]\nname = "id"\nrole = "transaction_id"\n[[fields]]\nname = "at"\n'
        'role = "event_time"\n[[fields]]\nname = "sum"\nrole = "amount"\n'
        '[[fields]]\nname = "card"\nrole = "entity"\nentity = "card"\n'
    )
    numbers, texts = parse_catalogue(text), parse_catalogue(text + 'type = "text"\n')
    assert not numbers.fields[3].is_pseudonymised and texts.fields[3].is_pseudonymised
    hashed = parse_catalogue(text + "pseudonymise = true\n")
    assert hashed.fields[3].is_pseudonymised and hashed.mapping_hash != numbers.mapping_hash
    with pytest.raises(CatalogueError, match="always pseudonymised"):
        parse_catalogue(text + 'type = "text"\npseudonymise = false\n')
    with pytest.raises(CatalogueError, match="pseudonymise is for the key of an entity"):
        parse_catalogue(text.replace('role = "amount"\n', 'role = "amount"\npseudonymise = true\n'))
