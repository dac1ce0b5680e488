"""A challenger that knows the answer, and one that is slow: each is refused by the guard made for it, end to end."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Zaslon
from tests.cli.test_nonsense import assert_helps
from tests.cli.test_retrain import World, champion_of, context_of, guard
from tests.cli.test_retrain import home as home  # noqa: PLC0414  a fixture
from tests.cli.test_retrain import samples as samples  # noqa: PLC0414  a fixture
from tests.cli.test_retrain import settings as settings  # noqa: PLC0414  a fixture
from tests.cli.test_retrain import world as world  # noqa: PLC0414  a fixture

from zaslon.domain.errors import GuardError
from zaslon.models.artefact import load_model, save_model
from zaslon.models.guards import speed_guard
from zaslon.models.model import Model
from zaslon.services.samples import Samples

LEAK = """[[fields]]
name = "disputed"
role = "number"
required = false

[retention]"""
TIMES = 10


def with_disputed(source: Path, out: Path, *, leaks: bool) -> Path:
    """The file with a column more: 0 as on the day itself, or what came out later, with a few mistakes."""
    header, *lines = source.read_text().splitlines()
    answer = header.lower().split(",").index("tx_fraud")

    def value(number: int, line: str) -> str:
        is_fraud = int(line.split(",")[answer])
        return str(is_fraud if number % 400 else 1 - is_fraud) if leaks else "0"

    rows = [f"{line},{value(number, line)}" for number, line in enumerate(lines, 1)]
    out.write_text("\n".join([f"{header},disputed", *rows]) + "\n")
    return out


def test_a_leaking_challenger_is_refused_by_the_guard_of_leaks(
    zaslon: Zaslon, world: World, tmp_path: Path
) -> None:
    catalogue, home = tmp_path / "disputes.toml", tmp_path / "home"
    text = resources.files("zaslon.domain").joinpath("mission.toml").read_text("utf-8")
    catalogue.write_text(text.replace("[retention]", LEAK, 1))

    def call(*arguments: object) -> Any:
        answer = zaslon(*arguments, "--home", home, "--catalogue", catalogue, "--json")
        assert answer.code == 0, answer
        return answer

    call("clean", with_disputed(world.first, tmp_path / "first.csv", leaks=False))
    honest = call("train").json["model"]
    call("promote", honest, "--unguarded")
    call("clean", with_disputed(world.whole, tmp_path / "whole.csv", leaks=True))
    answer = call("retrain")
    found = answer.json
    assert (found["champion"], found["verdict"], found["promoted"]) == (honest, "better", False), found
    assert found["measures"]["roc_auc"]["b"] > 0.99 > found["measures"]["roc_auc"]["a"]
    assert not guard(answer, "leaks")["passed"]
    (refusal,) = found["refusals"]
    assert refusal.startswith("leaks: Feature 'disputed' alone separates frauds from good transactions")
    assert champion_of(home) == honest
    by_hand = zaslon(
        "promote", found["challenger"], "--home", home, "--catalogue", catalogue, "--json"
    )  # fmt: skip
    assert_helps(by_hand, GuardError.exit_code, "leaks: Feature 'disputed'")
    assert champion_of(home) == honest


def test_a_slower_challenger_is_refused_by_the_guard_of_time(
    zaslon: Zaslon, home: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    champion = load_model(home / "models" / champion_of(home), context_of(home).catalogue.hash)
    slow = of_many_trees(champion)
    save_model(slow, home / "models" / slow.artefact_id)
    ordinary_us = speed_guard(champion, samples.test.x, 1e9).value
    assert ordinary_us
    monkeypatch.setenv("ZASLON_GUARD_SCORE_US_MAX", str(3 * ordinary_us))
    monkeypatch.setenv("ZASLON_FALSE_POSITIVE_RATE_MAX", "0.5")
    answer = zaslon("promote", slow.artefact_id, "--home", home, "--json")
    assert_helps(
        answer,
        GuardError.exit_code,
        f"Model {slow.artefact_id} does not serve. score_us: A transaction alone takes",
    )
    assert answer.json["error"]["message"].count("The limit is") == 1, "no other guard refuses it"
    assert champion_of(home) == champion.artefact_id
    same = zaslon("promote", champion.artefact_id, "--home", home, "--json")
    assert same.code == 0, "the limit is far from the champion's own time"


def of_many_trees(model: Model) -> Model:
    """The same scores but for rounding, by ten trees in place of each: a tenth of its leaves' values."""
    head, *parts = model.trees.split("\nTree=")
    end = parts[-1].partition("\n\n")[2]
    bodies = [part.partition("\n\n")[0].partition("\n")[2] for part in parts]
    tenths = [re.sub(r"(?<=^leaf_value=).*", _tenth, body, flags=re.MULTILINE) for body in bodies]
    trees = "".join(
        f"\nTree={number}\n{body}\n\n"
        for number, body in enumerate(body for body in tenths for _ in range(TIMES))
    )
    return Model(model.names, f"{head}{trees}{end}", model.calibration, model.facts)


def _tenth(values: re.Match[str]) -> str:
    return " ".join(repr(float(value) / TIMES) for value in values[0].split())
