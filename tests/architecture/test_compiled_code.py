"""Machine code is recompiled whenever something changes that it was made of."""

from __future__ import annotations

from pathlib import Path

from zaslon.system import compiled

SOURCE = Path(compiled.__file__).parents[1]


def test_compiled_functions_are_in_the_cached_packages() -> None:
    users = {
        path.relative_to(SOURCE).parts[0]
        for path in SOURCE.rglob("*.py")
        if "zaslon.system.compiled import" in path.read_text("utf-8")
    }
    assert users <= set(compiled._PACKAGES)


def test_a_change_of_a_constant_names_another_cache(tmp_path: Path) -> None:
    (tmp_path / "domain").mkdir()
    constant = tmp_path / "domain" / "time.py"
    constant.write_text("SECONDS_PER_DAY = 86_400\n")
    before = compiled._cache_folder(tmp_path)
    constant.write_text("SECONDS_PER_DAY = 86_401\n")
    assert compiled._cache_folder(tmp_path) != before
