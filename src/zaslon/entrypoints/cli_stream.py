"""The commands of the stream: `topics`, `produce`, `stream`."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace
from typing import Annotated, Any, cast

import typer
from rich.markup import escape

from zaslon.bootstrap import build_context, kafka_connection, open_topics
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints.console import Bars, Quiet, err, out, print_json, print_table
from zaslon.entrypoints.options import Arrived, CatalogueFile, Home, Json, parse_arrived
from zaslon.services.home import existing_home
from zaslon.settings import Settings, load_settings


def topics(
    action: Annotated[str, typer.Argument(help="create or check.")] = "check", as_json: Json = False
) -> int:
    """Make the topics of the stream with the right settings, or check them.

    Example: [bold]zaslon topics create[/]
    """
    from zaslon.flows.manage_topics import make_or_check  # noqa: PLC0415

    settings = load_settings()
    states = make_or_check(lambda: open_topics(settings), action)
    healthy = not any(state.complaints for state in states)
    if as_json:
        described = [
            {"name": s.name, "partitions": s.partitions, "complaints": list(s.complaints)} for s in states
        ]
        print_json({"healthy": healthy, "topics": described})
    else:
        rows = [[s.name, s.partitions, not s.complaints, "; ".join(s.complaints) or s.note] for s in states]
        print_table("Topics", ("topic", "partitions", "fine", "detail"), rows)
    return 0 if healthy else 1


def produce(
    sources: Annotated[list[str], typer.Argument(help="Files or fsspec addresses.")],
    as_json: Json = False,
    topic: Annotated[str, typer.Option(help="Topic to send to.")] = "input",
    rate: Annotated[float, typer.Option(min=0, help="Records a second; 0 is as fast as possible.")] = 0,
    speed: Annotated[
        float, typer.Option(min=0, help="Replay event times so many times faster; 0 is off.")
    ] = 0,
    form: Annotated[str, typer.Option("--format", help="line (as it is) or json.")] = "line",
    arrived: Arrived = None,
    home: Home = None,
    catalogue: CatalogueFile = None,
) -> int:
    """Send the records of files to a topic. The same command continues where it stopped.

    Example: [bold]zaslon produce month.txt --rate 400[/]
    """
    if form not in ("line", "json"):
        raise ZaslonError(f"Unknown format '{form}'.", hint="Use line or json.")
    if rate and speed:
        raise ZaslonError("--rate and --speed exclude each other.", hint="Give one of them.")
    moment = parse_arrived(arrived)
    settings = load_settings(home=home, catalogue=catalogue)
    kafka_connection(settings)  # names what is missing before the extra is imported
    from zaslon.entrypoints.stream_metrics import SendMetrics  # noqa: PLC0415
    from zaslon.flows.produce import Form, SendRate  # noqa: PLC0415
    from zaslon.flows.produce import produce as flow  # noqa: PLC0415

    stop = stop_on_signals()
    context = build_context(settings)
    metrics = SendMetrics()
    _publish(settings, metrics.registry)
    with Quiet() if as_json else Bars() as bars:
        report = flow(
            replace(context, progress=bars), sources, topic, form=cast(Form, form), rate=SendRate(rate, speed),
            arrival_time_seconds=moment, is_over=stop.is_set, observe=metrics.observe,
        )  # fmt: skip
    if as_json:
        print_json(report.to_json_dict())
    else:
        out.print(f"{report.rows_sent:,} records sent to '{escape(topic)}' at {report.per_second:,.0f}/s.")
    return 0


def stream(as_json: Json = False, home: Home = None, catalogue: CatalogueFile = None) -> int:
    """Decide what arrives in topic `input`, exactly once; a second process stands by.

    Example: [bold]zaslon stream --home my-bank[/]
    """
    settings = load_settings(home=home, catalogue=catalogue)
    existing_home(settings.home)  # the model that decides is in it
    kafka_connection(settings)  # names what is missing before the extra is imported
    from zaslon.entrypoints.stream_metrics import StreamMetrics  # noqa: PLC0415
    from zaslon.flows.stream import stream as flow  # noqa: PLC0415

    stop = stop_on_signals()
    metrics = StreamMetrics()
    _publish(settings, metrics.registry)
    with Quiet() as quiet:
        context = replace(build_context(settings), progress=quiet)
        report = flow(context, stop.is_set, print_line, metrics.observe, metrics.snapshots.observe)
    values = report.to_json_dict()
    if as_json:
        print_json(values)
    else:
        _show(values)
    return 0


def _publish(settings: Settings, registry: Any) -> None:
    if settings.stream_metrics_port is not None:
        from zaslon.entrypoints.stream_metrics import publish  # noqa: PLC0415  an extra

        publish(registry, settings.stream_metrics_host, settings.stream_metrics_port)


def _show(values: dict[str, Any]) -> None:
    out.print(
        f"Decided {values['decisions']:,} transactions, took {values['labels']:,} labels, "
        f"rejected {sum(values['records_rejected'].values()):,} records; "
        f"the log continues at position {values['next_position']:,}."
    )


def print_line(sentence: str) -> None:
    """One line on standard error."""
    err.print(sentence, highlight=False, markup=False, soft_wrap=True)


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set: finish the current work, then end."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def add_to(app: typer.Typer) -> None:
    """Add the commands to the application."""
    for command in (topics, produce, stream):
        app.command()(command)
