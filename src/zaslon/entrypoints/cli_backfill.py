"""The command `backfill`: a new log that begins with the history of clean days."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from zaslon.entrypoints.console import out
from zaslon.entrypoints.options import CatalogueFile, Delay, Home, Json
from zaslon.entrypoints.performing import Lock, perform
from zaslon.services.context import Context


def backfill(
    clean: Annotated[
        Path | None, typer.Argument(help="Output of `zaslon clean`; HOME/clean if not given.")
    ] = None,
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
) -> int:
    """Let a new home's log begin with the history of clean days, so that a service or stream starts warm.

    Example: [bold]zaslon backfill clean[/]
    """

    def work(context: Context) -> Any:
        from zaslon.flows.backfill import backfill as flow  # noqa: PLC0415

        return flow(context, clean or context.home / "clean")

    return perform(
        as_json,
        work,
        _show,
        lock=Lock.HOME,
        makes_home=False,
        home=home,
        catalogue=catalogue,
        label_delay=label_delay,
    )


def _show(report: Any) -> None:
    read = f"{report.days[0]} to {report.days[-1]} of {report.days_clean:,} days"
    out.print(f"{report.rows:,} transactions from {read} applied, {report.remembered:,} remembered.")
    if report.labels_to_come:
        out.print(f"{report.labels_to_come:,} answers become known later: add them with `zaslon label`.")
    out.print(escape(f"{report.path} begins with state {report.state}."), soft_wrap=True, highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(backfill)
