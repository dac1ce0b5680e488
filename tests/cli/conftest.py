"""One small run through the command line, made once; tests that change a home take a copy of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.file_modes import masking_nothing
from tests.made_once import made_once

from zaslon.bootstrap import build_context
from zaslon.entrypoints.cli import main
from zaslon.flows.run import run
from zaslon.models.training import TrainSettings
from zaslon.services.logs import exclusive
from zaslon.settings import load_settings
from zaslon.simulate import simulation_profile, write_simulation

DAYS, CUSTOMERS = 40, 200


@dataclass(frozen=True)
class Answer:
    """The result of a command: exit code, standard output and error."""

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
        captured = capfd.readouterr()
        return Answer(code, captured.out, captured.err)

    return call


@dataclass(frozen=True)
class SmallRun:
    """A raw file split in two, and the home after `zaslon run` on the first part.

    Attributes:
        raw: transactions of the days before the last two, with defects.
        tomorrow: the two last days.
        home: after the run; not to be changed.
        answer: the run's JSON object.
    """

    raw: Path
    tomorrow: Path
    home: Path
    answer: dict[str, Any] = field(default_factory=dict)


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> SmallRun:
    place = made_once(tmp_path_factory, "small-run", _make_small_run)
    answer = json.loads((place / "answer.json").read_bytes())
    return SmallRun(place / "raw.txt", place / "tomorrow.txt", place / "home", answer)


def _make_small_run(place: Path) -> None:
    whole = place / "whole.txt"
    profile = simulation_profile("mission", customers=CUSTOMERS, terminals=20, defects=200)
    write_simulation(profile, DAYS, 1, whole)
    header, *lines = whole.read_bytes().splitlines(keepends=True)
    days = sorted({line.split(b",")[1][:10] for line in lines})
    last = days[-2]
    raw, tomorrow = place / "raw.txt", place / "tomorrow.txt"
    raw.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] < last))
    tomorrow.write_bytes(header + b"".join(line for line in lines if line.split(b",")[1][:10] >= last))
    # Thresholds for the same 4.5 % as by default, and a guard with room for the luck of so few transactions.
    limits = {"false_positive_rate_max": 0.1, "limit_margin": 0.55}
    context = build_context(load_settings(home=place / "home", threads=1, **limits))
    with masking_nothing(), exclusive(context):
        report = run(context, [str(raw)], train_settings=TrainSettings(rounds_max=30, threads=1))
    (place / "answer.json").write_text(json.dumps(report.to_json_dict()))


@pytest.fixture
def home(small_run: SmallRun, tmp_path: Path) -> Path:
    """A copy of the home after the run, to be changed at will."""
    copy = tmp_path / "home"
    shutil.copytree(small_run.home, copy, ignore=shutil.ignore_patterns("mlflow", "reports", ".lock"))
    return copy


@pytest.fixture
def room_for_luck(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thresholds for the same 4.5 % as by default, and a guard that the luck of few transactions does not break."""
    monkeypatch.setenv("ZASLON_FALSE_POSITIVE_RATE_MAX", "0.2")
    monkeypatch.setenv("ZASLON_LIMIT_MARGIN", "0.775")
