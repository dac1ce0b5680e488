"""What a repeat is recognised by: without the key two transactions cannot be made to look equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.feature_logs import SECRET
from tests.unit.intake_cases import KEY, MISSION, clean, line, run

from zaslon.domain.rejections import Reason
from zaslon.features.history import History
from zaslon.features.plan import plan_features
from zaslon.intake.digests import digests_of
from zaslon.system.siphash import digest_columns, secret_words

# By the number of 64-bit words, the digest of bytes 0, 1, 2, … under the key 0, 1, …, 15:
# `vectors_sip128` of the reference implementation (github.com/veorq/SipHash, vectors.h).
REFERENCE = [
    "a3817f04ba25a8e66df67214c7550293", "3b62a9ba6258f5610f83e264f31497b4",
    "6ee2a4ca67b054bbfd3315bf85230577", "2db479ae78bd50d8882a8a178a6132ad",
    "7c3956ca5eeafc3e363e9d556546eb68", "df6a301e95c95dad97ae0cc8c6913bd8",
    "f7e5aef549f782cf379055a608269b16", "1938f2cf72d54ee97e94166fa91d2a36",
]  # fmt: skip


@pytest.mark.parametrize("words", range(len(REFERENCE)))
def test_digests_equal_the_reference_vectors(words: int) -> None:
    message = np.frombuffer(bytes(range(64)), "<i8")[:words].astype(np.int64)
    columns = np.stack([message, message + 1], axis=1)  # the second message is another
    digests = np.empty((2, 2), np.uint64)
    digest_columns(columns, secret_words(bytes(range(16))), digests)
    assert digests[0].astype("<u8").tobytes().hex() == REFERENCE[words]
    assert words == 0 or digests[1].tolist() != digests[0].tolist()


def test_a_secret_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        secret_words(b"short")


def integers(*values: int) -> NDArray[np.int64]:
    return np.array(values, np.int64)


def test_any_change_of_the_content_or_key_changes_the_digest() -> None:
    columns, number = [integers(5), integers(-7), integers(0)], np.array([2.5])
    seen = {digests_of(columns, [number], b"one").tobytes(), digests_of(columns, [number], b"two").tobytes()}
    for place, column in enumerate(columns):
        for bit in range(64):
            flipped = column ^ np.uint64(1 << bit).astype(np.int64)
            changed = [*columns[:place], flipped, *columns[place + 1 :]]
            seen.add(digests_of(changed, [number], b"one").tobytes())
    seen.add(digests_of(columns, [-number], b"one").tobytes())
    seen.add(digests_of(columns, [], b"one").tobytes())
    assert len(seen) == 4 + 3 * 64


def test_an_absent_number_and_zero_are_one_value_each() -> None:
    identifier = integers(1, 1)
    strange = np.array([np.nan, -0.0])
    strange[:1].view(np.int64)[0] ^= 5  # another of the many NaN
    plain = np.array([np.nan, 0.0])
    assert strange.tobytes() != plain.tobytes()
    found = digests_of([identifier], [strange], KEY)
    assert found.tolist() == digests_of([identifier], [plain], KEY).tolist()
    assert found[0].tolist() != found[1].tolist()


def splitmix(bits: NDArray[np.uint64]) -> NDArray[np.uint64]:
    bits = bits + np.uint64(0x9E3779B97F4A7C15)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def colliding_terminals() -> tuple[int, int]:
    """Two terminals with which the good record had one fingerprint, as it was: 32 bits, without a key."""
    good = clean(line()).transactions
    columns = (good.transaction_id, good.event_time_seconds, good.amount_minor, good.entity_keys["customer"])
    state = np.zeros(1, np.uint64)
    for column in columns:
        state = splitmix(state ^ column.view(np.uint64))
    terminals = np.arange(300_000, dtype=np.uint64)
    fingerprint = splitmix(state ^ terminals) >> np.uint64(32)
    order = np.argsort(fingerprint, kind="stable")
    (twins, *_) = np.flatnonzero(np.diff(fingerprint[order]) == 0)
    return int(terminals[order[twins]]), int(terminals[order[twins + 1]])


def test_records_with_one_old_fingerprint_are_a_conflict() -> None:
    one, other = (line(terminal_id=terminal) for terminal in colliding_terminals())
    cleaned = clean(one, other, one)
    history = History(plan_features(MISSION), secret=SECRET)
    applied = history.apply(cleaned.transactions, cleaned.labels, cleaned.is_label)
    assert applied.status.tolist() == [0, Reason.CONFLICTING_DUPLICATE, Reason.DUPLICATE]


def test_rows_with_one_old_fingerprint_are_a_conflict(tmp_path: Path) -> None:
    one, other = (line(terminal_id=terminal) for terminal in colliding_terminals())
    (tmp_path / "in.csv").write_text(f"{one}\n{other}\n{one}\n")
    report = run([tmp_path / "in.csv"], tmp_path / "out")
    assert report.rows_rejected == {"conflicting_duplicate": 1, "duplicate": 1}
