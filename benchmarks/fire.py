"""Exactly once under fire: scorers and the broker are killed while transactions keep coming.

    python benchmarks/fire.py [--seed 1] [--kills 10] [--transactions 200000] [--json]

Starts a broker of its own, simulates transactions with labels among them, and lets two scorers run.
The active scorer is killed (`kill -9`) at seeded random moments and replaced; the broker is killed and
restarted once, a standby joins and leaves. Then a `read_committed` reader must see one outcome per
record, byte for byte what the embedded engine gives for the same log. Exit code 1 if it does not.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from deploy.kafka.broker import LocalBroker  # noqa: E402  from the repository's root
from tests.integration.kafka_fire import burn  # noqa: E402
from tests.integration.kafka_world import Cluster  # noqa: E402

from zaslon.testing import make_small_world  # noqa: E402


def main() -> None:
    """Parse, burn, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--transactions", type=int, default=200_000)
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    given = parser.parse_args()
    missing = LocalBroker.missing_tool()
    if missing:
        parser.error(missing)
    with tempfile.TemporaryDirectory(prefix="zaslon-fire-") as scratch:
        place = Path(scratch)
        world = make_small_world(
            place / "world", customers=given.transactions // 60 + 300, log_rows=given.transactions
        )
        broker = LocalBroker(place / "kafka", libs=ROOT / ".kafka" / "libs")
        broker.start()
        try:
            fire = burn(
                Cluster.new(broker), world, place, seed=given.seed, kills=given.kills,
                feed_seconds=12.0 * given.kills, broker_kill=True,
            )  # fmt: skip
        finally:
            broker.kill()
    report = {"seed": given.seed, **fire.to_json_dict()}
    print(json.dumps(report, indent=None if given.json else 1))
    raise SystemExit(0 if fire.equal else 1)


if __name__ == "__main__":
    main()
