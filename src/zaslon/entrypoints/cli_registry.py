"""The commands of the registry: `registry status`, `registry sync`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from zaslon.bootstrap import build_context
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints.console import out, print_json, print_table
from zaslon.entrypoints.options import CatalogueFile, Home, Json
from zaslon.services.context import Context
from zaslon.services.home import existing_home
from zaslon.settings import load_settings

NOT_IN_STEP = 1
registry_app = typer.Typer(no_args_is_help=True, help="The registry of models, which follows the ledger.")


@registry_app.command()
def status(as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None) -> int:
    """Show whether ledger, home and the registry's alias name the same champion, and which runs wait.

    Example: [bold]zaslon registry status --json[/]
    """
    from zaslon.services.publishing import registry_state  # noqa: PLC0415  slow to import

    context = _context(home, catalogue, reading=True)
    state = registry_state(context, context.open_registry())
    return _show(state.to_json_dict(), as_json)


@registry_app.command()
def sync(as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None) -> int:
    """Write the runs that wait, and let the alias `champion` name what the ledger does.

    Example: [bold]zaslon registry sync[/]
    """
    from zaslon.services.publishing import follow_ledger  # noqa: PLC0415  slow to import

    state = follow_ledger(_context(home, catalogue, reading=False))
    if state is None:
        raise ZaslonError(
            "There is no registry to write to.",
            hint="Install it with: pip install 'zaslon[mlflow]', or set ZASLON_REGISTRY=mlflow.",
        )
    return _show(state.to_json_dict(), as_json)


def add_to(app: typer.Typer) -> None:
    """Add them to the `zaslon` command."""
    app.add_typer(registry_app, name="registry")


def _context(home: Path | None, catalogue: Path | None, *, reading: bool) -> Context:
    settings = load_settings(home=home, catalogue=catalogue)
    existing_home(settings.home)
    return build_context(settings, reading=reading)


def _show(values: dict[str, Any], as_json: bool) -> int:
    if as_json:
        print_json(values)
    else:
        out.print(f"Registry: {values['place'] or 'none'}", highlight=False, soft_wrap=True)
        rows = [
            [who, values[who]["model"], values[who]["entry"]]
            for who in ("ledger", "home", "champion", "challenger")
        ]
        print_table("Who names which model", ("who", "model", "entry of the ledger"), rows)
        out.print(_in_words(values), highlight=False, soft_wrap=True)
    return 0 if values["agrees"] else NOT_IN_STEP


def _in_words(values: dict[str, Any]) -> str:
    if values["agrees"]:
        return "They agree."
    waiting = f"{values['waiting']} runs wait. " if values["waiting"] else ""
    return f"They do not agree. {values['problem'] or ''} {waiting}`zaslon registry sync` repairs it."
