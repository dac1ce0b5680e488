"""One service for the tests of a module; those that change it make their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.api.serving import Caller, serving

from zaslon.services import changes
from zaslon.testing import SmallWorld


@pytest.fixture(scope="module")
def callers(
    small_world: SmallWorld, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str | None], Caller]]:
    with serving(small_world, tmp_path_factory.mktemp("service") / "home") as made:
        yield made


@pytest.fixture(scope="module")
def admin(callers: Callable[[str | None], Caller]) -> Caller:
    return callers("admin")


@pytest.fixture
def own_callers(small_world: SmallWorld, tmp_path: Path) -> Iterator[Callable[[str | None], Caller]]:
    """Callers of a service that the test has for itself."""
    with serving(small_world, tmp_path / "home") as made:
        yield made


@pytest.fixture
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Services look for changes at once, not every second."""
    monkeypatch.setattr(changes, "_LOOK_SECONDS", 0.005)
