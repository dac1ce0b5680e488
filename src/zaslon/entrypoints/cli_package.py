"""The command `package`: the archive of the code that a cluster needs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from zaslon.bootstrap.package_wiring import build_packaging
from zaslon.entrypoints.console import out
from zaslon.entrypoints.options import Home, Json
from zaslon.entrypoints.performing import perform_without_context
from zaslon.settings import load_settings


def package(
    as_json: Json = False,
    home: Home = None,
    to: Annotated[
        str | None,
        typer.Option("--out", help="Directory, s3a://… or hdfs://…; HOME/packages if not given."),
    ] = None,
    interpreter: Annotated[
        bool, typer.Option("--interpreter", help="Put this Python in, too: the machines need none.")
    ] = False,
    lock: Annotated[
        Path | None, typer.Option(help="Requirements with hashes; those of this release if not given.")
    ] = None,
) -> int:
    """Build the archive of the code and its locked dependencies that a Spark cluster needs.

    Example: [bold]zaslon package --out s3a://lake/code[/]
    """
    from zaslon.flows.package import package as flow  # noqa: PLC0415

    settings = load_settings(home=home)
    return perform_without_context(
        as_json,
        lambda bars: flow(build_packaging(settings, to, lock, bars, has_interpreter=interpreter)),
        _show,
    )


def _show(packaged: Any) -> None:
    report = packaged.to_json_dict()
    size = f"{report['bytes'] / 1e6:,.0f} MB, {report['files']:,} files, {len(report['packages'])} packages"
    done = "was there already" if report["was_there"] else "is written"
    out.print(escape(f"{report['archive']} {done}: {size}."), highlight=False, soft_wrap=True)
    out.print(f"spark.archives={escape(report['archive'])}#environment", highlight=False, soft_wrap=True)
    out.print("PYSPARK_PYTHON=./environment/bin/python", highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(package)
