"""One service for the tests of a module; those that change it make their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from tests.api.serving import Caller, serving

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
