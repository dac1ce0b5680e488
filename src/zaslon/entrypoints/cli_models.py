"""The commands of models: `train`, `evaluate`, `compare`, `retrain`, `shadow`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from zaslon.bootstrap import build_context
from zaslon.entrypoints import show
from zaslon.entrypoints.cli_stream import stop_on_signals
from zaslon.entrypoints.console import Quiet, out, print_json
from zaslon.entrypoints.options import NO_NEWS, CatalogueFile, Delay, Home, Json
from zaslon.entrypoints.performing import Lock, perform, settings_of
from zaslon.services.context import Context
from zaslon.services.home import existing_home
from zaslon.services.logs import with_named_log


def train(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    tune: Annotated[int, typer.Option(min=0, help="Optuna trials before training; 0 for none.")] = 0,
) -> int:
    """Train on the home's clean days; the new model serves if it is the first, or better, and keeps every guard.

    Example: [bold]zaslon train --tune 30[/]
    """

    def work(context: Context) -> Any:
        from zaslon.flows.train_champion import train_champion  # noqa: PLC0415

        return train_champion(context, tune_trials=tune)

    return perform(
        as_json, work, show.train_report, lock=Lock.JOBS, makes_home=False,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip


def evaluate(
    as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None, label_delay: Delay = None
) -> int:
    """Evaluate the serving model and policy on the test period of the home's clean days.

    Example: [bold]zaslon evaluate --json[/]
    """

    def work(context: Context) -> Any:
        from zaslon.flows.train_champion import evaluate_champion  # noqa: PLC0415

        return evaluate_champion(context)

    return perform(
        as_json,
        work,
        show.train_report,
        lock=Lock.NOTHING,
        home=home,
        catalogue=catalogue,
        label_delay=label_delay,
    )


def compare(
    a: Annotated[
        str,
        typer.Argument(metavar="A", help="champion, a model's id, its directory, or another home."),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to judge, named in the same way.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    days: Annotated[int, typer.Option(min=1, help="At most this many of the newest days.")] = 30,
    live: Annotated[
        bool, typer.Option("--live", help="On what both have decided live, see `zaslon shadow`.")
    ] = False,
    log: Annotated[str, typer.Option(help="With --live: log, or stream.")] = "log",
) -> int:
    """Say whether model B is better than A, on the newest days that neither has learned from.

    Example: [bold]zaslon compare champion 3f2a9c81d05e[/]
    """

    def work(context: Context) -> Any:
        if live:
            from zaslon.flows.compare_live import compare_live_models  # noqa: PLC0415

            return compare_live_models(with_named_log(context, log), a, b)
        from zaslon.flows.compare import compare as flow  # noqa: PLC0415

        return flow(context, a, b, days_max=days)

    return perform(
        as_json, work, show.live_comparison if live else show.comparison, lock=Lock.NOTHING,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip


def retrain(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    promote: Annotated[bool, typer.Option(help="Let a better challenger serve; if not, only report.")] = True,
    as_of: Annotated[
        str | None, typer.Option(help="As if it were this time, 2026-01-31T12:00 in UTC: for the past.")
    ] = None,
) -> int:
    """Where clean days are newer than the champion: train a challenger, compare, promote it if it is better.

    Ends with 99 where nothing is new.

    Example: [bold]zaslon retrain[/]
    """
    has_news = True

    def work(context: Context) -> Any:
        from zaslon.flows.promotion import parse_moment  # noqa: PLC0415
        from zaslon.flows.retrain import retrain as flow  # noqa: PLC0415

        nonlocal has_news
        moment = None if as_of is None else parse_moment(as_of)
        report = flow(context, may_promote=promote, as_of_seconds=moment)
        has_news = report.news is not None
        return report

    done = perform(
        as_json, work, show.retrained, lock=Lock.JOBS, makes_home=False,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip
    return done if has_news else NO_NEWS


def shadow(
    models: Annotated[list[str], typer.Argument(metavar="MODEL…", help="Challengers, named as for compare.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    policy: Annotated[
        Path | None, typer.Option(help="Policy file that they decide with; that of the home if not given.")
    ] = None,
    log: Annotated[str, typer.Option(help="log, or stream.")] = "log",
    within: Annotated[float, typer.Option(min=0.1, help="Seconds after which a decision is late.")] = 60.0,
    keep_days: Annotated[int, typer.Option(min=1, help="Days of transactions that are kept.")] = 60,
    once: Annotated[bool, typer.Option("--once", help="Decide what is in the log, and end.")] = False,
) -> int:
    """Let challengers decide beside the champion, on the live log, without a part in its decisions.

    Example: [bold]zaslon shadow 3f2a9c81d05e[/]
    """
    from zaslon.flows.shadow import shadow as flow  # noqa: PLC0415

    settings = settings_of(None, {"home": home, "catalogue": catalogue})
    existing_home(settings.home)
    stop = stop_on_signals()
    with Quiet() as quiet:
        context = replace(with_named_log(build_context(settings), log), progress=quiet)
        report = flow(
            context, models, policy, within_seconds=within, keep_days=keep_days,
            is_over=(lambda _: True) if once else stop.wait,
        )  # fmt: skip
    values = report.to_json_dict()
    if as_json:
        print_json(values)
    else:
        out.print(
            f"{len(values['challengers'])} challengers decided {values['transactions']:,} transactions, "
            f"{values['late']:,} of them late; the log continues at position {values['next_position']:,}.",
            highlight=False, soft_wrap=True,
        )  # fmt: skip
    return 0


def add_to(app: typer.Typer) -> None:
    """Add them to the `zaslon` command."""
    for command in (train, evaluate, compare, retrain, shadow):
        app.command()(command)
