"""What every place for API keys keeps to, whatever is behind it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from tests.contract.conftest import OpenApiKeys

from zaslon.domain.api_keys import ApiKey, Role

KEY = ApiKey("0123456789ab", "gateway", Role.SCORER, "f" * 64, 1_000, 2_000)
OTHER = ApiKey("ba9876543210", "", Role.ADMIN, "0" * 64, 1_001)


def test_a_new_place_has_no_keys(open_api_keys: OpenApiKeys) -> None:
    keys = open_api_keys()
    assert keys.all() == []
    assert keys.revoke(KEY.id, 5) is None
    assert keys.version == open_api_keys().version


def test_keys_are_read_back_as_they_were_added(open_api_keys: OpenApiKeys) -> None:
    keys = open_api_keys()
    keys.add(KEY)
    keys.add(OTHER)
    assert keys.all() == open_api_keys().all() == [KEY, OTHER]


def test_a_revoked_key_is_kept_with_its_time(open_api_keys: OpenApiKeys) -> None:
    keys = open_api_keys()
    keys.add(KEY)
    keys.add(OTHER)
    revoked = replace(KEY, revoked_seconds=1_500)
    assert keys.revoke(KEY.id, 1_500) == revoked
    assert keys.revoke(KEY.id, 1_700) == revoked
    assert keys.revoke("no such key", 1_700) is None
    assert open_api_keys().all() == [revoked, OTHER]


def test_the_version_changes_with_the_keys_only(open_api_keys: OpenApiKeys) -> None:
    keys, beside = open_api_keys(), open_api_keys()
    seen = [beside.version]
    keys.add(KEY)
    seen.append(beside.version)
    keys.revoke(KEY.id, 5)
    seen.append(beside.version)
    assert len(set(seen)) == 3
    keys.all()
    keys.revoke(KEY.id, 6)
    assert beside.version == seen[-1]


def test_keys_added_and_revoked_at_once_are_all_kept(open_api_keys: OpenApiKeys) -> None:
    def add_and_revoke(number: int) -> str:
        key = replace(OTHER, id=f"{number:012x}")
        open_api_keys().add(key)
        open_api_keys().revoke(key.id, 1)
        return key.id

    with ThreadPoolExecutor(8) as pool:
        added = set(pool.map(add_and_revoke, range(40)))
    kept = open_api_keys().all()
    assert {key.id for key in kept} == added
    assert all(key.revoked_seconds == 1 for key in kept)
