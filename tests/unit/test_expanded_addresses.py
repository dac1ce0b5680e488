"""Patterns of addresses that fsspec opens: what they match, and what is said if they match nothing."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import fsspec
import pytest

from zaslon.domain.errors import InputError
from zaslon.system.opening import expanded

FILES = ("b.txt", "a.txt", "a [1].txt", ".hidden.txt", "c.csv", "day=1/d.txt", "day=2/d.txt", "day=2/e.csv")


@pytest.fixture(scope="module")
def lake() -> str:
    for name in FILES:
        with fsspec.open(f"memory://expanded/{name}", "wb") as file:
            file.write(b"1")
    return "memory://expanded"


class _NameNode(BaseHTTPRequestHandler):
    """WebHDFS of a folder `/raw` with two files and a folder that nobody may list."""

    def do_GET(self) -> None:
        path = urlsplit(self.path).path.removeprefix("/webhdfs/v1")
        if path == "/raw":
            kinds = {"b.txt": "FILE", "a.txt": "FILE", "closed": "DIRECTORY"}
            found = [{"pathSuffix": name, "type": kind, "length": 1} for name, kind in kinds.items()]
            return self._answer(200, {"FileStatuses": {"FileStatus": found}})
        closed = path.startswith("/raw/closed")
        name = "AccessControlException" if closed else "FileNotFoundException"
        return self._answer(
            403 if closed else 404, {"RemoteException": {"exception": name, "message": f"{name} of {path}"}}
        )

    def _answer(self, status: int, content: object) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the name that http.server gives
        """Say nothing."""


@pytest.fixture
def namenode() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _NameNode) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"webhdfs://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("pattern", "names"), [
    ("*.txt", ["a [1].txt", "a.txt", "b.txt"]),
    ("[bc].*", ["b.txt", "c.csv"]),
    ("*/d.txt", ["day=1/d.txt", "day=2/d.txt"]),
    ("day=*/*.csv", ["day=2/e.csv"]),
    (".h*", [".hidden.txt"]),
    ("a [1].txt", ["a [1].txt"]),
    ("a.txt", ["a.txt"]),
])  # fmt: skip
def test_a_foreign_pattern_becomes_its_files_by_name(lake: str, pattern: str, names: list[str]) -> None:
    assert expanded([f"{lake}/{pattern}"]) == [f"{lake}/{name}" for name in names]


def test_what_a_foreign_pattern_matches_can_be_opened(lake: str) -> None:
    for address in expanded([f"{lake}/*.txt"]):
        with fsspec.open(address, "rb") as file:
            assert file.read() == b"1"


def test_a_pattern_of_webhdfs_keeps_its_server(namenode: str) -> None:
    assert expanded([f"{namenode}/raw/*"]) == [f"{namenode}/raw/a.txt", f"{namenode}/raw/b.txt"]


@pytest.mark.parametrize("pattern", ["*.json", "day=*", "none/*.txt", "*/*/d.txt"])
def test_a_foreign_pattern_without_a_file_is_an_error(lake: str, pattern: str) -> None:
    with pytest.raises(InputError, match="No file matches 'memory://expanded/"):
        expanded([f"{lake}/{pattern}"])


def test_a_folder_that_may_not_be_listed_is_not_left_out(namenode: str) -> None:
    with pytest.raises(InputError, match=rf"'{namenode}/raw/\*/\*' cannot be listed: PermissionError"):
        expanded([f"{namenode}/raw/*/*"])
    with pytest.raises(InputError, match="No file matches"):
        expanded([f"{namenode}/none/*"])


@pytest.mark.parametrize("address", ["foo://lake/*.txt", "webhdfs://127.0.0.1:1/raw/*"])
def test_a_file_system_that_fails_is_named_by_its_address(address: str) -> None:
    with pytest.raises(InputError) as caught:
        expanded([address])
    assert f"'{address}' cannot be listed" in str(caught.value)
