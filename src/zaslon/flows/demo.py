"""Demo: a small simulated bank, dirty as the real one, through the whole loop."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import Any

from zaslon.flows.context import Context, Stopwatch
from zaslon.flows.run import RunReport, run
from zaslon.models.train import TrainSettings
from zaslon.simulate import SimulationReport, simulation_profile, write_simulation

# Real defects are rare; a small file shows each of them only at a multiple of its rate.
_DEFECTS_MULTIPLE = 60.0
_TERMINALS_PER_CUSTOMER = 0.1
_ROUNDS_MAX = 150  # five models are trained while somebody watches


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
    """Simulate, then run. Starts afresh in its own corner of the home."""
    home = context.home / "demo"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    corner = context.in_home(home)
    watch = Stopwatch()
    profile = simulation_profile(
        "mission", customers=customers, terminals=max(20, int(customers * _TERMINALS_PER_CUSTOMER)),
        defects=_DEFECTS_MULTIPLE,
    )  # fmt: skip
    raw = home / "transactions.txt"
    context.progress.start("simulate", None)
    with watch.stage("simulate"):
        simulation = write_simulation(
            profile, days, context.options.seed, raw, progress=context.progress.advance
        )
    settings = TrainSettings(
        seed=context.options.seed, threads=context.options.threads, rounds_max=_ROUNDS_MAX
    )
    report = run(corner, [str(raw)], train_settings=settings)
    report.seconds = {**watch.seconds, **report.seconds}
    report.paths["raw"] = str(raw)
    return DemoReport(simulation, report, _next_steps(corner, report))


def _next_steps(context: Context, report: RunReport) -> tuple[tuple[str, str], ...]:
    home = context.home
    return (
        ("Read the report in a browser:", report.paths["report"]),
        ("Recompute a decision from the log and compare it:", f"zaslon replay 1000 --home {home}"),
        ("See the features that the model saw:", f"zaslon features --home {home}"),
        ("Run it on your own file:", "zaslon run FILE --home my-bank"),
    )
