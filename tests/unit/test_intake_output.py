"""The output appears as a whole, is the same again, and holds the first of every repeat."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.unit.intake_cases import (
    GOOD,
    HEADER,
    MISSION,
    NAMES,
    SHOP,
    clean,
    content_of,
    line,
    quarantine_of,
    reasons,
    rows_of,
    run,
)
from tests.waiting import until

from zaslon.domain.catalogue import load_catalogue
from zaslon.domain.clean_report import CleanReport
from zaslon.domain.errors import DataError, InputError
from zaslon.intake import clean_days, publish_clean, read_clean_day, staging

REAL_ROWS = Path(__file__).resolve().parents[3] / "shared" / "data" / "mission-real-rows.csv"
MOMENTS = [f"2019-08-{22 + day} {hour:02d}:00:00" for day in range(3) for hour in (20, 3)]


@pytest.fixture
def many_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few thousand suspects are looked up in several passes, as millions are otherwise."""
    monkeypatch.setattr(staging, "_SUSPECTS_PER_PASS", 700)
    monkeypatch.setattr(staging, "_ROWS_HELD_MAX", 500)


def _write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join([HEADER, *lines, ""]))
    return path


def _days(count: int) -> list[str]:
    return [line(transaction_id=i, tx_datetime=MOMENTS[i % len(MOMENTS)]) for i in range(count)]


def test_rows_are_sorted_by_day_time_and_id(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *_days(30)[::-1])
    report = run([source], tmp_path / "out")
    assert report.days == ["2019-08-22", "2019-08-23", "2019-08-24"]
    for number, path in clean_days(tmp_path / "out", MISSION):
        day = read_clean_day(path, MISSION)
        assert (day.event_time_seconds // 86_400 == number).all()
        keys = list(zip(day.event_time_seconds.tolist(), day.transaction_id.tolist(), strict=True))
        assert keys == sorted(keys)


def test_the_report_in_the_output_is_the_one_that_is_returned(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *_days(5), "x", "y", line(tx_amount="-1"), line(tx_amount="0"))
    report = run([source], tmp_path / "out")
    assert report.rows_rejected == {"out_of_range:tx_amount": 1, "wrong_field_count": 2}
    assert report.flags["amount_zero"] == 1
    written = json.loads((tmp_path / "out" / "_report.json").read_text())
    assert "seconds" not in written, "how long it took is not part of the output"
    assert written | {"seconds": report.seconds} == report.to_json_dict()


def test_a_second_run_gives_identical_bytes(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *_days(500), *_days(100), *["bad"] * 50)
    run([source], tmp_path / "out", filter_bytes=1024, chunk_bytes=2048)
    first = content_of(tmp_path / "out")
    run([source], tmp_path / "out", filter_bytes=1024, chunk_bytes=2048)
    assert content_of(tmp_path / "out") == first


REPEATS = [
    line(transaction_id=1), line(transaction_id=2), line(transaction_id=1),
    line(transaction_id=1, tx_amount="5"), line(transaction_id=3, tx_amount="-1"), line(transaction_id=3),
    line(transaction_id=2, tx_datetime="2019-08-25 00:00:00"), line(transaction_id=2, customer_id="8"),
    line(transaction_id=1, tx_amount="70.9100", tx_time_days="7"),
]  # fmt: skip


@pytest.mark.parametrize("filter_bytes", [1, 64, 1 << 16])
@pytest.mark.parametrize("split", [1, 3, 9])
def test_the_first_record_of_an_id_is_always_kept(filter_bytes: int, split: int, tmp_path: Path) -> None:
    size = len(REPEATS) // split
    sources = [_write(tmp_path / f"{n}.txt", *REPEATS[n * size : (n + 1) * size]) for n in range(split)]
    report = run(sources, tmp_path / "out", filter_bytes=filter_bytes, chunk_bytes=100)
    assert report.rows_rejected == {
        "conflicting_duplicate": 3, "duplicate": 2, "out_of_range:tx_amount": 1,
    }  # fmt: skip
    kept = rows_of(tmp_path / "out").sort("transaction_id")
    assert kept["transaction_id"].to_list() == [1, 2, 3]
    assert kept["amount_minor"].to_list() == [7091] * 3
    repeats = quarantine_of(tmp_path / "out").filter(pl.col("reason").str.contains("duplicate"))
    originals = [REPEATS[i].encode() for i in (2, 3, 6, 7, 8)]
    assert repeats["raw"].to_list() == originals
    for source, offset, raw in repeats.select("source", "offset", "raw").rows():
        assert Path(source).read_bytes()[offset : offset + len(raw)] == raw


@pytest.mark.usefixtures("many_passes")
def test_many_repeats_are_those_of_a_plain_dictionary(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    pairs = [
        (int(i), int(a))
        for i, a in zip(random.integers(-900, 900, 4000), random.integers(0, 2, 4000), strict=True)
    ]
    catalogue = load_catalogue().model_copy(
        update={"fields": (MISSION.fields[0].model_copy(update={"minimum": None}), *MISSION.fields[1:])}
    )
    lines = [line(transaction_id=i, tx_amount=a + 1, tx_datetime=MOMENTS[i % 6]) for i, a in pairs]
    seen: dict[int, int] = {}
    expected = {"duplicate": 0, "conflicting_duplicate": 0}
    for identifier, amount in pairs:
        first = seen.setdefault(identifier, amount)
        expected["duplicate" if first == amount else "conflicting_duplicate"] += 1
    expected["duplicate"] -= len(seen)
    source = _write(tmp_path / "in.txt", *lines)
    outputs = []
    for n, (filter_bytes, chunk_bytes) in enumerate([(64, 5000), (1 << 20, 1 << 20)]):
        report = run(
            [source],
            tmp_path / f"out{n}",
            catalogue=catalogue,
            filter_bytes=filter_bytes,
            chunk_bytes=chunk_bytes,
        )
        assert report.rows_rejected == expected
        kept = rows_of(tmp_path / f"out{n}")
        assert dict(zip(kept["transaction_id"], kept["amount_minor"] // 100 - 1, strict=True)) == seen
        outputs.append({k: v for k, v in content_of(tmp_path / f"out{n}").items() if k.startswith("day=")})
    assert outputs[0] == outputs[1]


def test_a_file_of_rejections_gives_an_output_without_days(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *["bad"] * 1000)
    report = run([source], tmp_path / "out", chunk_bytes=100)
    assert report.rows_rejected == {"wrong_field_count": 1000} and clean_days(tmp_path / "out", MISSION) == []


def test_files_of_others_are_not_overwritten(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", GOOD)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("dear")
    for out in (tmp_path / "mine", source):
        with pytest.raises(InputError, match="is not overwritten"):
            run([source], out)
    assert (tmp_path / "mine" / "letter.txt").read_text() == "dear" and GOOD in source.read_text()


def test_a_source_inside_the_output_is_refused_before_it_is_lost(tmp_path: Path) -> None:
    run([_write(tmp_path / "in.txt", GOOD)], tmp_path / "out")
    inside = _write(tmp_path / "out" / "in.txt", GOOD)
    with pytest.raises(InputError, match="would be replaced"):
        run([inside], tmp_path / "out")
    assert inside.exists()


def test_missing_input_and_unwritable_output_are_errors(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", GOOD)
    with pytest.raises(InputError, match="nothing to clean"):
        run([], tmp_path / "out")
    with pytest.raises(InputError, match="cannot be written"):
        run([source], source / "out")
    with pytest.raises(InputError, match="cannot be written"):
        run([source], Path("/proc/nowhere/out"))


def test_the_working_directory_is_never_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _write(tmp_path / "in.txt", GOOD)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="is the working directory"):
        run([source], Path())
    run([source], Path("out"))
    assert len(rows_of(tmp_path / "here" / "out")) == 1


def test_damaged_clean_days_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no clean data"):
        clean_days(tmp_path, MISSION)
    for content in ("{", "[]", "{}"):
        (tmp_path / "_report.json").write_text(content)
        with pytest.raises(InputError, match=str(tmp_path)):
            clean_days(tmp_path, MISSION)
    run([_write(tmp_path / "in.txt", GOOD)], tmp_path / "out")
    with pytest.raises(InputError, match="was cleaned with catalogue"):
        clean_days(tmp_path / "out", SHOP)
    path = clean_days(tmp_path / "out", MISSION)[0][1]
    path.write_bytes(b"PAR1")
    with pytest.raises(InputError, match="cannot be read"):
        read_clean_day(path, MISSION)


CLEANER = """
import sys
from pathlib import Path
from tests.unit.intake_cases import run
run([sys.argv[1]], Path(sys.argv[2]), chunk_bytes=4096, filter_bytes=64)
"""


def _start(source: Path, out: Path) -> subprocess.Popen[bytes]:
    root = str(Path(__file__).resolve().parents[2])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, root])}
    return subprocess.Popen([sys.executable, "-c", CLEANER, str(source), str(out)], env=environment)


def test_a_kill_leaves_the_old_output(tmp_path: Path) -> None:
    run([_write(tmp_path / "old.txt", *_days(100))], tmp_path / "out")
    old = content_of(tmp_path / "out")
    source = _write(tmp_path / "new.txt", *_days(60_000))
    building = tmp_path / ".out.building"
    pipe = tmp_path / "pipe"  # so that the end never comes before the kill
    os.mkfifo(pipe)
    process = _start(pipe, tmp_path / "out")
    with pipe.open("wb") as file:
        file.write(source.read_bytes()[:1_500_000])
        staged = building / ".staging" / "suspects-000005.arrow"
        until(lambda: staged.exists() or process.poll() is not None)
        with pytest.raises(InputError, match="Another run is writing"):
            run([source], tmp_path / "out")
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert content_of(tmp_path / "out") == old and building.exists()
    report = run([source], tmp_path / "out")
    assert report.rows_clean == 60_000 and not building.exists()
    assert not list(tmp_path.glob(".out*"))


def test_a_kill_between_two_renames_is_completed_by_the_next_run(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *_days(10))
    run([source], tmp_path / "out")
    old = content_of(tmp_path / "out")
    (tmp_path / "out").rename(tmp_path / ".out.retired")
    (tmp_path / "bad.txt").write_text("")
    with pytest.raises(InputError, match="is empty"):
        run([tmp_path / "bad.txt"], tmp_path / "out")
    assert content_of(tmp_path / "out") == old
    run([source], tmp_path / "out")
    assert content_of(tmp_path / "out") == old and not (tmp_path / ".out.retired").exists()


def test_the_output_is_replaced_where_two_names_cannot_be_exchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zaslon.system.durable.exchange_names", lambda *_: False)
    run([_write(tmp_path / "in.txt", *_days(10))], tmp_path / "out")
    run([_write(tmp_path / "in.txt", *_days(20))], tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 20 and not list(tmp_path.glob(".out*"))


PEAK = """
import sys
from pathlib import Path
from zaslon.domain.catalogue import load_catalogue
from zaslon.intake import clean_files
clean_files([sys.argv[1]], Path(sys.argv[2]), load_catalogue(), key=b"k",
            arrival_time_seconds=1_700_000_000, chunk_bytes=1 << 22, repeat_filter_bytes=1 << 22)
print([l.split()[1] for l in open("/proc/self/status") if l.startswith("VmHWM:")][0])
"""


def _peak_mib(rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    day = pl.date(2019, 8, 22) + pl.duration(days=pl.col("i") // 20_000)
    values = [
        pl.col("i"), day.dt.strftime("%Y-%m-%d 06:51:03"), pl.col("i") % 1000, pl.col("i") % 50,
        *map(pl.lit, ["70.91", "", "", "0", "0"]),
    ]  # fmt: skip
    source = tmp_path / f"{rows}.txt"
    frame = pl.DataFrame({"i": np.arange(rows)})
    frame.select(v.alias(n) for n, v in zip(NAMES, values, strict=True)).write_csv(source)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    done = subprocess.run(
        [sys.executable, "-c", PEAK, str(source), str(tmp_path / f"out-{rows}")],
        check=True, capture_output=True,
    )  # fmt: skip
    return int(done.stdout) // 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_four_times_the_rows_need_no_more_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = (_peak_mib(rows, tmp_path, monkeypatch) for rows in (1_000_000, 4_000_000))
    assert many < few + 150, f"{few} MiB for 1 M rows, {many} MiB for 4 M"


@pytest.mark.skipif(not REAL_ROWS.exists(), reason="the mission's real rows are not on this machine")
def test_the_real_rows_are_cleaned_as_they_are(tmp_path: Path) -> None:
    rows = [row.rsplit(",", 1)[0] for row in REAL_ROWS.read_text().splitlines()[1:]]
    without_time = [row.split(",")[1] == "null" for row in rows]
    bad_customer = [row.split(",")[2] == "-999999" for row in rows]
    expected = [
        "missing_field:tx_datetime" if t else "unknown_entity:customer_id" if c else None
        for t, c in zip(without_time, bad_customer, strict=True)
    ]
    odd = {r for r, e in zip(reasons(*rows), expected, strict=True) if r != e}
    assert odd <= {"unknown_entity:terminal_id", "missing_field:terminal_id"}
    report = run([REAL_ROWS], tmp_path / "out")
    assert report.rows_in == len(rows) == 152
    assert report.rows_rejected.get("missing_field:tx_datetime", 0) == sum(without_time) > 0


ANSWERS = [
    line(transaction_id=1), line(transaction_id=2, tx_fraud=1, tx_fraud_scenario=2), line(transaction_id=3),
    line(transaction_id=4, tx_fraud="", tx_fraud_scenario=""), line(transaction_id=5), line(transaction_id=6),
    line(transaction_id=1, tx_fraud=1, tx_fraud_scenario=3), line(transaction_id=2, tx_fraud=0),
    line(transaction_id=3, tx_fraud="", tx_fraud_scenario=""), line(transaction_id=4, tx_fraud=1),
    line(transaction_id=5, tx_amount="9", tx_fraud=1), line(transaction_id=6, tx_fraud=1),
    line(transaction_id=6, tx_fraud=0), line(transaction_id=2, tx_fraud=1, tx_fraud_scenario=1),
    line(transaction_id=2, tx_fraud=0, tx_fraud_scenario=0),
]  # fmt: skip


@pytest.mark.parametrize("filter_bytes", [1, 1 << 16])
@pytest.mark.parametrize("split", [1, 3, 15])
def test_the_last_answer_that_comes_with_a_repeat_counts(
    filter_bytes: int, split: int, tmp_path: Path
) -> None:
    size = len(ANSWERS) // split
    sources = [_write(tmp_path / f"{n}.txt", *ANSWERS[n * size : (n + 1) * size]) for n in range(split)]
    report = run(sources, tmp_path / "out", filter_bytes=filter_bytes, chunk_bytes=100)
    assert report.rows_rejected == {"conflicting_duplicate": 1, "duplicate": 8}
    assert report.answers_changed == 7
    kept = rows_of(tmp_path / "out").sort("transaction_id")
    assert kept["is_fraud"].to_list() == [1, 0, 0, 1, 0, 0]
    assert kept["scenario"].to_list() == [3, 0, 0, 0, 0, 0]


@pytest.mark.usefixtures("many_passes")
def test_no_choice_of_ids_puts_all_suspects_into_one_pass(tmp_path: Path) -> None:
    ids = [64 * i for i in range(1_400)]
    transactions = clean(*(line(transaction_id=i) for i in ids)).transactions
    originals = pl.DataFrame({"source": "in", "record": ids, "offset": ids, "raw": [b""] * len(ids)})
    kept = staging.Staging(tmp_path / "staging", 0, bytes(range(16)), 100, lambda rows, error: None)
    for order in (0, len(ids)):
        rows = staging.frame_of(transactions).with_columns(
            pl.Series("order", np.arange(order, order + len(ids)))
        )
        kept.add_suspects(rows.hstack(originals))
    settled = [len(repeats) for repeats in kept.settle_repeats()]
    assert len(settled) == 4
    assert sum(settled) == len(ids)
    assert max(settled) < 450, "memory is bounded by what one pass takes"


@pytest.mark.usefixtures("many_passes")
def test_the_last_of_many_answers_is_that_of_a_plain_dictionary(tmp_path: Path) -> None:
    random = np.random.default_rng(8)
    rows = list(zip(random.integers(0, 900, 3000).tolist(), random.choice(["", "0", "1"], 3000), strict=True))
    last: dict[int, int] = {}
    changed = 0
    for identifier, answer in rows:
        given = int(answer or -1)
        before = last.setdefault(identifier, given)
        changed += given >= 0 and given != before
        last[identifier] = given if given >= 0 else before
    lines = [line(transaction_id=i, tx_fraud=a, tx_datetime=MOMENTS[i % 6]) for i, a in rows]
    source = _write(tmp_path / "in.txt", *lines)
    for filter_bytes, chunk_bytes in [(64, 5000), (1 << 20, 1 << 20)]:
        report = run([source], tmp_path / "out", filter_bytes=filter_bytes, chunk_bytes=chunk_bytes)
        kept = rows_of(tmp_path / "out")
        assert dict(zip(kept["transaction_id"], kept["is_fraud"], strict=True)) == last
        assert report.answers_changed == changed > 100


def test_an_output_that_lacks_rows_replaces_nothing(tmp_path: Path) -> None:
    source = _write(tmp_path / "in.txt", *_days(5))
    run([source], tmp_path / "out")
    before = content_of(tmp_path / "out")
    lacking = CleanReport(rows_in=7, rows_clean=5, rows_rejected={"duplicate": 1})
    with pytest.raises(DataError, match="Of 7 rows 5 came out clean"):
        publish_clean([str(source)], tmp_path / "out", lambda _: lacking)
    assert content_of(tmp_path / "out") == before
