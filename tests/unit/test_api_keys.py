"""API keys: who is let in, for how long, and what is kept of a secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from zaslon.bootstrap import open_api_keys
from zaslon.domain.errors import DataError, ZaslonError
from zaslon.services.api_keys import KeyRing, create_key, revoke_key


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
    now += 2
    assert ring.find(other.secret) is not None
    revoke_key(keys, other.key.id, now)
    now += 1
    assert ring.find(other.secret) is None
    assert len(ring) == 0


def test_keys_are_read_once_a_second_at_most(tmp_path: Path) -> None:
    now, keys = 1_000.0, open_api_keys(tmp_path)
    ring = KeyRing(keys, lambda: now)
    assert len(ring) == 0
    create_key(keys, "scorer", "", None, now)
    now += 0.9
    assert len(ring) == 0
    now += 0.2
    assert len(ring) == 1
    (tmp_path / "keys.json").unlink()
    now += 1
    assert len(ring) == 0


def test_only_the_hash_of_a_key_is_kept_for_its_owner_only(tmp_path: Path) -> None:
    created = create_key(open_api_keys(tmp_path), "admin", "me", None, 0)
    path = tmp_path / "keys.json"
    assert created.secret.split("_", 2)[2] not in path.read_text()
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
    (tmp_path / "keys.json").write_text("{")
    with pytest.raises(ZaslonError, match="is damaged"):
        len(KeyRing(open_api_keys(tmp_path), lambda: 0.0))
