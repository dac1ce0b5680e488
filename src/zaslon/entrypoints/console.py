"""How results look in a terminal: tables, progress bars, errors. Nothing here decides anything."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from zaslon.domain.errors import ZaslonError

out = Console(soft_wrap=False)
err = Console(stderr=True)


class Bars:
    """Progress bars on standard error; one line a stage, with rows and time."""

    def __init__(self) -> None:
        self._bars = Progress(
            TextColumn("{task.description:<20}"), BarColumn(bar_width=30), MofNCompleteColumn(),
            TextColumn("rows"), TimeElapsedColumn(), console=err,
        )  # fmt: skip
        self._task: TaskID | None = None

    def start(self, stage: str, total: int | None) -> None:
        """A stage begins; the one before is done."""
        self._finish()
        self._task = self._bars.add_task(stage, total=total)

    def advance(self, steps: int) -> None:
        """Steps of the current stage are done."""
        if self._task is not None:
            self._bars.advance(self._task, steps)

    def _finish(self) -> None:
        if self._task is not None:
            done = self._bars.tasks[self._task].completed
            self._bars.update(self._task, total=done)

    def __enter__(self) -> Bars:
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
    table = Table(title=title, title_justify="left", header_style="bold")
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
        return f"{value:,.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    return "–" if value is None else str(value)


@contextmanager
def errors_as_text(as_json: bool) -> Iterator[None]:
    """Turn a `ZaslonError` into one clear message and its exit code."""
    try:
        yield
    except ZaslonError as error:
        if as_json:
            print_json(
                {"error": {"kind": type(error).__name__, "message": error.message, "hint": error.hint}}
            )
        else:
            err.print(f"[red]Error:[/] {error.message}", highlight=False, markup=True)
            if error.hint:
                err.print(error.hint, highlight=False, markup=False)
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt:
        err.print("Interrupted. What was finished is kept; the same command goes on from there.")
        raise SystemExit(130) from None
