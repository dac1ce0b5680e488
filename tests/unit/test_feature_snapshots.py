"""A snapshot of something else, or a damaged one, is refused by name; a good one is the state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.feature_logs import PLANS, SECRET, SHORT, START, Event, by_kernel
from tests.oracle import Payment, Verdict

from zaslon.domain.catalogue import parse_catalogue
from zaslon.domain.errors import ArtefactError
from zaslon.features.capacity import with_room
from zaslon.features.history import History
from zaslon.features.plan import plan_features

Saved = dict[str, NDArray[Any]]
PLAN = PLANS["short"]


def log_of(events: int, first: int = 0) -> list[Event]:
    log: list[Event] = []
    for i in range(first, first + events):
        log.append(Payment(i, START + i, 100 * i, {"card": i % 7, "shop": i % 3}))
        if i % 4 == 0:
            log.append(Verdict(i - 2 if i % 8 else i + 1, i % 3 == 0, START + i))
    return log


def saved_state() -> Saved:
    history = History(PLAN, secret=SECRET)
    by_kernel(history, log_of(60))
    return {name: array.copy() for name, array in history.save().items()}


def test_a_restored_history_is_saved_as_the_same_bytes() -> None:
    saved = saved_state()
    again = History.restore(PLAN, dict(saved), secret=SECRET).save()
    assert list(again) == list(saved)
    assert [name for name in saved if not np.array_equal(saved[name], again[name])] == []


def test_a_waiting_label_keeps_no_bytes_of_old_rows() -> None:
    payments = [Payment(i, START + i, 100, {"card": 1 + i % 7, "shop": 1 + i % 3}) for i in range(9_000)]
    waiting = [Verdict(1_000_000 + i, True, START + 9_000) for i in range(200)]
    in_parts = History(PLAN, secret=SECRET)
    for begin in range(0, 9_000, 500):  # rows are given up and their places used again
        by_kernel(in_parts, payments[begin : begin + 500])
    by_kernel(in_parts, waiting)
    at_once = History(PLAN, secret=SECRET)
    by_kernel(at_once, [*payments, *waiting])
    for name in ("time", "note", "label_time", "slots", "digest"):
        one, other = (h.save()[f"remembered/{name}"][-200:] for h in (in_parts, at_once))
        assert np.array_equal(one, other), name


@pytest.mark.parametrize("rows", [0, 1, 30, 100])
@pytest.mark.parametrize("kind", [np.uint8, np.uint32, np.int64])
def test_the_room_that_a_restored_array_is_given_is_zero(rows: int, kind: type[np.generic]) -> None:
    content = np.arange(2 * rows).astype(kind).reshape(rows, 2)
    used_before = [np.full((rows + (rows >> 4) + 1, 2), 255, kind) for _ in range(16)]
    del used_before  # memory that is not zero is what is likely given next
    roomy = with_room(content)
    assert len(roomy) > rows
    assert np.array_equal(roomy[:rows], content)
    assert not roomy[rows:].any()


def test_a_restored_history_continues_with_the_same_bytes() -> None:
    restored = History.restore(PLAN, saved_state(), secret=SECRET)
    unbroken = History(PLAN, secret=SECRET)
    by_kernel(unbroken, log_of(60))
    for history in (restored, unbroken):
        by_kernel(history, log_of(400, first=60))
    one, other = restored.save(), unbroken.save()
    assert [name for name in one if one[name].tobytes() != other[name].tobytes()] == []


def test_a_snapshot_of_another_catalogue_is_refused() -> None:
    for text in (
        SHORT.replace("shop", "till"),
        SHORT.replace('"distinct_shop", "same_shop", ', ""),
        SHORT.replace('windows = ["30s"]\nwhere = "unusual_shop"', 'windows = ["30s"]\nnewest = 1'),
    ):
        assert text != SHORT
        other = plan_features(parse_catalogue(text))
        with pytest.raises(ArtefactError, match="does not fit the catalogue short@1"):
            History.restore(other, saved_state(), secret=SECRET)


def _changed(name: str, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Callable[[Saved], None]:
    def damage(saved: Saved) -> None:
        saved[name] = change(saved[name])

    return damage


def _without(name: str) -> Callable[[Saved], None]:
    def damage(saved: Saved) -> None:
        del saved[name]

    return damage


def _with(place: tuple[int, ...] | int, value: int) -> Callable[[NDArray[Any]], NDArray[Any]]:
    def change(array: NDArray[Any]) -> NDArray[Any]:
        array[place] = value
        return array

    return change


DAMAGES: dict[str, tuple[Callable[[Saved], None], str]] = {
    "an array is gone": (_without("entity/card/0/time"), "missing"),
    "another version": (_changed("layout", _with(0, 1)), "another version"),
    "a row too few": (_changed("remembered/id", lambda a: a[:-1]), "'id'"),
    "narrow ids": (_changed("remembered/id", lambda a: a.astype(np.int32)), "'id'"),
    "a digest too few": (_changed("remembered/digest", lambda a: a[:-1]), "'digest'"),
    "signed digests": (_changed("remembered/digest", lambda a: a.astype(np.int64)), "'digest'"),
    "counters": (_changed("remembered/counters", _with(1, 10**6)), "counters"),
    "waiting labels": (_changed("remembered/counters", _with(2, 99)), "counters"),
    "an unknown slot": (_changed("remembered/slots", _with((5, 0), 1_000)), "unknown card"),
    "a missing entity": (_changed("remembered/slots", lambda a: a[:, :1]), "other entities"),
    "a key twice": (_changed("entity/card/key", _with(1, 0)), "occurs twice"),
    "a key too many": (_changed("entity/shop/key", lambda a: np.append(a, 9)), "disagree"),
    "a list too many": (_changed("entity/shop/1/directory", lambda a: np.append(a, a[:1], 0)), "incomplete"),
    "narrow moments": (_changed("entity/shop/touched", lambda a: a.astype(np.int64)), "disagree"),
    "a hand outside": (_changed("entity/shop/hand", _with(0, 3)), "points at no key"),
    "two hands": (_changed("entity/shop/hand", lambda a: np.append(a, 0)), "points at no key"),
    "a list outside": (_changed("entity/card/0/directory", _with((0, 0), 10**6)), "do not fit"),
    "a list before": (_changed("entity/card/0/directory", _with((0, 0), -5)), "do not fit"),
    "a list too long": (_changed("entity/card/0/directory", _with((0, 1), 10**6)), "do not fit"),
    "a length of no list": (_changed("entity/card/0/directory", _with((0, 2), 5)), "do not fit"),
    "a freed place that is not": (_changed("entity/card/0/free", _with(0, 0)), "do not fit"),
    "a pool too short": (_changed("entity/card/0/time", lambda a: a[:-1]), "incomplete"),
    "amounts too few": (_changed("entity/card/0/total", lambda a: a[:-1]), "amounts"),
    "shops as text": (_changed("entity/card/0/other", lambda a: a.astype("S8")), "another kind"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_snapshot_is_refused_by_name_and_never_applied(name: str) -> None:
    damage, message = DAMAGES[name]
    saved = saved_state()
    damage(saved)
    with pytest.raises(ArtefactError, match=message) as raised:
        History.restore(PLAN, saved, secret=SECRET)
    assert "Restore it with" in str(raised.value)


def test_a_label_from_before_time_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="outside 1970 to 2106"):
        by_kernel(History(PLAN, secret=SECRET), [Verdict(1, True, -1)])
