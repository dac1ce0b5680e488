"""CPU and memory of a process and of all that it starts, those that have ended too (Linux).

Spark's daemon lets its Python workers be reaped unseen (it ignores SIGCHLD), so their time is in no parent's
count. Whoever wants it has to look while they are alive: a thread looks every few tenths of a second and remembers.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_LOOK_SECONDS = 0.2
_JAVA, _PYTHON = "java", "python"


@dataclass
class Seen:
    """A process.

    Attributes:
        program: `java` or `python`.
        cpu_seconds: user and system time of its own, without children.
        peak_mib: most resident memory so far.
    """

    program: str
    parent: int
    cpu_seconds: float = 0.0
    peak_mib: int = 0


class ProcessTree:
    """Watches a process and its descendants from `with` to its end.

    A process that lives for less than a look may be missed.
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._seen: dict[tuple[int, str], Seen] = {}  # by process and when it began: numbers are used again
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def cpu_seconds(self) -> dict[str, float]:
        """So far, by program."""
        self._look()
        found = dict.fromkeys((_JAVA, _PYTHON), 0.0)
        for one in self._seen.values():
            found[one.program] += one.cpu_seconds
        return found

    def peak_mib(self) -> dict[str, int]:
        """Most resident memory of any one process, by program; the root's own is not counted."""
        self._look()
        found = dict.fromkeys((_JAVA, _PYTHON), 0)
        for (process, _), one in self._seen.items():
            if process != self._root:
                found[one.program] = max(found[one.program], one.peak_mib)
        return found

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_SECONDS):
            self._look()

    def _look(self) -> None:
        with self._lock:
            found: dict[int, tuple[str, Seen]] = {}
            for place in Path("/proc").glob("[0-9]*"):
                with suppress(OSError, ValueError):  # it has just ended
                    found[int(place.name)] = _process(place)
            tree = {self._root}
            while more := {p for p, (_, one) in found.items() if one.parent in tree and p not in tree}:
                tree |= more
            for process in tree & found.keys():
                began, one = found[process]
                known = self._seen.setdefault((process, began), one)
                known.cpu_seconds = max(known.cpu_seconds, one.cpu_seconds)
                known.peak_mib = max(known.peak_mib, _peak_mib(process))
                known.program = one.program  # what a shell becomes


def _process(place: Path) -> tuple[str, Seen]:
    """When it began, and what it is."""
    text = (place / "stat").read_text()
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text.rpartition(")")[2].split()
    cpu_seconds = (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
    program = _JAVA if name.startswith(_JAVA) else _PYTHON
    return fields[19], Seen(program, int(fields[1]), cpu_seconds)


def _peak_mib(process: int) -> int:
    with suppress(OSError):
        for line in Path(f"/proc/{process}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) >> 10
    return 0
