"""What `zaslon` commands write into the promotion ledger, and what they say of it."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import orjson
import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.cli.test_nonsense import assert_helps

from zaslon.adapters.relational.store import Store
from zaslon.adapters.relational.stored_ledger import StoredLedger
from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.errors import ServerError
from zaslon.domain.events import Change
from zaslon.domain.ledger import Promotion
from zaslon.flows.serving_history import served_at
from zaslon.models.artefact import load_model, save_model
from zaslon.services.home import keep_champion
from zaslon.services.promotion_ledger import record_champion
from zaslon.settings import load_settings

LATER = "2100-01-01T00:00"


def champion(home: Path) -> dict[str, object]:
    named: dict[str, object] = orjson.loads((home / "champion.json").read_bytes())
    return named


def next_position(home: Path) -> int:
    context = build_context(load_settings(home=home), reading=True)
    with closing(context.open_journal_for_reading()) as journal:
        return journal.next_position


def another_model(home: Path, roc_auc: float = 0.75) -> str:
    """A model of the home that has never served, and differs only in what is written about it."""
    model = load_model(home / "models" / str(champion(home)["model"]))
    other = model.with_facts(metrics={"roc_auc": roc_auc})
    save_model(other, home / "models" / other.artefact_id)
    return other.artefact_id


def test_a_run_is_the_first_entry_of_the_ledger(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    (entry,) = zaslon("history", "--home", home, "--json").json["promotions"]
    answer = small_run.answer
    assert (entry["action"], entry["verdict"], entry["number"]) == ("run", "first", 1)
    assert (entry["model"], entry["policy"]) == (answer["model"], answer["policy"])
    assert entry["catalogue"] == load_catalogue().hash
    assert entry["position"] == 0
    assert (answer["verdict"], answer["promoted"], answer["entry"]) == ("first", True, 1)
    assert entry["evidence"]["metrics"]["roc_auc"] == answer["roc_auc"]
    assert entry["evidence"]["metrics"]["intervals"].keys() == answer["intervals"].keys()
    assert entry["evidence"]["challenge"]["guards"] == answer["guards"]
    assert entry["log"] in {path.name for path in (home / "log" / "snapshots").iterdir()}
    assert champion(home)["reason"] == "run, entry 1"


def test_a_training_that_is_no_better_is_no_entry(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    before = champion(home)
    answer = zaslon("train", "--home", home, "--label-delay", "1d", "--json")
    trained = answer.json
    assert (answer.code, trained["promoted"], trained["entry"]) == (0, False, None)
    assert trained["verdict"] in ("worse", "not_shown", "not_enough_evidence")
    assert trained["champion"] == before["model"] != trained["model"]
    assert champion(home) == before
    assert len(zaslon("history", "--home", home, "--json").json["promotions"]) == 1
    said = " ".join(zaslon("train", "--home", home, "--label-delay", "1d").out.split())
    assert f"Model {trained['model']} does not serve; before: {before['model']}." in said
    assert f"zaslon promote {trained['model']} --unguarded" in said


def test_a_model_of_another_label_delay_replaces_no_champion(zaslon: Zaslon, home: Path) -> None:
    before = champion(home)
    answer = zaslon("train", "--home", home, "--label-delay", "0s", "--json").json
    assert (answer["verdict"], answer["promoted"]) == ("not_enough_evidence", False)
    assert answer["champion"] == before["model"]
    (reason,) = answer["reasons"]
    assert reason == (
        "The champion cannot be compared with, and serves on: it was trained with a label delay of 7d, "
        f"model {answer['model']} with one of 0s."
    )
    assert champion(home) == before


def test_a_promotion_is_an_entry_at_the_end_of_the_log(zaslon: Zaslon, home: Path) -> None:
    model = another_model(home)
    assert zaslon("promote", model, "--unguarded", "--home", home, "--json").code == 0
    entry = zaslon("history", "--home", home, "--json").json["promotions"][-1]
    assert (entry["action"], entry["verdict"], entry["number"]) == ("promote", "unguarded", 2)
    assert entry["model"] == model == champion(home)["model"]
    assert entry["position"] == next_position(home) - 1 > 0  # behind it, the change itself


def test_policies_are_listed_and_shown(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "stricter.toml"
    file.write_text("# By hand.\n[thresholds]\nreview = 0.0\nblock = 0.0\n")
    applied = zaslon("policy", "apply", file, "--why", "an attack", "--home", home, "--json").json
    first, second = zaslon("policy", "list", "--home", home, "--json").json["policies"]
    assert (first["policy"], first["serves"], first["note"]) == (small_run.answer["policy"], False, None)
    assert (second["policy"], second["serves"], second["note"]) == (applied["policy"], True, "an attack")
    assert (second["at"], second["actor"]) == (applied["at"], applied["actor"])
    assert applied["policy"] in zaslon("policy", "list", "--home", home).out
    assert zaslon("policy", "show", applied["policy"], "--home", home).out == file.read_text()
    shown = zaslon("policy", "show", first["policy"], "--home", home, "--json").json
    assert (shown["text"], shown["written"]) == ("", True), "a home without a policy.toml"
    assert "[thresholds]" in shown["meaning"]
    assert_helps(zaslon("policy", "show", "0123", "--home", home, "--json"), 7, "no policy '0123'")


def test_a_rollback_finds_the_policy_in_the_store(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    written = tmp_path / "first.toml"
    written.write_text("# By hand.\n[thresholds]\nreview = 0.0\nblock = 0.0\n")
    applied = zaslon("policy", "apply", written, "--home", home, "--json").json["policy"]
    other = tmp_path / "second.toml"
    other.write_text("[thresholds]\nreview = 0.1\nblock = 0.9\n")
    assert zaslon("policy", "apply", other, "--home", home, "--json").code == 0
    (home / "policies" / f"{applied}.toml").unlink()  # as in another home of the same store
    assert zaslon("rollback", "--home", home, "--json").json["policy"] == applied
    assert (home / "policy.toml").read_text() == written.read_text()
    assert (home / "policies" / f"{applied}.toml").exists()


def test_history_tells_what_served_at_a_moment(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    other = another_model(home)
    promoted = zaslon(
        "promote", other, "--unguarded", "--home", home, "--approve", "a second person", "--json"
    ).json
    assert (promoted["model"], promoted["model_before"]) == (other, small_run.answer["model"])
    assert promoted["approval"] == "a second person"
    now = zaslon("history", "--at", LATER, "--home", home, "--json").json
    assert (now["model"], now["until"], now["entry"]) == (other, None, 2)
    assert now["position"] == next_position(home) - 1 > 0
    assert (now["source"], now["reason"], now["approval"]) == ("log", "promote, entry 2", "a second person")
    first, second = zaslon("history", "--home", home, "--json").json["promotions"]
    since = first["at"].replace(" ", "T")
    if first["at"] != second["at"]:
        then = zaslon("history", "--at", since, "--home", home, "--json").json
        assert (then["model"], then["until"]) == (small_run.answer["model"], now["since"])
        assert (then["since"], then["entry"], then["position"]) == (first["at"], 1, 0)
        with_offset = zaslon("history", "--at", f"{since}+00:00", "--home", home, "--json").json
        assert with_offset == then
    assert other in zaslon("history", "--at", LATER, "--home", home).out
    assert "Promotions" in zaslon("history", "--home", home).out


def test_a_rollback_brings_back_the_model_before(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    first, other = small_run.answer["model"], another_model(home)
    third = another_model(home, 0.5)
    for model in (other, third):
        assert zaslon("promote", model, "--unguarded", "--home", home, "--json").code == 0
    done = zaslon("rollback", "--home", home, "--json").json
    assert (done["model"], done["model_before"]) == (other, third)
    assert done["evidence"] == {
        "back_to_entry": 2, "policy_before": done["policy_before"], "home": (home / "home.id").read_text(),
    }  # fmt: skip
    assert zaslon("rollback", first, "--home", home, "--json").json["model"] == first
    assert (champion(home)["model"], champion(home)["reason"]) == (first, "rollback, entry 5")
    assert champion(home)["policy"] == small_run.answer["policy"]
    assert zaslon("evaluate", "--home", home, "--label-delay", "1d", "--json").json["model"] == first


def test_a_policy_is_applied_and_rolled_back(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "stricter.toml"
    file.write_text("[thresholds]\nreview = 0.0\nblock = 0.0\n")
    applied = zaslon("policy", "apply", file, "--why", "an attack", "--home", home, "--json").json
    assert (applied["action"], applied["number"], applied["model"]) == (
        "policy", 2, small_run.answer["model"],
    )  # fmt: skip
    assert applied["evidence"]["why"] == "an attack"
    assert applied["policy_before"] == small_run.answer["policy"] != applied["policy"]
    assert zaslon("history", "--at", LATER, "--home", home, "--json").json["policy"] == applied["policy"]
    scored = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert (scored["actions"]["allow"], scored["actions"]["review"]) == (0, 0)
    assert (home / "policy.toml").read_bytes() == file.read_bytes()
    same = zaslon("policy", "apply", "--home", home, "--json")
    assert_helps(same, 7, "decides already")
    file.write_text("[thresholds]\nreview = 2\n")
    assert_helps(zaslon("policy", "apply", file, "--home", home, "--json"), 5, "not a probability")
    assert_helps(zaslon("rollback", "x", "--entry", 1, "--home", home, "--json"), 2, "exclude each other")
    back = zaslon("rollback", "--entry", 1, "--home", home, "--json").json
    assert (back["policy"], back["policy_before"]) == (small_run.answer["policy"], applied["policy"])
    assert "serves now; before" in zaslon("rollback", "--home", home).out


def test_a_valid_ledger_is_verified_and_a_changed_one_is_not(zaslon: Zaslon, home: Path) -> None:
    zaslon("promote", another_model(home), "--unguarded", "--home", home)
    found = zaslon("history", "--verify", "--home", home, "--json")
    assert found.code == 0
    newest = zaslon("history", "--home", home, "--json").json["promotions"][-1]
    assert found.json == {
        "entries": 2, "valid": True, "newest_hash": newest["hash"], "first_broken": None, "reason": None,
    }  # fmt: skip
    with closing(sqlite3.connect(home / "store.db")) as connection, connection:
        connection.execute("DROP TRIGGER promotions_no_update")
        connection.execute("UPDATE promotions SET actor = 'nobody' WHERE number = 1")
    broken = zaslon("history", "--verify", "--home", home, "--json")
    assert broken.code == 8
    assert (broken.json["valid"], broken.json["first_broken"]) == (False, 1)
    assert "entry 1 was changed" in zaslon("history", "--verify", "--home", home).out


def test_a_champion_from_before_the_ledger_is_imported(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    (home / "store.db").unlink()
    known = zaslon("history", "--at", LATER, "--home", home, "--json").json
    assert (known["model"], known["by"], known["entry"]) == (small_run.answer["model"], None, None)
    done = zaslon("store", "migrate", "--home", home, "--json").json
    assert (done["schema_before"], done["entries"], done["keys_moved"]) == (None, 1, 0)
    (entry,) = zaslon("history", "--home", home, "--json").json["promotions"]
    assert (entry["action"], entry["verdict"], entry["model"]) == (
        "import", "imported", small_run.answer["model"],
    )  # fmt: skip
    assert entry["catalogue"] == load_catalogue().hash
    assert zaslon("store", "migrate", "--home", home, "--json").json["entries"] == 1
    assert "1 entries" in zaslon("store", "migrate", "--home", home).out


def test_the_promotion_after_a_crash_records_what_served_between(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    before = (home / "champion.json").read_bytes()
    other, third = another_model(home), another_model(home, 0.5)
    zaslon("promote", other, "--unguarded", "--home", home)
    (home / "champion.json").write_bytes(before)  # as a crash right after the ledger leaves it
    zaslon("promote", third, "--unguarded", "--home", home)
    promoted = zaslon("history", "--home", home, "--json").json["promotions"]
    assert [(entry["action"], entry["model"]) for entry in promoted[1:]] == [
        ("promote", other), ("import", small_run.answer["model"]), ("promote", third),
    ]  # fmt: skip
    assert champion(home)["model"] == third


def test_a_home_that_is_behind_records_no_older_champion(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path
) -> None:
    other, third = another_model(home), another_model(home, 0.5)
    standby = tmp_path / "standby"  # another home of the same store, with the same models
    shutil.copytree(home, standby)
    (standby / "home.id").unlink()
    (standby / "store.db").unlink()
    (standby / "store.db").symlink_to(home / "store.db")
    zaslon("promote", other, "--unguarded", "--home", home)
    assert champion(standby)["model"] == small_run.answer["model"]
    (tmp_path / "stricter.toml").write_text("[thresholds]\nreview = 0.1\nblock = 0.2\n")
    behind = zaslon("policy", "apply", tmp_path / "stricter.toml", "--home", standby, "--json")
    assert_helps(
        behind, 9, "This home is behind", "by entry 2 of the ledger", f"zaslon promote {other} --unguarded"
    )
    zaslon("promote", third, "--unguarded", "--home", standby)
    promoted = zaslon("history", "--home", home, "--json").json["promotions"]
    assert [(entry["action"], entry["model"]) for entry in promoted[1:]] == [
        ("promote", other), ("promote", third),
    ]  # fmt: skip
    assert len({entry["evidence"]["home"] for entry in promoted[1:]}) == 2


def test_a_rollback_passes_over_a_model_that_never_served(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    first, other, third = small_run.answer["model"], another_model(home), another_model(home, 0.5)
    zaslon("promote", third, "--unguarded", "--home", home)
    before = (home / "champion.json").read_bytes()
    zaslon("promote", other, "--unguarded", "--home", home)
    (home / "champion.json").write_bytes(before)  # as a kill right after the ledger leaves it
    never = zaslon("rollback", other, "--home", home, "--json")
    assert_helps(never, 7, f"Model '{other}' has never served")
    done = zaslon("rollback", "--home", home, "--json").json
    assert (done["model"], done["model_before"]) == (first, third)


def test_history_passes_over_a_model_that_never_served(tmp_path: Path) -> None:
    context = build_context(load_settings(home=tmp_path))
    ledger = context.open_ledger()
    for number, (action, model) in enumerate(
        (("run", "a"), ("promote", "b"), ("import", "a"), ("promote", "c"))
    ):
        ledger.append(Promotion(1_000 + number, "anna", action, model, "p", "c", None, None, "first"), number)
    found = [served_at(context, 1_000 + i) for i in range(4)]
    assert [served.model for served in found] == ["a", "a", "a", "c"]
    assert (found[1].until_seconds, found[1].note) == (1_002, "No log has a record from before that moment.")


def test_between_ledger_and_home_nothing_is_imported(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = build_context(load_settings(home=home))
    other = another_model(home)
    seen: list[Thread] = []

    def look_first(*given: Any, **more: Any) -> Change:
        looking = Thread(target=record_champion, args=(context,))
        seen.append(looking)
        looking.start()
        looking.join(0.3)  # it would be through by now, but for the lock
        return keep_champion(*given, **more)

    monkeypatch.setattr("zaslon.services.promotion_ledger.keep_champion", look_first)
    assert zaslon("promote", other, "--unguarded", "--home", home, "--json").code == 0
    seen[0].join()
    actions = [entry["action"] for entry in zaslon("history", "--home", home, "--json").json["promotions"]]
    assert actions == ["run", "promote"]


def test_a_store_that_is_away_stops_no_decision_and_every_promotion(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_STORE_URL", "postgresql://zaslon@127.0.0.1:1/zaslon")
    monkeypatch.setenv("ZASLON_STORE_TIMEOUT_SECONDS", "2")
    scored = zaslon("score", small_run.tomorrow, "--home", home, "--json")
    assert scored.code == 0
    before = champion(home)
    refused = zaslon("promote", another_model(home), "--unguarded", "--home", home, "--json")
    assert_helps(refused, ServerError.exit_code, "127.0.0.1:1/zaslon cannot be used")
    assert champion(home) == before


def test_nonsense_is_refused_with_a_hint(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    def json(*arguments: object) -> tuple[int, str]:
        answer = zaslon(*arguments, "--home", home, "--json")
        return answer.code, answer.json["error"]["message"]

    for model in ("0123", "..", "x/y", ""):
        assert json("promote", model)[0] == 7
    assert json("rollback", "0123")[0] == 7
    assert json("rollback") == (7, "No other model or policy has served before.")
    assert json("history", "--at", "yesterday")[0] == 2
    assert json("history", "--at", "1950-01-01T00:00")[0] == 2
    assert json("history", "--at", "1999-01-01T00:00")[0] == 7
    assert json("history", "--at", LATER, "--verify")[0] == 2
    actor = StoredLedger(Store(home / "store.db")).entries()[0].promotion.actor
    for approver in (actor, actor.upper(), " ", "\n"):
        assert json("promote", small_run.answer["model"], "--approve", approver)[0] == 2
    assert len(zaslon("history", "--home", home, "--json").json["promotions"]) == 1


def test_a_home_without_a_model_has_no_history(zaslon: Zaslon, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    assert zaslon("history", "--home", home, "--json").json == {"promotions": []}
    assert zaslon("history", "--verify", "--home", home, "--json").json["valid"] is True
    assert_helps(zaslon("rollback", "--home", home, "--json"), 7, "Nothing was ever promoted")
