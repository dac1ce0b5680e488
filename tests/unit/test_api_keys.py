"""API keys: who is let in, for how long, and what is kept of a secret."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import orjson
import pytest
from tests.waiting import until

from zaslon import bootstrap
from zaslon.domain.api_keys import ApiKey, Role
from zaslon.domain.errors import DataError, ZaslonError
from zaslon.ports import ApiKeys
from zaslon.services.key_management import KeyRing, create_key, revoke_key
from zaslon.settings import load_settings

KEY = ApiKey("0123456789ab", "gateway", Role.SCORER, "f" * 64, 1_000, 2_000)


def open_api_keys(home: Path) -> ApiKeys:
    return bootstrap.open_api_keys(load_settings(home=home))


def test_wrong_expired_and_revoked_keys_are_refused(tmp_path: Path) -> None:
    now, keys = 1_000.0, open_api_keys(tmp_path)
    created = create_key(keys, "scorer", "gateway", "1h", now)
    ring = KeyRing(keys, lambda: now)
    assert ring.find(created.secret) == created.key
    wrong_id = created.secret.replace(created.key.id, "0" * 12)
    for wrong in ("", "zaslon_", f"{created.secret[:-1]}-", wrong_id):
        assert ring.find(wrong) is None
    now += 3_599
    assert ring.find(created.secret) is not None
    now += 1
    assert ring.find(created.secret) is None
    other = create_key(keys, "scorer", "", None, now)
    ring.refresh()
    assert ring.find(other.secret) is not None
    revoke_key(keys, other.key.id, now)
    ring.refresh()
    assert ring.find(other.secret) is None
    assert len(ring) == 0


@pytest.mark.slow
def test_a_running_ring_notices_new_keys_and_an_unreadable_store(tmp_path: Path) -> None:
    keys = open_api_keys(tmp_path)
    warnings: list[str] = []
    ring = KeyRing(keys, lambda: 0.0)
    with ring.watched(warnings.append):
        created = create_key(keys, "scorer", "", None, 0)
        until(lambda: ring.find(created.secret) is not None)
        content = (tmp_path / "store.db").read_bytes()
        (tmp_path / "store.db").write_bytes(b"x" * len(content))
        until(lambda: len(warnings) == 1)
        assert "is damaged" in warnings[0]
        assert ring.find(created.secret) == created.key, "those read before stay"
        (tmp_path / "store.db").write_bytes(content)
        until(lambda: len(warnings) == 2)
    assert warnings[1] == "The keys can be read again."


def test_only_the_hash_of_a_key_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    created = create_key(open_api_keys(tmp_path), "admin", "me", None, 0)
    path = tmp_path / "store.db"
    assert created.key.hash.encode() in path.read_bytes()
    assert created.secret.split("_", 2)[2].encode() not in path.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_a_key_that_makes_no_sense_is_refused(tmp_path: Path) -> None:
    keys = open_api_keys(tmp_path)
    with pytest.raises(ZaslonError, match="'root' is not a role"):
        create_key(keys, "root", "", None, 0)
    with pytest.raises(ZaslonError, match="printable"):
        create_key(keys, "admin", "\n", None, 0)
    with pytest.raises(ZaslonError, match="is not a duration"):
        create_key(keys, "admin", "", "soon", 0)
    for lasts in ("0d", "99999d"):
        with pytest.raises(ZaslonError, match="cannot last"):
            create_key(keys, "admin", "", lasts, 0)
    assert keys.all() == []
    with pytest.raises(DataError, match="There is no key 'x'"):
        revoke_key(keys, "x", 0)


def test_damaged_keys_let_nobody_in(tmp_path: Path) -> None:
    create_key(open_api_keys(tmp_path), "admin", "", None, 0)
    (tmp_path / "store.db").write_bytes(b"x" * 8192)
    with pytest.raises(ZaslonError, match="is damaged"):
        KeyRing(open_api_keys(tmp_path), lambda: 0.0)


def test_the_key_file_of_an_older_home_moves_into_the_store(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    kept = [asdict(KEY), asdict(replace(KEY, id="ba9876543210", revoked_seconds=7))]
    path.write_bytes(orjson.dumps({"format": 1, "keys": kept}))
    moved = [KEY, replace(KEY, id="ba9876543210", revoked_seconds=7)]
    assert open_api_keys(tmp_path).all() == moved
    assert not path.exists()
    path.write_bytes(orjson.dumps({"format": 1, "keys": kept}))  # as after a crash before it went
    assert open_api_keys(tmp_path).all() == moved


def test_a_damaged_key_file_lets_nobody_in(tmp_path: Path) -> None:
    for content in (b"{", b'{"keys": [{"role": "scorer"}]}', b'{"keys": 7}'):
        (tmp_path / "keys.json").write_bytes(content)
        with pytest.raises(ZaslonError, match="is damaged"):
            open_api_keys(tmp_path)
