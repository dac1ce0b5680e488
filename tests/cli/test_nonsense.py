"""Each command is called with nonsense and answers with one sentence that helps and the right code."""

from __future__ import annotations

import fcntl
import shutil
import sqlite3
from pathlib import Path

import pytest
from tests.cli.conftest import Answer, SmallRun, Zaslon

from zaslon.models import tune

READERS = (["clean"], ["score"], ["run"])


def assert_helps(answer: Answer, code: int, *messages: str) -> None:
    """One error: for machines an object, for people a sentence; never a traceback."""
    assert answer.code == code, answer
    assert "Traceback" not in answer.out + answer.err
    error = answer.json["error"]
    assert error["exit_code"] == code
    assert error["message"].endswith((".", "^", "?")) or "\n" in error["message"], error
    assert not error["message"].endswith(".."), error
    whole = f"{error['message']} {error['hint']}"
    for part in messages:
        assert part in whole, whole
    assert error["message"][:40] in answer.err.replace("\n", " "), "the error is on standard error too"


USAGE = [
    (["score"], "Missing argument"),
    (["score", "x", "--wrong"], "--wrong"),
    (["nothing"], "nothing"),
    (["demo", "--days", "-5"], "'--days'"),
    (["demo", "--days", "many"], "'--days'"),
    (["train", "--tune", "-1"], "'--tune'"),
    (["simulate", "OUT", "--days", "0"], "'--days'"),
    (["simulate", "OUT", "--seed", "-1"], "'--seed'"),
    (["simulate", "OUT", "--profile", "bank"], "bank"),
    (["simulate", "OUT", "--format", "xml"], "xml"),
    (["simulate", "OUT", "--start", "yesterday"], "yesterday"),
    (["simulate", "OUT", "--customers", "-3"], "-3"),
    (["simulate", "OUT", "--defects", "-1"], "-1"),
    (["features", "--label-delay", "soon"], "soon"),
    (["simulate", "a.parquet", "--format", "csv"], "--format"),
    (["replay", "3", "--log", "models"], "log-1"),
    (["replay", "3", "--log", "../x"], "log-1"),
    (["replay", "3", "--log", "log-0"], "log-1"),
    (["replay", "3", "--log", ""], "log-1"),
    (["reconcile", "--log", ".log-building"], "log-1"),
    (["produce", "x.txt", "--format", "xml"], "xml"),
    (["produce", "x.txt", "--rate", "5", "--speed", "5"], "--speed"),
    (["keys", "create", "--role", "admin", "--lasts", "0d"], "--lasts"),
    (["label", "x.csv", "--arrived", "noon"], "noon"),
    (["label", "x.csv", "--arrived", "1960-01-01 00:00:00"], "1970"),
    (["label", "x.csv", "--arrived", "2020-01-01T00:00:00+03:00"], "YYYY-MM-DD"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), USAGE, ids=lambda v: " ".join(v) if isinstance(v, list) else v
)
def test_a_wrong_command_line_is_refused(
    zaslon: Zaslon, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_helps(zaslon(*arguments, "--json"), 2, message)


def test_without_a_command_the_help_is_shown(zaslon: Zaslon) -> None:
    for arguments in ((), ("keys",)):
        answer = zaslon(*arguments)
        assert answer.code == 2
        assert "Commands" in answer.out
        assert not answer.err, "the help is enough"


def test_a_search_without_its_library_is_refused_before_the_work(
    zaslon: Zaslon, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "find_spec", lambda name: None)
    shutil.rmtree(home / "clean")  # not even looked for
    assert_helps(zaslon("train", "--tune", 5, "--home", home, "--json"), 2, "zaslon[tune]")


@pytest.mark.parametrize("command", [["topics", "check"], ["produce", "x"]], ids=lambda c: c[0])
def test_an_unreachable_broker_is_one_clear_error(
    zaslon: Zaslon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    pytest.importorskip("confluent_kafka", reason="the extra `kafka` is not installed")
    monkeypatch.setenv("ZASLON_HOME", str(tmp_path))
    monkeypatch.setenv("ZASLON_KAFKA_SERVERS", "127.0.0.1:1")
    assert_helps(zaslon(*command, "--json"), 2, "ZASLON_KAFKA_USER")
    monkeypatch.setenv("ZASLON_KAFKA_USER", "scorer")
    assert_helps(zaslon(*command, "--json"), 2, "ZASLON_KAFKA_PASSWORD_FILE")
    nothing = tmp_path / "nothing"
    nothing.touch()
    monkeypatch.setenv("ZASLON_KAFKA_PASSWORD_FILE", str(nothing))
    assert_helps(zaslon(*command, "--json"), 2, "it is empty")
    monkeypatch.setenv("ZASLON_KAFKA_PASSWORD", "secret")
    monkeypatch.delenv("ZASLON_KAFKA_PASSWORD_FILE")
    monkeypatch.setenv("ZASLON_KAFKA_CA_FILE", str(nothing))
    answer = zaslon(*command, "--json")
    assert_helps(answer, 11, "127.0.0.1:1")
    assert "secret" not in answer.out + answer.err


@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
def test_an_invalid_source_is_named(zaslon: Zaslon, home: Path, command: list[str]) -> None:
    place = home.parent
    (place / "empty.txt").touch()
    (place / "binary.txt").write_bytes(bytes(range(256)) * 20)
    (place / "columns.csv").write_text("a,b,c\n1,2,3\n")
    (place / "cut.txt.gz").write_bytes(b"\x1f\x8b\x08\x00\x00")
    for name in ("none.txt", ".", "empty.txt", "binary.txt", "columns.csv", "cut.txt.gz", "x://y"):
        source = name if "://" in name else place / name
        assert_helps(zaslon(*command, source, "--home", home, "--json"), 3, str(source))


def test_nothing_is_lost_where_a_run_fails(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    few = home.parent / "few.txt"
    few.write_bytes(b"".join(small_run.tomorrow.read_bytes().splitlines(keepends=True)[:200]))
    assert_helps(zaslon("run", few, "--home", home, "--json"), 7, "days")
    assert zaslon("replay", 3, "--home", home, "--json").json["identical"]
    without = home.parent / "no-frauds.txt"
    lines = [line.split(b",") for line in small_run.raw.read_bytes().splitlines()]
    without.write_bytes(b"\n".join(b",".join([*f[:7], b"0", b"0"]) for f in lines[1:]) + b"\n")
    assert_helps(zaslon("run", without, "--home", home, "--json"), 7, "fraud")
    assert zaslon("replay", 3, "--home", home, "--json").json["identical"]
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").code == 0


def test_a_row_with_a_wrong_year_is_named_as_what_empties_a_period(zaslon: Zaslon, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    names = "transaction_id,tx_datetime,customer_id,terminal_id,tx_amount,tx_fraud"
    file.write_text(f"{names}\n1,2019-08-22 10:00:00,5,5,10,0\n2,2021-01-01 10:00:00,5,5,10,1\n")
    answer = zaslon("run", file, "--home", tmp_path / "home", "--json")
    assert_helps(
        answer, 7, "validation period", "'tx_fraud'", "2 days from 2019-08-22 to 2021-01-01", "wrong year"
    )


@pytest.mark.parametrize("command", [["train"], ["evaluate"], ["features"]], ids=lambda c: c[0])
def test_an_empty_home_gets_a_hint(zaslon: Zaslon, tmp_path: Path, command: list[str]) -> None:
    answer = zaslon(*command, "--home", tmp_path / "new", "--json")
    assert answer.code in (3, 7)
    assert_helps(answer, answer.code, "zaslon")


def test_score_and_label_without_a_model_give_a_hint(
    zaslon: Zaslon, small_run: SmallRun, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\n")
    empty = tmp_path / "empty"
    empty.mkdir()
    for command in (["score", small_run.tomorrow], ["label", labels]):
        assert_helps(zaslon(*command, "--home", tmp_path / "new", "--json"), 7, "zaslon run")
        assert_helps(zaslon(*command, "--home", empty, "--json"), 6, "zaslon train")
    assert not (empty / "scored").exists()  # before any file is cleaned


LABELS = [
    (b"", "is empty"),
    (b"a,b\n1,2\n", "transaction_id"),
    (b"transaction_id,answer\n1,1\n", "is_fraud"),
    (b"\xff\xfe\x00", "is UTF-16"),
    (b"transaction_id,is_fraud,is_fraud\n32060,0,1\n", "two columns for 'is_fraud'"),
]


@pytest.mark.parametrize(("content", "message"), LABELS, ids=[s for _, s in LABELS])
def test_a_file_that_is_not_a_label_file_is_refused(
    zaslon: Zaslon, home: Path, content: bytes, message: str
) -> None:
    labels = home / "labels.csv"
    labels.write_bytes(content)
    assert_helps(zaslon("label", labels, "--home", home, "--json"), 3, message)


def test_a_label_file_that_is_missing_or_a_directory_is_named(zaslon: Zaslon, home: Path) -> None:
    for source in (home / "none.csv", home):
        assert_helps(zaslon("label", source, "--home", home, "--json"), 3, str(source))


@pytest.mark.parametrize("name", ["x", "tx:", "tx:abc", "5.5", "tx:--1", "y:5", ":5", "9" * 30, "٣"])
def test_an_invalid_decision_id_is_refused(zaslon: Zaslon, home: Path, name: str) -> None:
    assert_helps(zaslon("replay", name, "--home", home, "--json"), 7, "decision id")


@pytest.mark.parametrize("name", ["999999999", "9" * 19, "tx:999999999", "tx:-1", "tx:" + "9" * 19])
def test_a_decision_that_was_never_made_is_not_found(zaslon: Zaslon, home: Path, name: str) -> None:
    assert_helps(zaslon("replay", name, "--home", home, "--json"), 7, str(home))


def test_a_missing_log_is_refused_with_the_known_ones(zaslon: Zaslon, home: Path, tmp_path: Path) -> None:
    assert_helps(zaslon("replay", 3, "--home", home, "--log", "log-9", "--json"), 7, "log-9", "log")
    assert_helps(zaslon("replay", 3, "--home", tmp_path / "new", "--json"), 7, "zaslon run")


def test_reconcile_shows_people_a_table(zaslon: Zaslon, home: Path) -> None:
    answer = zaslon("reconcile", "--home", home)
    assert answer.code == 0
    assert "Complete: nothing is missing or double." in answer.out
    assert "all records" in answer.out
    assert "{" not in answer.out and "[" not in answer.out
    (home / "sent.txt").write_text("\n".join(str(-i) for i in range(1, 14)))
    answer = zaslon("reconcile", "--home", home, "--sent", home / "sent.txt")
    assert answer.code == 8
    assert "-10 and 3 more" in answer.out


@pytest.mark.parametrize("word", ["1_000", "abc", "\u0663", "-", "x" * 5_000])
def test_reconcile_names_an_id_that_is_not_a_number(zaslon: Zaslon, home: Path, word: str) -> None:
    (home / "sent.txt").write_text(f"17\n{word}\n")
    answer = zaslon("reconcile", "--home", home, "--sent", home / "sent.txt", "--json")
    assert_helps(answer, 3, f"'{word[:60]}", "which is not a whole number")


def damage(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    begin = int(len(content) * at)
    for i in range(begin, min(begin + 64, len(content))):
        content[i] ^= 0xFF
    path.write_bytes(content)


def model_file(home: Path, name: str) -> Path:
    (path,) = (home / "models").glob(f"*/{name}")
    return path


def the_policy(home: Path) -> Path:
    (path,) = (home / "policies").glob("*.toml")
    return path


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"model": 5}', b'"x"', b"\xff"])
def test_a_damaged_champion_is_refused(zaslon: Zaslon, home: Path, content: bytes) -> None:
    (home / "champion.json").write_bytes(content)
    assert_helps(zaslon("evaluate", "--home", home, "--json"), 6, "champion.json")


def test_a_champion_that_names_a_missing_model_is_refused(zaslon: Zaslon, home: Path) -> None:
    (home / "champion.json").write_bytes(
        b'{"model": "abc", "policy": "def", "number": 1, "by": "me", "reason": ""}'
    )
    assert_helps(zaslon("evaluate", "--home", home, "--json"), 6, "Model abc is no longer")


def test_a_damaged_model_has_an_error_with_a_hint(zaslon: Zaslon, home: Path) -> None:
    damage(model_file(home, "model.txt"))
    for command in (["evaluate"], ["replay", 3]):
        assert_helps(zaslon(*command, "--home", home, "--json"), 6, "model.txt has changed")


def test_a_changed_policy_is_refused(zaslon: Zaslon, home: Path) -> None:
    path = the_policy(home)
    path.write_text(path.read_text().replace("version = 1", "version = 2"))
    for command in (["evaluate"], ["replay", 3]):
        assert_helps(zaslon(*command, "--home", home, "--json"), 6, "was changed")


def test_a_replay_names_a_missing_policy_or_model(zaslon: Zaslon, home: Path) -> None:
    policy = the_policy(home)
    kept = policy.read_bytes()
    policy.unlink()
    assert_helps(zaslon("replay", 3, "--home", home, "--json"), 6, "Policy", "is no longer")
    policy.write_bytes(kept)
    directory = model_file(home, "model.txt").parent
    directory.rename(home / "elsewhere")
    assert_helps(zaslon("replay", 3, "--home", home, "--json"), 6, "Model", "is no longer")
    (home / "elsewhere").rename(directory)
    assert zaslon("replay", 3, "--home", home, "--json").json["identical"]


def test_a_catalogue_of_another_company_is_refused_for_this_home(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    from importlib import resources

    text = resources.files("zaslon.domain").joinpath("mission.toml").read_text()
    other = home / "other.toml"
    other.write_text(
        text.replace('windows = ["1h", "1d", "7d", "30d"]', 'windows = ["2h", "1d", "7d", "30d"]')
    )
    given = ["--home", home, "--catalogue", other, "--json"]
    assert_helps(zaslon("replay", 3, *given), 6, "catalogue")
    assert_helps(zaslon("evaluate", *given), 6, "catalogue")
    assert_helps(zaslon("score", small_run.tomorrow, *given), 6, "catalogue")


def test_a_file_that_is_not_a_catalogue_is_refused(zaslon: Zaslon, home: Path) -> None:
    (home / "broken.toml").write_text("name = [")
    for path in (home / "none.toml", home, home / "broken.toml"):
        for command in (["evaluate"], ["clean", "x"]):
            answer = zaslon(*command, "--home", home, "--catalogue", path, "--json")
            assert_helps(answer, 4, str(path))


def test_a_damaged_journal_is_refused(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    journal = home / "log" / "journal.db"
    intact = journal.read_bytes()
    for content in (b"no journal at all" * 100, intact[: len(intact) // 3], b"\0" * 8192):
        journal.write_bytes(content)
        for command in (["score", small_run.tomorrow], ["replay", 3]):
            assert_helps(zaslon(*command, "--home", home, "--json"), 6, "journal.db")


def test_a_record_that_was_changed_in_the_journal_is_found(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    with sqlite3.connect(home / "log" / "journal.db") as connection:
        (content,) = connection.execute("SELECT content FROM batches WHERE first_position = 0").fetchone()
        changed = content[:-1] + bytes([content[-1] ^ 1])
        connection.execute("UPDATE batches SET content = ? WHERE first_position = 0", (changed,))
    for command in (["score", small_run.tomorrow], ["replay", 3]):
        assert_helps(zaslon(*command, "--home", home, "--json"), 6, "position 0 was changed")


def test_an_outcome_that_was_changed_is_found_by_its_replay(zaslon: Zaslon, home: Path) -> None:
    with sqlite3.connect(home / "log" / "journal.db") as connection:
        connection.execute(
            """UPDATE outcomes SET outcome = CAST(replace(outcome, '"degraded":null', '"degraded":"model"') AS BLOB)
            WHERE position = 3"""
        )
    answer = zaslon("replay", 3, "--home", home, "--json")
    assert answer.code == 8
    assert answer.json["identical"] is False
    assert answer.json["recorded"] != answer.json["recomputed"]
    assert zaslon("replay", 3, "--home", home).code == 8


def snapshots(home: Path) -> list[Path]:
    return sorted((home / "log" / "snapshots").glob("*/snapshot-*.npz"))


def test_a_damaged_snapshot_is_named_and_passed_over(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZASLON_SNAPSHOT_EVERY_RECORDS", "1")
    monkeypatch.setenv("ZASLON_BATCH_RECORDS", "200")
    assert zaslon("score", small_run.tomorrow, "--home", home, "--json").code == 0
    newest = snapshots(home)[-1]
    damage(newest)
    labels = home / "labels.csv"
    labels.write_text("transaction_id,is_fraud\n1,1\n")
    answer = zaslon("label", labels, "--home", home, "--json")
    assert answer.code == 0
    assert answer.json["labels"] == 1 or answer.json["records_rejected"]
    assert newest.name in answer.err
    assert "damaged" in answer.err


def test_a_log_without_its_beginning_is_not_replayed(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    for path in snapshots(home):
        damage(path)
    assert_helps(zaslon("score", small_run.tomorrow, "--home", home, "--json"), 6, "No snapshot", "backup")
    shutil.rmtree(home / "log" / "snapshots")
    for command in (["score", small_run.tomorrow], ["replay", 3]):
        assert_helps(zaslon(*command, "--home", home, "--json"), 6, "no snapshot", "backup")


def test_snapshots_beyond_a_restored_log_are_forgotten(
    zaslon: Zaslon, small_run: SmallRun, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = home.parent / "older.db"
    shutil.copy(home / "log" / "journal.db", older)
    monkeypatch.setenv("ZASLON_SNAPSHOT_EVERY_RECORDS", "1")
    first = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    for path in (home / "log").glob("journal.db*"):
        path.unlink()
    shutil.copy(older, home / "log" / "journal.db")
    again = zaslon("score", small_run.tomorrow, "--home", home, "--json")
    assert "restored from an older copy" in again.err
    assert again.json["decisions"] == first["decisions"]
    assert again.json["actions"] == first["actions"]


def test_snapshots_of_another_log_are_never_taken(zaslon: Zaslon, small_run: SmallRun, home: Path) -> None:
    for path in (home / "log").glob("journal.db*"):
        path.unlink()
    answer = zaslon("score", small_run.tomorrow, "--home", home, "--json").json
    assert answer["next_position"] == answer["rows_clean"], "a new log, from the beginning"


@pytest.mark.parametrize("lock", [".lock", "jobs/.lock"])
def test_a_second_process_in_a_home_is_refused(zaslon: Zaslon, tmp_path: Path, lock: str) -> None:
    (tmp_path / "jobs").mkdir()
    jobs = [["clean", "x"], ["features"], ["train"], ["retrain"]]
    deciding = [["score", "x"], ["label", "x"]]
    with (tmp_path / lock).open("a+") as file:
        file.write("4321")
        file.flush()
        fcntl.flock(file, fcntl.LOCK_EX)
        for command in [*(jobs if "jobs" in lock else deciding), ["run", "x"]]:
            assert_helps(zaslon(*command, "--home", tmp_path, "--json"), 9, "in use by process 4321")


def test_reading_works_while_another_process_writes(zaslon: Zaslon, home: Path) -> None:
    with (home / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert zaslon("replay", 3, "--home", home, "--json").json["identical"]
        assert zaslon("evaluate", "--home", home, "--json").code == 0


def test_output_is_replaced_only_as_a_whole(
    zaslon: Zaslon, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "features"
    assert zaslon("features", "--out", out, "--home", home, "--json").code == 0
    before = sorted(p.relative_to(out) for p in out.rglob("*"))
    next(home.glob("clean/day=*/*.parquet")).write_bytes(b"damaged")
    assert_helps(zaslon("features", "--out", out, "--home", home, "--json"), 3, "Clean the files again")
    assert sorted(p.relative_to(out) for p in out.rglob("*")) == before
    monkeypatch.chdir(out)
    assert_helps(zaslon("features", "--out", ".", "--home", home, "--json"), 3, "working directory")
    assert_helps(zaslon("features", "--out", "/proc/x/y", "--home", home, "--json"), 3, "cannot be written")


def test_output_that_is_something_else_is_not_overwritten(
    zaslon: Zaslon, small_run: SmallRun, home: Path
) -> None:
    other = home.parent / "photos"
    other.mkdir()
    (other / "cat.jpg").write_bytes(b"cat")
    for command in (["clean", small_run.tomorrow], ["features"]):
        assert_helps(zaslon(*command, "--out", other, "--home", home, "--json"), 3, "not overwritten")
    assert (other / "cat.jpg").read_bytes() == b"cat"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [("ZASLON_SEED", "x", "seed"), ("ZASLON_TEST_DAYS", "-1", "test_days"), ("ZASLON_LABEL_DELAY", "7", "label_delay"),
     ("ZASLON_FALSE_POSITIVE_RATE_MAX", "5", "false_positive_rate_max"), ("ZASLON_REVIEWS_PER_DAY_MAX", "-2", "reviews"),
     ("ZASLON_SEED", str(2**31), "seed"), ("ZASLON_LOSS_PER_MONTH_MAX", "inf", "loss_per_month_max"),
     ("ZASLON_PSEUDONYM_KEY", "", "pseudonym_key"), ("ZASLON_PSEUDONYM_KEY", "short", "pseudonym_key")],
)  # fmt: skip
def test_a_setting_that_cannot_be_used_is_named(
    zaslon: Zaslon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    monkeypatch.setenv(name, value)
    assert_helps(zaslon("evaluate", "--home", tmp_path, "--json"), 2, message)


def test_a_damaged_key_file_is_not_taken_for_a_missing_one(zaslon: Zaslon, tmp_path: Path) -> None:
    (tmp_path / "pseudonym.key").touch()
    assert_helps(zaslon("evaluate", "--home", tmp_path, "--json"), 6, "pseudonym.key", "backup")


def test_a_demo_removes_nothing_that_no_demo_made(zaslon: Zaslon, tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "thesis.txt"
    mine.parent.mkdir()
    mine.write_text("years of work")
    assert_helps(zaslon("demo", "--home", tmp_path, "--json"), 3, "thesis.txt", "--home")
    assert mine.read_text() == "years of work"
