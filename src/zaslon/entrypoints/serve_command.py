"""Commands of the decision service: serve, keys, reconcile."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from zaslon.bootstrap import build_context, open_api_keys
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints import show
from zaslon.entrypoints.console import out, print_json, print_table
from zaslon.entrypoints.options import CatalogueFile, Home, Json
from zaslon.services.home import existing_home
from zaslon.services.key_management import create_key, revoke_key
from zaslon.services.logs import with_named_log
from zaslon.settings import Settings, load_settings

NOT_WHOLE = 8
keys_app = typer.Typer(no_args_is_help=True, help="Keys of the decision service: create, list, revoke.")


def _of_existing_home(home: Path | None) -> Settings:
    settings = load_settings(home=home)
    existing_home(settings.home)
    return settings


def _now_seconds() -> float:
    return datetime.now(UTC).timestamp()


def serve(
    home: Home = None,
    catalogue: CatalogueFile = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port; 0 takes a free one.")] = None,
    as_json: Json = False,
) -> int:
    """Serve decisions over HTTP until interrupted; every setting begins with ZASLON_API_.

    Example: [bold]zaslon serve --home august[/]
    """
    try:
        from zaslon.entrypoints.api.server import serve as flow  # noqa: PLC0415  an extra
    except ImportError as error:
        raise ZaslonError(
            f"The service needs '{error.name}', which is not installed.",
            hint="Install it: pip install 'zaslon[api]'.",
        ) from error
    settings = load_settings(home=home, catalogue=catalogue, api_host=host, api_port=port)
    existing_home(settings.home)
    flow(settings)
    if as_json:
        print_json({"stopped": True})
    return 0


def reconcile(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    log: Annotated[str, typer.Option(help="Which of the home's logs.")] = "log",
    sent: Annotated[Path | None, typer.Option(help="File with a transaction id a line.")] = None,
) -> int:
    """Show that every record has one outcome and every accepted transaction one decision.

    Example: [bold]zaslon reconcile --sent ids.txt[/]
    """
    from zaslon.flows.reconcile import reconcile as flow  # noqa: PLC0415

    settings = load_settings(home=home, catalogue=catalogue)
    found = flow(with_named_log(build_context(settings, reading=True), log), sent)
    if as_json:
        print_json(found.to_json_dict())
    else:
        show.reconciled(found)
    return 0 if found.is_whole else NOT_WHOLE


@keys_app.command("create")
def create(
    role: Annotated[str, typer.Option(help="scorer, analyst or admin.")],
    as_json: Json = False,
    home: Home = None,
    name: Annotated[str, typer.Option(help="Whose key it is, for people.")] = "",
    lasts: Annotated[str | None, typer.Option(help="How long it is valid, e.g. 90d.")] = None,
) -> int:
    """Create a key. It is printed once; only its hash is stored.

    Example: [bold]zaslon keys create --role scorer --name gateway --lasts 90d[/]
    """
    created = create_key(open_api_keys(load_settings(home=home)), role, name, lasts, _now_seconds())
    if as_json:
        print_json(created.to_json_dict())
    else:
        out.print(f"Key {created.key.id} ({created.key.role}), printed only now:", highlight=False)
        out.print(created.secret, highlight=False, soft_wrap=True)
    return 0


@keys_app.command("list")
def show_all(as_json: Json = False, home: Home = None) -> int:
    """List all keys. Their secrets are not stored.

    Example: [bold]zaslon keys list[/]
    """
    found = [key.to_json_dict() for key in open_api_keys(_of_existing_home(home)).all()]
    if as_json:
        print_json({"keys": found})
        return 0
    columns = ("id", "role", "name", "created", "expires", "revoked")
    print_table("Keys", columns, [[key[column] for column in columns] for key in found])
    return 0


@keys_app.command("revoke")
def revoke(
    identifier: Annotated[str, typer.Argument(metavar="KEY_ID", help="As `zaslon keys list` shows it.")],
    as_json: Json = False,
    home: Home = None,
) -> int:
    """Revoke a key permanently. A running service refuses it within a second.

    Example: [bold]zaslon keys revoke 0123456789ab[/]
    """
    keys = open_api_keys(_of_existing_home(home))
    key: dict[str, Any] = revoke_key(keys, identifier, _now_seconds()).to_json_dict()
    if as_json:
        print_json(key)
    else:
        out.print(f"Key {key['id']} is revoked.", highlight=False)
    return 0


def add_commands(app: typer.Typer) -> None:
    """Add them to the `zaslon` command."""
    app.command()(serve)
    app.command()(reconcile)
    app.add_typer(keys_app, name="keys")
