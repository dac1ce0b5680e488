"""Hadoop's DistCp as a child process: its arguments, its progress, and what its failures mean."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

from zaslon.adapters.cluster.hadoop.failures import explained
from zaslon.adapters.cluster.hadoop.file_trees import UNFINISHED
from zaslon.adapters.cluster.hadoop.hadoop_program import SCRATCH, Hadoop
from zaslon.adapters.cluster.hadoop.hadoop_settings import Access, configuration_file
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.domain.errors import ServerError
from zaslon.system.durable import write_file

_TAIL_BYTES = 64 * 1024
_PERCENT = re.compile(rb"\bmap (\d+)% reduce")
# Blocks of another size have other checksums by default, and a copy between two HDFS would fail.
_PROPERTIES = {"dfs.checksum.combine.mode": "COMPOSITE_CRC"}


@dataclass(frozen=True)
class CopyLimits:
    """How much DistCp may do at once.

    Attributes:
        maps: files copied at once.
        megabytes_per_second: of one of them.
        timeout_seconds: after which it is ended.
    """

    maps: int
    megabytes_per_second: int
    timeout_seconds: float


class DistCp:
    """`zaslon.ports.copying.CopyTool`.

    Args:
        hadoop: how it is started.
        source, target: addresses of the trees.
        access: how Hadoop reaches S3; None where it has nothing to do with it.
        directory: an existing one for logs and lists.
        scratch: one that is removed after each copy, with what is in it.
        limits: how much it may do at once.
    """

    def __init__(
        self, hadoop: Hadoop, source: str, target: str, access: Access | None, directory: Path,
        scratch: Path, limits: CopyLimits,
    ) -> None:  # fmt: skip
        self._hadoop, self._source, self._target = hadoop, source, target
        self._access, self._limits = access or Access({}, {}), limits
        self._directory, self._scratch = directory, scratch

    def log(self, only: Collection[str] | None) -> Path:
        """Where a copy writes its messages (see the port)."""
        return self._directory / ("distcp-update.log" if only is None else "distcp-overwrite.log")

    def copy(self, only: Collection[str] | None, advance: Callable[[int], None]) -> None:
        """Run it to its end (see the port)."""
        log, filters = self.log(only), self._directory / "distcp.filters"
        write_file(filters, left_out(self._source, only).encode())
        properties = _PROPERTIES | dict(self._hadoop.properties) | dict(self._access.properties)
        with configuration_file(properties) as descriptor:
            processes = ChildProcesses(self._hadoop.command, self._access.environment, inherited=[descriptor])
            options = [
                "-conf",
                f"/dev/fd/{descriptor}",
                *self._options(only),
                "-filters",
                str(filters.resolve()),
            ]
            progress = _Progress(log, advance)
            try:
                ended = processes.run(
                    [*options, self._source, self._target], log.with_suffix(".out"), log,
                    self._limits.timeout_seconds, progress.look,
                )  # fmt: skip
            finally:
                self._clear()
        if ended.exit_code != 0:
            raise self._failure(ended.exit_code, log)
        progress.is_at(100)

    def end_left(self) -> None:
        """End what a killed process left (see the port)."""
        for only in (None, ()):
            ChildProcesses(self._hadoop.command, {}).end_left(self.log(only).with_suffix(".out"))
        self._clear()

    def _clear(self) -> None:
        for part in SCRATCH:
            shutil.rmtree(self._scratch / part, ignore_errors=True)

    def _options(self, only: Collection[str] | None) -> list[str]:
        limits = self._limits
        options = ["-update" if only is None else "-overwrite"]
        options += ["-m", str(limits.maps), "-bandwidth", str(limits.megabytes_per_second)]
        # An object appears when its upload ends. A file of HDFS appears at once: there a rename is needed.
        return options + (["-direct"] if self._target.startswith("s3a://") else [])

    def _failure(self, exit_code: int | None, log: Path) -> ServerError:
        if exit_code is None:
            hours = self._limits.timeout_seconds / 3600
            return ServerError(
                f"DistCp was ended after {hours:g} hours. Its log is '{log}'.",
                hint="Copy again: it resumes. ZASLON_COPY_TIMEOUT allows more.",
            )
        text = log.read_bytes()[-_TAIL_BYTES:].decode("utf-8", "replace")
        reason, hint = explained(text)
        return ServerError(
            f"DistCp failed with exit code {exit_code}: {reason}. Its log is '{log}'.",
            hint=f"{hint} Then copy again: it resumes.",
        )


def left_out(source: str, only: Collection[str] | None) -> str:
    """What a copy leaves out, as lines of regular expressions of Java.

    It is what other copies left unfinished at the source; and all but what is named, where something is.
    """
    lines = [rf".*/{_literally(UNFINISHED)}[^/]*"]
    if only is not None:
        lines.append(f"(?!{_literally(source)}/(?:{'|'.join(map(_literally, sorted(only)))})$).*")
    return "\n".join(lines) + "\n"


def _literally(text: str) -> str:
    """A text as a regular expression of Java that is ASCII: everything else by the number of its UTF-16 units."""
    return "".join(
        character if character.isascii() and (character.isalnum() or character in "/_") else _unit_numbers(character)
        for character in text
    )  # fmt: skip


def _unit_numbers(character: str) -> str:
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))


class _Progress:
    """How far a job is, from what it writes into its log."""

    def __init__(self, log: Path, advance: Callable[[int], None]) -> None:
        self._log, self._advance, self._read, self._done = log, advance, 0, 0

    def look(self) -> bool:
        """Read what is new; it is never a reason to stop."""
        with self._log.open("rb") as file:
            file.seek(self._read)
            new = file.read()
        whole = new.rfind(b"\n") + 1
        self._read += whole
        for percent in _PERCENT.findall(new[:whole]):
            self.is_at(int(percent))
        return False

    def is_at(self, percent: int) -> None:
        """It has come so far."""
        self._advance(max(0, percent - self._done))
        self._done = max(self._done, percent)
