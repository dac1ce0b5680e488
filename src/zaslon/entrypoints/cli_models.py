"""The commands of models: `train`, `evaluate`, `compare`, `retrain`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from zaslon.entrypoints import show
from zaslon.entrypoints.options import CatalogueFile, Delay, Home, Json
from zaslon.entrypoints.performing import Lock, perform
from zaslon.services.context import Context

NO_NEWS = 99  # which Airflow's BashOperator takes as "skipped"


def train(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    tune: Annotated[int, typer.Option(min=0, help="Optuna trials before training; 0 for none.")] = 0,
) -> int:
    """Train on the home's clean days; the new model and its policy become the ones that serve.

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
    a: Annotated[str, typer.Argument(metavar="A", help="champion, a model's id, or its directory.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The model to judge, named in the same way.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    days: Annotated[int, typer.Option(min=1, help="At most so many days, the newest.")] = 30,
) -> int:
    """Say whether model B is better than A, on the newest days that neither has learned from.

    Example: [bold]zaslon compare champion 3f2a9c81d05e[/]
    """

    def work(context: Context) -> Any:
        from zaslon.flows.compare import compare as flow  # noqa: PLC0415

        return flow(context, a, b, days_max=days)

    return perform(
        as_json, work, show.comparison, lock=Lock.NOTHING,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip


def retrain(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    promote: Annotated[bool, typer.Option(help="Let a better challenger serve; if not, only report.")] = True,
) -> int:
    """Where clean days are newer than the champion: train a challenger, compare, promote it if it is better.

    Ends with 99 where nothing is new.

    Example: [bold]zaslon retrain[/]
    """
    has_news = True

    def work(context: Context) -> Any:
        from zaslon.flows.retrain import retrain as flow  # noqa: PLC0415

        nonlocal has_news
        report = flow(context, may_promote=promote)
        has_news = report.news is not None
        return report

    done = perform(
        as_json, work, show.retrained, lock=Lock.JOBS, makes_home=False,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip
    return done if has_news else NO_NEWS


def add_to(app: typer.Typer) -> None:
    """Add them to the `zaslon` command."""
    for command in (train, evaluate, compare, retrain):
        app.command()(command)
