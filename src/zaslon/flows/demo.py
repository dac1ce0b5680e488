"""Demo: a small simulated bank, dirty as the real one, through the whole loop."""

from __future__ import annotations

import shutil
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zaslon.domain.errors import InputError
from zaslon.domain.outcomes import Action, Decision, Outcome
from zaslon.flows.run import RunReport, run
from zaslon.models.training import TrainSettings
from zaslon.services.context import JOBS, KEY, LOCK, Context, Stopwatch
from zaslon.simulate import SimulationReport, simulation_profile, write_simulation

# Real defects are rare; a small file shows each of them only at a multiple of its rate.
_DEFECTS_MULTIPLE = 60.0
_TERMINALS_PER_CUSTOMER = 0.1
_ROUNDS_MAX = 150  # five models are trained while somebody watches
_MARK = "_demo"  # an empty file in a home that a demo may empty


@dataclass(frozen=True)
class DemoReport:
    """The simulated file, the run on it, and what to try next."""

    simulation: SimulationReport
    run: RunReport
    next_steps: tuple[tuple[str, str], ...]

    def to_json_dict(self) -> dict[str, Any]:
        """The run's values and the simulation's."""
        return {"simulation": self.simulation.to_json_dict(), **self.run.to_json_dict()}


def demo(context: Context, customers: int, days: int) -> DemoReport:
    """Simulate, then run. Starts over: the output of an earlier demo in this home is removed.

    Raises:
        InputError: the home holds something that a demo did not create.
    """
    home = context.home
    watch = Stopwatch()
    profile = simulation_profile(
        "mission", customers=customers, terminals=max(20, int(customers * _TERMINALS_PER_CUSTOMER)),
        defects=_DEFECTS_MULTIPLE,
    )  # fmt: skip
    _empty(home)
    raw = home / "transactions.txt"
    context.progress.start("simulate", None)
    with watch.stage("simulate"):
        simulation = write_simulation(
            profile, days, context.options.seed, raw, progress=context.progress.advance
        )
    settings = TrainSettings(
        seed=context.options.seed, threads=context.options.threads, rounds_max=_ROUNDS_MAX
    )
    report = run(context, [str(raw)], train_settings=settings)
    report.seconds = {**watch.seconds, **report.seconds}
    report.paths["raw"] = str(raw)
    return DemoReport(simulation, report, _next_steps(context, report))


def _empty(home: Path) -> None:
    found = [path for path in home.iterdir() if path.name not in (LOCK, KEY, JOBS, _MARK)]
    if found and not (home / _MARK).exists():
        raise InputError(
            f"'{home}' holds something that a demo did not create, such as '{found[0].name}'; it is not removed.",
            hint="Name another home with --home, or remove it yourself.",
        )
    (home / _MARK).touch()
    for path in found:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _a_stopped_one(context: Context) -> int:
    """The position of the first decision that was not to allow, or of the first outcome."""
    with closing(context.open_journal_for_reading()) as journal:
        return next((found.position for found in journal.outcomes() if _is_block(found.outcome)), 0)


def _is_block(outcome: Outcome) -> bool:
    return isinstance(outcome, Decision) and outcome.action == Action.BLOCK


def _next_steps(context: Context, report: RunReport) -> tuple[tuple[str, str], ...]:
    home = context.home
    position = _a_stopped_one(context)
    return (
        ("Read the report in a browser:", report.paths["report"]),
        (
            "See why a payment was blocked, recomputed from the log:",
            f"zaslon replay {position} --home {home}",
        ),
        ("See the features that the model saw:", f"zaslon features --home {home}"),
        ("Run it on your own file:", "zaslon run FILE --home my-bank"),
    )
