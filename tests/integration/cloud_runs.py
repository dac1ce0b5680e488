"""Runs DAGs one after the other in one process of Airflow, whose start costs more than a run.

It runs in Airflow's environment. Each line on standard input is a request: `{"dag": …, "settings": {…}, "conf": {…},
"tasks": {"clean": {"execution_timeout": 2}}}`; the answer is a line into the file descriptor of the first argument.
"""

from __future__ import annotations

import json
import os
import sys
from datetime import timedelta
from typing import Any

from airflow.configuration import conf
from airflow.dag_processing.dagbag import BundleDagBag


def main() -> None:
    """Answer until standard input ends."""
    folder = conf.get("core", "dags_folder")
    bag = BundleDagBag(dag_folder=folder, bundle_path=folder, bundle_name="dags-folder")
    with os.fdopen(int(sys.argv[1]), "w") as answers:
        _answer(
            answers,
            {"errors": bag.import_errors, "dags": {d.dag_id: _structure(d) for d in bag.dags.values()}},
        )
        for line in sys.stdin:
            _answer(answers, _run(bag, json.loads(line)))


def _answer(answers: Any, values: dict[str, Any]) -> None:
    answers.write(json.dumps(values) + "\n")
    answers.flush()


def _run(bag: Any, request: dict[str, Any]) -> dict[str, Any]:
    os.environ["AIRFLOW_VAR_ZASLON_CLOUD"] = json.dumps(request["settings"])
    dag = bag.dags[request["dag"]]
    before = {}
    for name, values in request["tasks"].items():
        task = dag.get_task(name)
        before[name] = {key: getattr(task, key) for key in values}
        _set(task, values)
    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    run = dag.test(run_conf=request["conf"])
    for name, values in before.items():
        _set(dag.get_task(name), values)
    return {
        "run": run.run_id, "state": run.state,
        "tasks": {ti.task_id: ti.state for ti in run.get_task_instances()},
    }  # fmt: skip


def _set(task: Any, values: dict[str, Any]) -> None:
    for key, value in values.items():
        setattr(
            task,
            key,
            timedelta(seconds=value)
            if key == "execution_timeout" and not isinstance(value, timedelta)
            else value,
        )


def _structure(dag: Any) -> dict[str, Any]:
    return {
        "schedule": dag.schedule,
        "max_active_runs": dag.max_active_runs,
        "catchup": dag.catchup,
        "leaves": sorted(task.task_id for task in dag.leaves),
        "tasks": {task.task_id: _task(task) for task in dag.tasks},
    }


def _task(task: Any) -> dict[str, Any]:
    return {
        "type": type(task).__mro__[1].__name__
        if type(task).__module__.endswith("cloud_operators")
        else type(task).__name__,
        "after": sorted(task.upstream_task_ids),
        "rule": task.trigger_rule.value,
        "retries": task.retries,
        "timeout_seconds": None if task.execution_timeout is None else task.execution_timeout.total_seconds(),
        "connection": getattr(task, "yandex_conn_id", None),
        "alerts": bool(task.on_failure_callback),
        "command": list(getattr(task, "command", [])) or getattr(task, "bash_command", None),
    }


if __name__ == "__main__":
    main()
