"""The service's log: one JSON object a line, on standard error."""

from __future__ import annotations

import logging
import sys
import time
from typing import Any

import orjson

from zaslon.services.context import Silent


def log_line(now_seconds: float, level: str, content: dict[str, Any]) -> bytes:
    """One JSON object as a line of the log."""
    return orjson.dumps(
        {"time": round(now_seconds, 3), "level": level, **content}, option=orjson.OPT_APPEND_NEWLINE
    )


def write_lines(lines: bytes) -> None:
    """Write whole lines to standard error at once."""
    sys.stderr.buffer.write(lines)
    sys.stderr.buffer.flush()


def write_log(now_seconds: float, level: str, content: dict[str, Any]) -> None:
    """Write one line at once."""
    write_lines(log_line(now_seconds, level, content))


def log_as_json() -> None:
    """Log messages of libraries, from warnings on, as lines like our own."""
    logging.basicConfig(handlers=[_JsonLines()], level=logging.WARNING, force=True)


class LogProgress(Silent):
    """Warnings during long work, as lines of the log."""

    def warn(self, sentence: str) -> None:
        """Write one."""
        write_log(time.time(), "warning", {"message": sentence})


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Write one."""
        content: dict[str, Any] = {"message": record.getMessage(), "logger": record.name}
        if record.exc_info:
            content["exception"] = logging.Formatter().formatException(record.exc_info)
        write_log(record.created, record.levelname.lower(), content)
