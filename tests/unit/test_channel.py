"""The line between service and worker: what is sent arrives whole and in order, however it is cut."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zaslon.adapters.process.channel import Channel, Message, packed

CONTENT = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
MESSAGES = st.builds(Message, st.text(), CONTENT, st.lists(st.binary()))


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    one, other = (Channel(end) for end in socket.socketpair())
    yield one, other
    one.close()
    other.close()


@given(st.lists(MESSAGES, min_size=1, max_size=8), st.data())
def test_objects_arrive_complete_and_in_order(sent: list[Message], data: st.DataObject) -> None:
    one, other = socket.socketpair()
    stream = b"".join(packed(message) for message in sent)
    places = st.lists(st.integers(0, len(stream)), max_size=5)
    cuts = [0, *sorted(data.draw(places)), len(stream)]
    line, received = Channel(other), list[Message]()
    for begin, end in itertools.pairwise(cuts):
        one.sendall(stream[begin:end])
        received += line.receive(0)
    assert received == sent
    one.close()
    with pytest.raises(EOFError):
        line.receive()
    line.close()


@pytest.mark.parametrize("never_read", [(), (Message("never read"),)], ids=["all read", "some left unread"])
def test_what_was_sent_before_the_end_is_still_received(
    ends: tuple[Channel, Channel], never_read: tuple[Message, ...]
) -> None:
    one, other = ends
    for message in never_read:
        other.send(message)
    one.send(Message("last words"))
    one.close()
    assert [message.topic for message in other.receive()] == ["last words"]
    with pytest.raises(EOFError):
        other.receive()


def test_closing_one_end_ends_the_channel_for_both(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    rest = one.send_at_once(packed(Message("large", None, [bytes(10_000_000)])))
    hanging_up = threading.Thread(target=one.shut_down)
    hanging_up.start()
    with pytest.raises(OSError, match="Broken pipe"):
        one.send_rest(rest)
    hanging_up.join()
    with pytest.raises(EOFError):
        other.receive()  # what came is not a whole message
    one.shut_down()


def test_a_full_line_takes_what_it_can_and_the_rest_follows(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    large = bytes(range(256)) * 40_000
    rest = one.send_at_once(packed(Message("large", 7, [large, b""])))
    assert 0 < len(rest) < len(large)
    sender = threading.Thread(target=one.send_rest, args=(rest,))
    sender.start()
    found: list[Message] = []
    while not found:
        found = other.receive(60)
    sender.join()
    assert found == [Message("large", 7, [large, b""])]


def test_receiving_nothing_is_fine_and_a_closed_peer_an_error(ends: tuple[Channel, Channel]) -> None:
    one, other = ends
    assert one.receive(0) == []
    other.close()
    with pytest.raises(OSError, match="Broken pipe"):
        one.send(Message("anybody?"))
