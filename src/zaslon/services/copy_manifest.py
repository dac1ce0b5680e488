"""The manifest of a copy: which files were compared byte for byte, with their SHA-256 and the versions compared."""

from __future__ import annotations

from collections.abc import Container
from pathlib import Path
from typing import NamedTuple

import orjson

from zaslon.domain.errors import ArtefactError
from zaslon.ports.copying import StoredFile
from zaslon.system.durable import write_file

_FORMAT = 1


class Compared(NamedTuple):
    """A file whose two sides were equal, as they were then."""

    size_bytes: int
    sha256: str
    source_version: str
    target_version: str


class Manifest:
    """Read from its file, if there is one; written by `keep`.

    Raises:
        ArtefactError: the file is damaged, or of another version of Zaslon.
    """

    def __init__(self, path: Path, source: str, target: str) -> None:
        self.path, self._source, self._target = path, source, target
        self._compared = self._read()

    def _read(self) -> dict[str, Compared]:
        if not self.path.exists():
            return {}
        try:
            content = orjson.loads(self.path.read_bytes())
            if content["format"] != _FORMAT:
                raise ValueError(f"its format is {content['format']}")
            return {
                name: Compared(int(found["bytes"]), *(str(found[key]) for key in Compared._fields[1:]))
                for name, found in content["files"].items()
            }
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ArtefactError(
                f"The manifest '{self.path}' cannot be read: {error!r}.",
                hint="Remove it, and copy again: every file is then read and compared.",
            ) from error

    def confirms(self, name: str, source: StoredFile, target: StoredFile | None) -> bool:
        """Whether these two versions of a file were compared."""
        known = self._compared.get(name)
        return known is not None and target is not None and (
            known.size_bytes == source.size_bytes == target.size_bytes
            and (known.source_version, known.target_version) == (source.version, target.version)
        )  # fmt: skip

    def source_sha256(self, name: str, source: StoredFile) -> str | None:
        """SHA-256 of a version of the source that was read before; None for another one."""
        known = self._compared.get(name)
        return known.sha256 if known is not None and known.source_version == source.version else None

    def add(self, name: str, sha256: str, source: StoredFile, target: StoredFile) -> None:
        """Both sides of a file are equal."""
        self._compared[name] = Compared(source.size_bytes, sha256, source.version, target.version)

    def forget_others(self, names: Container[str]) -> None:
        """Keep only these files: the source has no others any more."""
        self._compared = {name: found for name, found in self._compared.items() if name in names}

    def keep(self) -> None:
        """Write the file, durably."""
        files = {
            name: {"bytes": found.size_bytes} | {key: getattr(found, key) for key in Compared._fields[1:]}
            for name, found in sorted(self._compared.items())
        }
        content = {"format": _FORMAT, "source": self._source, "target": self._target, "files": files}
        write_file(self.path, orjson.dumps(content, option=orjson.OPT_INDENT_2))
