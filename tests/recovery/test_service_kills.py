"""`kill -9` of the service at random moments, under load: every answer stays true, nothing is doubled.

Clients send until they have an answer, as those of a bank do, while service, decision worker or both are
killed again and again: while they start, between two records, in a commit, in a snapshot.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
from collections import Counter
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from tests.api.serving import transaction
from tests.api.test_a_real_server import LENIENT, key_of
from tests.waiting import DEADLINE_SECONDS, until_ended

from zaslon.flows.reconcile import reconcile
from zaslon.testing import SmallWorld

CLIENTS = 16
START_SECONDS = 6.0  # about how long a start takes: kills are spread over it, and a little beyond
ANSWERS_MAX = 120  # between two kills
SETTINGS = {
    **LENIENT, "ZASLON_API_LOG_REQUESTS": "false", "ZASLON_API_RATE_PER_SECOND": "100000",
    "ZASLON_SNAPSHOT_EVERY_RECORDS": "50",
}  # fmt: skip


@dataclass
class Bank:
    """Clients that send, and what they were answered.

    Attributes:
        address: of the service that is ready now; None while there is none.
        answers: (sent, answer) of every call that was answered.
    """

    chance: random.Random
    headers: dict[str, str]
    address: str | None = None
    is_over: bool = False
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)
    answers: list[tuple[dict[str, Any], dict[str, Any]]] = field(default_factory=list)

    async def client(self) -> None:
        """One of those who send, one call after the other."""
        mine: list[tuple[str, dict[str, Any]]] = []
        async with httpx2.AsyncClient(headers=self.headers, timeout=DEADLINE_SECONDS) as http:
            while not self.is_over:
                if mine and self.chance.random() < 0.2:
                    path, content = self.chance.choice(mine)  # again: a lost answer, or an eager retry
                else:
                    path, content = self._new(mine)
                    mine.append((path, content))
                answer = await self._until_answered(http, path, content)
                async with self.answered:
                    self.answers.append((content, answer))
                    self.answered.notify_all()

    def _new(self, before: list[tuple[str, dict[str, Any]]]) -> tuple[str, dict[str, Any]]:
        if before and self.chance.random() < 0.2:
            verdict = self.chance.choice(["confirmed_fraud", "confirmed_good"])
            known = self.chance.choice(before)[1]["transaction_id"]
            return "/v1/labels", {"transaction_id": known, "verdict": verdict}
        amount, customer = self.chance.randrange(1, 90_000) / 100, self.chance.randrange(40)
        return "/v1/transactions", transaction(tx_amount=amount, customer_id=customer)

    async def _until_answered(
        self, http: httpx2.AsyncClient, path: str, content: dict[str, Any]
    ) -> dict[str, Any]:
        while True:
            await self.ready.wait()
            address = self.address
            try:
                given = await http.post(f"{address}{path}", json=content)
            except httpx2.TransportError:
                self.gone(address)
                continue
            if given.status_code == 200:
                answer: dict[str, Any] = given.json()
                return answer
            assert given.status_code == 503, given.text

    async def wait_for(self, more: int) -> None:
        """Until so many more calls are answered."""
        wanted = len(self.answers) + more
        async with self.answered:
            await self.answered.wait_for(lambda: len(self.answers) >= wanted)

    def gone(self, address: str | None) -> None:
        """No process listens at an address any more."""
        if self.address == address:
            self.address = None
            self.ready.clear()


class Service:
    """`zaslon serve` and its decision worker."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process

    @staticmethod
    async def start(home: Path) -> Service:
        given = ("-m", "zaslon.entrypoints.cli", "serve", "--home", str(home), "--port", "0")
        return Service(
            await asyncio.create_subprocess_exec(
                sys.executable, *given, stderr=asyncio.subprocess.PIPE, env={**os.environ, **SETTINGS}
            )
        )

    async def address(self) -> str:
        """Where it listens, once it decides."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            if b'"ready"' in line:
                return f"http://{json.loads(line)['addresses'][0]}"
        raise AssertionError("the service has ended")

    async def kill(self, whom: str) -> None:
        """Kill `service`, `worker` or `both`; returns when both have ended."""
        pid = self.process.pid
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)  # it starts no worker now that no process would wait for
        worker = _child_of(pid)
        for victim in {"service": (pid,), "worker": (worker or pid,), "both": (worker or pid, pid)}[whom]:
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        await self._end()
        if worker is not None:
            await asyncio.to_thread(until_ended, worker)

    async def stop(self) -> None:
        """SIGTERM, as for a new release."""
        self.process.send_signal(signal.SIGTERM)
        await self._end()

    async def _end(self) -> None:
        assert self.process.stderr is not None
        await self.process.stderr.read()
        await self.process.wait()


def _child_of(pid: int) -> int | None:
    with suppress(FileNotFoundError, ProcessLookupError):
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None
    return None


async def under_fire(home: Path, bank: Bank, kills: int) -> Counter[str]:
    """Kill the service so many times while the bank sends, then let it answer everything; what was killed when."""
    done: Counter[str] = Counter()
    chance = bank.chance
    clients = [asyncio.create_task(bank.client()) for _ in range(CLIENTS)]
    for _ in range(kills):
        whom = chance.choice(["service", "worker", "both"])
        service = await Service.start(home)
        moment = "in its start"
        address = asyncio.create_task(service.address())
        is_early = chance.random() < 0.25
        if is_early:
            await asyncio.wait({address}, timeout=chance.uniform(0, START_SECONDS))
        else:
            await asyncio.wait({address})
        if address.done():
            bank.address, moment = address.result(), "under load"
            bank.ready.set()
            await bank.wait_for(chance.randrange(ANSWERS_MAX))
            await asyncio.sleep(chance.uniform(0, 0.02))  # in the middle of anything
        else:
            address.cancel()
            await asyncio.wait({address})
        await service.kill(whom)
        bank.gone(bank.address)
        done[f"{whom} {moment}"] += 1
    service = await Service.start(home)
    bank.address, bank.is_over = await service.address(), True
    bank.ready.set()
    await asyncio.gather(*clients)
    await service.stop()
    return done


@pytest.mark.slow
def test_a_service_killed_under_load_changes_nothing(
    small_world: SmallWorld, tmp_path: Path, service_kills: int, seed: int
) -> None:
    world = small_world.in_home(tmp_path / "home")
    headers = {"Authorization": f"Bearer {key_of(world)}"}

    async def fire() -> tuple[Bank, Counter[str]]:
        bank = Bank(random.Random(seed), headers)
        return bank, await under_fire(world.context.home, bank, service_kills)

    bank, killed = asyncio.run(fire())
    assert killed.total() == service_kills
    assert any("under load" in moment for moment in killed)

    with closing(world.context.open_journal()) as journal:
        outcomes = [outcome for _, outcome in journal.outcomes()]
        engine = world.engine()
        replayed = [o.to_json() for batch in journal.read(0) for o in engine.process(batch).outcomes]
    assert outcomes == replayed, "a replay of the log gives the same bytes"
    for sent, whole in bank.answers:
        answer = whole["outcomes"][0] if "outcomes" in whole else whole
        of_log = orjson.loads(outcomes[answer["position"]])
        assert of_log["transaction_id"] == sent["transaction_id"]
        assert {name: value for name, value in answer.items() if name in of_log} == of_log
    decided = Counter(o["transaction_id"] for o in map(orjson.loads, outcomes) if o["outcome"] == "decision")
    assert set(decided.values()) == {1}, "one decision for every transaction"
    assert set(decided) == {sent["transaction_id"] for sent, _ in bank.answers if "tx_amount" in sent}
    assert reconcile(world.context).is_whole
    print(
        json.dumps({"kills": service_kills, **killed, "answers": len(bank.answers), "records": len(outcomes)})
    )
