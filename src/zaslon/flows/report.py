"""Reports: what a run found out, for people (HTML, plots) and for the run tracker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.time import day_text
from zaslon.flows.context import Context
from zaslon.flows.decide import DecideReport
from zaslon.flows.home import write_atomically
from zaslon.flows.train import Trained
from zaslon.intake import CleanReport
from zaslon.models.metrics import Evaluation
from zaslon.models.report import write_report
from zaslon.models.train import TrainSettings
from zaslon.monitoring.scorecard import Scorecard


def make_report(
    context: Context, trained: Trained, scorecard: Scorecard, by_delay: Mapping[str, Evaluation],
    cleaned: CleanReport, decided: DecideReport,
) -> dict[str, str]:  # fmt: skip
    """Write the HTML report and the scorecard as JSON; returns their paths by name."""
    reports = context.home / "reports"
    page = reports / "report.html"
    test = trained.samples.split.test
    write_report(
        page,
        model=trained.model,
        sample=trained.samples.test,
        score=trained.test_score,
        evaluation=trained.evaluation,
        thresholds=(trained.thresholds.review, trained.thresholds.block),
        scorecard=[
            (row.goal, row.target, row.reached, row.met, row.comment) for row in scorecard.rows
        ],
        by_delay=by_delay,
        facts={
            "Test period": f"{day_text(test[0])} … {day_text(test[1])}",
            "Model": trained.model.artefact_id,
            "Policy": trained.policy.hash,
            "Catalogue": context.catalogue.label,
            "Rows read": f"{cleaned.rows_in:,}",
            "Rows rejected": f"{cleaned.rows_in - cleaned.rows_clean:,}",
            "Decided in the test period": f"{decided.decisions:,}",
        },
        currency=context.catalogue.currency,
        minor_digits=context.catalogue.minor_digits,
    )
    card = reports / "scorecard.json"
    write_atomically(
        card, orjson.dumps(scorecard.to_json_dict(), option=orjson.OPT_INDENT_2)
    )
    return {
        "report": str(page), "scorecard": str(card), "model": str(trained.path),
        "clean": str(context.home / "clean"), "journal": str(context.home / "journal.db"),
    }  # fmt: skip


def log_to_tracker(
    context: Context, trained: Trained, settings: TrainSettings, paths: Mapping[str, str]
) -> dict[str, str]:
    """Log the run where a tracker is installed; returns where it stands."""
    tracker = context.run_tracker()
    if tracker is None:
        return {}
    metrics = {
        name: float(value)
        for name, value in trained.evaluation.to_json_dict().items()
        if isinstance(value, int | float)
    }
    params: dict[str, Any] = {**asdict(settings), "catalogue": context.catalogue.label}
    run_id = tracker.log_run(
        "zaslon run", params, metrics, [Path(paths["report"]), trained.path]
    )
    return {"mlflow": f"{context.home / 'mlflow'} (run {run_id})"}
