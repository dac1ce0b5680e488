"""Ready means ready: the first call finds everything imported, compiled and loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from zaslon.bootstrap import open_api_keys
from zaslon.services.key_management import create_key
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld


@pytest.mark.slow
def test_nothing_is_imported_compiled_or_loaded_by_the_first_calls(
    small_world: SmallWorld, tmp_path: Path
) -> None:
    home = small_world.in_home(tmp_path / "home").context.home
    key = create_key(open_api_keys(load_settings(home=home)), "admin", "", None, 0).secret
    done = subprocess.run(
        [sys.executable, "-m", "tests.api.first_calls", str(home), key],
        capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["statuses"] == [200, 200, 409, 422, 200, 200, 200, 200]
    assert report["compiled_before"] > 0, "what is loaded goes unnoticed"
    assert (report["imported"], report["compiled"]) == ([], [])
