"""A tree on S3 or HDFS as a store of archives."""

from __future__ import annotations

from zaslon.adapters.cluster.hadoop.file_trees import StoredTree
from zaslon.domain.errors import ServerError
from zaslon.ports.environment_archives import BuiltArchive


class ArchiveTree:
    """`zaslon.ports.environment_archives.ArchiveStore` in a tree."""

    def __init__(self, tree: StoredTree) -> None:
        self._tree = tree

    @property
    def address(self) -> str:
        """The address as Hadoop and Spark take it."""
        return self._tree.address.rstrip("/")

    def holds(self, archive: BuiltArchive) -> bool:
        """Whether a file of its name and size is there (see the port): the name says what is in it."""
        found = self._tree.files().get(archive.name)
        return found is not None and found.size_bytes == archive.size_bytes

    def put(self, archive: BuiltArchive) -> None:
        """Upload it, and read it back (see the port)."""
        self._tree.put(archive.name, archive.path)
        if self._tree.sha256(archive.name, archive.size_bytes) != archive.sha256:
            raise ServerError(
                f"'{self.address}/{archive.name}' has other bytes than were written.",
                hint="Remove it, and package again.",
            )
