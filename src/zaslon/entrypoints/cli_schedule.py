"""The command of the schedule: `schedule`, with `run`, `status`, `jobs` and `alert`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from zaslon.bootstrap import build_clock, build_schedule
from zaslon.domain.errors import ZaslonError, did_you_mean
from zaslon.domain.jobs import Chain, JobList, load_jobs
from zaslon.entrypoints.cli_stream import print_line, stop_on_signals
from zaslon.entrypoints.console import print_json, print_table
from zaslon.entrypoints.options import Home, Json
from zaslon.flows.schedule import exported, keep_schedule
from zaslon.flows.schedule import status as flow_status
from zaslon.services.chain import Schedule, run_chain, send_alert
from zaslon.services.context import SCHEDULE
from zaslon.services.home import existing_home
from zaslon.services.job_runs import SUCCESS, ChainRun, JobRun, RunStore
from zaslon.settings import Settings, load_settings
from zaslon.system.durable import make_directory, write_file

JOB_FAILED = 15  # or was cut short
schedule_app = typer.Typer(help="Run the jobs that keep a home up to date, at their times.")


@schedule_app.callback(invoke_without_command=True)
def schedule(context: typer.Context, as_json: Json = False, home: Home = None) -> int:
    """Run the jobs at their times until SIGTERM or Ctrl-C.

    Example: [bold]zaslon schedule --home my-bank[/]
    """
    if context.invoked_subcommand is not None:
        if as_json or home is not None:
            raise ZaslonError(
                f"Options come after `{context.invoked_subcommand}`.",
                hint=f"Write `zaslon schedule {context.invoked_subcommand} …`.",
            )
        return 0
    settings = load_settings(home=home)
    make_directory(settings.home)
    ending = stop_on_signals()
    plan = build_schedule(settings, ending, print_line, _observer(settings))
    for chain in plan.jobs.here:
        print_line(f"Chain {chain.name} runs at '{chain.when}' UTC.")
    keep_schedule(plan)
    if as_json:
        print_json({"stopped": True})
    return 0


def _observer(settings: Settings) -> Callable[[str, JobRun], None]:
    """Counts the end of every job where Prometheus reads metrics."""
    if settings.schedule_metrics_port is None:
        return lambda _chain, _job: None
    if find_spec("prometheus_client") is None:
        raise ZaslonError(
            "Metrics need 'prometheus_client', which is not installed.",
            hint="Install it: pip install 'zaslon[api]', or leave ZASLON_SCHEDULE_METRICS_PORT out.",
        )
    from zaslon.entrypoints.schedule_metrics import ScheduleMetrics  # noqa: PLC0415  an extra
    from zaslon.entrypoints.stream_metrics import publish  # noqa: PLC0415

    metrics = ScheduleMetrics()
    for chain in load_jobs(settings.schedule_jobs).here:
        metrics.remember(reversed(RunStore(settings.home / SCHEDULE / chain.name).runs()))
    publish(
        metrics.registry, settings.schedule_metrics_host, settings.schedule_metrics_port,
        "ZASLON_SCHEDULE_METRICS_PORT",
    )  # fmt: skip
    return metrics.observe


@schedule_app.command("run")
def run_now(
    name: Annotated[str, typer.Argument(help="A chain, or one job of it: daily or daily.clean.")],
    as_json: Json = False,
    home: Home = None,
) -> int:
    """Run a chain, or one job of it, now, with its retries, timeouts and alerts.

    Example: [bold]zaslon schedule run daily[/]
    """
    settings = load_settings(home=home)
    make_directory(settings.home)
    plan = build_schedule(settings, stop_on_signals(), print_line, lambda _chain, _job: None)
    chain, job = _chain_and_job(plan.jobs, name)
    _check(plan, chain, job)
    done = run_chain(plan, chain, due=None, only=job)
    if as_json:
        print_json(done.to_json_dict())
    else:
        _show_run(done)
    return 0 if done.state == SUCCESS else JOB_FAILED


def _chain_and_job(jobs: JobList, name: str) -> tuple[Chain, str | None]:
    chain_name, _, job = name.partition(".")
    chain = jobs.chain(chain_name)
    names = [known.name for known in chain.jobs]
    if job and job not in names:
        raise ZaslonError(f"Chain {chain.name} has no job '{job}'.", hint=did_you_mean(job, names))
    return chain, job or None


def _check(plan: Schedule, chain: Chain, only: str | None) -> None:
    """Name what the settings lack before anything runs."""
    for job in chain.jobs:
        if only in (None, job.name):
            job.arguments(plan.sources, 0)


def _show_run(run: ChainRun) -> None:
    columns = ("job", "state", "attempts", "exit code", "message")
    rows = [[job.job, job.state, job.attempts, job.exit_code, job.message] for job in run.jobs]
    print_table(f"{run.chain}: {run.state}", columns, rows)


@schedule_app.command("status")
def status(
    as_json: Json = False,
    home: Home = None,
    runs: Annotated[int, typer.Option(min=1, help="At most so many runs of a chain, the newest.")] = 5,
) -> int:
    """Show the newest runs of every chain, and when the next one is due.

    Example: [bold]zaslon schedule status --json[/]
    """
    settings = load_settings(home=home)
    jobs = load_jobs(settings.schedule_jobs)
    found = flow_status(jobs, existing_home(settings.home) / SCHEDULE, build_clock().now_seconds(), runs)
    if as_json:
        print_json(found.to_json_dict())
        return 0
    for chain in found.to_json_dict()["chains"]:
        rows = [
            [run["due"] or "by hand", run["started"], run["ended"], run["state"], _in_words(run)]
            for run in chain["runs"]
        ]
        title = f"{chain['name']}: next {chain['next']}, last success {chain['last_success'] or 'none'}"
        print_table(title, ("due", "started", "ended", "state", "jobs"), rows)
    return 0


def _in_words(run: dict[str, Any]) -> str:
    return ", ".join(f"{job['job']} {job['state']}" for job in run["jobs"])


@schedule_app.command("jobs")
def jobs(
    as_json: Json = False,
    home: Home = None,
    out: Annotated[Path | None, typer.Option(help="Write the JSON object into a file, for Airflow.")] = None,
) -> int:
    """Show the list of jobs as `zaslon schedule` and Airflow run it.

    Example: [bold]zaslon schedule jobs --out dags/zaslon_jobs.json[/]
    """
    settings = load_settings(home=home)
    plan = build_schedule(settings, threading.Event(), print_line, lambda _chain, _job: None)
    if out is not None:
        write_file(out, orjson.dumps(exported(plan), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if as_json:
        print_json(exported(plan))
    elif out is None:
        for chain in plan.jobs.chains:
            rows = [
                [job.name, job.where, " ".join(job.command), ", ".join(job.after), job.timeout, job.retries]
                for job in chain.ordered
            ]
            title = f"{chain.name}: '{chain.when}' UTC"
            print_table(title, ("job", "where", "command", "after", "timeout", "retries"), rows)
    return 0


@schedule_app.command("alert")
def tell(
    name: Annotated[str, typer.Argument(help="What it is about, such as daily.clean.")],
    message: Annotated[str, typer.Argument(help="A sentence for people.")],
    as_json: Json = False,
    home: Home = None,
    state: Annotated[str, typer.Option(help="What became of it.")] = "failed",
) -> int:
    """Tell people that something failed, as the schedule does. Airflow's callbacks call it.

    Example: [bold]zaslon schedule alert daily.clean "A try."[/]
    """
    plan = build_schedule(load_settings(home=home), threading.Event(), print_line, lambda _chain, _job: None)
    chain, _, job = name.partition(".")
    send_alert(plan, chain, job or None, state, message)
    if as_json:
        print_json({"sent": True})
    return 0


def add_to(app: typer.Typer) -> None:
    """Add it to the `zaslon` command."""
    app.add_typer(schedule_app, name="schedule")
