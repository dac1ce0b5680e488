"""`zaslon schedule`: real commands as jobs, what is kept of them, and an end in order."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.cli.test_nonsense import assert_helps
from tests.file_modes import nothing_masked as nothing_masked  # noqa: PLC0414  a fixture
from tests.file_modes import open_to_others

LIST = """
[[chains]]
name = "nightly"
when = "0 3 * * *"
missed_within = "6h"

[[chains.jobs]]
name = "clean"
command = ["clean", "{sources}"]
timeout = "10m"

[[chains.jobs]]
name = "promotions"
command = ["history"]
after = ["clean"]
timeout = "10m"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with a list of jobs and a program for alerts; its home is `home`."""
    tell = tmp_path / "tell"
    tell.write_text(f"#!/bin/sh\ncat >> {tmp_path}/told\n")
    tell.chmod(0o755)
    (tmp_path / "jobs.toml").write_text(LIST)
    for name, value in (
        ("HOME", tmp_path / "home"), ("SCHEDULE_JOBS", tmp_path / "jobs.toml"), ("SCHEDULE_ALERT_PROGRAM", tell),
        ("SCHEDULE_SOURCES", tmp_path / "in" / "*.txt"),
    ):  # fmt: skip
        monkeypatch.setenv(f"ZASLON_{name}", str(value))
    return tmp_path


@pytest.mark.usefixtures("nothing_masked")
def test_a_chain_is_run_and_its_state_is_kept(zaslon: Zaslon, place: Path, small_run: SmallRun) -> None:
    (place / "in").mkdir()
    (place / "in" / "tomorrow.txt").symlink_to(small_run.tomorrow)
    done = zaslon("schedule", "run", "nightly", "--json")
    assert done.code == 0, done
    assert [(job["job"], job["state"], job["exit_code"]) for job in done.json["jobs"]] == [
        ("clean", "success", 0), ("promotions", "success", 0)
    ]  # fmt: skip
    result = json.loads(Path(done.json["jobs"][0]["log"]).with_suffix(".json").read_bytes())
    assert result["rows_clean"] > 0
    (chain,) = zaslon("schedule", "status", "--json").json["chains"]
    assert (chain["name"], chain["when"], chain["state"]) == ("nightly", "0 3 * * *", "success")
    assert open_to_others(place / "home") == []
    assert chain["runs"][0]["run"] == done.json["run"]
    assert "nightly" in zaslon("schedule", "status").out


def test_a_failed_chain_has_its_own_exit_code_and_an_alert(zaslon: Zaslon, place: Path) -> None:
    done = zaslon("schedule", "run", "nightly", "--json")
    assert done.code == 15
    assert [job["state"] for job in done.json["jobs"]] == ["failed", "upstream_failed"]
    alert = json.loads((place / "told").read_bytes())
    assert alert["exit_code"] == 3
    assert "No file matches" in alert["text"]
    assert "nightly.clean: failed" in done.err


def test_the_list_is_exported_for_airflow(zaslon: Zaslon, place: Path) -> None:
    out = place / "dags" / "zaslon_jobs.json"
    assert zaslon("schedule", "jobs", "--out", out).code == 0
    (chain,) = json.loads(out.read_bytes())["chains"]
    assert chain["jobs"][0]["arguments"] == ["clean", str(place / "in" / "*.txt"), "--json"]
    assert chain["jobs"][1]["after"] == ["clean"]
    assert chain["jobs"][0]["timeout_seconds"] == 600
    assert "promotions" in zaslon("schedule", "jobs").out


def test_an_alert_can_be_tried(zaslon: Zaslon, place: Path) -> None:
    assert zaslon("schedule", "alert", "nightly.clean", "A try.", "--json").json == {"sent": True}
    alert = json.loads((place / "told").read_bytes())
    assert (alert["chain"], alert["job"], alert["message"]) == ("nightly", "clean", "A try.")


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (("run", "nightli"), ("'nightli'", "'nightly'")),
        (("run", "nightly.cleam"), ("'cleam'", "'clean'")),
        (("status", "--runs", "0"), ("'--runs'",)),
        (("run",), ("Missing argument",)),
    ],
)  # fmt: skip
def test_nonsense_is_answered_with_what_is_right(
    zaslon: Zaslon, place: Path, arguments: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    (place / "home").mkdir()
    assert_helps(zaslon("schedule", *arguments, "--json"), 2, *parts)


def test_settings_that_lack_something_stop_it_at_once(
    zaslon: Zaslon, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZASLON_SCHEDULE_SOURCES")
    assert_helps(zaslon("schedule", "run", "nightly", "--json"), 2, "ZASLON_SCHEDULE_SOURCES")
    assert_helps(zaslon("schedule", "--json"), 2, "ZASLON_SCHEDULE_SOURCES")
    assert_helps(zaslon("schedule", "--json", "status"), 2, "after `status`")
    monkeypatch.delenv("ZASLON_SCHEDULE_ALERT_PROGRAM")
    assert_helps(zaslon("schedule", "alert", "x", "y", "--json"), 2, "ZASLON_SCHEDULE_ALERT_URL")
    monkeypatch.setenv("ZASLON_SCHEDULE_ALERT_URL", "file:///etc/passwd")
    assert_helps(zaslon("schedule", "jobs", "--json"), 2, "schedule_alert_url")
    monkeypatch.delenv("ZASLON_SCHEDULE_ALERT_URL")
    monkeypatch.setenv("ZASLON_SCHEDULE_SOURCES", "'open")
    assert_helps(zaslon("schedule", "jobs", "--json"), 2, "ZASLON_SCHEDULE_SOURCES", "quote")


def test_sigterm_ends_the_schedule_in_order(place: Path) -> None:
    command = [sys.executable, "-m", "zaslon.entrypoints.cli", "schedule", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    assert process.stderr.readline() == "Chain nightly runs at '0 3 * * *' UTC.\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate()
    assert (process.returncode, json.loads(out)) == (0, {"stopped": True})


def test_a_pattern_names_the_files_that_it_matches(
    zaslon: Zaslon, small_run: SmallRun, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for name in ("b.txt", "a.txt"):
        (tmp_path / "in" / name).symlink_to(small_run.tomorrow)
    done = zaslon("clean", tmp_path / "in" / "*.txt", "--home", tmp_path / "home", "--json").json
    assert len(done["sources"]) == 2
    assert_helps(
        zaslon("clean", tmp_path / "*.csv", "--home", tmp_path / "home", "--json"), 3, "No file matches"
    )
