"""Snapshots on a real S3 server: the contract, damage, refusals, and two scorers that share them."""

from __future__ import annotations

import itertools
import ssl
import urllib.error
import urllib.request
from pathlib import Path

import certifi
import numpy as np
import pytest
from deploy.kafka.broker import LocalBroker
from tests.contract.conftest import OpenSnapshots
from tests.contract.test_snapshot_contract import *  # noqa: F403  the contract itself
from tests.contract.test_snapshot_contract import assert_same, state
from tests.integration.kafka_world import Cluster
from tests.integration.s3_server import LocalS3
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.adapters.cluster.s3 import S3Snapshots
from zaslon.domain.errors import ArtefactError, ServerError
from zaslon.domain.events import Kind
from zaslon.flows.replay import replay
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration

_NUMBERS = itertools.count(1)


@pytest.fixture
def bucket(s3: LocalS3, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty bucket that the environment lets us use; where its objects are."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.bucket(f"bucket-{next(_NUMBERS)}")


@pytest.fixture
def open_snapshots(bucket: Path) -> OpenSnapshots:
    return lambda: S3Snapshots(f"s3://{bucket.name}/stream/of a bank/")


def objects(bucket: Path) -> list[Path]:
    return sorted(path for path in bucket.rglob("*") if path.is_file())


def positions(bucket: Path) -> list[int]:
    return sorted(int(path.stem.removeprefix("snapshot-")) for path in bucket.rglob("snapshot-*.npz"))


def test_a_damaged_object_is_named_and_the_older_one_used(
    bucket: Path, open_snapshots: OpenSnapshots
) -> None:
    store = open_snapshots()
    for position in (0, 10, 20):
        store.save(position, state(1_000))
    _, flipped, cut = objects(bucket)
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 1
    flipped.write_bytes(content)
    cut.write_bytes(cut.read_bytes()[:-100])
    found = store.newest()
    assert found is not None
    position, content_found, complaints = found
    assert position == 0
    assert_same(content_found, state(1_000))
    assert len(complaints) == 2
    for complaint, name in zip(complaints, ("20", "10"), strict=True):
        assert complaint.startswith(
            f"Snapshot 's3://{bucket.name}/stream/of a bank/snapshot-{name:0>20}.npz'"
        )
    objects(bucket)[0].write_bytes(b"")
    with pytest.raises(ArtefactError, match="No snapshot in 's3://"):
        store.newest()


def test_other_objects_are_left_alone(bucket: Path, open_snapshots: OpenSnapshots) -> None:
    store = open_snapshots()
    store.save(0, state(0))
    assert isinstance(store, S3Snapshots)
    for name in ("snapshot-of-my-dog.jpg", "snapshots.txt"):
        store._files.pipe_file(f"{store._place}/{name}", b"not ours")
    for position in range(1, 9):
        store.save(position, state(position))
    assert [path.name for path in objects(bucket)] == [
        *(f"snapshot-{position:020d}.npz" for position in (0, 6, 7, 8)), "snapshot-of-my-dog.jpg", "snapshots.txt",
    ]  # fmt: skip


def test_snapshots_need_a_key(s3: LocalS3, bucket: Path) -> None:
    store = S3Snapshots(f"s3://{bucket.name}/x")
    store.save(0, state(0))
    key = f"x/snapshot-{0:020d}.npz"
    grants = store._files.call_s3("get_object_acl", Bucket=bucket.name, Key=key)["Grants"]
    assert [(grant["Permission"], grant["Grantee"]["Type"]) for grant in grants] == [
        ("FULL_CONTROL", "CanonicalUser")
    ]
    address, authority = s3.environment["AWS_ENDPOINT_URL"], s3.environment["AWS_CA_BUNDLE"]
    trusting = ssl.create_default_context(cafile=authority)
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{address}/{bucket.name}/{key}", timeout=DEADLINE_SECONDS, context=trusting)
    assert refused.value.code == 403


@pytest.mark.parametrize(
    ("wrong", "hint"),
    [
        ({"AWS_ACCESS_KEY_ID": "scorer", "AWS_SECRET_ACCESS_KEY": "not the secret"}, "Check the keys"),
        ({"AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "not the secret"}, "Check the keys"),
        ({"AWS_SHARED_CREDENTIALS_FILE": "nowhere"}, "Unable to locate credentials.* Check AWS_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "https://127.0.0.1:1"}, "Could not connect.* Check AWS_ENDPOINT_URL"),
        ({"AWS_CA_BUNDLE": certifi.where()}, "CERTIFICATE_VERIFY_FAILED.* Check AWS_ENDPOINT_URL"),
    ],
)
def test_a_refusal_is_one_sentence_without_the_secret(
    bucket: Path, s3: LocalS3, monkeypatch: pytest.MonkeyPatch, wrong: dict[str, str], hint: str
) -> None:
    S3Snapshots(f"s3://{bucket.name}/x").save(0, state(0))
    for name, value in wrong.items():
        monkeypatch.setenv(name, value)
    store = S3Snapshots(f"s3://{bucket.name}/x")
    for ask in (store.newest, lambda: store.save(1, state(1))):
        with pytest.raises(ServerError, match=hint) as refused:
            ask()
        assert s3.secret not in str(refused.value)
        assert "not the secret" not in str(refused.value)
    assert len(objects(bucket)) == 1


def test_a_missing_bucket_is_not_an_empty_one(bucket: Path) -> None:
    for ask in (
        S3Snapshots("s3://no-such-bucket/x").newest,
        lambda: S3Snapshots("s3://no-such-bucket").save(0, {}),
    ):
        with pytest.raises(ServerError, match="Create the bucket"):
            ask()


def test_a_server_that_dies_is_no_damage_and_leaves_no_half_object(
    bucket: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = LocalS3(tmp_path)
    own.start()
    for name, value in own.environment.items():
        monkeypatch.setenv(name, value)
    own.bucket(bucket.name)
    store = S3Snapshots(f"s3://{bucket.name}/x")
    store.save(0, state(7))

    class Dies:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            own.kill()
            return np.zeros(3_000_000)

    try:
        with pytest.raises(ServerError):
            store.save(1, {"sent": np.zeros(3_000_000), "not sent": Dies()})  # type: ignore[dict-item]
        with pytest.raises(ServerError):
            store.newest()
        own.start()
        found = store.newest()
        assert found is not None
        assert (found[0], found[2]) == (0, [])
    finally:
        own.kill()


def test_a_scorer_with_an_empty_disk_takes_over(
    broker: LocalBroker, bucket: Path, small_world: SmallWorld, tmp_path: Path
) -> None:
    cluster = Cluster.new(broker)
    lines = [
        r for r, k in zip(small_world.records, small_world.kinds, strict=True) if k == Kind.TRANSACTION_LINE
    ]
    shared = {
        "ZASLON_PSEUDONYM_KEY": small_world.context.key.decode(),
        "ZASLON_STREAM_SNAPSHOTS": f"s3://{bucket.name}/scorers",
        "ZASLON_SNAPSHOT_EVERY_RECORDS": "300",
    }
    first_home, second_home = (small_world.in_home(tmp_path / name).context.home for name in ("a", "b"))
    with cluster.scorer(first_home, **shared) as first:
        assert first.prints("Deciding from position 0")
        for begin in range(0, 1_000, 250):
            cluster.send("input", lines[begin : begin + 250])
            cluster.wait_for(begin + 250, first)
        until(lambda: len(positions(bucket)) > 1, look_seconds=0.1)
        first.kill()
    begun, *_, newest = positions(bucket)
    assert begun == 0
    assert 300 <= newest <= 1_000
    with cluster.scorer(second_home, **shared) as second:
        assert second.prints(f"Replaying the log from position {newest}.")
        cluster.send("input", lines[1_000:1_500])
        cluster.wait_for(1_500, second)
        second.terminate()
    assert positions(bucket)[-1] == 1_500
    assert not list((second_home / "stream").glob("snapshots/*"))
    assert not list((first_home / "stream").glob("snapshots/*"))
    assert not any(shared["ZASLON_PSEUDONYM_KEY"] in line for line in [*first.printed, *second.printed])
    published = cluster.published()
    assert len(published) == 1_500
    assert published == cluster.embedded(small_world.engine())
    third = cluster.context(
        "viewer", small_world.in_home(tmp_path / "c").context.home,
        pseudonym_key=shared["ZASLON_PSEUDONYM_KEY"], stream_snapshots=shared["ZASLON_STREAM_SNAPSHOTS"],
    )  # fmt: skip
    for position in (0, 400, 1_400):
        assert replay(third.with_log("stream"), position).identical
