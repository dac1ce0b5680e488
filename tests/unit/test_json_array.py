"""Elements of a JSON array and the depth of JSON, as a parser finds them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.intake.json_array import array_elements, nesting

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text('[]{},:"\\ \né', max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('{"\\,', max_size=3), inner, max_size=3),
    max_leaves=20,
)  # fmt: skip
BLANKS = st.sampled_from([b"", b" ", b"\n\t", b"\r\n "])


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.law
@given(st.lists(VALUES, max_size=5), BLANKS)
def test_every_element_has_its_own_bytes(values: list[Any], blank: bytes) -> None:
    parts = [orjson.dumps(value) for value in values]
    text = blank + b"[" + b",".join(blank + part + blank for part in parts) + blank + b"]" + blank
    assert array_elements(text) == parts
    assert nesting(text) == depth_of(values)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"[",
        b"]",
        b'["]',
        b"{}",
        b"1",
        b"[1",
        b"1]",
        b"[1]]",
        b"[1],[2]",
        b"[{]",
        b'["\\"]',
        b"[1] x",
    ],
)
def test_what_is_not_one_array_has_no_elements(text: bytes) -> None:
    assert array_elements(text) is None


@given(st.binary(max_size=60) | st.text('[]{},"\\ 1', max_size=60).map(str.encode))
def test_any_bytes_can_be_looked_at(text: bytes) -> None:
    assert 0 <= nesting(text) <= len(text)
    elements = array_elements(text)
    assert elements is None or all(element in text for element in elements)


@pytest.mark.parametrize(
    ("text", "elements"),
    [(b"[]", []), (b"[ ]", []), (b"[1,]", [b"1", b""]), (b"[,]", [b"", b""]), (b'[{"a":1]', None),
     (b"[{]},2]", None), (b"[nonsense, 2]", [b"nonsense", b"2"]), (b'["a,b", "]"]', [b'"a,b"', b'"]"'])],
)  # fmt: skip
def test_a_bad_element_leaves_its_neighbours(text: bytes, elements: list[bytes] | None) -> None:
    assert array_elements(text) == elements
