"""Files are taken into a clean output once, whatever they are called, and one that has changed is refused."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import orjson
import polars as pl
import pytest
from tests.unit.intake_cases import (
    ARRIVAL_SECONDS,
    GOOD,
    HEADER,
    MISSION,
    SHOP,
    content_of,
    line,
    quarantine_of,
    quarantines_of,
    rows_of,
    run,
    run_new,
)

from zaslon.domain.errors import InputError
from zaslon.intake import Taking, clean_files, earlier_output
from zaslon.intake.quarantine import forget_raw_rows
from zaslon.intake.sources import read_source
from zaslon.intake.taken_files import LEDGER, Ledger


def written(path: Path, *rows: str) -> Path:
    path.write_text("\n".join([HEADER, *rows, ""]))
    return path


def days(first: int, *dates: str) -> list[str]:
    return [
        line(transaction_id=first + n, tx_datetime=f"2019-08-{day} 06:51:03") for n, day in enumerate(dates)
    ]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Two files, of which an output was made."""
    written(tmp_path / "a.txt", *days(1, "22", "23", "24"), line(tx_amount="-1"))
    written(tmp_path / "b.txt", *days(4, "24"), "torn")
    Path(tmp_path / "out").mkdir()
    begin(tmp_path)
    return tmp_path


def begin(place: Path) -> None:
    sources = [str(place / "a.txt"), str(place / "b.txt")]
    clean_files(
        sources, place / "out", MISSION, key=b"a secret", arrival_time_seconds=ARRIVAL_SECONDS, chunk_bytes=1 << 20,
        repeat_filter_bytes=1 << 16, taking=Taking.begin(sources, MISSION, b"a secret"),
    )  # fmt: skip


def ledger_of(place: Path) -> Ledger:
    return Ledger.from_bytes((place / "out" / LEDGER).read_bytes())


def given(place: Path) -> list[Path]:
    return sorted(place.glob("*.txt*"))


def test_nothing_new_changes_nothing(place: Path) -> None:
    before = content_of(place / "out")
    found = run_new(given(place), place / "out")
    assert (found.new, found.known, dict(found.same)) == ((), 2, {})
    assert content_of(place / "out") == before


def test_a_row_of_an_earlier_run_is_a_duplicate_in_the_next(place: Path) -> None:
    new = written(
        place / "c.txt", *days(4, "24", "25"), line(transaction_id=1, tx_datetime="2019-08-22 06:51:04")
    )
    assert run_new(given(place), place / "out").new == (str(new),)
    assert rows_of(place / "out")["transaction_id"].to_list() == [1, 2, 3, 4, 5]
    rejected = quarantine_of(place / "out").select("source", "record", "reason", "raw").rows()
    assert rejected == [
        (str(new), 1, "duplicate", days(4, "24")[0].encode()),
        (
            str(new),
            3,
            "conflicting_duplicate",
            line(transaction_id=1, tx_datetime="2019-08-22 06:51:04").encode(),
        ),
    ]


def test_days_without_new_rows_are_not_written_again(place: Path) -> None:
    inodes = {path.parent.name: path.stat().st_ino for path in (place / "out").glob("day=*/*.parquet")}
    written(place / "c.txt", *days(8, "23", "26"))
    run_new(given(place), place / "out")
    now = {path.parent.name: path.stat().st_ino for path in (place / "out").glob("day=*/*.parquet")}
    assert {day for day in now if now[day] != inodes.get(day)} == {"day=2019-08-23", "day=2019-08-26"}


def test_the_ledger_says_which_run_took_a_file_and_where_rows_are(place: Path) -> None:
    written(place / "c.txt", *days(8, "23"), "torn again")
    run_new(given(place), place / "out", arrival=ARRIVAL_SECONDS + 60)
    ledger = ledger_of(place)
    assert [(Path(file.address).name, file.run) for file in ledger.files] == [
        ("a.txt", 1),
        ("b.txt", 1),
        ("c.txt", 2),
    ]
    first, second = ledger.runs
    assert (first.rows_in, first.rows_clean, first.quarantine) == (6, 4, "_quarantine-00001.parquet")
    assert (second.rows_in, second.days, second.quarantine) == (2, ["2019-08-23"], "_quarantine.parquet")
    assert second.rows_rejected == {"wrong_field_count": 1}
    assert [len(pl.read_parquet(place / "out" / one.quarantine)) for one in ledger.runs] == [2, 1]
    report = orjson.loads((place / "out" / "_report.json").read_bytes())
    assert (report["rows_in"], report["rows_clean"], report["arrived"]) == (8, 5, second.arrived)


@pytest.mark.parametrize("same_length", [True, False])
def test_a_file_that_has_changed_is_named_and_refused(same_length: bool, place: Path) -> None:
    text = (place / "b.txt").read_text()
    changed = text.replace("70.91", "70.92") if same_length else text + days(9, "24")[0] + "\n"
    (place / "b.txt").write_text(changed)
    before = content_of(place / "out")
    with pytest.raises(InputError, match=r"b\.txt' was taken in run 1 and has changed since") as caught:
        run_new([*given(place), written(place / "c.txt", *days(8, "25"))], place / "out")
    assert "without --only-new" in str(caught.value.hint)
    assert content_of(place / "out") == before


def test_a_file_with_the_name_and_time_of_another_is_refused(place: Path) -> None:
    stat = (place / "b.txt").stat()
    other = place / "other"
    other.write_text((place / "b.txt").read_text().replace("70.91", "70.92"))
    os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    other.replace(place / "b.txt")
    with pytest.raises(InputError, match="has changed since"):
        run_new(given(place), place / "out")


def moved(place: Path) -> None:
    (place / "b.txt").rename(place / "z.txt")


def packed(place: Path) -> None:
    (place / "z.txt.gz").write_bytes(gzip.compress((place / "b.txt").read_bytes()))
    (place / "b.txt").unlink()


def copied(place: Path) -> None:
    (place / "z.txt").write_bytes((place / "b.txt").read_bytes())


def touched(place: Path) -> None:
    os.utime(place / "b.txt", ns=(1, 1))


@pytest.mark.parametrize("step", [moved, packed, copied, touched])
def test_the_same_content_is_taken_once(step: Callable[[Path], None], place: Path) -> None:
    before = content_of(place / "out")
    step(place)
    assert run_new(given(place), place / "out").new == ()
    assert content_of(place / "out") == before
    written(place / "c.txt", *days(8, "25"))
    assert len(run_new(given(place), place / "out").new) == 1
    assert {file.run for file in ledger_of(place).files if Path(file.address).name[0] in "bz"} == {1}
    assert quarantines_of(place / "out")["reason"].is_in(["duplicate"]).sum() == 0
    assert run_new(given(place), place / "out").files == (), "the ledger knows the version and the name"


def test_of_two_new_files_with_one_content_the_first_is_taken(tmp_path: Path) -> None:
    sources = [written(tmp_path / name, GOOD) for name in ("a.txt", "b.txt")]
    found = run_new([*sources, sources[0]], tmp_path / "out")
    assert (found.new, found.same) == ((str(sources[0]),), {str(sources[1]): str(sources[0])})
    assert len(rows_of(tmp_path / "out")) == 1 and not len(quarantines_of(tmp_path / "out"))


def answered(place: Path, name: str, fraud: int) -> Path:
    return written(place / name, line(transaction_id=1, tx_fraud=fraud, tx_fraud_scenario=2 * fraud))


@pytest.mark.parametrize("at_once", [False, True])
def test_the_same_content_is_taken_again_where_answers_changed(at_once: bool, tmp_path: Path) -> None:
    files = [answered(tmp_path, f"{number}.txt", fraud) for number, fraud in enumerate((0, 1, 0), 1)]
    for given in [files] if at_once else [[file] for file in files]:
        assert run_new(given, tmp_path / "out").new == tuple(map(str, given))
    assert rows_of(tmp_path / "out")["is_fraud"].to_list() == [0]
    assert run_new(files, tmp_path / "out").new == ()


def test_an_output_that_appears_meanwhile_is_not_replaced(place: Path) -> None:
    sources = [str(written(place / "c.txt", *days(8, "23")))]
    taking, _ = Taking.of_new(
        sources, MISSION, b"a secret", earlier_output(place / "new", MISSION, b"a secret")
    )
    (place / "out").rename(place / "new")
    before = content_of(place / "new")
    with pytest.raises(InputError, match="Another run has written"):
        clean_files(
            sources, place / "new", MISSION, key=b"a secret", arrival_time_seconds=ARRIVAL_SECONDS,
            chunk_bytes=1 << 20, repeat_filter_bytes=1 << 16, taking=taking,
        )  # fmt: skip
    assert content_of(place / "new") == before


def test_days_that_lack_rows_are_not_taken_over(place: Path) -> None:
    day = place / "out" / "day=2019-08-22" / "part-0.parquet"
    rows = pl.read_parquet(day)
    day.unlink()
    rows.clear().write_parquet(day)
    with pytest.raises(InputError, match="The clean days have 4 of 5 rows"):
        run_new([written(place / "c.txt", *days(8, "26"))], place / "out")


def test_a_foreign_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A version that is a size says nothing: the content is read once more."""
    files, address = fsspec.filesystem("memory"), "memory://changing/a.txt"
    text = "\n".join([HEADER, *days(1, "22"), ""])
    files.pipe("/changing/a.txt", text.encode())
    monkeypatch.setattr(
        type(files), "info", lambda *_, **__: {"size": len(text), "type": "file", "name": "a"}
    )

    def changed(*given: Any) -> Any:
        files.pipe("/changing/a.txt", text.replace("2019-08-22", "2019-08-23").encode())
        return read_source(*given)

    monkeypatch.setattr("zaslon.intake.files.read_source", changed)
    with pytest.raises(InputError, match="changed while it was read"):
        run_new([address], tmp_path / "out")


def test_an_address_that_cannot_be_looked_at_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'nosuch://x' cannot be read: Protocol not known"):
        run_new(["nosuch://x"], tmp_path / "out")


def test_a_path_is_the_same_from_another_directory(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    assert run_new(["a.txt", "file://b.txt"], place / "out").known == 2


def test_a_foreign_file_known_by_size_alone_is_known_by_content(tmp_path: Path) -> None:
    """The file system in memory names no version, as WebHDFS does not."""
    memory, name = fsspec.filesystem("memory"), f"memory:/{tmp_path}/a.txt"
    memory.pipe(name, f"{HEADER}\n{GOOD}\n".encode())
    assert run_new([name], tmp_path / "out").new == (name,)
    assert run_new([name], tmp_path / "out").new == ()
    memory.pipe(name, f"{HEADER}\n{GOOD[:-1]}1\n".encode())
    with pytest.raises(InputError, match="has changed since"):
        run_new([name], tmp_path / "out")


def damaged(place: Path) -> dict[str, Any]:
    (place / "out" / LEDGER).write_text("{}")
    return {}


def without_ledger(place: Path) -> dict[str, Any]:
    (place / "out" / LEDGER).unlink()
    return {}


def other_key(_: Path) -> dict[str, Any]:
    return {"key": b"another"}


def other_catalogue(_: Path) -> dict[str, Any]:
    return {"catalogue": SHOP}


@pytest.mark.parametrize(
    ("step", "problem"),
    [
        (damaged, "is damaged"), (without_ledger, "does not say which files it was made of"),
        (other_key, "another pseudonym key"), (other_catalogue, "catalogue"),
    ],
)  # fmt: skip
def test_an_output_that_cannot_be_added_to_is_refused(
    step: Callable[[Path], dict[str, Any]], problem: str, place: Path
) -> None:
    options = step(place)
    before = content_of(place / "out")
    with pytest.raises(InputError, match=problem) as caught:
        run_new(given(place), place / "out", **options)
    assert "without --only-new" in str(caught.value.hint)
    assert content_of(place / "out") == before


def test_a_source_that_changes_before_it_is_cleaned_is_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new, real = written(place / "c.txt", *days(8, "25")), read_source

    def growing(source: str, *arguments: Any) -> Any:
        with new.open("a") as file:
            file.write(days(9, "25")[0] + "\n")
        return real(source, *arguments)

    monkeypatch.setattr("zaslon.intake.files.read_source", growing)
    before = content_of(place / "out")
    with pytest.raises(InputError, match="changed while it was read"):
        run_new(given(place), place / "out")
    assert content_of(place / "out") == before


def test_two_runs_do_not_lose_each_other_s_files(place: Path) -> None:
    """The second one has looked at the ledger before the first one was done."""
    late = [str(written(place / "d.txt", *days(20, "26")))]
    earlier = earlier_output(place / "out", MISSION, b"a secret")
    taking, _ = Taking.of_new(late, MISSION, b"a secret", earlier)
    run_new([written(place / "c.txt", *days(8, "25"))], place / "out")
    with pytest.raises(InputError, match="Another run has written"):
        clean_files(
            late, place / "out", MISSION, key=b"a secret", arrival_time_seconds=ARRIVAL_SECONDS,
            chunk_bytes=1 << 20, repeat_filter_bytes=1 << 16, taking=taking,
        )  # fmt: skip
    assert run_new(given(place), place / "out").new == tuple(late)


def test_dates_that_were_wrong_and_are_right_now_are_refused(tmp_path: Path) -> None:
    usual = [line(transaction_id=n) for n in range(200)]
    late = [line(transaction_id=500 + n, tx_datetime="2022-08-22 06:51:03") for n in range(300)]
    run_new([written(tmp_path / "a.txt", *usual, *late[:2])], tmp_path / "out")
    assert quarantine_of(tmp_path / "out")["reason"].to_list() == ["after_arrival"] * 2
    before = content_of(tmp_path / "out")
    with pytest.raises(
        InputError, match=r"2 rows of files .* 2022-08-22 or later\. Their dates were wrong .* right"
    ):
        run_new([written(tmp_path / "b.txt", *late[2:])], tmp_path / "out")
    assert content_of(tmp_path / "out") == before
    run([tmp_path / "a.txt", tmp_path / "b.txt"], tmp_path / "out")
    assert len(rows_of(tmp_path / "out")) == 500


def test_original_bytes_of_earlier_runs_leave_by_their_own_age(place: Path) -> None:
    os.utime(place / "out" / "_quarantine.parquet", (1, 1))
    written(place / "c.txt", *days(8, "25"), "torn again")
    run_new(given(place), place / "out")
    old = place / "out" / "_quarantine-00001.parquet"
    assert old.stat().st_mtime == 1
    forget_raw_rows(old)
    assert pl.read_parquet(old)["raw"].null_count() == 2
    assert quarantine_of(place / "out")["raw"].to_list() == [b"torn again"]
