"""What a run in the cloud may create and cost, and whose clusters the sweep deletes."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from cloud_plan import (
    CloudRefusedError,
    cluster_name,
    cost_kopecks_max,
    exit_code_in,
    fill_in,
    make_plan,
    read_settings,
    why_to_delete,
)

SETTINGS: dict[str, Any] = {
    "subnet_id": "subnet-1", "service_account_id": "sa-1", "bucket": "logs", "archive": "s3a://lake/z.tar.gz",
    "driver": "s3a://lake/run_on_cluster.py", "raw": "s3a://lake/raw", "lake": "/mnt/lake", "home": "/srv/zaslon/home",
    "prices": {"vcpu": "2", "memory_gb": "0.5", "disk_gb": {"network-ssd": "0.01"}}, "roubles_max": "1000",
}  # fmt: skip
RUN = ("zaslon_cloud", "scheduled__2026-11-29T01:30:00+00:00", datetime(2026, 11, 29, 1, 30, tzinfo=UTC))


def settings(**changes: Any) -> Any:
    return read_settings(json.dumps({**SETTINGS, **changes}))


def test_sizes_are_the_missions_unless_named() -> None:
    found = settings()
    assert (found.master.preset, found.master.disk_gb, found.master.count) == ("s3-c2-m8", 40, 1)
    assert (found.data.preset, found.data.disk_gb, found.data.count) == ("s3-c4-m16", 128, 3)
    assert (found.compute.count, found.image) == (0, "2.2")


def test_cost_is_all_machines_for_the_whole_lifetime() -> None:
    # master 2 × 2 + 8 × 0.5 + 40 × 0.01 = 8.4, three data nodes of 4 × 2 + 16 × 0.5 + 128 × 0.01 = 17.28 roubles an hour
    assert cost_kopecks_max(settings(lifetime_minutes_max=60)) == 840 + 3 * 1728
    assert cost_kopecks_max(settings(lifetime_minutes_max=720)) == 12 * 6024


def test_a_fraction_of_a_kopeck_is_a_kopeck() -> None:
    assert cost_kopecks_max(settings(lifetime_minutes_max=61)) == 6125  # 6124.4


def test_a_run_costs_at_most_its_limit() -> None:
    assert make_plan(settings(roubles_max="722.88"), *RUN, now=0)["cost_kopecks_max"] == 72_288
    with pytest.raises(CloudRefusedError, match=r"could cost 722.88 roubles in 720 minutes") as raised:
        make_plan(settings(roubles_max="722.87"), *RUN, now=0)
    assert "roubles_max is 722.87" in str(raised.value)


def test_a_disk_without_a_price_is_refused() -> None:
    data = {"preset": "s3-c4-m16", "disk_gb": 128, "disk_type": "network-hdd", "count": 2}
    with pytest.raises(CloudRefusedError, match="no price of network-hdd"):
        make_plan(settings(data=data), *RUN, now=0)


def test_machines_that_are_not_there_cost_nothing() -> None:
    compute = {"preset": "s3-c4-m16", "disk_gb": 128, "disk_type": "network-hdd", "count": 0}
    assert cost_kopecks_max(settings(compute=compute)) == cost_kopecks_max(settings())


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"subnet_id": None}, "subnet_id"),
        ({"prices": {}}, "prices.vcpu"),
        ({"prices": {"vcpu": 0, "memory_gb": 1, "disk_gb": {}}}, "prices.vcpu"),
        ({"roubles_max": "-1"}, "roubles_max"),
        ({"roubles_max": "NaN"}, "roubles_max"),
        ({"lifetime_minutes_max": 1_000_000}, "lifetime_minutes_max"),
        ({"data": {"preset": "large", "disk_gb": 128, "count": 3}}, "data.preset"),
        ({"data": {"preset": "s3-c4-m16", "disk_gb": 128, "count": 1_000}}, "data.count"),
        ({"raw": "s3a://lake/'; rm -rf /"}, "raw"),
        ({"archive": "https://elsewhere/z.tar.gz"}, "archive"),
        ({"init_actions": [{"uri": "mount.sh"}]}, "init_actions.0.uri"),
        ({"created_by": "Zaslon"}, "created_by"),
        ({"service_account_json": "{}"}, "service_account_json"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, Any], part: str) -> None:
    with pytest.raises(CloudRefusedError, match=f"zaslon_cloud cannot be used: {part}"):
        settings(**changes)


@pytest.mark.parametrize("text", ["", "[]", "null", "{"])
def test_settings_of_another_shape_are_refused(text: str) -> None:
    with pytest.raises(CloudRefusedError, match="zaslon_cloud"):
        read_settings(text)


def test_a_run_has_one_name_and_no_other_run_has_it() -> None:
    names = {
        cluster_name(created_by, dag, run, RUN[2])
        for created_by in ("zaslon-airflow", "theirs") for dag in ("zaslon_cloud", "other") for run in ("a", "b")
    }  # fmt: skip
    assert len(names) == 8
    assert {len(name) for name in names} == {33}
    plan = make_plan(settings(), *RUN, now=5.5)
    assert plan["name"] == plan["cluster"]["cluster_name"] == cluster_name("zaslon-airflow", *RUN)
    assert plan["name"].startswith("zaslon-20261129t013000-")


def test_the_plan_says_whose_cluster_it_is_and_until_when() -> None:
    plan = make_plan(settings(lifetime_minutes_max=90), *RUN, now=1_000.9)
    assert plan["until"] == 1_000 + 90 * 60
    assert plan["cluster"]["labels"] == {
        "created-by": "zaslon-airflow", "zaslon-dag": "zaslon_cloud", "zaslon-until": str(plan["until"]),
        "zaslon-run": "scheduled__2026-11-29t01-30-00-00-00",
    }  # fmt: skip
    assert json.loads(plan["cluster"]["cluster_description"]) == {"dag": RUN[0], "run": RUN[1]}
    assert json.loads(json.dumps(plan)) == plan


def test_places_are_filled_in_and_unknown_ones_left() -> None:
    assert fill_in(["copy", "{raw}", "{work}/{run}/x", "{else}"], {"raw": "a", "work": "b", "run": "c"}) == [
        "copy", "a", "b/c/x", "{else}"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("log", "code"),
    [
        ("ERROR Client: Application diagnostics message: User application exited with status 99\n", 99),
        ("User application exited with status 1\nUser application exited with status 99", 99),
        ("Container exited with a non-zero exit code 143", None),
        ("", None),
    ],
)
def test_exit_code_is_the_last_in_the_log(log: str, code: int | None) -> None:
    assert exit_code_in(log) == code


@pytest.mark.parametrize(
    ("labels", "over", "why"),
    [
        ({"created-by": "ours", "zaslon-until": "100"}, False, None),
        ({"created-by": "ours", "zaslon-until": "99"}, False, "its lifetime is over"),
        ({"created-by": "ours", "zaslon-until": "99"}, None, "its lifetime is over"),
        ({"created-by": "ours", "zaslon-until": "100"}, True, "its run is over"),
        ({"created-by": "ours", "zaslon-until": "100"}, None, None),
        ({"created-by": "ours"}, False, "it has no end"),
        ({"created-by": "ours", "zaslon-until": "soon"}, None, "it has no end"),
        ({"created-by": "theirs", "zaslon-until": "1"}, True, None),
        ({"zaslon-until": "1"}, True, None),
        ({}, True, None),
    ],
)
def test_the_sweep_deletes_what_is_ours_and_over(
    labels: dict[str, str], over: bool | None, why: str | None
) -> None:
    assert why_to_delete(labels, "ours", over, 99.5) == why
