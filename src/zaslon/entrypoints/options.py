"""Options that most commands take; `docs/reference/commands.md` describes them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from zaslon.bootstrap.storage_wiring import reach_storages
from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX
from zaslon.ports.clusters import Cluster
from zaslon.services.context import Context
from zaslon.system.opening import expanded, local_path

NO_NEWS = 99  # which Airflow's BashOperator takes as "skipped"

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Home = Annotated[Path | None, typer.Option(help="Where models, log and reports are kept.")]
CatalogueFile = Annotated[Path | None, typer.Option(help="Catalogue file; the built-in one if not given.")]
Delay = Annotated[str | None, typer.Option(help="When the answers in a file become known, e.g. 7d.")]
Arrived = Annotated[
    str | None,
    typer.Option(help="When the files arrived, 'YYYY-MM-DD HH:MM:SS' in UTC; now if not given."),
]


class Engines(StrEnum):
    """What does the work of a command on many rows: this process, or a cluster."""

    EMBEDDED = "embedded"
    SPARK = "spark"

    def opened(self, context: Context) -> AbstractContextManager[Cluster | None]:
        """The cluster, None for this process."""
        return nullcontext() if self is Engines.EMBEDDED else context.adapters.open_cluster()

    def place(self, given: str | None, usual: Path) -> Path | str:
        """Where to write: a directory, or an address that only a cluster writes to.

        Raises:
            ZaslonError: it is an address, and this process does the work.
        """
        path = usual if given is None else local_path(given)
        return path if path is not None else self._address(given or "")

    def table(self, given: str | None) -> str | None:
        """An address to read clean days from, None if not given.

        Raises:
            ZaslonError: it is given, and this process does the work.
        """
        return None if given is None else self._address(given)

    def _address(self, given: str) -> str:
        if self is Engines.EMBEDDED:
            raise ZaslonError(
                f"'{given}' is not a directory of this machine.",
                hint="Only --engine spark reads and writes tables on S3 and HDFS.",
            )
        return given


def reached(addresses: list[str]) -> list[str]:
    """Sources with their patterns expanded, which every reader can open from now on.

    Raises:
        ZaslonError: what some of them need is not installed, or a setting cannot be used.
        InputError: a pattern matches no file, or a file system cannot be listed.
    """
    reach_storages(addresses)
    return expanded(addresses)


EngineName = Annotated[Engines, typer.Option("--engine", help="embedded: this process; spark: a cluster.")]
Master = Annotated[
    str | None, typer.Option(help="Spark's master: local[N], spark://host:port, yarn; with --engine spark.")
]


def parse_arrived(text: str | None) -> int | None:
    """The value of `--arrived` in seconds since 1970."""
    if text is None:
        return None
    try:
        seconds = int(datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())
    except ValueError as error:
        raise ZaslonError(f"'{text}' is not a time.", hint="Write 'YYYY-MM-DD HH:MM:SS'.") from error
    if not 0 <= seconds <= EVENT_TIME_SECONDS_MAX:
        raise ZaslonError(
            f"'{text}' is not between 1970 and 2106.", hint="Earlier and later times cannot be stored."
        )
    return seconds
