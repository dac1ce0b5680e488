"""How results look in a terminal: tables, progress bars, errors. Nothing here decides anything."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from zaslon.domain.errors import SystemRefusedError, ZaslonError

# Typer brings a Click of its own in some versions; its UsageError is the parent of BadParameter.
UsageError: type[Exception] = typer.BadParameter.__mro__[1]
INTERRUPTED = 130  # the convention of shells: 128 plus the signal's number
_SPACE_HINT = "Look at the free space, the memory and the permissions."
_INTERRUPTED_HINT = "Nothing is half written; run the same command again."

out = Console(soft_wrap=False)
err = Console(stderr=True)


class Quiet:
    """No bars: for machines. Warnings still go to standard error."""

    def start(self, stage: str, total: int | None, unit: str = "rows") -> None:
        """Nothing."""

    def advance(self, steps: int) -> None:
        """Nothing."""

    def warn(self, sentence: str) -> None:
        """Warn people on standard error, apart from the JSON object."""
        err.print("[yellow]Warning:[/]", escape(sentence), highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to clean up."""


class Bars(Quiet):
    """Progress bars on standard error; one line a stage, with steps and time."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<20}"), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn("{task.fields[unit]}"), TimeElapsedColumn(), console=err,
        )  # fmt: skip
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None, unit: str = "rows") -> None:
        """A stage begins; the one before is done."""
        self._finish()
        self._task = self._bars.add_task(stage, total=total, unit=unit)

    def advance(self, steps: int) -> None:
        """Steps of the current stage are done."""
        if self._task is not None:
            self._bars.advance(self._task, steps)

    def _finish(self) -> None:
        if self._task is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, total=done)

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._finish()
        self._bars.stop()


def print_json(content: Mapping[str, Any]) -> None:
    """One JSON object on standard output, NaN as null, nothing else."""
    sys.stdout.buffer.write(
        orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_APPEND_NEWLINE)
    )
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A small table; numbers to the right."""
    table = Table(title=escape(title), title_justify="left", header_style="bold")
    for index, name in enumerate(columns):
        is_number = bool(rows) and isinstance(rows[0][index], int | float)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_cell(value) for value in row))
    out.print(table)


def _cell(value: Any) -> str:
    if isinstance(value, bool):
        return "[green]yes[/]" if value else "[red]no[/]"
    if isinstance(value, float):
        return "–" if math.isnan(value) else f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else escape(str(value))


def guarded(work: Callable[[], int], *, as_json: bool) -> int:
    """Do the work and give its exit code; an expected failure becomes a sentence and a code.

    The codes are listed in `docs/reference/commands.md`. Any other exception is a bug: it is raised.
    """
    try:
        code = work()
    except ZaslonError as error:
        kind = type(error).__name__
        return _failed(kind, error.message, error.hint, error.exit_code, as_json, error.warnings)
    except UsageError as error:
        if not str(error):  # no arguments: the help was printed, which is enough
            return ZaslonError.exit_code
        return _failed(*_misused(error), ZaslonError.exit_code, as_json)
    except (OSError, MemoryError) as error:
        kind, code = SystemRefusedError.__name__, SystemRefusedError.exit_code
        message = str(error) or "not enough memory"
        return _failed(kind, f"The machine refused: {message}.", _SPACE_HINT, code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # Typer turns Ctrl-C into a code without a message
        return _failed("Interrupted", "Interrupted.", _INTERRUPTED_HINT, INTERRUPTED, as_json)
    return code


def _misused(error: Any) -> tuple[str, str, str]:
    """(kind, message, hint) for a wrong command line."""
    command = error.ctx.command_path if error.ctx is not None else "zaslon"
    return (
        "UsageError",
        error.format_message().rstrip(".") + ".",
        f"`{command} --help` shows what is possible.",
    )


def _discard_output() -> None:
    """Drop what standard output still buffers: flushing it again at exit would replace our exit code by 120."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _failed(
    kind: str, message: str, hint: str | None, code: int, as_json: bool,
    warnings: Sequence[Mapping[str, str]] | None = None,
) -> int:  # fmt: skip
    if as_json:
        found = {} if warnings is None else {"warnings": list(warnings)}
        try:
            print_json(
                {"error": {"kind": kind, "message": message, "hint": hint, "exit_code": code}, **found}
            )
        except OSError:  # standard output may be what failed; standard error still has the message
            _discard_output()
    for warning in warnings or ():
        sentence = escape(f"{warning['message']} {warning['hint']}")
        err.print("[yellow]Warning:[/]", sentence, highlight=False, soft_wrap=True)
    err.print("[red]Error:[/]", escape(message), highlight=False, soft_wrap=True)
    if hint:
        err.print(escape(hint), highlight=False, soft_wrap=True)
    return code
