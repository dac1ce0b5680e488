"""A disk that forgets: what a directory may look like when power is lost at any moment.

It watches a real directory. What is on disk is the content that a file had at its last `fsync` and the
names that a directory had at its own; everything later may or may not have got there: of a file's
content any part, of a directory's changes the first few. Changes of one directory keep their order, as
in every journaling file system; those of different files and directories do not.

SQLite writes past Python. It promises itself that a commit is on disk, so the content of its files is
taken as it is, and its write-ahead log as present; that the database has a name is left to us.
"""

from __future__ import annotations

import os
import random
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest

from zaslon.system import durable

Names = dict[str, int]  # what a directory holds: inode by name
Tree = dict[Path, bytes | None]  # content by relative path; directories, each before what it holds, have none
Loss = Literal["most", "contents", "least"] | int

_WATCHED = ("fsync", "rename", "replace", "mkdir", "unlink", "remove", "rmdir", "link", "chmod")
_EXCHANGE = "zaslon.system.durable.exchange_names"
_OF_SQLITE = (".db", "-wal", "-journal")


@dataclass(frozen=True)
class Moment:
    """What is on disk for sure, and what may be, at one moment.

    Attributes:
        names: for every directory what it has held since its names were last on disk, oldest first.
        contents: for every file its content at the last `fsync`, None before the first, and now.
    """

    before: str
    root: int
    names: dict[int, tuple[Names, ...]]
    contents: dict[int, tuple[bytes | None, bytes]]

    def after(self, loss: Loss) -> Tree:
        """What the directory holds after power was lost now.

        Args:
            loss: `most`: only what is on disk for sure; `contents`: all names, no other content;
                `least`: everything; a number: some of it, drawn at random.
        """
        chance = random.Random(loss if isinstance(loss, int) else 0)
        return dict(self._below(self.root, Path(), loss, chance))

    def _below(
        self, inode: int, place: Path, loss: Loss, chance: random.Random
    ) -> Iterator[tuple[Path, bytes | None]]:
        yield place, None
        versions = self.names[inode]
        drawn = chance.randrange(len(versions))
        chosen = {"most": 0, "contents": -1, "least": -1}.get(str(loss), drawn)
        names = versions[chosen] | {n: i for n, i in versions[-1].items() if n.endswith("-wal")}
        for name, child in sorted(names.items()):
            if child in self.names:
                yield from self._below(child, place / name, loss, chance)
            elif not name.endswith("-shm"):
                yield place / name, self._content(name, child, loss, chance)

    def _content(self, name: str, inode: int, loss: Loss, chance: random.Random) -> bytes:
        on_disk, now = self.contents[inode]
        if on_disk == now or name.endswith(_OF_SQLITE) or loss == "least":
            return now
        if isinstance(loss, int):
            cut = now[: chance.randrange(len(now) + 1)]
            return chance.choice([on_disk or b"", cut, now])
        return on_disk or b""


def make_tree(tree: Tree, place: Path) -> None:
    """Make a directory with the content of a tree."""
    for path, content in tree.items():
        if content is None:
            (place / path).mkdir(parents=True)
        else:
            (place / path).write_bytes(content)


class LossyDisk:
    """Watches a directory, whose content is all on disk at the beginning.

    `moments`: one before and one after every call that changes a name or waits for the disk.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.moments: list[Moment] = []
        self._one_at_a_time = threading.RLock()
        self._names: dict[int, list[Names]] = {}
        self._on_disk: dict[int, bytes] = {}
        self._now: dict[int, tuple[tuple[int, int], bytes]] = {}
        self._open: dict[int, int] = {}  # an inode that is held is not given to another file
        for path in self._look():
            self._synced(path.lstat().st_ino)

    @contextmanager
    def watched(self) -> Iterator[LossyDisk]:
        """Note every moment while the block runs."""
        with pytest.MonkeyPatch.context() as patch:
            for name in _WATCHED:
                patch.setattr(os, name, self._noting(name, getattr(os, name)))
            patch.setattr(_EXCHANGE, self._noting("exchange", durable.__dict__["exchange_names"]))
            yield self
        self._note("the end")
        for descriptor in self._open.values():
            os.close(descriptor)

    def _noting(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            with self._one_at_a_time:
                self._note(f"{name}{arguments}")
                result = function(*arguments, **more)
                if name == "fsync":
                    self._synced(os.fstat(arguments[0]).st_ino)
                self._note(f"after {name}{arguments}")
            return result

        return call

    def _note(self, before: str) -> None:
        self._look()
        self.moments.append(
            Moment(
                before,
                self._root.stat().st_ino,
                {inode: tuple(versions) for inode, versions in self._names.items()},
                {inode: (self._on_disk.get(inode), now) for inode, (_, now) in self._now.items()},
            )
        )

    def _synced(self, inode: int) -> None:
        self._look()
        if inode in self._names:
            del self._names[inode][:-1]
        elif inode in self._now:
            self._on_disk[inode] = self._now[inode][1]

    def _look(self) -> list[Path]:
        """See what has changed; returns all paths."""
        paths = [self._root, *self._root.rglob("*")]
        for path in paths:
            found = path.lstat()
            if found.st_ino not in self._open:
                self._open[found.st_ino] = os.open(path, os.O_PATH)
            if stat.S_ISDIR(found.st_mode):
                self._look_at_names(path, found.st_ino)
            else:
                stamp = found.st_mtime_ns, found.st_size
                if self._now.get(found.st_ino, (None, b""))[0] != stamp or path.suffix == ".db":
                    self._now[found.st_ino] = stamp, path.read_bytes()
        return paths

    def _look_at_names(self, path: Path, inode: int) -> None:
        names = {entry.name: entry.inode() for entry in os.scandir(path)}
        versions = self._names.setdefault(inode, [{}])
        if versions[-1] != names:
            versions.append(names)
