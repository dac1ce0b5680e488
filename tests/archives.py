"""A builder of one small archive, for tests of what happens to archives."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from zaslon.flows.package import Packaging
from zaslon.ports.environment_archives import ArchiveStore, BuiltArchive
from zaslon.services.context import Silent


class GivenArchive:
    """Builds the same few bytes again and again."""

    content = b"an environment " * 1_000

    def build(self, scratch: Path, stage: Callable[[str], None]) -> BuiltArchive:
        """Write them into the scratch directory."""
        stage("pack")
        path, digest = scratch / "archive", hashlib.sha256(self.content).hexdigest()
        path.write_bytes(self.content)
        name = f"zaslon-0-cp311-{digest}.tar.gz"
        return BuiltArchive(path, name, digest, len(self.content), 1, "3.11", {"zaslon": "0"})


def packaging(directory: Path, store: ArchiveStore) -> Packaging:
    """The world of a package of that archive, with its scratch below a directory."""

    @contextmanager
    def scratch() -> Iterator[Path]:
        place = directory / "scratch"
        place.mkdir(exist_ok=True)
        yield place

    return Packaging(GivenArchive(), store, scratch, Silent())
