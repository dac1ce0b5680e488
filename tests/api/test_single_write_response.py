"""An answer leaves with one write, in order, also when the connection is closed behind it."""

from __future__ import annotations

import asyncio

from zaslon.entrypoints.api.http_server import Gathered


class Wire(asyncio.Transport):
    """Keeps what is written, write by write."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.writes: list[bytes] = []
        self.is_closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.is_closed
        self.writes.append(bytes(data))

    def close(self) -> None:
        self.is_closed = True


def test_what_is_written_in_one_turn_of_the_loop_is_one_write() -> None:
    async def write() -> list[bytes]:
        wire = Wire()
        gathered = Gathered(wire, asyncio.get_running_loop())
        gathered.write(b"head ")
        gathered.write(b"body")
        assert wire.writes == []
        await asyncio.sleep(0)
        gathered.write(b"next")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return wire.writes

    assert asyncio.run(write()) == [b"head body", b"next"]


def test_closing_writes_first_what_was_taken() -> None:
    async def close() -> Wire:
        wire = Wire()
        gathered = Gathered(wire, asyncio.get_running_loop())
        gathered.write(b"last words")
        gathered.close()
        await asyncio.sleep(0)
        return wire

    wire = asyncio.run(close())
    assert (wire.writes, wire.is_closed) == ([b"last words"], True)


def test_everything_else_is_the_transports_own() -> None:
    async def ask() -> object:
        return Gathered(Wire(), asyncio.get_running_loop()).get_extra_info("peername")

    assert asyncio.run(ask()) == ("127.0.0.1", 1)
