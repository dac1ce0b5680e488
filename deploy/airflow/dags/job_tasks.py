"""A job of Zaslon's list as a task of Airflow, for every DAG that is made of the list.

Nothing of Zaslon is imported: a job is a command, judged by its exit code. Settings and secrets are those of
Zaslon (`zaslon.toml` where the tasks run, or its environment), none are here.

    ZASLON_BIN        the command; `zaslon` if not set
    ZASLON_DIRECTORY  where it runs, for its zaslon.toml; the user's home if not set
    ZASLON_JOBS_FILE  the list, which `zaslon schedule jobs --out` writes; `zaslon_jobs.json` beside this file if not set
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import TriggerRule

ZASLON = os.environ.get("ZASLON_BIN", "zaslon")
DIRECTORY = os.environ.get("ZASLON_DIRECTORY", str(Path.home()))
JOBS_FILE = Path(os.environ.get("ZASLON_JOBS_FILE", str(Path(__file__).with_name("zaslon_jobs.json"))))
DAY = "{{ dag_run.run_after.strftime('%Y-%m-%d') }}"  # a run by hand has no logical date
ALERT_SECONDS = 60
START = pendulum.datetime(2026, 1, 1, tz="UTC")


def chains(*, on_cluster: bool) -> list[dict[str, Any]]:
    """The chains of the list of which a job runs on a cluster, or those that need none."""
    found = json.loads(JOBS_FILE.read_text("utf-8"))["chains"]
    return [c for c in found if any(job["where"] == "cluster" for job in c["jobs"]) == on_cluster]


def command(arguments: list[str], places: Mapping[str, str]) -> str:
    """The words for bash, `{date}` as the day of the run, and other places as templates."""
    words = [shlex.quote(word) for word in arguments]
    for name, template in {"date": DAY, **places}.items():
        words = [word.replace(f"{{{name}}}", template) for word in words]
    return " ".join([shlex.quote(ZASLON), *words])


def alert(context: dict[str, Any]) -> None:
    """Tell people what failed for good, as `zaslon schedule` does: by the webhook or program of its settings."""
    task = context["ti"]
    name = f"{task.dag_id.removeprefix('zaslon_')}.{task.task_id}"
    message = f"{context.get('exception') or 'It failed.'} Its log is in Airflow, run {task.run_id}."
    subprocess.run(
        [ZASLON, "schedule", "alert", name, message], cwd=DIRECTORY, timeout=ALERT_SECONDS, check=True
    )


def attempts(job: dict[str, Any]) -> dict[str, Any]:
    """How often and how long a job is tried, and after what, as Airflow's operators want it."""
    return {
        "task_id": job["name"],
        "retries": job["retries"],
        "retry_delay": timedelta(seconds=job["retry_delay_seconds"]),
        "execution_timeout": timedelta(seconds=job["timeout_seconds"]),
        "trigger_rule": TriggerRule.NONE_FAILED if job["after_skipped"] else TriggerRule.ALL_SUCCESS,
        "on_failure_callback": alert,
    }


def task_of(job: dict[str, Any], places: Mapping[str, str] = MappingProxyType({})) -> BashOperator:
    """A job on this machine: exit codes that mean "nothing to do" skip it, any other but 0 fails it."""
    return BashOperator(
        bash_command=command(job["arguments"], places),
        cwd=DIRECTORY,
        append_env=True,
        do_xcom_push=False,
        skip_on_exit_code=job["skip_codes"] or None,
        **attempts(job),
    )
