"""The list of jobs: what is built in, and what a person may have written wrong in one."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from tests.schedule_world import LIST, at

from zaslon.domain.errors import ZaslonError
from zaslon.domain.jobs import JobList, load_jobs, parse_jobs
from zaslon.entrypoints.cli import app
from zaslon.entrypoints.options import NO_NEWS


def listed(text: str) -> JobList:
    return parse_jobs(text.replace("{clean}", "0").replace("{retrain}", "0"), origin="The list")


def test_the_built_in_jobs_are_commands_that_exist() -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    jobs = load_jobs(None)
    assert [job.name for job in jobs.chain("daily").jobs] == ["clean", "retrain", "report", "ledger"]
    for job in (job for chain in jobs.chains for job in chain.jobs):
        options = {option for parameter in commands[job.command[0]].params for option in parameter.opts}
        assert {word for word in job.command[1:] if word.startswith("--")} <= options


def test_no_new_file_skips_clean_and_not_what_comes_after() -> None:
    clean, retrain, *others = load_jobs(None).chain("daily").jobs
    assert (clean.command[-1], clean.skip_codes) == ("--only-new", (NO_NEWS,))
    assert retrain.after == ("clean",)
    assert all(job.after_skipped for job in (retrain, *others))


def test_jobs_of_a_cluster_are_of_the_same_list_but_not_run_here() -> None:
    jobs = load_jobs(None)
    (cloud,) = [chain for chain in jobs.chains if chain.on_cluster]
    assert [(job.name, job.where) for job in cloud.ordered] == [
        ("copy", "cluster"), ("clean", "cluster"), ("features", "cluster"), ("train", "cluster"), ("compare", "here"),
    ]  # fmt: skip
    assert cloud not in jobs.here
    with pytest.raises(ZaslonError, match="only Airflow"):
        jobs.chain("cloud")
    with pytest.raises(ZaslonError, match="There is no chain 'clout'"):
        jobs.chain("clout")


def test_places_of_a_cluster_are_known_only_where_a_job_runs_on_one() -> None:
    here = LIST.replace('["promote", "0"]', '["promote", "{lake}/x"]')
    with pytest.raises(ZaslonError, match=r"'\{lake\}/x' cannot be filled in"):
        listed(here)
    on_cluster = here.replace('name = "clean"\n', 'name = "clean"\nwhere = "cluster"\n', 1)
    assert listed(on_cluster).chains[0].jobs[2].command == ("promote", "{lake}/x")
    with pytest.raises(ZaslonError, match="cannot be filled in"):
        listed(on_cluster.replace("{lake}/x", "{master}"))


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"30 2 * * *"', '"30 25 * * *"', ("chain daily, when", "hour is wrong")),
        ('"30 2 * * *"', '"0 30 2 * * *"', ("chain daily, when", "minute, hour, day, month and weekday")),
        ('"30 2 * * *"', '"@daily"', ("chain daily, when", "not a cron text")),
        ('"12h"', '"soon"', ("chain daily, missed_within", "not a duration")),
        ('timeout = "1h"\nretries = 2', "retries = 2", ("job clean, timeout", "missing")),
        ('timeout = "1h"\nretries = 2', 'timeout = "0s"\nretries = 2', ("job clean, timeout", "at least 1s")),
        ("retries = 2", "retries = -1", ("job clean, retries",)),
        ('name = "clean"', 'name = "clean"\nwhere = "there"', ("job clean, where", "'here' or 'cluster'")),
        ("retries = 2", "retrys = 2", ("job clean, retrys", "'retries'")),
        ('after = ["clean"]', 'after = ["cleam"]', ("job retrain comes after 'cleam'", "'clean'")),
        ('name = "retrain"', 'name = "clean"', ("two jobs have the same name",)),
        ('name = "clean"\n', 'name = "clean"\nafter = ["report"]\n', ("wait for each other",)),
        ('["promote", "0"]', '["promote", "{model}"]', ("job promote", "{model}", "cannot be filled in")),
        ('["promote", "0"]', '["promote", "x{sources}"]', ("job promote", "an argument of its own")),
        ('["promote", "0"]', "[]", ("job promote, command",)),
        ('name = "daily"', 'name = "../daily"', ("chain ../daily, name",)),
        ("[[chains]]", "[[chain]]", ("'chains'",)),
        ("[[chains]]", "[chains", ("not valid TOML",)),
    ],
)  # fmt: skip
def test_a_mistake_in_the_list_names_the_job(old: str, new: str, parts: tuple[str, ...]) -> None:
    assert old in LIST
    with pytest.raises(ZaslonError) as raised:
        listed(LIST.replace(old, new, 1))
    for part in ("The list", *parts):
        assert part in str(raised.value)


@pytest.mark.parametrize(
    "text", ["", "chains = 3", "chains = [3]", "chains = [{jobs = 3}]", "[chains]\njobs = 1"]
)
def test_a_list_of_another_shape_is_refused(text: str) -> None:
    with pytest.raises(ZaslonError, match="cannot be used"):
        parse_jobs(text, origin="The list")


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ZaslonError, match="ZASLON_SCHEDULE_JOBS"):
        load_jobs(tmp_path / "none.toml")


def test_jobs_are_ordered_by_what_they_come_after() -> None:
    text = LIST.replace('name = "clean"', 'name = "zero"').replace('after = ["clean"]', 'after = ["zero"]')
    (chain,) = listed(text).chains
    assert [job.name for job in chain.ordered] == ["zero", "retrain", "promote", "report"]


def test_places_in_a_command_are_filled_in() -> None:
    text = LIST.replace('["promote", "0"]', '["score", "{sources}", "--out=x/{date}"]')
    job = listed(text).chains[0].jobs[2]
    assert job.arguments(["a.txt", "b/{date}.txt"], at("2026-03-02 23:59")) == [
        "score", "a.txt", "b/2026-03-02.txt", "--out=x/2026-03-02"
    ]  # fmt: skip
    with pytest.raises(ZaslonError, match="ZASLON_SCHEDULE_SOURCES"):
        job.arguments([], 0)


def test_moments_of_a_cron_text_are_in_utc() -> None:
    chain = listed(LIST).chains[0]
    assert chain.next_moment(at("2026-03-02 02:30")) == at("2026-03-03 02:30")
    assert chain.newest_moment(at("2026-03-02 02:30")) == at("2026-03-02 02:30")
    assert chain.newest_moment(at("2026-03-02 02:30") - 0.5) == at("2026-03-01 02:30")
    assert chain.count_moments(at("2026-03-02 02:30"), at("2026-03-05 02:30")) == 3
