"""The `zaslon` command. Commands parse, call a flow and show the result."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from zaslon import __version__
from zaslon.bootstrap import open_topics
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints import (
    cli_backfill,
    cli_copy,
    cli_ledger,
    cli_models,
    cli_package,
    cli_registry,
    cli_schedule,
    cli_stream,
    show,
)
from zaslon.entrypoints.console import Bars, Quiet, guarded, print_json
from zaslon.entrypoints.options import (
    NO_NEWS,
    Arrived,
    CatalogueFile,
    Delay,
    EngineName,
    Engines,
    Home,
    Json,
    Master,
    parse_arrived,
    reached,
)
from zaslon.entrypoints.performing import Lock, perform, settings_of
from zaslon.entrypoints.serve_command import add_commands
from zaslon.services.context import Context
from zaslon.services.logs import with_named_log
from zaslon.simulate import simulation_profile, write_simulation

app = typer.Typer(
    name="zaslon",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Real-time anti-fraud: clean, remember, score, decide, explain, prove.",
)

NOT_IN_ORDER, RECOMPUTED_DIFFERENTLY, MOSTLY_TOO_LATE = 1, 8, 12

Sources = Annotated[
    list[str],
    typer.Argument(
        callback=reached, help="Files, patterns or fsspec addresses; text, CSV, JSON lines, Parquet."
    ),
]


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"zaslon {__version__}")
        raise typer.Exit


@app.callback()
def _whole(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version.")
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def demo(
    as_json: Json = False,
    home: Home = None,
    customers: Annotated[int, typer.Option(min=100, help="Customers to simulate.")] = 2_000,
    days: Annotated[int, typer.Option(min=40, max=400, help="Days to simulate.")] = 65,
) -> int:
    """Watch the whole loop run on simulated transactions.

    Example: [bold]zaslon demo[/]
    """
    from zaslon.flows.demo import demo as flow  # noqa: PLC0415  training libraries are slow to import

    return perform(
        as_json,
        lambda c: flow(c, customers, days),
        show.demo_report,
        lock=Lock.HOME,
        corner="demo",
        home=home,
    )


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="File to write; .gz and .zst are compressed.")],
    as_json: Json = False,
    profile: Annotated[str, typer.Option(help="handbook or mission.")] = "mission",
    days: Annotated[int, typer.Option(min=1, help="Days to simulate.")] = 30,
    rows: Annotated[int | None, typer.Option(min=1, help="Stop after this many rows.")] = None,
    customers: Annotated[
        int | None, typer.Option(help="The profile's number if not given: a million for mission.")
    ] = None,
    terminals: Annotated[
        int | None, typer.Option(help="The profile's number if not given: 1,000 for mission.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="First day, YYYY-MM-DD.")] = None,
    defects: Annotated[float | None, typer.Option(help="Multiple of the real rates of defects.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same bytes.")] = 1,
    form: Annotated[
        str | None,
        typer.Option("--format", help="mission, csv, jsonl or parquet; by OUT's ending if not given."),
    ] = None,
) -> int:
    """Write simulated transactions with the mission's shape and defects.

    Example: [bold]zaslon simulate month.txt --days 30 --customers 5000[/]
    """
    chosen = simulation_profile(
        profile, customers=customers, terminals=terminals, start=start, defects=defects
    )
    with Quiet() if as_json else Bars() as bars:
        bars.start("simulate", rows)
        report = write_simulation(
            chosen, days, seed, out, rows=rows, format=form,  # type: ignore[arg-type]
            progress=bars.advance,
        )  # fmt: skip
    if as_json:
        print_json(report.to_json_dict())
    else:
        show.simulation_report(report)
    return 0


cli_copy.add_to(app)  # here, because `--help` lists commands in this order
cli_package.add_to(app)


@app.command()
def clean(
    sources: Sources,
    as_json: Json = False,
    out: Annotated[
        str | None,
        typer.Option(help="Directory; with --engine spark an address, too. HOME/clean if not given."),
    ] = None,
    home: Home = None,
    catalogue: CatalogueFile = None,
    arrived: Arrived = None,
    engine: EngineName = Engines.EMBEDDED,
    master: Master = None,
    only_new: Annotated[
        bool,
        typer.Option("--only-new", help="Add the files that were not cleaned before; 99 where none is new."),
    ] = False,
) -> int:
    """Clean raw files into Parquet by day, with every rejected row in quarantine.

    Example: [bold]zaslon clean 2019-08-22.txt --out clean[/]
    """
    moment, has_news = parse_arrived(arrived), True
    if only_new and engine is not Engines.EMBEDDED:
        raise ZaslonError(
            "--only-new does not go with a cluster.", hint="Leave out --engine, or clean all files again."
        )

    def work(context: Context) -> Any:
        from zaslon.flows.clean import clean as flow  # noqa: PLC0415
        from zaslon.flows.clean_table import clean_table  # noqa: PLC0415

        nonlocal has_news
        where = engine.place(out, context.home / "clean")
        with engine.opened(context) as cluster:
            if isinstance(where, str) and cluster is not None:
                return clean_table(
                    context, sources, where, cluster, arrival_time_seconds=moment, only_new=only_new
                )
            cleaned = flow(
                context, sources, Path(where), arrival_time_seconds=moment, cluster=cluster, only_new=only_new
            )
        has_news = cleaned.has_news
        return cleaned

    done = perform(
        as_json, work, show.clean_report, lock=Lock.JOBS, home=home, catalogue=catalogue, spark_master=master
    )
    return done if has_news else NO_NEWS


@app.command()
def features(
    as_json: Json = False,
    out: Annotated[
        str | None,
        typer.Option(help="Directory; with --engine spark an address, too. HOME/features if not given."),
    ] = None,
    clean_table: Annotated[
        str | None,
        typer.Option(
            "--clean", help="Address of clean days, with --engine spark; those of HOME if not given."
        ),
    ] = None,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    engine: EngineName = Engines.EMBEDDED,
    master: Master = None,
) -> int:
    """Write the features of the home's clean days, exactly as training and serving see them.

    Example: [bold]zaslon features --out features[/]
    """

    def work(context: Context) -> Any:
        from zaslon.flows.cluster_features import write_features_by  # noqa: PLC0415
        from zaslon.flows.export_features import write_features  # noqa: PLC0415

        where = engine.place(out, context.home / "features")
        table = engine.table(clean_table)
        with engine.opened(context) as cluster:
            if cluster is not None:
                return write_features_by(cluster, context, where, table)
            return write_features(context, Path(where))

    return perform(
        as_json,
        work,
        show.features_report,
        lock=Lock.JOBS,
        makes_home=False,
        home=home,
        catalogue=catalogue,
        label_delay=label_delay,
        spark_master=master,
    )


cli_models.add_to(app)
cli_backfill.add_to(app)


@app.command()
def score(
    sources: Sources,
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    learn: Annotated[
        bool, typer.Option(help="Answers in the file come back as labels after the delay.")
    ] = False,
    label_delay: Delay = None,
    arrived: Arrived = None,
) -> int:
    """Decide the rows of files and write them with their outcomes into the log. Continues where it stopped.

    Example: [bold]zaslon score tomorrow.txt[/]
    """
    moment = parse_arrived(arrived)
    is_mostly_late = False

    def work(context: Context) -> Any:
        from zaslon.flows.score import score as flow  # noqa: PLC0415

        nonlocal is_mostly_late
        report = flow(context, sources, learn=learn, arrival_time_seconds=moment)
        is_mostly_late = report.is_mostly_late
        return report

    done = perform(
        as_json, work, show.score_report, lock=Lock.LOG, makes_home=False,
        home=home, catalogue=catalogue, label_delay=label_delay,
    )  # fmt: skip
    return MOSTLY_TOO_LATE if is_mostly_late else done


@app.command()
def label(
    source: Annotated[Path, typer.Argument(help="CSV or JSON lines: transaction_id, is_fraud.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    arrived: Annotated[
        str | None, typer.Option(help="'YYYY-MM-DD HH:MM:SS'; the newest event time if not given.")
    ] = None,
) -> int:
    """Put labels into the log; each counts from then on.

    Example: [bold]zaslon label confirmed.csv[/]
    """
    arrival_time_seconds = parse_arrived(arrived)

    def work(context: Context) -> Any:
        from zaslon.flows.score import label as flow  # noqa: PLC0415

        return flow(context, source, arrival_time_seconds)

    return perform(
        as_json, work, show.label_report, lock=Lock.LOG, makes_home=False, home=home, catalogue=catalogue
    )


@app.command()
def run(
    sources: Sources,
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    label_delay: Delay = None,
    compare_delays: Annotated[
        bool, typer.Option(help="Show what faster labels are worth (five trainings).")
    ] = True,
    arrived: Arrived = None,
) -> int:
    """Clean, remember, train, prove, decide the last days, and show the scorecard.

    Example: [bold]zaslon run 2019-08-22.txt --home august[/]
    """
    moment = parse_arrived(arrived)

    def work(context: Context) -> Any:
        from zaslon.flows.run import run as flow  # noqa: PLC0415

        return flow(context, sources, compare_delays=compare_delays, arrival_time_seconds=moment)

    return perform(
        as_json,
        work,
        show.run_report,
        lock=Lock.HOME,
        home=home,
        catalogue=catalogue,
        label_delay=label_delay,
    )


@app.command()
def replay(
    decision: Annotated[
        str, typer.Argument(metavar="DECISION_ID", help="Log position, or tx:TRANSACTION_ID.")
    ],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    log: Annotated[str, typer.Option(help="One of the home's logs; log-1, … are from earlier runs.")] = "log",
) -> int:
    """Compute an old decision again from the log and show that it is identical.

    Example: [bold]zaslon replay tx:123456[/]
    """
    from zaslon.flows.replay import find_position  # noqa: PLC0415
    from zaslon.flows.replay import replay as flow  # noqa: PLC0415

    differs = False

    def work(context: Context) -> Any:
        nonlocal differs
        chosen = with_named_log(context, log)
        replayed = flow(chosen, find_position(chosen, decision))
        differs = not replayed.identical
        return replayed

    done = perform(as_json, work, show.replayed, lock=Lock.NOTHING, home=home, catalogue=catalogue)
    return RECOMPUTED_DIFFERENTLY if differs else done


@app.command()
def decisions(
    entity: Annotated[str, typer.Argument(help="What the catalogue calls it: customer, terminal, …")],
    value: Annotated[str, typer.Argument(help="Which one, as transactions name it.")],
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    log: Annotated[str, typer.Option(help="One of the home's logs; log-1, … are from earlier runs.")] = "log",
    archived: Annotated[bool, typer.Option("--archive", help="Ask the archive of that log.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Decisions at most.")] = 20,
    before: Annotated[int | None, typer.Option(min=0, help="`next` of the page before.")] = None,
) -> int:
    """List the decisions about one customer, terminal or other entity, newest first.

    Example: [bold]zaslon decisions customer 4961[/]
    """
    from zaslon.flows.find_decisions import find_decisions  # noqa: PLC0415

    def work(context: Context) -> Any:
        chosen = with_named_log(context, log)
        return find_decisions(chosen, entity, value, before=before, limit=limit, archived=archived)

    return perform(
        as_json,
        work,
        show.found_decisions,
        lock=Lock.NOTHING,
        makes_home=False,
        home=home,
        catalogue=catalogue,
    )


@app.command()
def doctor(
    as_json: Json = False,
    home: Home = None,
    catalogue: CatalogueFile = None,
    warm: Annotated[bool, typer.Option(help="Compile everything into the cache.")] = False,
) -> int:
    """Check the installation, the catalogue and the home.

    Example: [bold]zaslon doctor[/]
    """
    from zaslon.flows.doctor import examine  # noqa: PLC0415

    settings = settings_of(None, {"home": home, "catalogue": catalogue})
    topics = None if settings.kafka_servers is None else lambda: open_topics(settings)
    checks = examine(
        settings.home, settings.catalogue, warm=warm, topics=topics,
        original_retention_days=settings.original_retention_days,
    )  # fmt: skip
    healthy = all(check.is_ok for check in checks)
    if as_json:
        print_json({"healthy": healthy, "version": __version__, "checks": [c.to_json_dict() for c in checks]})
    else:
        show.checks(checks)
    return 0 if healthy else NOT_IN_ORDER


add_commands(app)
cli_stream.add_to(app)
cli_ledger.add_to(app)
cli_registry.add_to(app)
cli_schedule.add_to(app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point of the `zaslon` command: one command, its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    return guarded(
        lambda: app(given, prog_name="zaslon", standalone_mode=False) or 0, as_json="--json" in given
    )


if __name__ == "__main__":
    sys.exit(main())
