"""A server of its own process: 64 clients at once, `kill -9` under load, no slow first call."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.api.serving import transaction
from tests.waiting import DEADLINE_SECONDS, until_ended

from zaslon.bootstrap import open_api_keys
from zaslon.client import AsyncClient, Client, Decision, RefusedError, UnavailableError
from zaslon.domain.errors import BusyError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.entrypoints.cli import main
from zaslon.flows.reconcile import reconcile
from zaslon.services.key_management import create_key
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

CLIENTS = 64
CALLS = 8
LENIENT = {"ZASLON_API_BUDGET_MS": "60000", "ZASLON_API_RATE_BURST": "100000"}


class Server:
    """`zaslon serve` in its own process."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "zaslon.entrypoints.cli", "serve", "--home", str(home), "--port", "0"],
            stderr=subprocess.PIPE,
            env={**os.environ, **LENIENT, "ZASLON_API_LOG_REQUESTS": "false", **environment},
        )  # fmt: skip
        assert self.process.stderr is not None
        self.ready_line = b""
        while b'"ready"' not in self.ready_line:
            self.ready_line = self.process.stderr.readline()
            assert self.ready_line, "the server has gone"
        self.place: str = json.loads(self.ready_line)["addresses"][0]
        self.address = f"http://{self.place}"

    def end(self, by: signal.Signals) -> None:
        self.process.send_signal(by)
        self.process.wait(DEADLINE_SECONDS)
        assert self.process.stderr is not None
        self.process.stderr.close()


@contextmanager
def running(home: Path, **environment: str) -> Iterator[Server]:
    server = Server(home, **environment)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.end(signal.SIGTERM)


@pytest.fixture
def world(small_world: SmallWorld, tmp_path: Path) -> SmallWorld:
    return small_world.in_home(tmp_path / "home")


def key_of(world: SmallWorld) -> str:
    return create_key(open_api_keys(load_settings(home=world.context.home)), "admin", "", None, 0).secret


async def collide(address: str, key: str, seed: int, ids: list[int]) -> list[tuple[int, float, Any]]:
    """One client: transactions and labels about ids that all others use too."""
    chance = random.Random(seed)
    answers: list[tuple[int, float, Any]] = []
    async with AsyncClient(address, key, timeout_seconds=DEADLINE_SECONDS) as client:
        for _ in range(CALLS):
            identifier, amount = chance.choice(ids), float(chance.choice([10, 20]))
            if chance.random() < 0.2:
                await client.label({identifier: chance.choice(["confirmed_fraud", "confirmed_good"])})
                continue
            sent = transaction(transaction_id=identifier, tx_amount=amount)
            try:
                answers.append((identifier, amount, await client.decide(sent)))
            except RefusedError as error:
                answers.append((identifier, amount, error.code))
    return answers


@pytest.mark.slow
def test_colliding_clients_get_one_decision_per_id(
    world: SmallWorld,
) -> None:
    key, ids = key_of(world), list(range(50))

    async def all_at_once(address: str) -> list[tuple[int, float, Any]]:
        answers = await asyncio.gather(*(collide(address, key, seed, ids) for seed in range(CLIENTS)))
        return [answer for of_one in answers for answer in of_one]

    with running(world.context.home) as server:
        answers = asyncio.run(all_at_once(server.address))
    journal = world.context.open_journal()
    for identifier in ids:
        about = [(amount, answer) for other, amount, answer in answers if other == identifier]
        decisions = {answer.position: amount for amount, answer in about if isinstance(answer, Decision)}
        assert len(decisions) <= 1
        if not about:
            continue
        ((position, first),) = decisions.items()
        # Who sent the content that came first was answered with its decision, all others refused.
        assert all((answer == "conflict") == (amount != first) for amount, answer in about)
        (record,) = journal.read(position, position + 1)
        assert record.transactions.amount_minor[0] / 100 == first
    engine = world.engine()
    again = [o.to_json() for batch in journal.read(0) for o in engine.process(batch).outcomes]
    assert [outcome for _, outcome in journal.outcomes()] == again
    assert reconcile(world.context).is_whole
    journal.close()


@pytest.mark.slow
def test_a_kill_under_load_loses_and_doubles_nothing(world: SmallWorld) -> None:
    key = key_of(world)
    sent = [transaction(tx_amount=10 + i % 90) for i in range(600)]
    answered: dict[int, Decision] = {}

    async def load(server: Server) -> None:
        async def one(mine: list[dict[str, Any]]) -> None:
            async with AsyncClient(
                server.address, key, timeout_seconds=DEADLINE_SECONDS, retries=0
            ) as client:
                for one_sent in mine:
                    try:
                        answered[one_sent["transaction_id"]] = await client.decide(one_sent)
                    except UnavailableError:
                        return
                    if len(answered) == 150:
                        server.process.send_signal(signal.SIGKILL)

        await asyncio.gather(*(one(sent[i::16]) for i in range(16)))

    killed = Server(world.context.home)
    asyncio.run(load(killed))
    killed.end(signal.SIGKILL)
    assert 150 <= len(answered) < 600
    with (
        running(world.context.home) as server,
        Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client,
    ):
        for identifier, decision in answered.items():
            found = client.decision(identifier)
            assert found is not None
            assert found.position == decision.position
        again = [client.decide(one_sent) for one_sent in sent]
    for decision in again:
        if decision.transaction_id in answered:
            assert decision.repeated
            assert decision.position == answered[decision.transaction_id].position
    found_whole = reconcile(world.context)
    assert (found_whole.is_whole, found_whole.decisions) == (True, 600)
    assert found_whole.records == 600 + sum(decision.repeated for decision in again)


def worker_of(server: Server) -> int:
    """The process that decides for it."""
    (worker,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return int(worker)


@pytest.mark.slow
def test_a_killed_service_takes_its_worker_with_it(world: SmallWorld) -> None:
    key_of(world)  # without one it does not start
    server = Server(world.context.home)
    worker = worker_of(server)
    server.end(signal.SIGKILL)
    until_ended(worker)


@pytest.mark.slow
def test_the_home_is_locked_until_a_killed_services_worker_ends(world: SmallWorld) -> None:
    key_of(world)
    server = Server(world.context.home)
    worker = worker_of(server)
    os.kill(worker, signal.SIGSTOP)
    server.end(signal.SIGKILL)
    try:
        with pytest.raises(BusyError, match="is in use"), world.context.exclusive():
            pass
    finally:
        os.kill(worker, signal.SIGCONT)
    until_ended(worker)
    with world.context.exclusive():
        pass


@pytest.mark.slow
def test_a_service_whose_worker_is_killed_stops_with_an_error(world: SmallWorld) -> None:
    key = key_of(world)
    server = Server(world.context.home)
    with Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client:
        decided = client.decide(transaction())
    os.kill(worker_of(server), signal.SIGKILL)
    assert server.process.stderr is not None
    log = server.process.stderr.read().decode()
    assert server.process.wait(DEADLINE_SECONDS) == 11
    assert "The service has stopped deciding. Start it again." in " ".join(log.split())
    server.process.stderr.close()
    with (
        running(world.context.home) as again,
        Client(again.address, key, timeout_seconds=DEADLINE_SECONDS) as client,
    ):
        found = client.decision(decided.transaction_id)
    assert found is not None
    assert found.position == decided.position


@pytest.mark.slow
def test_a_stop_that_is_signalled_to_all_processes_saves_the_state(world: SmallWorld) -> None:
    key = key_of(world)
    server = Server(world.context.home)
    with Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client:
        client.decide(transaction())
    for process in (worker_of(server), server.process.pid):
        os.kill(process, signal.SIGTERM)
    assert server.process.wait(DEADLINE_SECONDS) == -signal.SIGTERM
    assert server.process.stderr is not None
    server.process.stderr.close()
    snapshots = world.context.open_snapshots(world.context.open_journal_for_reading())
    newest = snapshots.newest()
    assert newest is not None
    assert newest[0] == 1


class Overloaded(BaseHTTPRequestHandler):
    """A service that is always too late."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        body = b'{"detail": "late", "fallback_action": "review"}'
        self.send_response(503)
        self.send_header("Retry-After", "2")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None: ...


def test_a_retry_obeys_retry_after_and_ends_with_the_fallback() -> None:
    waited: list[float] = []
    with HTTPServer(("127.0.0.1", 0), Overloaded) as overloaded:
        threading.Thread(target=overloaded.serve_forever, daemon=True).start()
        with (
            Client(f"http://127.0.0.1:{overloaded.server_port}", "key", wait=waited.append) as client,
            pytest.raises(UnavailableError, match="late") as raised,
        ):
            client.decide({})
        overloaded.shutdown()
    assert waited == [2.0, 2.0, 2.0]
    assert raised.value.fallback_action == "review"


def test_serve_without_a_key_gives_a_hint(world: SmallWorld, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--home", str(world.context.home)]) == 2
    assert "zaslon keys create" in capfd.readouterr().err


def test_serve_makes_no_home_where_there_is_none(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--home", str(tmp_path / "mistyped")]) == 7
    assert "There is no home" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []
    assert main(["serve", "--home", str(tmp_path)]) == 2
    assert "has no valid key" in capfd.readouterr().err


def test_keys_are_made_listed_and_revoked_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def json_of(*arguments: str) -> dict[str, Any]:
        assert main([*arguments, "--home", str(tmp_path), "--json"]) == 0
        content: dict[str, Any] = json.loads(capsys.readouterr().out)
        return content

    made = json_of("keys", "create", "--role", "scorer", "--name", "gateway", "--lasts", "90d")
    assert made["key"].startswith(f"zaslon_{made['id']}_")
    assert json_of("keys", "revoke", made["id"])["revoked"] is not None
    (listed,) = json_of("keys", "list")["keys"]
    assert "key" not in listed
    assert (listed["id"], listed["role"], listed["name"]) == (made["id"], "scorer", "gateway")


def test_reconcile_takes_ids_of_any_length(world: SmallWorld, capsys: pytest.CaptureFixture[str]) -> None:
    journal, engine = world.context.open_journal(), world.engine()
    rejected, lost = "1" * 4_000, "-" + "2" * 5_000
    record = f"00{rejected},2019-10-01 10:00:00,5,7,20.00,0,0,0,0".encode()
    batch = world.admit(RecordBatch.of([record], [Kind.TRANSACTION_LINE], world.arrivals[:1], 0))
    journal.record(batch, engine.process(batch).outcomes, None)
    sent = world.context.home / "sent.txt"
    sent.write_text(f"{rejected}\n{lost}\n{2**63}\n-{2**63}\n0012\n-0\n")
    assert main(["reconcile", "--home", str(world.context.home), "--sent", str(sent), "--json"]) == 8
    assert json.loads(capsys.readouterr().out)["unanswered"] == [lost, str(2**63), -(2**63), 12, 0]


def test_reconcile_names_what_was_sent_and_never_answered(
    world: SmallWorld, capsys: pytest.CaptureFixture[str]
) -> None:
    journal, engine = world.context.open_journal(), world.engine()
    refused, only_labelled = b"555,no time,1,1,1.00,0,0,0,0", b'{"transaction_id":666,"is_fraud":true}'
    records = [world.records[0], refused, only_labelled, b'{"transaction_id":777}', b"[]"]
    kinds = [Kind.TRANSACTION_LINE] * 2 + [Kind.LABEL_JSON] + [Kind.TRANSACTION_JSON] * 2
    batch = world.admit(RecordBatch.of(records, kinds, world.arrivals[:5], 0))
    journal.record(batch, engine.process(batch).outcomes, None)
    known = int(world.records[0].split(b",")[0])
    sent = world.context.home / "sent.txt"
    sent.write_text(f"{known}\n987654321\n555\n666\n777\n")
    home = str(world.context.home)
    assert main(["reconcile", "--home", home, "--sent", str(sent), "--json"]) == 8
    found = json.loads(capsys.readouterr().out)
    assert (found["is_whole"], found["records"], found["unanswered"]) == (False, 5, [987654321, 666])
    sent.write_text("".join(f"{8_000_000 + i}\n" for i in range(250)))
    assert main(["reconcile", "--home", home, "--sent", str(sent), "--json"]) == 8
    found = json.loads(capsys.readouterr().out)
    assert found["unanswered"] == list(range(8_000_000, 8_000_100)), "the first hundred are named"
    assert found["counts"] == {
        "without_outcome": 0, "decided_twice": 0, "unanswered": 250, "not_checkable": 0,
    }  # fmt: skip
    assert main(["reconcile", "--home", home, "--json"]) == 0
