"""Snapshots: whatever byte is damaged is noticed, and where the stream keeps its own is a setting."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from zaslon import bootstrap
from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.bootstrap import build_context
from zaslon.domain.errors import ZaslonError
from zaslon.settings import load_settings

STATE: dict[str, NDArray[Any]] = {
    "times": np.arange(40, dtype=np.uint32),
    "table": np.linspace(0, 1, 24).reshape(6, 4),
    "empty": np.zeros(0, np.int64),
    "place": np.frombuffer(b'{"position":20}', np.uint8),
}


@pytest.fixture
def store(tmp_path: Path) -> FileSnapshots:
    """With an older snapshot at position 10 and a newer one at position 20."""
    store = FileSnapshots(tmp_path)
    store.save(10, {"older": np.ones(1)})
    store.save(20, STATE)
    return store


def test_a_state_is_never_restored_from_damaged_bytes(store: FileSnapshots, tmp_path: Path) -> None:
    path = max(tmp_path.iterdir())
    whole = path.read_bytes()
    random = np.random.default_rng(7)
    noticed = 0
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(random.integers(8))
        path.write_bytes(damaged)
        found = store.newest()
        assert found is not None
        position, content, complaints = found
        if position == 10:
            noticed += 1
            assert str(path) in complaints[0]
        else:  # a byte without meaning, such as a file's date
            assert content.keys() == STATE.keys()
            for name, array in STATE.items():
                np.testing.assert_array_equal(content[name], array, strict=True)
    assert noticed > len(whole) // 2


def test_a_state_that_was_cut_off_anywhere_is_noticed(store: FileSnapshots, tmp_path: Path) -> None:
    path = max(tmp_path.iterdir())
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        found = store.newest()
        assert found is not None
        assert found[0] == 10, length


def test_stream_states_are_in_the_home_or_the_set_place(tmp_path: Path) -> None:
    for given, place in (
        ({}, tmp_path / "home" / "stream" / "snapshots"),
        ({"stream_snapshots": str(tmp_path / "shared")}, tmp_path / "shared"),
    ):
        context = build_context(load_settings(home=tmp_path / "home", **given))
        context.adapters.open_stream_snapshots(context.home).save(7, STATE)
        assert [path.name for path in place.iterdir()] == [f"snapshot-{7:020d}.npz"]
        store = context.adapters.open_stream_snapshots(tmp_path / "home")
        found = store.newest()
        assert found is not None
        assert found[0] == 7


@pytest.mark.parametrize(
    "place",
    ["s3://", "s3:///prefix", "gs://bucket/prefix", "http://server/bucket", "s3://key:secret@bucket/x", "s3://B/x",
     "s3://bucket/x?versionId=1", "s3://bucket/a#b"],
)  # fmt: skip
def test_an_impossible_snapshot_place_is_refused_by_name(place: str) -> None:
    with pytest.raises(
        ZaslonError, match="stream_snapshots: .* is neither a directory nor s3://bucket/prefix"
    ):
        load_settings(stream_snapshots=place)


def test_without_the_client_the_error_has_the_install_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "find_spec", lambda name: None)
    context = build_context(load_settings(home=tmp_path, stream_snapshots="s3://bucket/prefix"))
    with pytest.raises(ZaslonError, match=r"pip install 'zaslon\[s3\]'"):
        context.adapters.open_stream_snapshots(tmp_path)
