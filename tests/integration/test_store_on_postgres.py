"""A home whose keys and promotions move to PostgreSQL, by the commands that people use."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tests.postgres_server import LocalPostgres

from zaslon.bootstrap import open_api_keys
from zaslon.domain.errors import ServerError
from zaslon.entrypoints.cli import main
from zaslon.services.key_management import KeyRing
from zaslon.settings import load_settings

pytestmark = pytest.mark.integration


def test_a_home_moves_to_a_server_with_all_it_has(
    postgres: LocalPostgres, home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def zaslon(*arguments: str, code: int = 0) -> dict[str, Any]:
        capfd.readouterr()
        assert main([*arguments, "--home", str(home), "--json"]) == code
        found: dict[str, Any] = json.loads(capfd.readouterr().out)
        return found

    made = zaslon("keys", "create", "--role", "scorer")
    assert zaslon("store", "migrate")["entries"] == 1
    embedded = zaslon("history")
    address, password = postgres.new_database(), home / "password"
    password.write_text(postgres.password)
    monkeypatch.setenv("ZASLON_STORE_URL", address.replace(f":{postgres.password}", ""))
    monkeypatch.setenv("ZASLON_STORE_PASSWORD_FILE", str(password))
    assert "store migrate" in zaslon("history", code=ServerError.exit_code)["error"]["hint"]
    moved = zaslon("store", "migrate")
    assert (moved["rows_copied"], moved["entries"]) == (3, 1)  # a key, an entry and its policy
    assert postgres.password not in moved["store"]
    assert zaslon("store", "migrate")["rows_copied"] == 0
    assert zaslon("history") == embedded
    assert KeyRing(open_api_keys(load_settings(home=home)), lambda: 0.0).find(made["key"]) is not None
    zaslon("keys", "revoke", made["id"])
    model = embedded["promotions"][0]["model"]
    assert zaslon("promote", model, "--unguarded")["number"] == 2
    assert zaslon("history", "--verify")["valid"]
    monkeypatch.delenv("ZASLON_STORE_URL")
    assert zaslon("keys", "list")["keys"][0]["revoked"] is None, "the server has it, not the file"
