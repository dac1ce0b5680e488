"""Which values of a key are one entity, which are none, and which are refused: alike through every ingress."""

from __future__ import annotations

import io
import json
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.unit.intake_cases import KEY, SHOP, SHOP_TEXT, clean, quarantine_of, rows_of, run

from zaslon.domain.catalogue import NULL_WORDS, Catalogue, parse_catalogue
from zaslon.domain.errors import CatalogueError
from zaslon.domain.events import Kind
from zaslon.intake.characters import INVISIBLE, plain_text
from zaslon.intake.pseudonyms import pseudonym

NAMES = SHOP.record.columns
NUMBERS = parse_catalogue(SHOP_TEXT.replace('type = "text"\nunknown', "unknown"))
PADDED = parse_catalogue(SHOP_TEXT.replace('type = "text"\nunknown', "zero_padded = true\nunknown"))
Outcome = tuple[int | str, bool]  # the key or why it is refused; whether invisible characters were seen
Ingress = Callable[[Path, Catalogue, list[Any]], list[Outcome]]


def _records(cards: list[Any]) -> list[dict[str, Any]]:
    return [
        {"id": i, "at": 1_700_000_000, "card": card, "device": "d", "sum": 5, "risk": 0.5}
        for i, card in enumerate(cards)
    ]


def _lines(cards: list[Any]) -> list[str]:
    quoted = ['"' + ("" if card is None else str(card).replace('"', '""')) + '"' for card in cards]
    return [",".join(map(str, record.values())) for record in _records(quoted)]


def _jsons(cards: list[Any]) -> list[str]:
    return [json.dumps(record) for record in _records(cards)]


def by_lines(scratch: Path, catalogue: Catalogue, cards: list[Any]) -> list[Outcome]:
    """As messages in Kafka may have it."""
    return _by_messages(_lines(cards), Kind.TRANSACTION_LINE, catalogue)


def by_json(scratch: Path, catalogue: Catalogue, cards: list[Any]) -> list[Outcome]:
    """As requests and messages in Kafka have it."""
    return _by_messages(_jsons(cards), Kind.TRANSACTION_JSON, catalogue)


def _by_messages(records: list[str], kind: Kind, catalogue: Catalogue) -> list[Outcome]:
    found = clean(*records, kind=kind, catalogue=catalogue)
    bit = catalogue.flag_names.index("invisible_characters")
    seen = (found.transactions.flags >> np.uint32(bit) & np.uint32(1)).tolist()
    outcomes: dict[int, Outcome] = {
        int(i): (key, bool(flag))
        for i, key, flag in zip(
            found.transaction_index, found.transactions.entity_keys["card"].tolist(), seen, strict=True
        )
    }
    for i, problems in zip(found.rejected.index, found.rejected.problems, strict=True):
        outcomes[int(i)] = problems[0].code, False
    return [outcomes[i] for i in range(len(records))]


def by_csv(scratch: Path, catalogue: Catalogue, cards: list[Any]) -> list[Outcome]:
    return _by_file(scratch, catalogue, "\n".join([",".join(NAMES), *_lines(cards), ""]).encode())


def by_json_lines(scratch: Path, catalogue: Catalogue, cards: list[Any]) -> list[Outcome]:
    return _by_file(scratch, catalogue, "\n".join([*_jsons(cards), ""]).encode())


def by_parquet(scratch: Path, catalogue: Catalogue, cards: list[Any]) -> list[Outcome]:
    """One file for all values of a type."""
    outcomes: dict[int, Outcome] = {}
    for kind in {type(card) for card in cards}:
        mine = [i for i, card in enumerate(cards) if type(card) is kind]
        content = io.BytesIO()
        pl.DataFrame(_records([cards[i] for i in mine])).write_parquet(content)
        outcomes |= zip(mine, _by_file(scratch, catalogue, content.getvalue()), strict=True)
    return [outcomes[i] for i in range(len(cards))]


def _by_file(scratch: Path, catalogue: Catalogue, content: bytes) -> list[Outcome]:
    (scratch / "in").write_bytes(content)
    run([scratch / "in"], scratch / "out", catalogue=catalogue)
    rows, kept = rows_of(scratch / "out"), quarantine_of(scratch / "out")
    bit = catalogue.flag_names.index("invisible_characters")
    outcomes: dict[int, Outcome] = {
        number - 1: (f"{reason}:{field}" if field else reason, False)
        for number, reason, field in kept.select("record", "reason", "field").rows()
    }
    if len(rows):
        for i, key, flags in rows.select("transaction_id", "card_key", "flags").rows():
            outcomes[i] = key, bool(flags >> bit & 1)
    return [outcomes[i] for i in range(len(outcomes))]


INGRESSES = [by_lines, by_json, by_csv, by_json_lines, by_parquet]
DEV7 = pseudonym(b"DEV 7", KEY)
# (what is sent as the key that is a text, what becomes of it)
TEXTS: list[tuple[Any, Outcome]] = [
    ("DEV 7", (DEV7, False)),
    ("DEV 7\u200b", (DEV7, True)),
    ("\u2060DEV 7", (DEV7, True)),
    ("\ufeffDEV\u00ad 7", (DEV7, True)),
    ("\u202eDEV 7\u202c", (DEV7, True)),
    ("DEV\u00a0 7\u3000", (DEV7, False)),
    ("DEV  \t7", (DEV7, False)),
    ("\uff24\uff25\uff36 \uff17", (DEV7, False)),
    ("dev 7", (pseudonym(b"dev 7", KEY), False)),
    ("Zoe\u0308", (pseudonym("Zo\u00eb".encode(), KEY), False)),
    ("e\u034f\u0301", (pseudonym("\u00e9".encode(), KEY), True)),
    ("\u200b\u2060", ("missing_field:card", False)),
    ("\u00a0", ("missing_field:card", False)),
    (None, ("missing_field:card", False)),
    *((word, ("missing_field:card", False)) for word in NULL_WORDS if word != "-"),
    ("NULL", ("missing_field:card", False)),
    ("\\N", ("missing_field:card", False)),
    ("nU\u200bLL", ("missing_field:card", False)),
    ("-", ("unknown_entity:card", False)),
    ("\u200b-", ("unknown_entity:card", False)),
    ("nullable", (pseudonym(b"nullable", KEY), False)),
    ("41", (pseudonym(b"41", KEY), False)),
    (41, (pseudonym(b"41", KEY), False)),
    (41.0, (pseudonym(b"41", KEY), False)),
    ("41.0", (pseudonym(b"41", KEY), False)),
    ("0041", (pseudonym(b"0041", KEY), False)),
    ("41.5", (pseudonym(b"41.5", KEY), False)),
    ("4e12", (pseudonym(b"4e12", KEY), False)),
    ("1.23457E+15", ("not_an_integer:card", False)),
    (1.5e20, ("not_an_integer:card", False)),
    (2.0**53, ("not_an_integer:card", False)),
    (f"{2**53}.0", ("not_an_integer:card", False)),
    ("9" * 3000 + ".0", ("not_an_integer:card", False)),
]
INTEGERS: list[tuple[Any, Outcome]] = [
    (41, (41, False)),
    ("41", (41, False)),
    (41.0, (41, False)),
    ("41.0", (41, False)),
    ("0041", ("not_an_integer:card", False)),
    ("+41", ("not_an_integer:card", False)),
    ("41\u200b", ("not_an_integer:card", False)),
    ("4.1E+01", ("not_an_integer:card", False)),
    (2.0**53, ("not_an_integer:card", False)),
    ("n/a", ("missing_field:card", False)),
    ("-", ("unknown_entity:card", False)),
    ("0", (0, False)),
]


@pytest.mark.parametrize("ingress", INGRESSES)
@pytest.mark.parametrize(("catalogue", "cases"), [(SHOP, TEXTS), (NUMBERS, INTEGERS)])
def test_a_key_is_the_same_entity_through_every_ingress(
    tmp_path: Path, ingress: Ingress, catalogue: Catalogue, cases: list[tuple[Any, Outcome]]
) -> None:
    found = ingress(tmp_path, catalogue, [card for card, _ in cases])
    assert [*zip([card for card, _ in cases], found, strict=True)] == cases


@pytest.mark.parametrize("ingress", INGRESSES)
def test_padding_makes_no_difference_where_the_catalogue_says_so(tmp_path: Path, ingress: Ingress) -> None:
    found = ingress(tmp_path, PADDED, ["0041", "41", "-041", "+41"])
    assert [key for key, _ in found] == [41, 41, -41, 41]


def test_a_company_has_its_own_null_words() -> None:
    own = parse_catalogue(SHOP_TEXT.replace("[record]", '[record]\nnull_words = ["Leer"]'))
    found = by_json(Path(), own, ["LEER", "NULL"])
    assert [key for key, _ in found] == ["missing_field:card", pseudonym(b"NULL", KEY)]
    for word, words in (("-1", "under `unknown`"), (" ", "cannot be empty")):
        with pytest.raises(CatalogueError, match=words):
            parse_catalogue(SHOP_TEXT.replace("[record]", f'[record]\nnull_words = ["{word}"]'))


def test_zero_padded_is_for_numbers_that_name_something() -> None:
    for wrong in ('role = "amount"', 'role = "event_time"', 'entity = "device"'):
        with pytest.raises(CatalogueError, match="zero_padded is for ids and keys that are integers"):
            parse_catalogue(SHOP_TEXT.replace(wrong, f"{wrong}\nzero_padded = true"))


def test_an_optional_number_that_is_a_null_word_is_absent() -> None:
    lines = [f"{i},1700000000,c,d,5,{word}" for i, word in enumerate(["NA", "NULL", "\\N", "NaN", ""])]
    assert clean(*lines, catalogue=SHOP).transactions.numbers["risk"].tolist() == pytest.approx(
        [float("nan")] * 5, nan_ok=True
    )


def test_a_rejection_names_the_null_word() -> None:
    (detail,) = clean("1,1700000000,NULL,d,5,", catalogue=SHOP).rejected.detail
    assert detail == "Field 'card' is 'NULL', which means that there is no value; expected a value."
    (detail,) = clean("1,1700000000,007,d,5,", catalogue=NUMBERS).rejected.detail
    assert (
        detail
        == "Field 'card' is '007'; expected a number without a leading 0 or +: as text they would count."
    )


@pytest.mark.parametrize("answer", ["Yes", "TRUE", "true", "1.0", "1"])
def test_answers_may_be_words(answer: str) -> None:
    catalogue = parse_catalogue(
        SHOP_TEXT + '[[fields]]\nname = "fraud"\nrole = "is_fraud"\nrequired = false\n'
    )
    answers = [answer, "No", "false", "", "NULL"]
    records = [json.dumps(r | {"fraud": a}) for r, a in zip(_records(["c"] * 5), answers, strict=True)]
    found = clean(*records, kind=Kind.TRANSACTION_JSON, catalogue=catalogue).transactions
    assert found.is_fraud.tolist() == [1, 0, 0, -1, -1]


_TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"]) | st.sampled_from("\u200b\u0301 e\u034f\u3164")
)


@given(_TEXT)
@example("\u3164a\uffa0")
def test_rejections_show_no_invisible_characters(text: str) -> None:
    plain, has_unseen = plain_text(text.encode())
    again = plain.decode()
    assert plain_text(plain) == (plain, False)
    assert again == unicodedata.normalize("NFKC", again).strip() and "  " not in again
    assert has_unseen == any(_is_invisible(character) for character in text)


def _is_invisible(character: str) -> bool:
    ranges = [(INVISIBLE[i], INVISIBLE[i + 2]) for i in range(len(INVISIBLE) - 2) if INVISIBLE[i + 1] == "-"]
    return character in INVISIBLE.replace("-", "") or any(low <= character <= high for low, high in ranges)
