"""A client of the broker that does not close, or does not answer, holds nobody up."""

from __future__ import annotations

import threading
from concurrent.futures import Future

import pytest

from zaslon.adapters.cluster.kafka.connection import UnreachableError, answer, close_within


def test_a_client_that_does_not_close_is_left_behind_and_named() -> None:
    notices, is_over = list[str](), threading.Event()
    close_within(is_over.wait, "The reader of the log", notices.append, seconds=0.01)
    is_over.set()
    assert notices == ["The reader of the log did not close within 0.01 s and is left behind."]


def test_a_client_that_closes_is_waited_for() -> None:
    notices, closed = list[str](), list[str]()
    close_within(lambda: closed.append("closed"), "The reader of the log", notices.append)
    assert (closed, notices) == (["closed"], [])


def test_an_error_while_a_client_closes_reaches_the_caller() -> None:
    def close() -> None:
        raise ValueError("the reader is broken")

    with pytest.raises(ValueError, match="the reader is broken"):
        close_within(close, "The reader of the log", lambda _: None)


def test_a_broker_that_answers_nothing_is_unreachable() -> None:
    with pytest.raises(UnreachableError, match=r"No broker answers within 0\.01 s \('input'\)"):
        answer(Future[int](), "'input'", 0.01)
