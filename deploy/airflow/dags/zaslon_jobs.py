"""Airflow's DAGs, one for each chain of Zaslon's list of jobs, which `zaslon schedule jobs --out` writes.

Nothing of Zaslon is imported: a job is a command, judged by its exit code. Settings and secrets are those of
Zaslon (`zaslon.toml` where the tasks run, or its environment), none are here.

    ZASLON_BIN        the command; `zaslon` if not set
    ZASLON_DIRECTORY  where it runs, for its zaslon.toml; the user's home if not set
    ZASLON_JOBS_FILE  the list; `zaslon_jobs.json` beside this file if not set
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import pendulum
from airflow.providers.standard.operators.bash import BashOperator
from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule

ZASLON = os.environ.get("ZASLON_BIN", "zaslon")
DIRECTORY = os.environ.get("ZASLON_DIRECTORY", str(Path.home()))
JOBS_FILE = Path(os.environ.get("ZASLON_JOBS_FILE", str(Path(__file__).with_name("zaslon_jobs.json"))))
DAY = "{{ dag_run.run_after.strftime('%Y-%m-%d') }}"  # a run by hand has no logical date
ALERT_SECONDS = 60


def command(arguments: list[str]) -> str:
    """The words for bash, `{date}` as the day of the run."""
    words = [shlex.quote(word).replace("{date}", DAY) for word in arguments]
    return " ".join([shlex.quote(ZASLON), *words])


def alert(context: dict[str, Any]) -> None:
    """Tell people what failed for good, as `zaslon schedule` does: by the webhook or program of its settings."""
    task = context["ti"]
    name = f"{task.dag_id.removeprefix('zaslon_')}.{task.task_id}"
    message = f"{context.get('exception') or 'It failed.'} Its log is in Airflow, run {task.run_id}."
    subprocess.run(
        [ZASLON, "schedule", "alert", name, message], cwd=DIRECTORY, timeout=ALERT_SECONDS, check=True
    )


def task_of(job: dict[str, Any]) -> BashOperator:
    """A job: exit codes that mean "nothing to do" skip it, any other but 0 fails it."""
    return BashOperator(
        task_id=job["name"],
        bash_command=command(job["arguments"]),
        cwd=DIRECTORY,
        append_env=True,
        do_xcom_push=False,
        skip_on_exit_code=job["skip_codes"] or None,
        retries=job["retries"],
        retry_delay=timedelta(seconds=job["retry_delay_seconds"]),
        execution_timeout=timedelta(seconds=job["timeout_seconds"]),
        trigger_rule=TriggerRule.NONE_FAILED if job["after_skipped"] else TriggerRule.ALL_SUCCESS,
        on_failure_callback=alert,
    )


def dag_of(chain: dict[str, Any]) -> DAG:
    """A chain: its jobs, and below them all the verdict, which alone decides whether the run is a success."""
    with DAG(
        f"zaslon_{chain['name']}",
        schedule=chain["when"],
        start_date=pendulum.datetime(2026, 1, 1, tz="UTC"),
        catchup=False,
        max_active_runs=1,
        tags=["zaslon"],
    ) as dag:
        tasks = {job["name"]: task_of(job) for job in chain["jobs"]}
        verdict = EmptyOperator(task_id="verdict", trigger_rule=TriggerRule.NONE_FAILED)
        for job in chain["jobs"]:
            for name in job["after"]:
                tasks[name] >> tasks[job["name"]]
            tasks[job["name"]] >> verdict
    return dag


for chain in json.loads(JOBS_FILE.read_text("utf-8"))["chains"]:
    globals()[f"zaslon_{chain['name']}"] = dag_of(chain)
