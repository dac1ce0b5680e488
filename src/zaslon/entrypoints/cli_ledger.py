"""The commands of the ledger and of the store: `history`, `promote`, `policy`, `rollback`, `store`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from zaslon.bootstrap import build_context, migrate_store
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints import show
from zaslon.entrypoints.cli_stream import print_line, stop_on_signals
from zaslon.entrypoints.console import Bars, Quiet, out, print_json, print_table
from zaslon.entrypoints.options import CatalogueFile, Home, Json
from zaslon.services.home import existing_home
from zaslon.services.logs import with_named_log
from zaslon.services.promotion_ledger import record_champion
from zaslon.settings import Settings, load_settings

BROKEN = 8
policy_app = typer.Typer(no_args_is_help=True, help="The policy: rules and thresholds beside the model.")
store_app = typer.Typer(no_args_is_help=True, help="The store of keys, policies and promotions.")


def history(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    at: Annotated[str | None, typer.Option(help="A time in UTC, 2026-01-31T12:00: what served then.")] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Check the chain of hashes.")] = False,
    log: Annotated[
        str | None, typer.Option(help="With --at: log or stream; the stream's, if the home has one.")
    ] = None,
) -> int:
    """List what was promoted, answer what served at a moment, or check the ledger.

    Example: [bold]zaslon history --at 2026-01-31T12:00[/]
    """
    from zaslon.flows import promotion  # noqa: PLC0415  slow to import
    from zaslon.flows.serving_history import served_at  # noqa: PLC0415

    if verify and at is not None:
        raise ZaslonError("--at and --verify exclude each other.", hint="Give one of them.")
    context = build_context(_of_existing_home(home, catalogue), reading=True)
    if verify:
        found = promotion.verify(context)
        _show(found.to_json_dict(), as_json, f"Of {found.entries} entries " + _in_words(found))
        return 0 if found.is_valid else BROKEN
    if at is not None:
        served = served_at(context, promotion.parse_moment(at), log)
        _show(served.to_json_dict(), as_json, _served_in_words(served.to_json_dict()))
        return 0
    listed = promotion.history(context)
    if as_json:
        print_json(listed.to_json_dict())
        return 0
    columns = ("number", "at", "actor", "action", "model", "policy", "verdict", "approval")
    rows = [[entry[c] for c in columns] for entry in listed.to_json_dict()["promotions"]]
    print_table("Promotions", columns, rows)
    return 0


def promote(
    model: Annotated[str, typer.Argument(metavar="MODEL_ID", help="A directory in `models` of the home.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    approve: Annotated[str | None, typer.Option(help="The second person, who has approved it.")] = None,
    unguarded: Annotated[
        bool, typer.Option("--unguarded", help="Even if it breaks a guard. The ledger says so.")
    ] = False,
) -> int:
    """Let a model of the home serve if it passes the guards, and record it. A running service takes it over.

    Example: [bold]zaslon promote 3f9c2a7b1e04 --approve anna[/]
    """
    from zaslon.flows.promotion import promote_by_hand  # noqa: PLC0415  slow to import

    context = build_context(_of_existing_home(home, catalogue))
    with Quiet() if as_json else Bars() as bars:
        done = promote_by_hand(replace(context, progress=bars), model, approve, guarded=not unguarded)
    if done.guards and not as_json:
        show.guards(done.to_json_dict()["guards"])
    _show_promoted(done.to_json_dict(), as_json)
    return 0


def rollback(
    model: Annotated[
        str | None, typer.Argument(metavar="[MODEL_ID]", help="What served before if not given.")
    ] = None,
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    entry: Annotated[
        int | None, typer.Option(min=1, help="An entry of the ledger, as `zaslon history` numbers them.")
    ] = None,
) -> int:
    """Let an earlier model and policy serve again, both as they served then.

    Example: [bold]zaslon rollback --entry 3[/]
    """
    from zaslon.flows.promotion import roll_back  # noqa: PLC0415  slow to import

    if model is not None and entry is not None:
        raise ZaslonError("A model and --entry exclude each other.", hint="Give one of them.")
    with Quiet() as quiet:
        context = replace(build_context(_of_existing_home(home, catalogue)), progress=quiet)
        done = roll_back(context, model, entry)
    _show_promoted(done.to_json_dict(), as_json)
    return 0


@policy_app.command("apply")
def apply(
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="The policy; policy.toml of the home if not given."),
    ] = None,
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    why: Annotated[str | None, typer.Option(help="Why, for the ledger.")] = None,
    approve: Annotated[str | None, typer.Option(help="The second person, who has approved it.")] = None,
) -> int:
    """Let another policy decide with the model that serves. A running service or scorer takes it over.

    Example: [bold]zaslon policy apply policy.toml --why "attack on terminals"[/]
    """
    from zaslon.flows.policy_change import apply_policy  # noqa: PLC0415  slow to import

    with Quiet() as quiet:
        context = replace(build_context(_of_existing_home(home, catalogue)), progress=quiet)
        done = apply_policy(context, file, why=why, approver=approve)
    _show_promoted(done.to_json_dict(), as_json)
    return 0


@policy_app.command("list")
def list_versions(as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None) -> int:
    """List the versions of the policy in the store, oldest first.

    Example: [bold]zaslon policy list[/]
    """
    from zaslon.flows.policy_versions import list_policies  # noqa: PLC0415  slow to import

    context = build_context(_of_existing_home(home, catalogue), reading=True)
    listed = list_policies(context).to_json_dict()
    if as_json:
        print_json(listed)
        return 0
    columns = ("policy", "label", "at", "actor", "note", "serves")
    print_table("Policies", columns, [[version[c] for c in columns] for version in listed["policies"]])
    return 0


@policy_app.command("show")
def show_version(
    policy: Annotated[str, typer.Argument(metavar="HASH", help="As `zaslon policy list` names it.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
) -> int:
    """Print a policy as people wrote it, or what it means where nobody wrote it.

    Example: [bold]zaslon policy show 5a0c3e9d12f4 > policy.toml[/]
    """
    from zaslon.flows.policy_versions import show_policy  # noqa: PLC0415  slow to import

    context = build_context(_of_existing_home(home, catalogue), reading=True)
    shown = show_policy(context, policy).to_json_dict()
    if as_json:
        print_json(shown)
    else:
        sys.stdout.write(shown["text"])
    return 0


@store_app.command("migrate")
def migrate(as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None) -> int:
    """Bring the store to the newest schema, with the keys, policies and champion from before it.

    Example: [bold]zaslon store migrate[/]
    """
    settings = _of_existing_home(home, catalogue)
    context = build_context(settings)
    done = migrate_store(settings)
    newest = record_champion(context)
    values = {**done.to_json_dict(), "entries": 0 if newest is None else newest.number}
    _show(
        values, as_json,
        f"The store {done.store} has schema {done.schema} (before: {done.schema_before or 'none'}); "
        f"{done.rows_copied} rows copied, {done.keys_moved} keys moved, "
        f"{done.policies_taken} policies taken in, {values['entries']} entries in the ledger.",
    )  # fmt: skip
    return 0


@store_app.command("archive")
def archive(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    log: Annotated[str, typer.Option(help="log, or stream.")] = "log",
    keep_days: Annotated[
        int | None, typer.Option(min=1, help="Days that are kept; all if not given.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Copy what is in the log, and end.")] = False,
) -> int:
    """Copy the decisions of the log to PostgreSQL, partitioned by day, until interrupted.

    Example: [bold]zaslon store archive --keep-days 365[/]
    """
    from zaslon.flows.archive import archive as flow  # noqa: PLC0415

    stop = stop_on_signals()
    context = with_named_log(build_context(_of_existing_home(home, catalogue), reading=True), log)
    done = flow(
        context, keep_days=keep_days, is_over=(lambda _: True) if once else stop.wait, notify=print_line,
        waits=not once,
    )  # fmt: skip
    _show(
        done.to_json_dict(), as_json,
        f"{done.decisions:,} decisions copied; the log continues at position {done.next_position:,}.",
    )  # fmt: skip
    return 0


def add_to(app: typer.Typer) -> None:
    """Add them to the `zaslon` command."""
    app.command()(history)
    app.command()(promote)
    app.command()(rollback)
    app.add_typer(policy_app, name="policy")
    app.add_typer(store_app, name="store")


def _of_existing_home(home: Path | None, catalogue: Path | None) -> Settings:
    settings = load_settings(home=home, catalogue=catalogue)
    existing_home(settings.home)
    return settings


def _served_in_words(values: dict[str, Any]) -> str:
    ended = "" if values["until"] is None else f" until {values['until']}"
    sentence = (
        f"Model {values['model']} with policy {values['policy']}, from {values['since'] or 'an unknown time'}"
        f"{ended}, by {values['by'] or 'an unknown person'}: {values['reason'] or 'the ledger does not have it'}."
    )
    if values["entry_not_taken_over"] is not None:
        sentence += f" Entry {values['entry_not_taken_over']} of the ledger had not taken effect."
    return sentence if values["note"] is None else f"{sentence} This is the ledger's view. {values['note']}"


def _in_words(found: Any) -> str:
    if found.broken is None:
        return "every one follows the one before it."
    return f"the first {found.broken.number - 1} are in order: {found.broken.reason}."


def _show_promoted(values: dict[str, Any], as_json: bool) -> None:
    _show(
        values, as_json,
        f"Model {values['model']} with policy {values['policy']} serves now; before: "
        f"{values['model_before'] or 'none'} with {values['policy_before'] or 'none'}. "
        f"Entry {values['number']} of the ledger.",
    )  # fmt: skip


def _show(values: dict[str, Any], as_json: bool, sentence: str) -> None:
    if as_json:
        print_json(values)
    else:
        out.print(sentence, highlight=False, soft_wrap=True)
