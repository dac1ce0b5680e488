"""The two clients of ours, over a service in this process."""

from __future__ import annotations

import asyncio

from tests.api.serving import Caller, transaction

from zaslon.client import AsyncClient, Client, Decision, Rejection


def test_many_transactions_have_an_outcome_each_in_order(admin: Caller) -> None:
    sent = [transaction(), transaction(tx_amount="much"), transaction()]
    with Client("http://service", admin.key, transport=admin.transport()) as client:
        first, refused, last = client.decide_many(sent)
    assert isinstance(first, Decision) and isinstance(last, Decision)
    assert [first.transaction_id, last.transaction_id] == [
        sent[0]["transaction_id"],
        sent[2]["transaction_id"],
    ]
    assert isinstance(refused, Rejection)
    assert refused.reason == "not_a_number:tx_amount"


def test_both_clients_get_the_same_outcomes(admin: Caller) -> None:
    sent = [transaction(), transaction(tx_amount="much")]

    async def decided() -> list[Decision | Rejection]:
        async with AsyncClient("http://service", admin.key, transport=admin.transport()) as client:
            return await client.decide_many(sent)

    asynchronous = asyncio.run(decided())
    with Client("http://service", admin.key, transport=admin.transport()) as client:
        again = client.decide_many(sent)
    first, repeated = asynchronous[0], again[0]
    assert isinstance(first, Decision) and isinstance(repeated, Decision)
    assert (first.position, first.repeated) == (repeated.position, False)
    assert repeated.repeated
