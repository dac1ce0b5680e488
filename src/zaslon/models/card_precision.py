"""Card precision@100: of the 100 customers that an analyst would call on a day, how many had a fraud.

The Fraud Detection Handbook's definition (chapter 4, "Precision top-k metrics"): per day,
customers are ranked by their highest score; those with a fraud among the first 100 are found; who
is found leaves the pool of the days after; the result is the mean over the days.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.events import NO_KEY
from zaslon.domain.time import SECONDS_PER_DAY


def card_precision_by_day(
    score: NDArray[np.float64],
    is_fraud: NDArray[np.int8],
    event_time_seconds: NDArray[np.int64],
    customer_key: NDArray[np.int64],
    top: int = 100,
) -> NDArray[np.float64]:
    """float64[days]: share of the `top` customers of each day who had a fraud on that day.

    Days without transactions do not count, nor do transactions without a customer. Customers of equal highest score are taken in the
    order of their keys, so the result does not depend on the order of rows.

    Args:
        score, is_fraud, event_time_seconds, customer_key: one value for each transaction, all of
            the transactions: a sample of them gives another, meaningless number.
        top: customers a day, 1 or more.
    """
    has_customer = customer_key != NO_KEY
    score, is_fraud, customer_key = score[has_customer], is_fraud[has_customer], customer_key[has_customer]
    day = event_time_seconds[has_customer] // SECONDS_PER_DAY
    found = np.empty(0, np.int64)
    precisions = []
    for today in np.unique(day):
        rows = np.flatnonzero(day == today)
        rows = rows[~np.isin(customer_key[rows], found)]
        customers, place = np.unique(customer_key[rows], return_inverse=True)
        highest = np.full(len(customers), -np.inf)
        np.maximum.at(highest, place, score[rows])
        compromised = np.bincount(place, is_fraud[rows], len(customers)) > 0
        first = np.argsort(-highest, kind="stable")[:top]
        hits = first[compromised[first]]
        found = np.concatenate([found, customers[hits]])
        precisions.append(len(hits) / top)
    return np.array(precisions, np.float64)
