"""What a run in the cloud may create, and what it may cost: decided before anything is created.

Nothing of Airflow or of the cloud's API is here. The settings are one JSON object, Airflow's variable `zaslon_cloud`.
Money is in kopecks, time in seconds since 1970.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import ROUND_CEILING, Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_PRESET = r"^[a-z0-9]+-c(\d+)-m(\d+)$"
_ENVIRONMENT = "./environment/bin/python"
_LABEL_CHARACTERS_MAX = 63  # of a value; so says the cloud's API
# A place becomes a word of a shell command: nothing in it may need quotes.
Place = Annotated[str, Field(pattern=r"^[A-Za-z0-9_./:@-]+$")]
ObjectAddress = Annotated[str, Field(pattern=r"^s3a://[A-Za-z0-9_./-]+$")]
Identifier = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Price = Annotated[Decimal, Field(gt=0)]
DiskType = Literal["network-hdd", "network-ssd", "network-ssd-nonreplicated"]


class CloudRefusedError(Exception):
    """Nothing may be created: the settings are wrong, or the run could cost too much."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Nodes(_Part):
    """Machines of one kind. The preset names processors and GB of memory: `s3-c4-m16` has 4 and 16."""

    preset: str = Field(pattern=_PRESET)
    disk_gb: int = Field(ge=20, le=4096)
    disk_type: DiskType = "network-ssd"
    count: int = Field(ge=0, le=64)

    @property
    def vcpus(self) -> int:
        """Processors of one machine."""
        return self._sizes[0]

    @property
    def memory_gb(self) -> int:
        """Memory of one machine."""
        return self._sizes[1]

    @property
    def _sizes(self) -> tuple[int, int]:
        found = re.match(_PRESET, self.preset)
        assert found is not None  # checked by its type
        return int(found[1]), int(found[2])


class Prices(_Part):
    """Roubles an hour, with the service's markup and VAT: they change, so there are no defaults."""

    vcpu: Price
    memory_gb: Price
    disk_gb: dict[DiskType, Price]


class InitAction(_Part):
    """A program that every machine runs when it starts; `timeout` in seconds."""

    uri: ObjectAddress
    args: tuple[str, ...] = ()
    timeout: int = Field(600, ge=1, le=3_600)


class CloudSettings(_Part):
    """The variable `zaslon_cloud`. The sizes are those of the mission's cluster.

    Attributes:
        created_by: a label of the clusters. Of two Airflows in one folder each needs its own.
        folder_id: the one of the connection if not given.
        service_account_id: which the machines have; it reads and writes the bucket, so jobs need no keys.
        bucket: where the service keeps logs of jobs.
        archive: what `zaslon package` made.
        driver: `run_on_cluster.py`, uploaded.
        init_actions: programs in object storage that every machine runs when it starts, for example to mount the lake.
        raw, lake, home: the places in the commands of the list of jobs.
        lifetime_minutes_max: after which the sweep deletes the cluster, whatever it does.
        roubles_max: a run that could cost more in its lifetime is refused.
    """

    created_by: str = Field("zaslon-airflow", pattern=r"^[a-z][-_0-9a-z]{0,62}$")
    folder_id: Identifier | None = None
    subnet_id: Identifier
    service_account_id: Identifier
    bucket: Identifier
    zone: Identifier = "ru-central1-a"
    image: str = Field("2.2", pattern=r"^\d+\.\d+(\.\d+)?$")
    environment: Literal["PRODUCTION", "PRESTABLE"] = "PRODUCTION"
    services: tuple[Literal["HDFS", "YARN", "MAPREDUCE", "SPARK"], ...] = (
        "HDFS",
        "YARN",
        "MAPREDUCE",
        "SPARK",
    )
    security_group_ids: tuple[Identifier, ...] = ()
    log_group_id: Identifier | None = None
    master: Nodes = Nodes(preset="s3-c2-m8", disk_gb=40, count=1)
    data: Nodes = Nodes(preset="s3-c4-m16", disk_gb=128, count=3)
    compute: Nodes = Nodes(preset="s3-c4-m16", disk_gb=128, count=0)
    properties: dict[str, str] = {}
    init_actions: tuple[InitAction, ...] = ()
    archive: ObjectAddress
    driver: ObjectAddress
    raw: Place
    lake: Place
    home: Place
    prices: Prices
    lifetime_minutes_max: int = Field(720, ge=10, le=2 * 24 * 60)
    roubles_max: Annotated[Decimal, Field(gt=0)]

    @property
    def nodes(self) -> Sequence[Nodes]:
        """All machines; the master is one, whatever is written."""
        return (self.master.model_copy(update={"count": 1}), self.data, self.compute)


def read_settings(text: str) -> CloudSettings:
    """The settings in a JSON text.

    Raises:
        CloudRefusedError: names every key that is wrong.
    """
    try:
        return CloudSettings.model_validate_json(text)
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, e['loc'])) or 'the object'}: {e['msg']}" for e in error.errors()]
        raise CloudRefusedError(
            f"The variable zaslon_cloud cannot be used: {'; '.join(problems)}."
        ) from error


def cluster_name(created_by: str, dag_id: str, run_id: str, run_after: datetime) -> str:
    """The same for every try of a run, and of no other run; at most 63 characters, as the API wants it."""
    digest = hashlib.sha256(f"{created_by}|{dag_id}|{run_id}".encode()).hexdigest()[:10]
    return f"zaslon-{run_after:%Y%m%dt%H%M%S}-{digest}"


def cost_kopecks_max(settings: CloudSettings) -> int:
    """What the cluster costs at most: all machines for the whole lifetime, rounded up.

    Raises:
        CloudRefusedError: a disk has no price.
    """
    hourly = Decimal(0)
    for nodes in settings.nodes:
        if nodes.count and nodes.disk_type not in settings.prices.disk_gb:
            raise CloudRefusedError(f"prices.disk_gb has no price of {nodes.disk_type}.")
        if nodes.count:
            prices = settings.prices
            disk = nodes.disk_gb * prices.disk_gb[nodes.disk_type]
            hourly += nodes.count * (nodes.vcpus * prices.vcpu + nodes.memory_gb * prices.memory_gb + disk)
    kopecks = hourly * settings.lifetime_minutes_max * 100 / 60
    return int(kopecks.to_integral_value(rounding=ROUND_CEILING))


def make_plan(
    settings: CloudSettings, dag_id: str, run_id: str, run_after: datetime, now: float
) -> dict[str, Any]:
    """Everything that the run's tasks need, as plain values.

    Returns:
        `name` of the cluster, `until` (when its lifetime ends), `cost_kopecks_max`, `cluster` (arguments of the
        operator that creates it), `job` (those of every job), `places` (for commands).

    Raises:
        CloudRefusedError: it could cost more than it may.
    """
    cost = cost_kopecks_max(settings)
    if cost > settings.roubles_max * 100:
        raise CloudRefusedError(
            f"The cluster could cost {Decimal(cost) / 100} roubles in {settings.lifetime_minutes_max} minutes, and "
            f"roubles_max is {settings.roubles_max}. Take fewer or smaller machines, a shorter lifetime, or a higher limit."
        )
    name = cluster_name(settings.created_by, dag_id, run_id, run_after)
    until = int(now) + 60 * settings.lifetime_minutes_max
    labels = {
        "created-by": settings.created_by, "zaslon-dag": _label(dag_id), "zaslon-run": _label(run_id), "zaslon-until": str(until),
    }  # fmt: skip
    return {
        "name": name,
        "until": until,
        "cost_kopecks_max": cost,
        "cluster": {
            "cluster_name": name,
            "cluster_description": json.dumps({"dag": dag_id, "run": run_id}),
            "labels": labels,
            **_cluster_arguments(settings),
        },
        "job": {
            "main_python_file_uri": settings.driver,
            "archive_uris": [f"{settings.archive}#environment"],
            "properties": job_properties(),
        },
        "places": {
            "raw": settings.raw, "lake": settings.lake, "home": settings.home, "run": name
        },
    }  # fmt: skip


def _cluster_arguments(settings: CloudSettings) -> dict[str, Any]:
    """Sizes and places, by the names of the operator's attributes."""
    return {
        "folder_id": settings.folder_id,
        "cluster_image_version": settings.image,
        "environment": settings.environment,
        "zone": settings.zone,
        "subnet_id": settings.subnet_id,
        "service_account_id": settings.service_account_id,
        "s3_bucket": settings.bucket,
        "services": list(settings.services),
        "security_group_ids": list(settings.security_group_ids),
        "log_group_id": settings.log_group_id,
        "properties": dict(settings.properties),
        "initialization_actions": [action.model_dump(mode="json") for action in settings.init_actions],
        "oslogin_enabled": True,  # nobody's SSH key is on the machines
        "masternode_resource_preset": settings.master.preset,
        "masternode_disk_size": settings.master.disk_gb,
        "masternode_disk_type": settings.master.disk_type,
        "datanode_resource_preset": settings.data.preset,
        "datanode_disk_size": settings.data.disk_gb,
        "datanode_disk_type": settings.data.disk_type,
        "datanode_count": settings.data.count,
        "computenode_resource_preset": settings.compute.preset,
        "computenode_disk_size": settings.compute.disk_gb,
        "computenode_disk_type": settings.compute.disk_type,
        "computenode_count": settings.compute.count,
    }


def job_properties() -> dict[str, str]:
    """Spark's settings of every job: the driver and the executors run Zaslon's own environment.

    The driver is in a container of YARN, where the archive is unpacked; its exit code is in the job's log.
    """
    return {
        "spark.submit.deployMode": "cluster",
        "spark.yarn.appMasterEnv.PYSPARK_PYTHON": _ENVIRONMENT,
        "spark.executorEnv.PYSPARK_PYTHON": _ENVIRONMENT,
        # Airflow tries again, and knows which exit codes are no failures.
        "spark.yarn.maxAppAttempts": "1",
    }


def _label(text: str) -> str:
    """A value of the letters that the API takes."""
    return re.sub(r"[^-_0-9a-z]", "-", text.lower())[:_LABEL_CHARACTERS_MAX]


def fill_in(arguments: Sequence[str], places: Mapping[str, str]) -> list[str]:
    """The words of a command with its places; one that is not known stays as it is."""
    for name, place in places.items():
        arguments = [word.replace(f"{{{name}}}", place) for word in arguments]
    return list(arguments)


def exit_code_in(log: str) -> int | None:
    """The driver's exit code as Spark's client on YARN reports it; None if the log does not say it."""
    found = re.findall(r"User application exited with status (\d+)", log)
    return int(found[-1]) if found else None


def why_to_delete(
    labels: Mapping[str, str], created_by: str, run_is_over: bool | None, now: float
) -> str | None:
    """Why the sweep deletes a cluster; None if it must not.

    Args:
        labels: of the cluster.
        created_by: of the settings; clusters of others are never touched.
        run_is_over: None if Airflow does not know the run.
        now: when the sweep runs.
    """
    if labels.get("created-by") != created_by:
        return None
    if run_is_over:
        return "its run is over"
    until = labels.get("zaslon-until", "")
    if not until.isdecimal():
        return "it has no end"
    return "its lifetime is over" if now >= int(until) else None
