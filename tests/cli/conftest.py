"""One small run through the front gateway, made once; tests that change a home take a copy of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from zaslon.entrypoints.cli import main

DAYS, CUSTOMERS = 40, 200


@dataclass(frozen=True)
class Answer:
    """What a command said: exit code, standard output and error."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output, or an error of the test."""
        (line,) = self.out.splitlines()
        content: dict[str, Any] = json.loads(line)
        return content


Zaslon = Callable[..., Answer]


@pytest.fixture
def zaslon(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Zaslon:
    """The `zaslon` command as a function of its arguments."""
    monkeypatch.setenv("ZASLON_THREADS", "1")

    def call(*arguments: object) -> Answer:
        capfd.readouterr()
        code = main([str(a) for a in arguments])
        said = capfd.readouterr()
        return Answer(code, said.out, said.err)

    return call


@dataclass(frozen=True)
class SmallRun:
    """A raw file split in two, and the home after `zaslon run` on the first part.

    Attributes:
        raw: transactions of the days before the last two, with defects.
        tomorrow: the two last days.
        home: after the run; not to be changed.
        answer: what the run said as JSON.
    """

    raw: Path
    tomorrow: Path
    home: Path
    answer: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    place = tmp_path_factory.mktemp("small-run")
    whole = place / "whole.txt"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZASLON_THREADS", "1")
        code = main(
            ["simulate", str(whole), "--days", str(DAYS), "--customers", str(CUSTOMERS), "--terminals", "20",
             "--defects", "200", "--json"]
        )  # fmt: skip
        assert code == 0
        header, *lines = whole.read_bytes().splitlines(keepends=True)
        days = sorted({line.split(b",")[1][:10] for line in lines})
        last = days[-2]
        raw, tomorrow = place / "raw.txt", place / "tomorrow.txt"
        raw.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] < last))
        tomorrow.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] >= last))
        home = place / "home"
        # Not by `capfd`, which lives for one test only.
        from zaslon.bootstrap import build_context
        from zaslon.flows.run import run
        from zaslon.models.training import TrainSettings
        from zaslon.services.logs import exclusive
        from zaslon.settings import load_settings

        context = build_context(load_settings(home=home))
        with exclusive(context):
            report = run(
                context, [str(raw)], train_settings=TrainSettings(rounds_max=30, threads=1),
            )  # fmt: skip
    return SmallRun(raw, tomorrow, home, report.to_json_dict())


@pytest.fixture
def home(small_run: SmallRun, tmp_path: Path) -> Path:
    """A copy of the home after the run, to be changed at will."""
    copy = tmp_path / "home"
    shutil.copytree(small_run.home, copy, ignore=shutil.ignore_patterns("mlflow", "reports", ".lock"))
    return copy
