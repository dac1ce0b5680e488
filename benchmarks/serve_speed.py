"""One decision over HTTP: ours, durable and explained, beside MLflow, BentoML and a bare route.

    python benchmarks/serve_speed.py [--json] [--seconds 10] [--only CONTENDER]…

Open loop: requests are sent at fixed times whatever becomes of those before, and latency counts
from the intended time, so a server that stalls cannot hide it (no coordinated omission).
Saturation: as many as come back over 1, 16 and 64 connections. CPU is that of the server and its
children. Every contender is warmed up for 4 seconds after its first call was measured. A broker serves for 90
seconds before: then the service and the scorer are restarted, so that their first call is measured.
`disk` is how long the disk takes for a write to be durable, which is part of every latency of ours.

    zaslon        the embedded service: features, a durable record, the decision and its reasons
    zaslon_kafka  the same with Kafka behind it: a broker of its own (TLS, SCRAM), `zaslon stream` and the
                  service in front of it; CPU is of all three, also listed one by one
    fastapi       a bare route around the same trees: the model only
    mlflow        `mlflow models serve`, as it starts by itself: the model only
    bentoml       `bentoml serve`, in an environment of its own: the model only
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import uvloop

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from benchmarks.environments import own_python  # noqa: E402  from the repository's root
from deploy.kafka.broker import LocalBroker  # noqa: E402
from tests.integration.kafka_world import Cluster  # noqa: E402
from tests.payments import payments  # noqa: E402

from zaslon.bootstrap import open_api_keys  # noqa: E402
from zaslon.services.key_management import create_key  # noqa: E402
from zaslon.settings import load_settings  # noqa: E402
from zaslon.testing import SmallWorld, make_small_world  # noqa: E402

CONTENDERS = ("zaslon", "zaslon_kafka", "fastapi", "mlflow", "bentoml")
RATES, CONNECTIONS = (50, 400), (1, 16, 64)
OPEN_CONNECTIONS = 64
READY_SECONDS_MAX = 120.0
WARM_SECONDS = 4.0
# A broker compiles itself while it works: for a minute that takes more of the machine than the load.
BROKER_WARM_SECONDS = 90.0


@dataclass(frozen=True)
class Contender:
    """A server: how it is started, and what is sent to it."""

    name: str
    command: list[str]
    port: int
    path: str
    ready_path: str
    body: Callable[[], bytes]
    headers: dict[str, str] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    # What runs behind it meanwhile: process ids by name.
    behind: AbstractContextManager[dict[str, int]] = field(default_factory=lambda: nullcontext({}))
    noted: dict[str, float] = field(default_factory=dict)  # figures of what went before

    def request(self) -> bytes:
        """The bytes of one request."""
        body = self.body()
        head = {
            "Host": "localhost", "Content-Type": "application/json",
            "Content-Length": str(len(body)), **self.headers,
        }  # fmt: skip
        lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
        return f"POST {self.path} HTTP/1.1\r\n{lines}\r\n".encode() + body


class Connection(asyncio.Protocol):
    """One kept connection; a request at a time. Written bare, so that the client takes little of the machine."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._answer: asyncio.Future[bytes] | None = None
        self._arrived = b""

    async def ask(self, request: bytes) -> bytes:
        """Send and read one answer.

        Raises:
            RuntimeError: the answer is an error.
            ConnectionError: the server closed the connection.
        """
        loop = asyncio.get_running_loop()
        if self._transport is None:
            self._transport, _ = await loop.create_connection(lambda: self, "127.0.0.1", self._port)
        self._answer, self._arrived = loop.create_future(), b""
        self._transport.write(request)
        answer = await self._answer
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(answer[:400].decode(errors="replace"))
        return answer

    def data_received(self, data: bytes) -> None:
        """Give the answer to who asked when it is whole."""
        self._arrived += data
        head, found, body = self._arrived.partition(b"\r\n\r\n")
        if not found or self._answer is None or self._answer.done():
            return
        _, _, length = head.lower().partition(b"content-length:")
        if len(body) >= int(length.partition(b"\r\n")[0]):
            self._answer.set_result(self._arrived)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the waiting caller."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the server closed the connection"))

    def close(self) -> None:
        """End it."""
        if self._transport is not None:
            self._transport.close()


async def open_loop(contender: Contender, rate: int, seconds: float) -> list[float]:
    """Latencies in seconds from the intended send times; what fails raises."""
    free: asyncio.Queue[Connection] = asyncio.Queue()
    connections = [Connection(contender.port) for _ in range(OPEN_CONNECTIONS)]
    for connection in connections:
        free.put_nowait(connection)
    begin = time.perf_counter() + 0.2
    latencies: list[float] = []

    async def one(intended: float, request: bytes) -> None:
        connection = await free.get()
        await connection.ask(request)
        latencies.append(time.perf_counter() - intended)
        free.put_nowait(connection)

    async with asyncio.TaskGroup() as group:
        for number in range(int(rate * seconds)):
            intended = begin + number / rate
            request = contender.request()
            await asyncio.sleep(max(0.0, intended - time.perf_counter()))
            group.create_task(one(intended, request))
    for connection in connections:
        connection.close()
    return latencies


async def saturation(contender: Contender, connections: int, seconds: float) -> float:
    """Answers a second while every connection asks again at once."""
    end = time.perf_counter() + seconds

    async def one() -> int:
        connection, answers = Connection(contender.port), 0
        while time.perf_counter() < end:
            await connection.ask(contender.request())
            answers += 1
        connection.close()
        return answers

    return sum(await asyncio.gather(*(one() for _ in range(connections)))) / seconds


async def first_calls(contender: Contender, count: int) -> list[float]:
    """Milliseconds of the very first calls, one after the other over one connection."""
    connection, found = Connection(contender.port), []
    for _ in range(count):
        begin = time.perf_counter()
        await connection.ask(contender.request())
        found.append((time.perf_counter() - begin) * 1000)
    connection.close()
    return found


def first_figures(contender: Contender) -> dict[str, float]:
    """The first call and the median of the next twenty."""
    first_ms, *later_ms = uvloop.run(first_calls(contender, 21))
    return {
        "first_call_ms": round(first_ms, 2), "next_calls_ms": round(float(np.median(later_ms)), 2)
    }  # fmt: skip


def cpu_seconds(pid: int) -> float:
    """CPU time of a process and all below it (Linux)."""
    total, ticks = 0.0, os.sysconf("SC_CLK_TCK")
    for path in (Path("/proc") / str(pid) / "task").glob("*/children"):
        total += sum(cpu_seconds(int(child)) for child in path.read_text().split())
    fields = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return total + (int(fields[11]) + int(fields[12])) / ticks


@contextmanager
def running(contender: Contender) -> Iterator[tuple[int, float]]:
    """(process id, seconds from start to ready)."""
    begin = time.perf_counter()
    with tempfile.TemporaryFile() as output:
        server = subprocess.Popen(
            contender.command, stdout=output, stderr=output, cwd=HERE, start_new_session=True,
            env={**os.environ, **contender.environment},
        )  # fmt: skip
        try:
            while not uvloop.run(is_ready(contender)):
                if server.poll() is not None or time.perf_counter() - begin > READY_SECONDS_MAX:
                    output.seek(0)
                    raise RuntimeError(f"{contender.name} does not start: {output.read()[-2000:].decode()}")
                time.sleep(0.02)
            yield server.pid, time.perf_counter() - begin
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(30)


async def is_ready(contender: Contender) -> bool:
    """Whether the server reports that it is ready."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
    except OSError:
        return False
    writer.write(f"GET {contender.ready_path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    status = await reader.readline()
    writer.close()
    return status.startswith(b"HTTP/1.1 200")


def measure(contender: Contender, seconds: float) -> dict[str, Any]:
    """All figures of one contender, and its first call as it was."""
    with contender.behind as behind, running(contender) as (pid, ready_seconds):
        pids = {"service": pid, **behind}
        result: dict[str, Any] = {"open_loop": {}, "saturation": {}, "ready_seconds": round(ready_seconds, 2)}
        result |= first_figures(contender) | contender.noted
        uvloop.run(open_loop(contender, RATES[-1], WARM_SECONDS))
        for rate in RATES:
            before = {name: cpu_seconds(one) for name, one in pids.items()}
            latencies = np.array(uvloop.run(open_loop(contender, rate, seconds))) * 1000
            spent = {
                name: round((cpu_seconds(one) - before[name]) / len(latencies) * 1e6)
                for name, one in pids.items()
            }
            p50, p99, p99_9 = np.percentile(latencies, [50, 99, 99.9]).round(2).tolist()
            result["open_loop"][str(rate)] = {
                "p50_ms": p50, "p99_ms": p99, "p99_9_ms": p99_9,
                "cpu_us_per_request": sum(spent.values()),
            }  # fmt: skip
            if behind:
                result["open_loop"][str(rate)]["cpu_us_by_process"] = spent
        for connections in CONNECTIONS:
            found = uvloop.run(saturation(contender, connections, seconds / 2))
            result["saturation"][str(connections)] = round(found, 1)
    return result


def disk_ms(directory: Path, writes: int = 200) -> dict[str, float]:
    """Milliseconds that this disk takes to keep 8 KiB: no durable answer can come sooner."""
    taken = []
    with (directory / "disk").open("wb", buffering=0) as file:
        for _ in range(writes):
            begin = time.perf_counter()
            file.write(b"\0" * 8_192)
            os.fdatasync(file.fileno())
            taken.append((time.perf_counter() - begin) * 1000)
    p50, p99 = np.percentile(taken, [50, 99]).round(2).tolist()
    return {"p50_ms": p50, "p99_ms": p99}


def free_port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def contenders(home: Path) -> Iterator[Contender]:
    """Ours and the peers, with the same trees."""
    world = make_small_world(home)
    behind_kafka = world.in_home(home.with_name("behind-kafka"))
    engine = world.engine()
    assert engine.model is not None
    trees = home / "trees.txt"
    trees.write_text(engine.model.trees)
    names = list(engine.model.names)
    chance = random.Random(1)
    environment = {"PEER_TREES": str(trees), "PYTHONPATH": str(HERE)}
    yield ours("zaslon", home)
    yield with_kafka(behind_kafka, home.with_name("kafka"))
    port = free_port()
    uvicorn = [sys.executable, "-m", "uvicorn", "--factory", "serve_peers:fastapi_app", "--port", str(port)]
    row = [chance.random() * 100 for _ in names]
    yield Contender(
        "fastapi", [*uvicorn, "--no-access-log"], port, "/predict", "/openapi.json",
        lambda: json.dumps(row).encode(), environment=environment,
    )  # fmt: skip
    saved = home / "mlflow-model"
    subprocess.run(
        [sys.executable, str(HERE / "serve_peers.py"), str(saved)], check=True, capture_output=True,
        env={**os.environ, **environment},
    )  # fmt: skip
    port = free_port()
    yield Contender(
        "mlflow",
        [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(saved), "-p", str(port),
         "--env-manager", "local"],
        port, "/invocations", "/ping",
        lambda: json.dumps({"dataframe_split": {"columns": names, "data": [row]}}).encode(),
        environment={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},  # for its uvicorn
    )  # fmt: skip
    port = free_port()
    yield Contender(
        "bentoml",
        [str(own_python("bento")), "-m", "bentoml", "serve", "serve_peers:Service", "-p", str(port)],
        port, "/predict", "/readyz", lambda: json.dumps({"row": row}).encode(),
        environment={**environment, "PEER": "bentoml"},
    )  # fmt: skip


def with_kafka(world: SmallWorld, directory: Path) -> Contender:
    """The service in front of the stream."""
    broker = LocalBroker(directory, libs=HERE.parent / ".kafka" / "libs", fast_start=False)
    environment: dict[str, str] = {}
    noted: dict[str, float] = {}
    cluster = cache(lambda: Cluster.new(broker))

    @contextmanager
    def life() -> Iterator[int]:
        with cluster().scorer(world.context.home, ZASLON_STREAM_BATCH_RECORDS="5000") as scorer:
            assert scorer.prints("Deciding from position"), scorer.printed
            yield scorer.process.pid

    @contextmanager
    def behind() -> Iterator[dict[str, int]]:
        broker.start()
        try:
            environment.update(cluster().environment("gateway") | made.environment)
            with life(), running(contender):
                found = first_figures(contender)
                noted.update({f"{name}_of_a_new_broker": ms for name, ms in found.items()})
                uvloop.run(open_loop(contender, RATES[-1], BROKER_WARM_SECONDS))
            with life() as pid:
                assert broker.pid is not None
                yield {"scorer": pid, "broker": broker.pid}
        finally:
            broker.kill()

    made = ours("zaslon_kafka", world.context.home)
    # Nothing is left out in front of the stream, so that here late answers can be waited for and counted.
    made.environment.update(ZASLON_API_DECIDER="kafka", ZASLON_API_BUDGET_MS="30000")
    contender = replace(made, environment=environment, behind=behind(), noted=noted)
    return contender


def ours(name: str, home: Path) -> Contender:
    """The whole path with everything durable; every transaction is a new one."""
    key = create_key(open_api_keys(load_settings(home=home)), "scorer", "benchmark", None, time.time()).secret
    port = free_port()
    return Contender(
        name, [sys.executable, "-m", "zaslon.entrypoints.cli", "serve", "--home", str(home),
               "--port", str(port)],
        port, "/v1/transactions", "/readyz", partial(next, payments()), {"Authorization": f"Bearer {key}"},
        {"ZASLON_API_RATE_PER_SECOND": "1000000", "ZASLON_API_RATE_BURST": "1000000"},
    )  # fmt: skip


def main() -> None:
    """Measure all, one after the other, and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each open-loop run")
    parser.add_argument("--only", action="append", choices=CONTENDERS, default=[])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        results: dict[str, Any] = {"disk": disk_ms(Path(directory))}
        for contender in contenders(Path(directory) / "home"):
            if contender.name in (given.only or CONTENDERS):
                results[contender.name] = measure(contender, given.seconds)
                print(contender.name, results[contender.name], file=sys.stderr)
    print(json.dumps(results) if given.json else json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
