#!/usr/bin/env python3
"""Users of MLflow's tracking server and what each may do: the experiment, two registered models, three users.

    python deploy/mlflow/users.py http://127.0.0.1:5000 ADMIN_PASSWORD_FILE DIRECTORY

Passwords are made and written to DIRECTORY/trainer, DIRECTORY/promoter and DIRECTORY/scorer. Again: nothing to do.
"""

from __future__ import annotations

import argparse
import base64
import ipaddress
import json
import secrets
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

# MLflow's one right, EDIT, covers registering a version and moving an alias: hence two registered models.
# Whoever loads a version reads its run too, hence READ on the experiment.
GRANTS = (
    ("trainer", "experiment", "EDIT"), ("trainer", "candidates", "EDIT"), ("trainer", "served", "READ"),
    ("promoter", "experiment", "READ"), ("promoter", "candidates", "READ"), ("promoter", "served", "EDIT"),
    ("scorer", "experiment", "READ"), ("scorer", "candidates", "READ"), ("scorer", "served", "READ"),
)  # fmt: skip
USERS = tuple(dict.fromkeys(user for user, _, _ in GRANTS))
_SECONDS_MAX = 60
_EXISTS = "RESOURCE_ALREADY_EXISTS"


class RefusedError(Exception):
    """The server refused a call; the text has its code and its reason."""


class Admin:
    """MLflow's user `admin`, over the REST API."""

    def __init__(self, address: str, password: str) -> None:
        self._address = address.rstrip("/")
        token = base64.b64encode(f"admin:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}", "Content-Type": "application/json"}

    def post(self, path: str, content: dict[str, Any]) -> dict[str, Any]:
        """One call; an empty answer where what it makes is there already."""
        return self._call(urllib.request.Request(
            f"{self._address}/api/{path}", json.dumps(content).encode(), self._headers, method="POST"
        ))  # fmt: skip

    def experiment_id(self, name: str) -> str:
        """The experiment, made where it is not there."""
        made = self.post("2.0/mlflow/experiments/create", {"name": name})
        if not made:
            query = urllib.parse.urlencode({"experiment_name": name})
            address = f"{self._address}/api/2.0/mlflow/experiments/get-by-name?{query}"
            made = self._call(urllib.request.Request(address, headers=self._headers))["experiment"]
        return str(made["experiment_id"])

    def _call(self, request: urllib.request.Request) -> dict[str, Any]:
        try:
            with urllib.request.urlopen(request, timeout=_SECONDS_MAX) as answer:
                found: dict[str, Any] = json.loads(answer.read() or b"{}")
                return found
        except urllib.error.HTTPError as error:
            reason = error.read().decode(errors="replace")
            if _EXISTS in reason:
                return {}
            raise RefusedError(f"{error.code} {reason}") from error


def set_up(admin: Admin, directory: Path, *, experiment: str = "zaslon", model: str = "zaslon") -> None:
    """Make what is missing: experiment, registered models, users with their password files, grants.

    The models are made here, because whoever makes one may do everything with it.
    """
    candidates = f"{model}-candidates"
    named = {"experiment": ("experiment", admin.experiment_id(experiment)),
             "candidates": ("registered_model", candidates), "served": ("registered_model", model)}  # fmt: skip
    for name in (candidates, model):
        admin.post("2.0/mlflow/registered-models/create", {"name": name})
    for user in USERS:
        password = _password(directory / user)
        admin.post("2.0/mlflow/users/create", {"username": user, "password": password})
    for user, what, permission in GRANTS:
        kind, resource = named[what]
        right = {"resource_type": kind, "resource_id": resource, "permission": permission}
        admin.post("3.0/mlflow/users/permissions/grant", {"username": user, **right})


def _password(path: Path) -> str:
    """The password in a file that only its owner reads; a new one where there is none."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600)
        path.write_text(secrets.token_urlsafe(24))
    return path.read_text().strip()


def _sends_in_clear(address: str) -> bool:
    """Plain http to another machine."""
    parts = urllib.parse.urlsplit(address)
    try:
        is_local = ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        is_local = parts.hostname == "localhost"
    return parts.scheme == "http" and not is_local


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("address")
    parser.add_argument("admin_password_file", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--experiment", default="zaslon")
    parser.add_argument("--model", default="zaslon", help="of what was promoted")
    given = parser.parse_args()
    if _sends_in_clear(given.address):
        parser.error(
            f"passwords would go to '{given.address}' unencrypted: name https://host, or run it on the server"
        )
    admin = Admin(given.address, given.admin_password_file.read_text().strip())
    set_up(admin, given.directory, experiment=given.experiment, model=given.model)


if __name__ == "__main__":
    main()
