"""Payments as a client sends them: JSON, each with an id of its own, for as long as they are asked for."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import count

import numpy as np
import orjson

_FIRST_ID = 10_000_000
_BEGIN = np.datetime64("2019-09-20T00:00:00")
_PER_SECOND = 50  # of event time


def payments() -> Iterator[bytes]:
    """Transactions of 300 customers at 30 terminals, in time order; ids count up from ten million."""
    chance = random.Random(2)
    for number in count():
        moment = str(_BEGIN + np.timedelta64(number // _PER_SECOND, "s")).replace("T", " ")
        yield orjson.dumps(
            {
                "transaction_id": _FIRST_ID + number, "tx_datetime": moment,
                "customer_id": chance.randrange(300), "terminal_id": chance.randrange(30),
                "tx_amount": chance.randrange(100, 30_000) / 100,
            }
        )  # fmt: skip
