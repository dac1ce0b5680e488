"""A scorer continues the log of its own engine version only, unless a setting allows it to take over."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, cast

import orjson
import pytest

from zaslon.bootstrap import build_context
from zaslon.domain.errors import ArtefactError
from zaslon.engine import ENGINE_VERSION
from zaslon.settings import load_settings

if TYPE_CHECKING:
    from zaslon.adapters.cluster.kafka.live_log import KafkaStream

pytest.importorskip("confluent_kafka", reason="the extra kafka is not installed")

OTHER = ENGINE_VERSION + 1
Notify = Callable[[str], None]


class _End:
    """The clients of a stream that has nothing more to read; without a broker."""

    is_at_end, is_ours = True, False

    def __init__(self) -> None:
        self.leadership = self.orders = self

    def poll(self) -> None:
        """Nothing has happened in the group."""

    def next(self, wait_seconds: float) -> None:
        """There is no further message."""


def stream_at_end(home: Path, engine: int | None, notify: Notify, **settings: int) -> KafkaStream:
    """A stream behind the last batch of a log, which this engine version decided; None: there is no batch."""
    given = {"kafka_servers": "localhost:1", "kafka_security": "plaintext", "home": home, **settings}
    stream = cast("KafkaStream", build_context(load_settings(**given)).adapters.open_stream(notify))
    decided = {} if engine is None else {"engine": engine, "position": 7}
    stream._begin_at(orjson.dumps({"history": "h", **decided}))
    stream._clients = _End()  # type: ignore[assignment]
    return stream


@pytest.mark.parametrize("engine", [None, ENGINE_VERSION])
def test_a_scorer_follows_its_own_engine_version(tmp_path: Path, engine: int | None) -> None:
    assert next(stream_at_end(tmp_path, engine, print).replay(lambda: False)) is None


def test_a_scorer_refuses_the_log_of_another_engine_version(tmp_path: Path) -> None:
    stream = stream_at_end(tmp_path, OTHER, print)
    with pytest.raises(
        ArtefactError, match=f"decided by engine version {OTHER}; this scorer has engine version"
    ):
        next(stream.replay(lambda: False))


def test_a_takeover_from_another_engine_version_must_name_it(tmp_path: Path) -> None:
    messages: list[str] = []
    stream = stream_at_end(tmp_path, OTHER, messages.append, stream_takeover_from_engine=OTHER)
    assert next(stream.replay(lambda: False)) is None
    assert messages == []
    stream._committer = cast("None", object())
    assert list(stream.replay(lambda: False)) == []
    assert messages == [
        f"Engine version {ENGINE_VERSION} decides from position 7 on; before it was engine version {OTHER}."
    ]
    wrong = stream_at_end(tmp_path, OTHER, print, stream_takeover_from_engine=OTHER + 1)
    with pytest.raises(ArtefactError):
        next(wrong.replay(lambda: False))
