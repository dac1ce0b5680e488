"""Options that most commands take; `docs/reference/commands.md` describes them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from zaslon.domain.errors import ZaslonError
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Home = Annotated[Path | None, typer.Option(help="Where models, log and reports are kept.")]
CatalogueFile = Annotated[Path | None, typer.Option(help="Catalogue file; the built-in one if not given.")]
Delay = Annotated[str | None, typer.Option(help="When the answers in a file become known, e.g. 7d.")]
Arrived = Annotated[
    str | None,
    typer.Option(help="When the files arrived, 'YYYY-MM-DD HH:MM:SS' in UTC; now if not given."),
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
