"""Every command through the command line, with the names that the reference promises."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from contextlib import closing
from importlib import resources
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest
import typer
from tests.cli.conftest import Answer, SmallRun, Zaslon
from tests.cli.test_nonsense import assert_helps

from zaslon import __version__
from zaslon.bootstrap import build_context
from zaslon.entrypoints.cli import app
from zaslon.entrypoints.show import as_called
from zaslon.flows.demo import _empty
from zaslon.settings import load_settings

MEASURES = {
    "roc_auc",
    "pr_auc",
    "recall",
    "precision",
    "false_positive_rate",
    "reviews_per_day",
    "thresholds",
}
COUNTS = {"decisions", "actions", "rules_fired", "labels", "records_rejected", "decisions_per_second"}
ROWS = {"rows_in", "rows_clean", "rows_rejected"}
GATED = {"champion", "verdict", "reasons", "guards", "not_checked", "refusals", "promoted", "entry"}


def assert_every_row_has_one_outcome(values: dict[str, Any]) -> None:
    assert values["rows_in"] == values["rows_clean"] + sum(values["rows_rejected"].values())
    assert values["rows_rejected"], "the simulated file has defects"


def read_last_days(small_run: SmallRun, days: int) -> pl.DataFrame:
    """Clean transactions of the last days before the run's end."""
    paths = sorted((small_run.home / "clean").glob("day=*/*.parquet"))[-days:]
    return pl.read_parquet(paths)


def test_run_reports_every_stage(small_run: SmallRun) -> None:
    answer = small_run.answer
    assert answer.keys() >= MEASURES | COUNTS | ROWS | {
        "label_delay",
        "warnings",
        "scorecard",
        "seconds",
        "paths",
        "model",
    }
    assert_every_row_has_one_outcome(answer)
    assert answer["decisions"] == sum(answer["actions"].values()) > 0
    assert answer["labels"] > 0
    assert answer["labels_to_come"] == len(read_last_days(small_run, 7)), "they come after seven days"
    assert answer["seconds"].keys() == {
        "clean", "features", "train", "compare", "decide", "label_delays", "report",
    }  # fmt: skip
    assert all(Path(path).exists() for path in answer["paths"].values())


def test_the_recall_falls_as_confirmation_takes_longer(small_run: SmallRun) -> None:
    by_delay = small_run.answer["label_delay"]
    assert list(by_delay) == ["0 hours", "6 hours", "1 day", "3 days", "7 days"]
    assert by_delay["0 hours"]["recall"] > by_delay["7 days"]["recall"]
    assert by_delay["0 hours"]["pr_auc"] > by_delay["3 days"]["pr_auc"] > by_delay["7 days"]["pr_auc"]


def test_run_prints_one_json_object_to_stdout(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_REGISTRY", "mlflow")
    (home / "mlflow").touch()  # where its directory should be: MLflow cannot write
    again = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json")
    assert again.code == 0, again
    assert again.json.keys() >= MEASURES | COUNTS | ROWS | GATED
    assert again.json["label_delay"] == {}
    assert "could not be kept in MLflow" in again.err
    assert "registry" not in again.json["paths"], "the rest is as it would be"
    assert again.json["rows_rejected"] == small_run.answer["rows_rejected"]


def test_a_run_whose_model_is_no_better_changes_nothing_that_serves(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    champion, log = (home / "champion.json").read_bytes(), outcomes(home)
    answer = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json").json
    assert (answer["promoted"], answer["entry"]) == (False, None)
    assert answer["champion"] == small_run.answer["model"] != answer["model"]
    assert answer["verdict"] in ("worse", "not_shown", "not_enough_evidence")
    assert answer["decisions"] == sum(answer["actions"].values()) > 0, "on trial"
    assert "journal" not in answer["paths"]
    assert (home / "champion.json").read_bytes() == champion
    assert outcomes(home) == log
    assert not [path.name for path in home.iterdir() if path.name.startswith((".log", "log-"))]
    assert f"Model {answer['model']} does not serve" in (home / "reports" / "report.html").read_text("utf-8")


def test_the_log_of_the_champions_own_run_is_put_in_use(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    model = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json").json["model"]
    assert zaslon("promote", model, "--unguarded", "--home", home, "--json").code == 0
    again = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json").json
    assert (again["model"], again["champion"], again["promoted"]) == (model, model, False)
    assert Path(again["paths"]["journal"]).exists()
    assert (home / "log-1" / "journal.db").exists(), "the decisions before are put aside"
    earlier = zaslon("replay", 5, "--home", home, "--log", "log-1", "--json")
    assert earlier.json["identical"]
    assert "serves already" in zaslon("train", "--home", home).out


def test_a_champion_that_cannot_be_read_is_not_replaced(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    path = home / "models" / small_run.answer["model"] / "model.txt"
    path.write_bytes(path.read_bytes() + b" ")
    champion = (home / "champion.json").read_bytes()
    answer = zaslon("train", "--home", home, "--json")
    assert (answer.code, answer.json["verdict"], answer.json["promoted"]) == (0, "not_enough_evidence", False)
    (reason,) = answer.json["reasons"]
    assert reason.startswith("The champion cannot be compared with, and serves on: The model in ")
    assert answer.json["champion"] == small_run.answer["model"]
    (home / "champion.json").write_text("{")
    assert zaslon("train", "--home", home, "--json").json["champion"] == "unreadable"
    assert (home / "champion.json").read_text() == "{"
    (home / "champion.json").write_bytes(champion)


@pytest.mark.usefixtures("room_for_luck")
def test_without_mature_days_only_a_first_model_serves(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    last = max((home / "clean").glob("day=*")).name.removeprefix("day=")
    for place, verdict in ((home, "not_enough_evidence"), (tmp_path / "new", "first")):
        arrived = ("--arrived", f"{last} 23:59:59", "--home", place)  # no answer has had seven days to come
        assert zaslon("clean", small_run.raw, *arrived, "--json").code == 0
        answer = zaslon("train", "--home", place, "--json").json
        assert (answer["verdict"], answer["promoted"]) == (verdict, verdict == "first"), answer["refusals"]
        if verdict != "first":
            assert answer["reasons"][0].startswith("No clean day can be compared on: ")
            assert champion_of(home) == small_run.answer["model"]


def champion_of(home: Path) -> str:
    return str(json.loads((home / "champion.json").read_bytes())["model"])


def test_a_model_of_another_catalogue_replaces_no_champion(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    text = resources.files("zaslon.domain").joinpath("mission.toml").read_text("utf-8")
    other = tmp_path / "other.toml"
    other.write_text(text.replace("version = 1", "version = 2", 1))
    champion, log = (home / "champion.json").read_bytes(), outcomes(home)
    answer = zaslon(
        "run", small_run.raw, "--home", home, "--catalogue", other, "--no-compare-delays", "--json"
    )
    assert (answer.code, answer.json["promoted"]) == (0, False), answer
    assert "takes the features of catalogue mission" in answer.json["reasons"][0]
    assert ((home / "champion.json").read_bytes(), outcomes(home)) == (champion, log)


def test_a_first_model_that_breaks_a_guard_does_not_serve(
    zaslon: Zaslon, small_run: SmallRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    monkeypatch.setenv("ZASLON_GUARD_MODEL_BYTES_MAX", "1000")
    answer = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json").json
    assert (answer["verdict"], answer["promoted"], answer["champion"]) == ("first", False, None)
    assert any("model_bytes" in sentence for sentence in answer["refusals"])
    assert not (home / "champion.json").exists()
    assert_helps(
        zaslon("evaluate", "--home", home, "--json"), 6, "No model serves in", "promote ID --unguarded"
    )
    assert Path(answer["paths"]["journal"]).exists(), "no champion needs another log"
    assert zaslon("replay", 5, "--home", home, "--json").json["identical"]
    assert zaslon("promote", answer["model"], "--unguarded", "--home", home, "--json").code == 0
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").json["decisions"] > 0


def outcomes(home: Path) -> list[tuple[int, bytes]]:
    """All of the log in use."""
    with closing(build_context(load_settings(home=home)).open_journal_for_reading()) as journal:
        return list(journal.outcomes())


@pytest.mark.usefixtures("room_for_luck")
def test_clean_features_train_and_evaluate_work_in_turn(
    zaslon: Zaslon, small_run: SmallRun, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    cleaned = zaslon("clean", small_run.raw, "--home", home, "--json").json
    assert {k: cleaned[k] for k in ROWS} == {k: small_run.answer[k] for k in ROWS}
    assert len(pl.read_parquet(cleaned["paths"]["quarantine"])) == sum(cleaned["rows_rejected"].values())
    assert cleaned["seconds"]["clean"] > 0

    features = zaslon("features", "--home", home, "--json").json
    assert features["rows_clean"] == cleaned["rows_clean"]
    assert features["days"] == cleaned["days"]
    frame = pl.read_parquet(f"{features['paths']['features']}/*/*.parquet")
    assert frame.shape == (cleaned["rows_clean"], 3 + len(features["features"]))
    assert zaslon("features", "--home", home, "--json").code == 0, "again, in place of the first"

    trained = zaslon("train", "--home", home, "--json").json
    assert trained.keys() >= MEASURES | {"limits", "model", "policy", "seconds", "paths"}
    evaluated = zaslon("evaluate", "--home", home, "--json").json
    assert evaluated.keys() >= MEASURES
    same = (*MEASURES, "model", "policy", "intervals")
    assert {k: evaluated[k] for k in same} == {k: trained[k] for k in same}


def test_evaluating_on_training_days_is_reported(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header, *lines = small_run.raw.read_bytes().splitlines(keepends=True)
    days = sorted({line.split(b",")[1][:10] for line in lines})
    earlier = home / "earlier.txt"
    # The run tested on its last seven days, and validated on seven that ended a week before.
    earlier.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] <= days[-12]))
    evaluate = ["evaluate", "--home", home, "--label-delay", "1d", "--json"]
    assert zaslon(*evaluate).json["test_days_seen"] == 0
    monkeypatch.setenv("ZASLON_VALIDATION_DAYS", "3")  # what the model was validated on stays the same
    assert zaslon("clean", earlier, "--home", home, "--json").code == 0
    answer = zaslon(*evaluate)
    assert answer.json["test_days_seen"] == 4
    (warning,) = answer.json["warnings"]
    assert (warning["kind"], "has learned from 4" in warning["message"]) == ("learned_from_test_days", True)
    assert "has learned from 4" in " ".join(zaslon(*evaluate[:-1]).out.split())


def test_score_and_label_count_what_they_did(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    scored = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert scored.keys() >= ROWS | COUNTS | {"records_already_done", "next_position", "seconds", "paths"}
    assert_every_row_has_one_outcome(scored)
    assert scored["decisions"] == scored["rows_clean"]
    labels = home / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\nx,1\n")
    labelled = zaslon("label", labels, "--home", home, "--json").json
    assert labelled["labels"] + sum(labelled["records_rejected"].values()) == 2
    assert labelled["records_rejected"] == {"unreadable_label:transaction_id": 1}
    (refused,) = labelled["first_rejected"]
    assert refused["reason"] == "unreadable_label:transaction_id"
    assert "'transaction_id' is 'x'" in refused["detail"]


def test_simulate_writes_the_same_bytes_for_the_same_seed(zaslon: Zaslon, tmp_path: Path) -> None:
    options = ["--days", 2, "--customers", 50, "--terminals", 10, "--json"]
    first = zaslon("simulate", tmp_path / "a.txt", *options).json
    second = zaslon("simulate", tmp_path / "b.txt", *options).json
    assert first["rows"] == second["rows"] > 0
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()


def test_simulate_writes_the_format_of_the_file_ending(zaslon: Zaslon, tmp_path: Path) -> None:
    options = ["--days", 1, "--customers", 50, "--terminals", 10, "--defects", 0, "--json"]
    rows = set()
    for name in ("a.txt", "a.csv.gz", "a.jsonl", "a.parquet"):
        assert zaslon("simulate", tmp_path / name, *options).code == 0
        cleaned = zaslon("clean", tmp_path / name, "--home", tmp_path / "home", "--json").json
        rows.add((cleaned["rows_in"], cleaned["rows_clean"]))
    assert len(rows) == 1
    assert pl.read_parquet(tmp_path / "a.parquet").height == rows.pop()[0]
    assert (tmp_path / "a.jsonl").read_bytes().startswith(b"{")


def test_the_version_is_printed(zaslon: Zaslon) -> None:
    answer = zaslon("--version")
    assert (answer.code, answer.out) == (0, f"zaslon {__version__}\n")


@pytest.mark.slow
def test_figures_beside_rules_are_marked_as_the_models(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    assert "Rules beside the model" not in {row["goal"] for row in small_run.answer["scorecard"]}
    (home / "policy.toml").write_text(
        """
[[rules]]
name = "everything"
when = "amount >= 0"
action = "block"
reason = "all"

[[rules]]
name = "only_counted"
when = "amount > 5"
action = "block"
reason = "large"
shadow = true
"""
    )
    (warning,) = zaslon("evaluate", "--home", home, "--json").json["warnings"]
    assert warning["kind"] == "rules_not_measured"
    assert "rules that may act (1)" in warning["message"]
    answer = zaslon("run", small_run.raw, "--home", home, "--no-compare-delays", "--json").json
    assert answer["actions"] == {"allow": 0, "review": 0, "block": answer["decisions"]}
    assert answer["false_positive_rate"] < 1
    (row,) = [row for row in answer["scorecard"] if row["goal"] == "Rules beside the model"]
    assert row["reached"] == "1 may act"
    assert "thresholds alone" in row["comment"]


def test_demo_prints_the_names_that_are_promised(zaslon: Zaslon, tmp_path: Path) -> None:
    answer = zaslon("demo", "--home", tmp_path, "--customers", 150, "--days", 40, "--json")
    assert answer.code == 0, answer
    assert answer.json.keys() >= ROWS | {
        "roc_auc", "pr_auc", "recall", "false_positive_rate", "decisions", "decisions_per_second",
        "seconds", "paths", "simulation",
    }  # fmt: skip
    assert answer.json["seconds"]["simulate"] > 0
    people = json.loads((tmp_path / "demo" / "reports" / "scorecard.json").read_text())
    assert people == answer.json["scorecard"]
    left = tmp_path / "demo" / "left.txt"
    left.touch()
    assert zaslon("demo", "--home", tmp_path, "--customers", 10**9, "--json").code == 2
    assert left.exists(), "nothing is removed for a demo that cannot be"
    _empty(left.parent)
    assert not left.exists(), "the next demo starts over"


def test_doctor_finds_everything_in_order(zaslon: Zaslon, home: Path) -> None:
    answer = zaslon("doctor", "--home", home, "--json")
    assert answer.code == 0
    assert answer.json["healthy"]
    assert all(check["is_ok"] for check in answer.json["checks"])


def test_doctor_looks_at_a_library_of_every_extra(zaslon: Zaslon, home: Path) -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    looked_at = {check["name"] for check in zaslon("doctor", "--home", home, "--json").json["checks"]}
    for extra, libraries in project["optional-dependencies"].items():
        names = {re.split(r"[\[<>=]", library)[0] for library in libraries}
        assert names & looked_at or extra in ("bench", "dev"), extra


def test_doctor_reports_an_impossible_home(zaslon: Zaslon, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for home in (tmp_path / "file", tmp_path / "file" / "home"):
        answer = zaslon("doctor", "--home", home, "--json")
        assert answer.code == 1
        (check,) = (check for check in answer.json["checks"] if not check["is_ok"])
        assert check["name"] == "home" and str(tmp_path / "file") in check["detail"]


def test_doctor_finds_a_record_for_any_catalogue_that_accepts_one(zaslon: Zaslon, tmp_path: Path) -> None:
    narrow = {
        "id": 'role = "transaction_id"\nmaximum = -7', "at": 'role = "event_time"',
        "who": 'role = "entity"\nentity = "who"\ntype = "text"', "sum": 'role = "amount"\nminimum = 5.5',
        "part": 'role = "number"\nminimum = 0.25\nmaximum = 0.5', "answer": 'role = "is_fraud"',
        "since": 'role = "elapsed_seconds"\ncounts_from = ["2019-08-22"]', "note": 'role = "ignored"',
    }  # fmt: skip
    catalogue = tmp_path / "narrow.toml"
    fields = "".join(f'[[fields]]\nname = "{name}"\n{rest}\n' for name, rest in narrow.items())
    catalogue.write_text('name = "narrow"\nversion = 1\n' + fields)
    answer = zaslon("doctor", "--home", tmp_path / "home", "--catalogue", catalogue, "--json")
    assert answer.json["healthy"], answer.json["checks"]


def test_people_get_tables_instead_of_json(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    for command in (["score", small_run.tomorrow], ["evaluate"], ["replay", 3], ["doctor"]):
        answer = zaslon(*command, "--home", home)
        assert answer.code == 0, answer
        assert "Traceback" not in answer.err
        assert not answer.out.startswith("{") or command[0] == "replay"


def commands() -> dict[str, Any]:
    """Every command by what is typed, those of groups too."""
    found: dict[str, Any] = {}
    for name, command in cast(Any, typer.main.get_command(app)).commands.items():
        inner = getattr(command, "commands", None)
        found |= {name: command} if inner is None else {f"{name} {n}": c for n, c in inner.items()}
    return found


def example_of(command: Any) -> list[str]:
    found = re.search(r"Example: \[bold\]zaslon (.+?)\[/\]", command.help)
    assert found, command.name
    return shlex.split(found[1])


@pytest.mark.parametrize("name", commands())
def test_the_help_has_an_example_and_names_every_option(zaslon: Zaslon, name: str) -> None:
    answer = zaslon(*name.split(), "--help")
    assert answer.code == 0
    assert f"zaslon {name}" in answer.out
    assert " ".join(example_of(commands()[name])).startswith(name)
    assert "--json" in answer.out


# `demo`, `run` and `train` are run above with less data; the others need a server or run until stopped.
RUN_UNCHANGED = (
    "simulate", "clean", "features", "evaluate", "score", "label", "replay", "doctor",
    "keys create", "keys list",
)  # fmt: skip


def test_the_examples_of_the_help_run(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home.parent)
    monkeypatch.setenv("ZASLON_HOME", str(home))
    for file in ("2019-08-22.txt", "tomorrow.txt"):
        Path(file).write_bytes(small_run.tomorrow.read_bytes())
    number = zaslon("replay", 3, "--json").json["recorded"]["transaction_id"]
    Path("confirmed.csv").write_text(f"transaction_id,is_fraud\n{number},1\n")
    for name in RUN_UNCHANGED:
        example = [word.replace("tx:123456", f"tx:{number}") for word in example_of(commands()[name])]
        answer: Answer = zaslon(*example)
        assert answer.code == 0, (name, answer)


def test_suggested_commands_can_be_typed_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [str(tmp_path / ".venv" / "bin" / "zaslon"), "demo"])
    assert as_called("zaslon replay 5") == ".venv/bin/zaslon replay 5"
    assert as_called("reports/report.html") == "reports/report.html"
    monkeypatch.setattr("sys.argv", ["/opt/bin/zaslon"])
    assert as_called("zaslon replay 5") == "/opt/bin/zaslon replay 5"


def test_the_report_of_a_run_names_every_version_and_setting_once(small_run: SmallRun) -> None:
    text = Path(small_run.answer["paths"]["report"]).read_text("utf-8")
    _, _, origin = text.partition("Data and versions")
    named = re.findall(r"<tr><td>(.*?)</td>", origin)
    assert {"model", "policy", "catalogue", "Zaslon", "trained on"} <= set(named)
    assert len(named) == len(set(named))
