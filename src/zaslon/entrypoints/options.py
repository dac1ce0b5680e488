"""Options that most commands take; `docs/reference/commands.md` describes them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Home = Annotated[Path | None, typer.Option(help="Where models, log and reports are kept.")]
CatalogueFile = Annotated[Path | None, typer.Option(help="Catalogue file; the built-in one if not given.")]
Delay = Annotated[str | None, typer.Option(help="When the answers in a file become known, e.g. 7d.")]
