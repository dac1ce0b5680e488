"""The DAG of the cloud through the provider's operators, against a simulated cloud: no real cloud was ever asked."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.integration.airflow_environment import install
from tests.integration.cloud_world import Runs, SimulatedCloud, cloud_airflow
from tests.waiting import until

from zaslon.domain.jobs import load_jobs
from zaslon.entrypoints.cli import main
from zaslon.simulate import simulation_profile, write_simulation

pytestmark = pytest.mark.integration
DAG, SWEEP = "zaslon_cloud", "zaslon_cloud_sweep"
JOBS = ["copy", "clean", "features", "train", "compare"]
LATER = 4_102_444_800  # the year 2100


@dataclass
class World:
    """The simulated cloud, and an Airflow that has it as its only connection."""

    cloud: SimulatedCloud
    runs: Runs
    place: Path
    airflow: Any

    def alerts(self) -> list[str]:
        calls = self.place / "zaslon.calls"
        lines = calls.read_text().splitlines() if calls.exists() else []
        return [line for line in lines if line.startswith("schedule alert")]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    place = tmp_path_factory.mktemp("cloud")
    programs = install()
    jobs = place / "jobs.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZASLON_SCHEDULE_SOURCES", "in/*.txt")
        assert main(["schedule", "jobs", "--out", str(jobs), "--home", str(place / "home")]) == 0
    text = jobs.read_text()
    jobs.write_text(re.sub(r'"retries": \d+', '"retries": 0', text))
    cloud = SimulatedCloud.start(place / "state", programs / "python")
    try:
        airflow = cloud_airflow(programs, place, cloud, jobs)
        world = World(cloud, Runs(airflow, place), place, airflow)
        yield world
        world.runs.kill()
    finally:
        cloud.stop()


@pytest.fixture
def world(started: World) -> World:
    started.cloud.faults()
    (started.place / "zaslon.calls").unlink(missing_ok=True)
    return started


def test_both_dags_import_and_the_local_one_is_as_before(world: World) -> None:
    assert world.runs.loaded["errors"] == {}
    assert sorted(world.runs.loaded["dags"]) == [DAG, SWEEP, "zaslon_daily"]


def test_jobs_of_the_dag_are_those_of_the_list(world: World) -> None:
    tasks = world.runs.loaded["dags"][DAG]["tasks"]
    chain = next(chain for chain in load_jobs(None).chains if chain.name == "cloud")
    assert world.runs.loaded["dags"][DAG]["schedule"] == chain.when
    for job in chain.jobs:
        task = tasks[job.name]
        assert task["timeout_seconds"] == job.timeout_seconds
        assert task["alerts"]
        if job.where == "cluster":
            assert task["type"] == "DataprocCreatePysparkJobOperator"
            assert (task["command"], task["connection"]) == ([*job.command, "--json"], "yandexcloud_default")
        else:
            assert task["type"] == "BashOperator"


def test_order_rules_and_limits_of_the_dag(world: World) -> None:
    dag = world.runs.loaded["dags"][DAG]
    assert (dag["max_active_runs"], dag["catchup"], dag["leaves"]) == (1, False, ["verdict"])
    tasks = dag["tasks"]
    assert {name: task["after"] for name, task in tasks.items()} == {
        "plan": [], "create": ["plan"], "copy": ["create"], "clean": ["copy"], "news_of_clean": ["clean"],
        "no_news_of_clean": ["news_of_clean"], "features": ["news_of_clean"], "train": ["features"],
        "compare": ["train"], "delete": sorted(["plan", "create", *JOBS]),
        "verdict": sorted(["plan", "create", *JOBS, "no_news_of_clean", "delete"]),
    }  # fmt: skip
    assert (tasks["create"]["type"], tasks["create"]["retries"]) == ("DataprocCreateClusterOperator", 0)
    assert (tasks["delete"]["type"], tasks["delete"]["retries"]) == ("DataprocDeleteClusterOperator", 3)
    assert (tasks["delete"]["rule"], tasks["verdict"]["rule"]) == ("all_done", "none_failed")
    assert all(tasks[name]["timeout_seconds"] for name in ("create", "delete", *JOBS))


def test_sweep_runs_often_and_never_beside_itself(world: World) -> None:
    dag = world.runs.loaded["dags"][SWEEP]
    assert (dag["schedule"], dag["max_active_runs"], dag["leaves"]) == ("*/15 * * * *", 1, ["sweep"])
    assert dag["tasks"]["sweep"]["alerts"]


def test_news_runs_every_job_on_a_cluster_that_is_deleted(world: World) -> None:
    world.cloud.faults(unavailable=2)
    state, tasks = world.runs.run(DAG)
    assert state == "success"
    assert {name for name, found in tasks.items() if found != "success"} == {"no_news_of_clean"}
    (created,) = world.cloud.named("create")
    name = created["name"]
    jobs = world.cloud.named("job")
    spark, home = ["--engine", "spark", "--master", "yarn"], ["--home", f"/mnt/lake/{name}"]
    assert [job["pysparkJob"]["args"] for job in jobs] == [
        ["copy", "s3a://lake/raw", f"hdfs://master-1:8020/zaslon/{name}/raw", "--json"],
        ["clean", f"webhdfs://master-1:9870/zaslon/{name}/raw/*", *spark, *home, "--json"],
        ["features", *spark, *home, "--json"],
        ["train", *home, "--json"],
    ]
    compared = (world.place / "zaslon.calls").read_text()
    assert compared == f"compare /srv/zaslon/home /mnt/lake/{name} --home /mnt/lake/{name} --json\n"
    assert [call["call"] for call in world.cloud.calls] == ["create", *4 * ["job"], "delete"]
    assert world.cloud.ours == {}


def test_every_parameter_of_the_cluster_and_of_a_job_arrives(world: World) -> None:
    settings = {
        "zone": "ru-central1-d", "image": "2.2.9", "environment": "PRESTABLE", "security_group_ids": ["sg-1"],
        "log_group_id": "log-1", "properties": {"yarn:yarn.nodemanager.pmem-check-enabled": "false"},
        "init_actions": [{"uri": "s3a://lake/code/mount.sh", "args": ["/mnt/lake"], "timeout": 60}],
        "compute": {"preset": "s3-c4-m16", "disk_gb": 64, "count": 2}, "roubles_max": 2_000, "created_by": "bank-airflow", "folder_id": "folder-1",
    }  # fmt: skip
    world.cloud.faults(jobs={"copy": 4})
    assert world.runs.run(DAG, settings=settings)[0] == "failed"
    (created,) = world.cloud.named("create")
    assert {key: created[key] for key in ("folderId", "zoneId", "bucket", "serviceAccountId", "environment")} == {
        "folderId": "folder-1", "zoneId": "ru-central1-d", "bucket": "fraud-logs", "serviceAccountId": "sa-cluster",
        "environment": "PRESTABLE",
    }  # fmt: skip
    assert (created["securityGroupIds"], created["logGroupId"]) == (["sg-1"], "log-1")
    labels = created["labels"]
    assert (labels["created-by"], labels["zaslon-dag"]) == ("bank-airflow", DAG)
    assert sorted(labels) == ["created-by", "zaslon-dag", "zaslon-run", "zaslon-until"]
    assert all(re.fullmatch(r"[-_0-9a-z]{1,63}", value) for value in labels.values())
    spec = created["configSpec"]
    assert spec["versionId"] == "2.2.9"
    assert spec["hadoop"]["services"] == ["HDFS", "YARN", "MAPREDUCE", "SPARK"]
    assert spec["hadoop"]["properties"] == settings["properties"]
    assert spec["hadoop"]["osloginEnabled"]
    assert spec["hadoop"]["initializationActions"] == [
        {"uri": "s3a://lake/code/mount.sh", "args": ["/mnt/lake"], "timeout": "60"}
    ]
    assert [_nodes(part) for part in spec["subclustersSpec"]] == [
        ("MASTERNODE", "1", "s3-c2-m8", 40, "network-ssd", "subnet-1"),
        ("DATANODE", "3", "s3-c4-m16", 128, "network-ssd", "subnet-1"),
        ("COMPUTENODE", "2", "s3-c4-m16", 64, "network-ssd", "subnet-1"),
    ]
    (job,) = world.cloud.named("job")
    assert job["name"] == "copy-try-1"
    assert job["pysparkJob"]["mainPythonFileUri"] == "s3a://lake/code/run_on_cluster.py"
    assert job["pysparkJob"]["archiveUris"] == ["s3a://lake/code/zaslon-0123.tar.gz#environment"]
    assert job["pysparkJob"]["properties"]["spark.submit.deployMode"] == "cluster"
    assert "private" not in json.dumps(world.cloud.calls).lower()


def _nodes(part: dict[str, Any]) -> tuple[Any, ...]:
    resources = part["resources"]
    disk = int(resources["diskSize"]) // 1024**3
    return (
        part["role"], part["hostsCount"], resources["resourcePresetId"], disk, resources["diskTypeId"], part["subnetId"]
    )  # fmt: skip


def test_no_news_skips_what_comes_after_and_ends_green(world: World) -> None:
    world.cloud.faults(jobs={"clean": 99})
    state, tasks = world.runs.run(DAG)
    assert state == "success"
    assert {name for name, found in tasks.items() if found == "skipped"} == {"features", "train", "compare"}
    assert (tasks["clean"], tasks["no_news_of_clean"], tasks["delete"]) == 3 * ("success",)
    assert len(world.cloud.named("job")) == 2
    assert world.cloud.ours == {}
    assert world.alerts() == []


def test_a_failed_job_ends_red_and_its_cluster_is_deleted(world: World) -> None:
    world.cloud.faults(jobs={"features": 3})
    state, tasks = world.runs.run(DAG)
    assert state == "failed"
    assert (tasks["features"], tasks["train"], tasks["delete"]) == ("failed", "upstream_failed", "success")
    assert tasks["verdict"] == "upstream_failed"
    assert world.cloud.ours == {}
    (alert,) = world.alerts()
    assert "cloud.features" in alert
    assert "exit code 3" in alert


def test_a_job_that_failed_in_a_good_operation_is_noticed(world: World) -> None:
    world.cloud.faults(jobs={"clean": "lost"})
    state, tasks = world.runs.run(DAG)
    assert (state, tasks["clean"], tasks["delete"]) == ("failed", "failed", "success")
    assert "exit code unknown" in world.alerts()[0]


def test_a_job_that_takes_too_long_is_cancelled(world: World) -> None:
    world.cloud.faults(held=["job"])
    state, tasks = world.runs.run(DAG, tasks={"copy": {"execution_timeout": 2}})
    assert (state, tasks["copy"], tasks["delete"]) == ("failed", "failed", "success")
    assert [call["name"] for call in world.cloud.named("cancel")] == ["copy-try-1"]
    assert world.cloud.ours == {}


def test_a_second_try_first_ends_the_job_of_a_lost_one(world: World) -> None:
    world.cloud.faults(denied="copy-try-1")
    state, tasks = world.runs.run(DAG, tasks={"copy": {"retries": 1}})
    assert (state, tasks["copy"]) == ("success", "success")
    begun = [
        (call["call"], call["name"]) for call in world.cloud.calls if call.get("name", "").startswith("copy")
    ]
    assert begun == [("job", "copy-try-1"), ("cancel", "copy-try-1"), ("job", "copy-try-2")]


def test_a_cluster_whose_creation_failed_is_deleted(world: World) -> None:
    world.cloud.faults(create="no capacity")
    state, tasks = world.runs.run(DAG)
    assert (state, tasks["create"], tasks["copy"], tasks["delete"]) == (
        "failed", "failed", "upstream_failed", "success"
    )  # fmt: skip
    assert [call["call"] for call in world.cloud.calls] == ["create", "delete"]
    assert world.cloud.ours == {}
    assert "no capacity" in world.alerts()[0]


def test_a_run_that_could_cost_too_much_creates_nothing(world: World) -> None:
    state, tasks = world.runs.run(DAG, settings={"roubles_max": "100"})
    assert (state, tasks["plan"], tasks["create"]) == ("failed", "failed", "upstream_failed")
    assert world.cloud.calls == []
    assert "roubles_max is 100" in world.alerts()[0]


def test_a_cluster_that_could_not_be_deleted_is_swept(world: World) -> None:
    world.cloud.faults(delete="try again tomorrow")
    state, tasks = world.runs.run(DAG)
    assert (state, tasks["compare"], tasks["delete"]) == ("failed", "success", "failed")
    assert list(world.cloud.ours.values()) == ["RUNNING"]
    assert any("cloud.delete" in alert for alert in world.alerts())
    assert world.runs.run(SWEEP)[0] == "failed"
    world.cloud.faults()
    assert world.runs.run(SWEEP)[0] == "success"
    assert world.cloud.ours == {}


def test_a_killed_airflow_leaves_a_cluster_for_the_sweep(world: World) -> None:
    world.cloud.faults(held=["job"])
    killed = Runs(world.airflow, world.place)
    killed.begin(DAG)
    until(lambda: world.cloud.named("job"), look_seconds=0.2)
    killed.kill()
    assert list(world.cloud.ours.values()) == ["RUNNING"]
    # For all that Airflow knows, the run goes on.
    assert world.runs.run(SWEEP)[0] == "success"
    assert list(world.cloud.ours.values()) == ["RUNNING"]
    assert world.runs.run(SWEEP, conf={"now": LATER})[0] == "success"
    assert world.cloud.ours == {}


def test_a_job_really_runs_a_command_of_zaslon(world: World) -> None:
    world.cloud.faults(jobs={"clean": "run"})
    raw = world.cloud.objects / "lake" / "raw"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir()
    write_simulation(simulation_profile("handbook", customers=20, terminals=10), 2, 3, raw / "a.csv")
    words = ["clean", "{raw}/*.csv", "--home", "{lake}/{run}", "--json"]
    lake = {"lake": str(world.cloud.objects / "lake")}
    state, tasks = world.runs.run(DAG, settings=lake, tasks={"clean": {"command": words}})
    (ran,) = world.cloud.named("ran")
    assert (state, tasks["clean"], ran["code"]) == ("success", "success", 0), ran
    (created,) = world.cloud.named("create")
    assert list((world.cloud.objects / "lake" / created["name"] / "clean").rglob("*.parquet"))
