"""A channel between two processes of ours: messages over a pair of sockets, whole and in order.

8 bytes    length of what follows
8 bytes    length of the head
head       JSON: [topic, content, lengths of the blobs]
blobs      bytes of any kind, one after the other
"""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import orjson

_LENGTHS = struct.Struct("<QQ")
_READ_BYTES = 1 << 18


class Message(NamedTuple):
    """What goes over a channel: anything that JSON can hold, and bytes that it cannot."""

    topic: str
    content: Any = None
    blobs: Sequence[bytes] = ()


def packed(message: Message) -> bytes:
    """A message as it goes over the channel; a dataclass in its content becomes an object of its fields."""
    head = orjson.dumps([message.topic, message.content, [len(blob) for blob in message.blobs]])
    blobs = b"".join(message.blobs)
    return _LENGTHS.pack(8 + len(head) + len(blobs), len(head)) + head + blobs


def _unpacked(whole: memoryview) -> Message:
    """The inverse, of what follows the first length."""
    head_end = 8 + int.from_bytes(whole[:8], "little")
    topic, content, lengths = orjson.loads(whole[8:head_end])
    blobs, begin = [], head_end
    for length in lengths:
        blobs.append(bytes(whole[begin : begin + length]))
        begin += length
    return Message(topic, content, blobs)


class Channel:
    """One end. One thread receives, one at a time sends."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._arrived = bytearray()
        end.setblocking(True)
        self._readable = select.poll()
        self._readable.register(end, select.POLLIN)

    def send(self, message: Message) -> None:
        """Send a message; waits while the channel is full.

        Raises:
            OSError: the other end is closed.
        """
        self._end.sendall(packed(message))

    def send_at_once(self, message: bytes) -> bytes:
        """Send what the channel takes now of a message that is `packed`; returns the rest.

        Raises:
            OSError: the other end is closed.
        """
        try:
            return message[self._end.send(message, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            return message

    def send_rest(self, rest: bytes) -> None:
        """Send what `send_at_once` left; waits while the channel is full (raises as `send`)."""
        self._end.sendall(rest)

    def receive(self, wait_seconds: float | None = None) -> list[Message]:
        """All messages that are there; waits for the first bytes, permanently or so long.

        Raises:
            EOFError: the other end is closed, and all that was sent has been received.
        """
        is_over = False
        if self._readable.poll(None if wait_seconds is None else wait_seconds * 1000):
            try:
                while read := self._end.recv(_READ_BYTES, socket.MSG_DONTWAIT):
                    self._arrived += read
                is_over = True
            except BlockingIOError:
                pass
            except ConnectionResetError:  # it ended before it had read all of ours; what it sent counts
                is_over = True
        found = self._whole()
        if is_over and not found:
            raise EOFError
        return found

    def _whole(self) -> list[Message]:
        found, begin = [], 0
        with memoryview(self._arrived) as arrived:
            while len(arrived) - begin >= _LENGTHS.size:
                end = begin + 8 + int.from_bytes(arrived[begin : begin + 8], "little")
                if end > len(arrived):
                    break
                found.append(_unpacked(arrived[begin + 8 : end]))
                begin = end
        del self._arrived[:begin]
        return found

    def shut_down(self) -> None:
        """End the channel for both sides: waiting threads wake up."""
        with suppress(OSError):  # the other end has hung up already
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end, when it is no longer used here."""
        self._end.close()
