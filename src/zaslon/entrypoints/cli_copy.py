"""The command `copy`: a folder between S3 and HDFS."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape

from zaslon.bootstrap.copy_wiring import build_copying
from zaslon.entrypoints.console import out, print_table
from zaslon.entrypoints.options import Home, Json
from zaslon.entrypoints.performing import perform_without_context
from zaslon.settings import load_settings


def copy(
    source: Annotated[
        str, typer.Argument(help="Folder to copy: s3a://bucket/folder, hdfs://namenode/folder.")
    ],
    target: Annotated[str, typer.Argument(help="Folder that gets its content.")],
    as_json: Json = False,
    home: Home = None,
    verify_all: Annotated[
        bool, typer.Option("--verify-all", help="Read again what an earlier copy has compared.")
    ] = False,
) -> int:
    """Copy a folder between S3 and HDFS by Hadoop's DistCp, and compare every byte. Again, it resumes.

    Example: [bold]zaslon copy s3a://lake/raw hdfs://namenode/raw[/]
    """
    from zaslon.flows.copy import copy as flow  # noqa: PLC0415

    settings = load_settings(home=home)
    return perform_without_context(
        as_json,
        lambda bars: flow(build_copying(settings, source, target, bars), verify_all=verify_all),
        _show,
    )


def _show(copied: Any) -> None:
    report = copied.to_json_dict()
    names = (
        "files",
        "files_copied",
        "files_copied_again",
        "files_skipped",
        "files_verified",
        "files_only_at_target",
    )
    rows = [(name.replace("_", " "), report[name]) for name in names]
    rows += [(name.replace("_", " "), report[name]) for name in ("bytes", "bytes_copied")]
    print_table(f"{report['source']} → {report['target']}", ("what", "number"), rows)
    seconds = ", ".join(f"{stage} {value:,.1f} s" for stage, value in report["seconds"].items())
    log = report["paths"]["log"]
    place = "Nothing had to be copied." if log is None else f"DistCp's log is '{log}'."
    out.print(escape(f"{seconds}. {place} The manifest is '{report['paths']['manifest']}'."), highlight=False)


def add_to(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command()(copy)
