"""Alerts: a webhook, a program, or both."""

from __future__ import annotations

import subprocess
import urllib.request
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import ServerError

_TIMEOUT_SECONDS = 10.0


class AlertHooks:
    """`zaslon.ports.scheduling.Alerts`.

    Args:
        url: gets the alert as a JSON body; it may hold a secret, and is never shown.
        program: gets it on standard input.
    """

    def __init__(
        self, url: str | None, program: Path | None, timeout_seconds: float = _TIMEOUT_SECONDS
    ) -> None:
        self._url, self._program, self._timeout_seconds = url, program, timeout_seconds

    def send(self, alert: Mapping[str, Any]) -> None:
        """Send it to both; one that fails does not keep it from the other."""
        content = orjson.dumps(alert)
        problems = []
        for send in (self._post, self._run):
            try:
                send(content)
            except (OSError, ValueError, HTTPException, subprocess.SubprocessError) as error:
                problems.append(self._without_url(error))
        if problems:
            raise ServerError(f"The alert did not arrive: {'; '.join(problems)}.")

    def _post(self, content: bytes) -> None:
        if self._url is None:
            return
        request = urllib.request.Request(  # noqa: S310  the settings allow http and https
            self._url, content, {"Content-Type": "application/json"}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=self._timeout_seconds):  # noqa: S310
            pass

    def _run(self, content: bytes) -> None:
        if self._program is None:
            return
        done = subprocess.run(  # noqa: S603  named by the settings
            [self._program], input=content, timeout=self._timeout_seconds, check=False, capture_output=True
        )
        if done.returncode:
            message = done.stderr.decode("utf-8", "replace").strip()[-200:]
            raise OSError(f"the program ended with {done.returncode} {message}".strip())

    def _without_url(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}"
        return text if self._url is None else text.replace(self._url, "the webhook")
