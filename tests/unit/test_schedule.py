"""The schedule: times, missed runs, retries, what comes after what, and what is kept about it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tests.schedule_world import ScheduleWorld, SetClock, at

from zaslon.adapters.process.alerts import AlertHooks
from zaslon.domain.errors import ArtefactError, BusyError
from zaslon.domain.jobs import Chain
from zaslon.flows.schedule import keep_chain, keep_schedule, status
from zaslon.services.chain import Schedule, run_chain
from zaslon.services.job_runs import ChainRun, RunStore

WHOLE = ["clean", "retrain", "promote", "report"]


def world_at(place: Path, begin: str, until: str, **given: object) -> ScheduleWorld:
    return ScheduleWorld(place, SetClock(at(begin), at(until)), **given)  # type: ignore[arg-type]


def daily(schedule: Schedule) -> Chain:
    return schedule.jobs.chain("daily")


def kept(world: ScheduleWorld) -> list[ChainRun]:
    return list(reversed(RunStore(world.place / "schedule" / "daily").runs()))


def states(run: ChainRun) -> dict[str, str]:
    return {job.job: job.state for job in run.jobs}


def test_a_chain_runs_at_every_of_its_times_and_not_before(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:29", "2026-03-04 02:29")
    keep_schedule(world.schedule())
    assert [run.due for run in kept(world)] == [at("2026-03-02 02:30"), at("2026-03-03 02:30")]
    assert [run.state for run in kept(world)] == ["success", "success"]
    assert world.calls == WHOLE * 2


def test_a_new_schedule_has_missed_nothing(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:31", "2026-03-02 23:00")
    keep_schedule(world.schedule())
    assert kept(world) == []


def test_several_missed_runs_are_made_up_for_by_one(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-02 02:01")
    keep_schedule(world.schedule())
    world.clock.now, world.clock.until = at("2026-03-06 11:00"), at("2026-03-06 12:00")
    keep_schedule(world.schedule())
    (run,) = kept(world)
    assert (run.due, run.coalesced) == (at("2026-03-06 02:30"), 4)
    assert run.started == at("2026-03-06 11:00")


def test_a_run_that_is_too_late_is_noted_and_alerted(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-02 02:01")
    keep_schedule(world.schedule())
    world.clock.now, world.clock.until = at("2026-03-02 14:31"), at("2026-03-02 20:00")
    keep_schedule(world.schedule())
    (run,) = kept(world)
    assert run.state == "missed"
    assert world.calls == []
    (alert,) = world.alerts
    assert "missed" in alert["text"]
    assert alert["due"] == "2026-03-02T02:30:00Z"


def test_a_clock_that_was_ahead_does_not_stop_the_schedule(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2029-03-02 02:29", "2029-03-02 04:00")
    keep_schedule(world.schedule())  # three years ahead, for an hour
    world.clock.now, world.clock.until = at("2026-03-02 02:29"), at("2026-03-02 04:00")
    keep_schedule(world.schedule())
    assert sorted(run.due or 0 for run in kept(world)) == [at("2026-03-02 02:30"), at("2029-03-02 02:30")]


def test_a_run_never_overlaps_the_next_one(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:29", "2026-03-04 14:00", job_seconds=6 * 3600 + 60)
    keep_schedule(world.schedule())
    first, second, *_ = kept(world)
    assert first.due == at("2026-03-02 02:30")
    assert (second.due, second.coalesced) == (at("2026-03-03 02:30"), 0)
    assert first.ended is not None
    assert first.ended > at("2026-03-03 02:30")
    assert second.started >= first.ended


def test_a_chain_that_a_person_runs_is_waited_for(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:29", "2026-03-02 03:00")
    schedule = world.schedule()
    by_hand = schedule.alone_in(schedule.directory / "daily")
    by_hand.__enter__()

    def release() -> None:
        if world.clock.now >= at("2026-03-02 02:33"):
            world.clock.at_wait = lambda: None
            by_hand.__exit__(None, None, None)

    world.clock.at_wait = release
    keep_schedule(schedule)
    (run,) = kept(world)
    assert run.started >= at("2026-03-02 02:33")
    assert any("waits" in sentence for sentence in world.said)


def test_a_second_scheduler_of_a_home_is_refused(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-02 02:01")
    schedule = world.schedule()
    with schedule.alone_in(schedule.directory), pytest.raises(BusyError):
        keep_schedule(schedule)


def test_a_failed_job_is_tried_again_after_its_delay(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", clean="3,9,0")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None)
    assert states(run) == dict.fromkeys(WHOLE, "success")
    clean = run.jobs[0]
    assert clean.attempts == 3
    assert clean.started == at("2026-03-02 02:00")
    assert clean.ended == at("2026-03-02 02:00") + 3 * 60 + 2 * 300
    assert world.alerts == []


def test_what_comes_after_a_failed_job_does_not_run(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", clean="3")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None)
    assert run.state == "failed"
    assert states(run) == {
        "clean": "failed", "retrain": "upstream_failed", "promote": "upstream_failed", "report": "upstream_failed"
    }  # fmt: skip
    assert world.calls == ["clean"] * 3


def test_people_are_told_once_what_failed_and_why(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", clean="3")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None)
    (alert,) = world.alerts
    assert alert["text"] == "Zaslon on here: daily.clean failed. clean did not work."
    assert (alert["job"], alert["exit_code"], alert["attempts"]) == ("clean", 3, 3)
    assert Path(alert["log"]).is_file()
    assert run.alert_problem is None


def test_an_alert_that_does_not_arrive_is_in_the_record(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", clean="3")
    schedule = replace(world.schedule(), alerts=AlertHooks(None, tmp_path / "nothing"))
    run = run_chain(schedule, daily(schedule), due=None)
    assert run.state == "failed"
    assert run.alert_problem is not None
    assert "did not arrive" in run.alert_problem
    assert kept(world)[0].alert_problem == run.alert_problem


def test_no_news_is_skipped_and_the_run_is_a_success(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", retrain="99")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None)
    assert run.state == "success"
    assert states(run) == {
        "clean": "success", "retrain": "skipped", "promote": "skipped", "report": "success"
    }  # fmt: skip
    assert world.alerts == []


def test_a_job_alone_runs_without_those_before_it(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None, only="promote")
    assert states(run) == {"promote": "success"}


def test_the_state_survives_a_restart(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:29", "2026-03-02 12:00")
    keep_schedule(world.schedule())
    world.clock.until = at("2026-03-02 20:00")
    keep_schedule(world.schedule())  # the run of today is known: it is not made up for
    assert len(kept(world)) == 1
    found = status(world.schedule().jobs, tmp_path / "schedule", world.clock.now, 5).to_json_dict()
    (chain,) = found["chains"]
    assert chain["next"] == "2026-03-03T02:30:00Z"
    assert chain["last_success"] == chain["runs"][0]["ended"] == "2026-03-02T02:34:00Z"


def test_a_run_that_was_killed_is_noted_and_run_again(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-02 20:00")
    schedule = world.schedule()
    store = schedule.store(daily(schedule))
    store.known_since(world.clock.now)
    store.keep(store.begin("daily", WHOLE, at("2026-03-02 02:30"), at("2026-03-02 02:30")))
    world.clock.now = at("2026-03-02 03:00")
    keep_chain(schedule, daily(schedule))
    killed, again = kept(world)
    assert (killed.state, again.state) == ("interrupted", "success")
    assert set(states(killed).values()) == {"interrupted"}
    assert again.due == at("2026-03-02 02:30")


def test_an_end_during_a_run_leaves_it_to_the_next_start(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:29", "2026-03-02 02:33", clean="3,0")
    keep_schedule(world.schedule())  # it ends while the first retry is waited for
    (run,) = kept(world)
    assert set(states(run).values()) == {"interrupted"}
    world.clock.until = at("2026-03-02 04:00")
    keep_schedule(world.schedule())
    assert [run.state for run in kept(world)] == ["interrupted", "success"]


def test_only_the_newest_runs_are_kept(tmp_path: Path) -> None:
    store = RunStore(tmp_path, kept=3)
    for second in range(6):
        store.keep(store.begin("daily", (), None, 1_000.0 + second))
    assert [run.started for run in store.runs()] == [1_005.0, 1_004.0, 1_003.0]


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"jobs":[{"later":1}]}', '{"jobs":[],"later":1}'])
def test_a_damaged_record_is_named(tmp_path: Path, content: str) -> None:
    store = RunStore(tmp_path)
    run = store.keep(store.begin("daily", (), None, 1_000.0))
    (store.of_run(run) / "run.json").write_text(content)
    with pytest.raises(ArtefactError, match=r"run\.json"):
        store.runs()


def test_a_failure_of_the_scheduler_itself_ends_it(tmp_path: Path) -> None:
    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-09 02:00")
    store = RunStore(tmp_path / "schedule" / "daily")
    run = store.keep(store.begin("daily", (), None, 1_000.0))
    (store.of_run(run) / "run.json").write_text("{")
    with pytest.raises(ArtefactError):
        keep_schedule(world.schedule())


def test_metrics_know_the_last_success_from_before_a_restart(tmp_path: Path) -> None:
    from zaslon.entrypoints.schedule_metrics import ScheduleMetrics

    world = world_at(tmp_path, "2026-03-02 02:00", "2026-03-03 02:00", retrain="7")
    run = run_chain(world.schedule(), daily(world.schedule()), due=None)
    metrics = ScheduleMetrics()
    metrics.remember([run])
    metrics.observe("daily", run.jobs[1])

    def value(name: str, **labels: str) -> float | None:
        found: float | None = metrics.registry.get_sample_value(
            f"zaslon_job_{name}", {"chain": "daily", **labels}
        )
        return found

    assert value("last_success_timestamp_seconds", job="clean") == at("2026-03-02 02:01")
    assert value("last_success_timestamp_seconds", job="retrain") is None
    assert value("last_duration_seconds", job="retrain") == 60
    assert value("failures_total", job="retrain") == 1
    assert value("runs_total", job="retrain", state="failed") == 1
