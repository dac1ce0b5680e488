"""Airflow's DAGs, one for each chain of Zaslon's list of jobs that needs no cluster; `job_tasks.py` says what it reads."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, TriggerRule
from job_tasks import START, chains, task_of


def dag_of(chain: dict[str, Any]) -> DAG:
    """A chain: its jobs, and below them all the verdict, which alone decides whether the run is a success."""
    with DAG(
        f"zaslon_{chain['name']}",
        schedule=chain["when"],
        start_date=START,
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


for chain in chains(on_cluster=False):
    globals()[f"zaslon_{chain['name']}"] = dag_of(chain)
