"""Airflow's DAGs for chains with jobs on a cluster: the cluster is created for the run and deleted whatever happened.

    plan ─► create ─► jobs, in the order of the list ─► delete (whatever happened) ─► verdict
                          └─► a job that ended with "nothing to do": what comes after it is skipped

`plan` refuses a run that could cost too much. `zaslon_cloud_sweep` deletes clusters that outlived their run, for example
because Airflow was killed. The service account's key is in the connection `yandexcloud_default`, everything else in the
variable `zaslon_cloud`: docs/guides/cluster.md.
"""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.empty import EmptyOperator
from airflow.sdk import DAG, Param, TriggerRule, task
from airflow.sdk.exceptions import AirflowRuntimeError
from cloud_clusters import DataProc, run_of
from cloud_operators import (
    CREATE,
    PLAN,
    ClusterJob,
    CreateCluster,
    DeleteCluster,
    current_settings,
)
from cloud_plan import make_plan, why_to_delete
from job_tasks import START, alert, attempts, chains, task_of

CREATE_MINUTES_MAX = DELETE_MINUTES_MAX = 40
_OVER = ("success", "failed")
# Where the words of a job on this machine come from: the plan, which allows nothing in them that needs quotes.
_PLACES = {
    name: f"{{{{ ti.xcom_pull(task_ids='{PLAN}')['places']['{name}'] }}}}"
    for name in ("raw", "lake", "home", "run")
}


def plan(**context: Any) -> dict[str, Any]:
    """What is created; refused if it could cost too much."""
    run = context["dag_run"]
    return make_plan(current_settings(), run.dag_id, run.run_id, run.run_after, time.time())


def cloud_dag_of(chain: dict[str, Any]) -> DAG:
    """A chain on a cluster of its own. `verdict` is the only leaf and alone decides whether the run is a success."""
    with DAG(
        f"zaslon_{chain['name']}", schedule=chain["when"], start_date=START, catchup=False, max_active_runs=1,
        tags=["zaslon", "cloud"],
    ) as dag:  # fmt: skip
        planned = task(plan, task_id=PLAN, on_failure_callback=alert)()
        create = CreateCluster(
            task_id=CREATE, execution_timeout=timedelta(minutes=CREATE_MINUTES_MAX), on_failure_callback=alert
        )
        # Not a teardown: that does not run when the creation failed, and then a half-created cluster stays.
        delete = DeleteCluster(
            task_id="delete", trigger_rule=TriggerRule.ALL_DONE, retries=3, retry_delay=timedelta(seconds=30),
            execution_timeout=timedelta(minutes=DELETE_MINUTES_MAX), on_failure_callback=alert,
        )  # fmt: skip
        verdict = EmptyOperator(task_id="verdict", trigger_rule=TriggerRule.NONE_FAILED)
        tasks = {job["name"]: _task_of(job) for job in chain["jobs"]}
        planned >> create >> [tasks[job["name"]] for job in chain["jobs"] if not job["after"]]
        nothing = _connect(chain, tasks)
        [planned, create, *tasks.values()] >> delete
        [planned, create, *tasks.values(), *nothing, delete] >> verdict
    return dag


def _task_of(job: dict[str, Any]) -> Any:
    if job["where"] == "here":
        return task_of(job, _PLACES)
    return ClusterJob(command=job["arguments"], skip_codes=job["skip_codes"], **attempts(job))


def _connect(chain: dict[str, Any], tasks: dict[str, Any]) -> list[Any]:
    """The order of the list. A job on the cluster that may find nothing to do has a branch below it: the tasks of those."""
    nothing = []
    for job in chain["jobs"]:
        next_jobs = [other for other in chain["jobs"] if job["name"] in other["after"]]
        if job["where"] == "cluster" and job["skip_codes"] and next_jobs:
            nothing.append(_branch(job, tasks, next_jobs))
        else:
            for other in next_jobs:
                tasks[job["name"]] >> tasks[other["name"]]
    return nothing


def _branch(job: dict[str, Any], tasks: dict[str, Any], next_jobs: list[dict[str, Any]]) -> EmptyOperator:
    """News, and what comes next; or no news, and only what runs after a skipped job."""
    nothing = EmptyOperator(task_id=f"no_news_of_{job['name']}")
    names = [other["name"] for other in next_jobs]
    after_skipped = [other["name"] for other in next_jobs if other["after_skipped"]]

    def choose(exit_code: int) -> list[str]:
        return [nothing.task_id, *after_skipped] if exit_code in job["skip_codes"] else names

    branch = task.branch(task_id=f"news_of_{job['name']}", on_failure_callback=alert)(choose)
    branch(tasks[job["name"]].output) >> [nothing, *(tasks[name] for name in names)]
    return nothing


def sweep_dag() -> DAG:
    """Every quarter of an hour: delete the clusters that outlived their run. No task of theirs has to be alive for that."""
    with DAG(
        "zaslon_cloud_sweep", schedule="*/15 * * * *", start_date=START, catchup=False, max_active_runs=1,
        tags=["zaslon", "cloud"], params={"now": Param(None, type=["null", "number"])},
    ) as dag:  # fmt: skip
        task(
            sweep, retries=2, retry_delay=timedelta(minutes=1), on_failure_callback=alert,
            execution_timeout=timedelta(minutes=2 * DELETE_MINUTES_MAX),
        )()  # fmt: skip
    return dag


def sweep(**context: Any) -> list[str]:
    """Delete what is ours and over; the names. `now`, seconds since 1970, is for a try: which would be over by then?"""
    settings, now = current_settings(), context["params"]["now"] or time.time()
    service = DataProc(settings.folder_id)
    over = {}
    for cluster in service.clusters():
        state = _run_is_over(context["ti"], run_of(cluster))
        why = why_to_delete(cluster.labels, settings.created_by, state, now)
        if why is not None:
            print(f"Deleting cluster {cluster.id} {cluster.name}: {why}.")
            over[cluster.id] = cluster.name
    failed = [name for cluster_id, name in over.items() if not service.delete(cluster_id)]
    if failed:
        raise RuntimeError(f"These clusters are still there and cost money: {', '.join(failed)}.")
    return list(over.values())


def _run_is_over(ti: Any, run: tuple[str, str] | None) -> bool | None:
    """Whether the run of a cluster has ended; None if this Airflow does not know it."""
    try:
        return None if run is None else ti.get_dagrun_state(*run) in _OVER
    except AirflowRuntimeError:
        return None


_chains = chains(on_cluster=True)
for _chain in _chains:
    globals()[f"zaslon_{_chain['name']}"] = cloud_dag_of(_chain)
if _chains:
    zaslon_cloud_sweep = sweep_dag()
