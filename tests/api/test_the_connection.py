"""Before a request: TLS, too many connections; and snapshots in the log."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.api.serving import transaction
from tests.api.test_a_real_server import Server, key_of, running
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.client import Client, UnavailableError
from zaslon.testing import SmallWorld


def write_certificate(directory: Path) -> tuple[Path, Path]:
    """(certificate, key), PEM, for 127.0.0.1 and valid for an hour."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "zaslon test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    at, key_at = directory / "service.crt", directory / "service.key"
    at.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_at.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return at, key_at


@pytest.fixture
def world(small_world: SmallWorld, tmp_path: Path) -> SmallWorld:
    return small_world.in_home(tmp_path / "home")


@pytest.mark.slow
def test_tls_is_verified_and_plain_http_is_refused(world: SmallWorld, tmp_path: Path) -> None:
    certificate, key_file = write_certificate(tmp_path)
    key = key_of(world)
    with running(
        world.context.home, ZASLON_API_TLS_CERTIFICATE=str(certificate), ZASLON_API_TLS_KEY=str(key_file)
    ) as server:
        trusting = httpx2.HTTPTransport(verify=ssl.create_default_context(cafile=str(certificate)))
        with Client(
            f"https://{server.place}", key, timeout_seconds=DEADLINE_SECONDS, transport=trusting
        ) as client:
            assert client.decide(transaction()).action in ("allow", "review", "block")
        # The system's authorities do not know it.
        with (
            Client(f"https://{server.place}", key, retries=0) as stranger,
            pytest.raises(UnavailableError, match="CERTIFICATE_VERIFY_FAILED"),
        ):
            stranger.decide(transaction())
        with (
            Client(server.address, key, retries=0) as plain,
            pytest.raises(UnavailableError, match="cannot be reached"),
        ):
            plain.decide(transaction())
        with httpx2.Client(
            verify=ssl.create_default_context(cafile=str(certificate)), timeout=DEADLINE_SECONDS
        ) as raw:
            answer = raw.get(f"https://{server.place}/healthz")
        assert answer.headers["strict-transport-security"] == "max-age=31536000"


@pytest.fixture
def crowded(world: SmallWorld) -> Iterator[Server]:
    """A server that takes two connections, and both have sent half a body."""
    key = key_of(world)
    head = (
        "POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {key}\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
    )
    with (
        running(world.context.home, ZASLON_API_CONNECTIONS_MAX="2", ZASLON_API_BODY_SECONDS="600") as server,
        ExitStack() as open_ones,
    ):
        host, port = server.place.split(":")
        for _ in range(2):
            kept = open_ones.enter_context(socket.create_connection((host, int(port))))
            kept.sendall(head.encode())
            assert kept.recv(12) == b"HTTP/1.1 100"  # the server waits for the body
        yield server


def test_one_connection_too_many_gets_a_problem(crowded: Server) -> None:
    with httpx2.Client(base_url=crowded.address, timeout=DEADLINE_SECONDS) as client:
        refused = client.get("/v1/model")
        alive = client.get("/healthz")
    problem = refused.json()
    assert (refused.status_code, problem["type"]) == (503, "urn:zaslon:problem:busy")
    assert refused.headers["content-type"] == "application/problem+json"
    assert problem["detail"] == "More than 2 connections are open."
    assert problem["request_id"] == refused.headers["x-request-id"]
    assert (refused.headers["retry-after"], refused.headers["connection"]) == ("1", "close")
    assert alive.status_code == 200


def failed_snapshots(address: str) -> float:
    text = httpx2.get(f"{address}/metrics", timeout=DEADLINE_SECONDS).text
    return float(text.split('zaslon_snapshots_total{result="failed"} ')[1].split()[0])


@pytest.mark.slow
def test_a_failed_snapshot_is_logged_and_counted(world: SmallWorld) -> None:
    key, home = key_of(world), world.context.home
    with (
        running(home, ZASLON_SNAPSHOT_EVERY_RECORDS="1", ZASLON_API_OPEN_METRICS="true") as server,
        Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client,
    ):
        (place,) = (home / "log" / "snapshots").iterdir()
        aside = place.rename(home / "aside")
        place.write_text("a file where the directory should be")
        client.decide(transaction())
        assert server.process.stderr is not None
        line = json.loads(server.process.stderr.readline())
        client.decide(transaction())  # deciding continues
        until(lambda: failed_snapshots(server.address) >= 1)
        place.unlink()
        aside.rename(place)
    assert line["level"] == "warning"
    assert "snapshot" in line["message"].lower()


@pytest.mark.slow
def test_a_caller_that_hangs_up_in_a_body_is_no_server_error(world: SmallWorld) -> None:
    key, head = (
        key_of(world),
        "POST /v1/transactions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n",
    )
    with running(world.context.home, ZASLON_API_LOG_REQUESTS="true") as server:
        address = server.address.removeprefix("http://").split(":")
        with socket.create_connection((address[0], int(address[1]))) as caller:
            caller.sendall(f"{head}Authorization: Bearer {key}\r\nContent-Length: 9\r\n\r\n{{".encode())
        assert server.process.stderr is not None
        line = json.loads(server.process.stderr.readline())
        with Client(server.address, key, timeout_seconds=DEADLINE_SECONDS) as client:
            client.decide(transaction())
    assert (line["message"], line["route"], line["status"]) == ("request", "/v1/transactions", 400)
