"""Score, label and replay: nothing twice, effective at once, identical for every kind of outcome."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.cli.conftest import SmallRun, Zaslon
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.bootstrap import build_context
from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.events import Kind, RecordBatch
from zaslon.flows.replay import replay
from zaslon.intake import clean_batch
from zaslon.services.changes import champion_of_home
from zaslon.services.home import recover_engine
from zaslon.settings import load_settings


def outcomes(home: Path, log: str = "log") -> list[dict[str, Any]]:
    journal = SqliteJournal(home / log / "journal.db", load_catalogue())
    found = [json.loads(outcome) for _, outcome in journal.outcomes()]
    journal.close()
    return found


def decisions(home: Path) -> Iterator[dict[str, Any]]:
    return (o for o in outcomes(home) if o["outcome"] == "decision")


def test_the_same_content_is_decided_once_under_any_name(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    first = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert first["decisions"] > 0
    assert first["records_already_done"] == 0
    copy = home / "other-name.txt"
    copy.write_bytes(small_run.tomorrow.read_bytes())
    for source in (small_run.tomorrow, copy):
        again = zaslon("score", source, "--home", home, "--json").json
        assert again["decisions"] == 0
        assert again["records_already_done"] == first["decisions"]
        assert again["next_position"] == first["next_position"]


def test_the_log_is_one_whole_file_whenever_a_command_has_ended(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    beside = "journal.db-wal"  # what is in there would be missing from a copy of the journal
    assert not (home / "log" / beside).exists(), "after the run"
    for command in (["score", small_run.tomorrow], ["label", home / "labels.csv"]):
        (home / "labels.csv").write_text("transaction_id,is_fraud\n1,1\n")
        assert zaslon(*command, "--home", home, "--json").code == 0
        assert not (home / "log" / beside).exists(), command[0]
    assert zaslon("replay", 3, "--home", home, "--json").json["identical"]
    assert not (home / "log" / beside).exists() or (home / "log" / beside).stat().st_size == 0


def test_ids_that_the_log_knows_are_rejected_as_repeats(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    zaslon("score", small_run.tomorrow, "--home", home, "--json")
    header, *lines = small_run.tomorrow.read_bytes().splitlines(keepends=True)
    clean = [line for line in lines if line.split(b",")[0].isdigit()]
    changed = clean[5].split(b",")
    changed[4] = b"1.23"
    other = home / "overlap.txt"
    other.write_bytes(header + b"".join([*clean[:5], b",".join(changed)]))
    answer = zaslon("score", other, "--home", home, "--json").json
    assert answer["decisions"] == 0
    assert answer["rows_in"] == 6
    rejected = Counter(answer["records_rejected"]) + Counter(answer["rows_rejected"])
    assert rejected["conflicting_duplicate"] == 1
    assert rejected.total() == 6


def test_a_killed_score_continues_where_it_stopped(
    zaslon: Zaslon, small_run: SmallRun, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = tmp_path / "undisturbed"
    shutil.copytree(home, undisturbed)
    zaslon("score", small_run.tomorrow, "--home", undisturbed, "--json")
    monkeypatch.setenv("ZASLON_BATCH_RECORDS", "5")
    begun = len(outcomes(home))
    process = subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", "score", str(small_run.tomorrow), "--home", str(home)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    journal = SqliteJournal(home / "log" / "journal.db", load_catalogue(), read_only=True)
    until(lambda: journal.outcome(begun) is not None or process.poll() is not None)
    os.kill(process.pid, signal.SIGKILL)
    process.wait(DEADLINE_SECONDS)
    journal.close()
    done = len(outcomes(home)) - begun
    again = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert again["records_already_done"] == done > 0
    assert outcomes(home) == outcomes(undisturbed)


def test_answers_in_a_file_become_labels_or_are_counted(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    given = ["score", small_run.tomorrow, "--home", home, "--json"]
    answer = zaslon(*given, "--learn", "--label-delay", "6h").json
    assert answer["labels"] > 0
    assert answer["labels_to_come"] > 0
    assert answer["labels"] + answer["labels_to_come"] == answer["rows_clean"]
    without = zaslon(*given).json
    assert without["records_rejected"] == {"duplicate": answer["decisions"]}
    assert without["labels"] == without["labels_to_come"] == answer["answers_not_taken"] == 0
    assert without["answers_not_taken"] == without["rows_clean"]


def frauds_known_at(home: Path, line: bytes) -> float:
    """Of the terminal of a transaction, if it came next."""
    context = build_context(load_settings(home=home))
    journal = context.open_journal()
    champion = champion_of_home(context).champion
    engine = recover_engine(context, journal, context.open_snapshots(journal), champion)
    batch = RecordBatch.of([line], [Kind.TRANSACTION_LINE], [2**32 - 2], engine.position)
    cleaned = clean_batch(batch, context.catalogue, context.key)
    applied = engine.apply(cleaned.transactions, cleaned.labels, cleaned.is_label)
    journal.close()
    return float(applied.matrix[0, engine.plan.column_of["terminal_frauds_30d"]])


def three_at_one_terminal(file: Path) -> list[bytes]:
    """Lines of the busiest terminal, in order of time."""
    rows = [line.split(b",") for line in file.read_bytes().splitlines()[1:]]
    good = [r for r in rows if r[0].isdigit() and r[2].isdigit() and r[3].isdigit() and b" 24" not in r[1]]
    (terminal, _), *_ = Counter(r[3] for r in good).most_common(1)
    mine = sorted((r for r in good if r[3] == terminal), key=lambda r: r[1])
    return [b",".join(r) for r in mine[:3]]


def test_the_last_label_counts_for_the_next_transaction(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    first, _, third = three_at_one_terminal(small_run.tomorrow)
    file, labels = home / "one.csv", home / "labels.jsonl"
    file.write_bytes(small_run.tomorrow.read_bytes().splitlines(keepends=True)[0] + first)
    assert zaslon("score", file, "--home", home, "--json").json["decisions"] == 1
    before = frauds_known_at(home, third)
    for verdict, more in (("true", 1), ("true", 1), ("false", 0), ("true", 1)):
        labels.write_bytes(b'{"transaction_id":%s,"is_fraud":%s}' % (first.split(b",")[0], verdict.encode()))
        assert zaslon("label", labels, "--home", home, "--json").json["labels"] == 1
        assert frauds_known_at(home, third) == before + more


def test_an_answer_on_a_repeat_in_a_later_file_is_a_label(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    first, *_ = three_at_one_terminal(small_run.tomorrow)
    header, *lines = small_run.tomorrow.read_bytes().splitlines(keepends=True)
    last_day = max(line.split(b",")[1][:10] for line in lines)
    probe = b",".join([b"900000001", last_day + b" 23:59:59", *first.split(b",")[2:]])
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").json["decisions"] > 0
    before = frauds_known_at(home, probe)
    repeat = home / "repeat.csv"
    repeat.write_bytes(header + b",".join([*first.split(b",")[:7], b"1", b"1"]))
    given = ["score", repeat, "--home", home, "--json", "--label-delay"]
    assert zaslon(*given, "6h").json["labels"] == 0 and frauds_known_at(home, probe) == before
    to_come = zaslon(*given, "7d", "--learn").json
    assert (to_come["labels"], to_come["labels_to_come"]) == (0, 1) and frauds_known_at(home, probe) == before
    answer = zaslon(*given, "6h", "--learn").json
    assert answer["records_rejected"] == {"duplicate": 1} and answer["labels"] == 1
    assert frauds_known_at(home, probe) == before + 1
    again = zaslon(*given, "6h", "--learn").json
    assert (again["labels"], again["records_already_done"]) == (0, 2)


def test_labels_and_replay_reach_ids_to_the_edge_of_64_bits(
    zaslon: Zaslon, home: Path, tmp_path: Path
) -> None:
    payment, labels = tmp_path / "payment.csv", tmp_path / "labels.csv"
    payment.write_text(
        "transaction_id,tx_datetime,customer_id,terminal_id,tx_amount\n"
        + "".join(f"{i},2019-10-02 10:00:0{i % 7},5,5,10.00\n" for i in (2**63 - 1, 10**18))
    )
    assert zaslon("score", payment, "--home", home, "--json").json["decisions"] == 2
    labels.write_text(f"transaction_id,is_fraud\n{2**63 - 1},1\n{10**18},0\n-{2**63 - 1},1\n-{2**63},1\n")
    answer = zaslon("label", labels, "--home", home, "--json").json
    assert (answer["labels"], answer["records_rejected"]) == (2, {"unreadable_label:transaction_id": 2})
    replayed = zaslon("replay", f"tx:{2**63 - 1}", "--home", home, "--json").json
    assert replayed["identical"] and replayed["recorded"]["transaction_id"] == 2**63 - 1


@pytest.mark.parametrize(
    "header", ["transaction_id,is_fraud", "TRANSACTION_ID, Is_Fraud", "tranaction_id,tx_fraud"]
)
def test_label_files_may_use_the_catalogues_column_names(
    zaslon: Zaslon, home: Path, tmp_path: Path, header: str
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text(f"{header}\n1,1\n2,0\n")
    assert zaslon("label", labels, "--home", home, "--json").json["labels"] == 2


def test_a_rule_on_known_frauds_fires_from_the_label_on(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    lines = three_at_one_terminal(small_run.tomorrow)
    header = small_run.tomorrow.read_bytes().splitlines(keepends=True)[0]
    most = int(frauds_known_at(home, lines[1]))
    (home / "policy.toml").write_text(
        f'[[rules]]\nname = "known"\nwhen = "terminal_frauds_30d > {most}"\naction = "block"\n'
        'reason = "{terminal_frauds_30d} known frauds here"\n'
    )
    decided = []
    for line in lines[:2]:
        (home / "one.csv").write_bytes(header + line)
        zaslon("score", home / "one.csv", "--home", home, "--json")
        decided.append(list(decisions(home))[-1])
        number = line.split(b",")[0].decode()
        (home / "labels.csv").write_text(f"transaction_id,is_fraud\n{number},1\n")
        zaslon("label", home / "labels.csv", "--home", home, "--json")
    assert [d["rules"] for d in decided] == [[], ["known"]]
    assert decided[1]["action"] == "block"
    assert decided[1]["reasons"][0]["text"] == f"{most + 1} known frauds here"


def test_every_kind_of_outcome_is_replayed_to_the_same_bytes(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    zaslon("score", small_run.tomorrow, "--home", home, "--json", "--learn", "--label-delay", "1h")
    labels = home / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\nnonsense,0\n888888888,1\n")
    zaslon("label", labels, "--home", home, "--json")
    zaslon("score", small_run.tomorrow, "--home", home, "--json")  # without labels: all are repeats
    found: dict[str, int] = {}
    for outcome in outcomes(home):
        kind = outcome.get("action") or outcome.get("reason") or f"label, waiting {outcome['waiting']}"
        found.setdefault(kind, outcome["position"])
    assert found.keys() >= {
        "allow",
        "block",
        "duplicate",
        "unreadable_label:transaction_id",
        "label, waiting False",
    }
    for position in found.values():
        answer = zaslon("replay", position, "--home", home, "--json")
        assert answer.code == 0, answer
        assert answer.json["identical"]
        assert answer.json["position"] == position


@pytest.mark.slow
def test_old_decisions_replay_with_the_model_of_their_time(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zaslon("clean", small_run.raw, "--home", home, "--json")
    monkeypatch.setenv("ZASLON_SEED", "7")
    trained = zaslon("train", "--home", home, "--json").json
    zaslon("promote", trained["model"], "--unguarded", "--home", home)
    zaslon("score", small_run.tomorrow, "--home", home, "--json")
    found = list(decisions(home))
    first, last = found[0], found[-1]
    assert last["model"] == trained["model"] != first["model"]
    context = build_context(load_settings(home=home))
    chosen = np.random.default_rng(3).choice([o["position"] for o in found], 12, replace=False)
    for position in (first["position"], last["position"], *chosen.tolist()):
        assert replay(context, position).identical
    assert zaslon("replay", f"tx:{first['transaction_id']}", "--home", home, "--json").json["identical"]


def test_a_new_rule_serves_at_once_and_the_old_policy_replays(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    before = next(decisions(home))
    policy = home / "policy.toml"
    policy.write_text(
        '[[rules]]\nname = "any"\nwhen = "amount >= 0"\naction = "review"\nreason = "amount {amount}"\n'
        '[[rules]]\nname = "seen"\nwhen = "flag_amount_zero = 0"\naction = "block"\nreason = "x"\nshadow = true\n'
    )
    answer = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert answer["rules_fired"]["any"] == answer["decisions"]
    assert 0 < answer["rules_fired"]["seen"] <= answer["decisions"]
    assert answer["actions"]["allow"] == 0
    *_, last = decisions(home)
    assert last["rules"] == ["any"]
    assert last["shadow_rules"] == ["seen"]
    assert last["policy"] != before["policy"]
    assert last["model"] == before["model"]
    for decision in (before, last):
        assert zaslon("replay", decision["position"], "--home", home, "--json").json["identical"]
    policy.write_text('[[rules]]\nname = "any"\nwhen = "amuont >= 0"\naction = "review"\nreason = "r"\n')
    wrong = zaslon("score", small_run.tomorrow, "--home", home, "--json")
    assert wrong.code == 5
    assert "^^^^^^" in wrong.json["error"]["message"]
    assert "amount" in wrong.json["error"]["hint"]
    doctor = zaslon("doctor", "--home", home, "--json")
    assert doctor.code == 1
    assert "amuont" in doctor.out


def test_thresholds_of_the_policy_file_apply_and_are_reported(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    (home / "policy.toml").write_text("[thresholds]\nreview = 0.0\nblock = inf\n")
    zaslon("clean", small_run.raw, "--home", home, "--json")
    answer = zaslon("train", "--home", home, "--json").json
    assert answer["thresholds"]["review"] == 0
    assert answer["recall"] == answer["false_positive_rate"] == 1.0
    scored = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert scored["actions"] == {"allow": 0, "review": scored["decisions"], "block": 0}


@pytest.mark.slow
def test_where_nothing_is_stopped_people_read_no_nan(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    (home / "policy.toml").write_text("[thresholds]\nreview = inf\nblock = inf\n")
    answer = zaslon("run", small_run.raw, "--home", home)
    assert answer.code == 0
    report = re.sub(r"base64,[^\"]*", "", (home / "reports" / "report.html").read_text("utf-8"))
    assert "nothing was stopped" in report
    for text in (answer.out, report):
        assert not re.search(r"\bnan\b|nan%", text)


@pytest.mark.slow
def test_the_analysts_capacity_turns_reviews_into_blocks(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zaslon("clean", small_run.raw, "--home", home, "--json")
    free = zaslon("train", "--home", home, "--json").json
    assert free["reviews_per_day"] > 1, "without a limit there is something to review"
    monkeypatch.setenv("ZASLON_REVIEWS_PER_DAY_MAX", "0")
    none = zaslon("train", "--home", home, "--json").json
    assert none["reviews_per_day"] == 0
    assert none["limits"][-1] == "0.0 reviews a day; the analysts have time for 0."
    zaslon("promote", none["model"], "--unguarded", "--home", home)
    scored = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert scored["actions"]["review"] == 0
    assert scored["actions"]["block"] > 0
