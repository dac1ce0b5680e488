"""The port of the index by which decisions are found by a customer, a terminal or another entity."""

from __future__ import annotations

from typing import Protocol

from zaslon.ports import LogReader


class EntityIndex(Protocol):
    """The log positions of each entity's transactions. It is derived from a log, and may be begun again.

    Whoever looks something up reads the log on; who decides knows nothing of it.

    Every method raises a SystemRefusedError where it cannot be read or written.
    """

    def catch_up(self, log: LogReader, records_max: int) -> int:
        """Read a log on from where the index ends; of another log it is begun again.

        Args:
            log: as it is now.
            records_max: records that are read at most.

        Returns:
            How many records of the log are not in the index yet.
        """

    def positions(self, entity: str, key: int, before_position: int | None, count: int) -> list[int]:
        """Up to `count` positions before one (None: the end) of an entity's transactions, newest first.

        Args:
            entity: by its name in the catalogue.
            key: as in the log: a number, or the keyed hash of a text.
        """

    def close(self) -> None:
        """Let go of what is open."""
