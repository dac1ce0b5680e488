"""Reports: what a run found out, for people (HTML, plots)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson

from zaslon import __version__
from zaslon.intake import CleanReport
from zaslon.models.metrics import Evaluation
from zaslon.models.plots import draw_all
from zaslon.models.report import ReportContent, render_report, write_report
from zaslon.models.time_split import Period
from zaslon.monitoring.data_warnings import DataWarning
from zaslon.monitoring.scorecard import Scorecard
from zaslon.services.context import Context
from zaslon.services.decision_loop import DecideReport
from zaslon.services.model_training import Trained, evaluation_values
from zaslon.system.durable import write_file

_NAMED_MAX = 10
_DELAY_COLUMNS = {
    "recall": "recall", "precision": "precision", "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC",
}  # fmt: skip


def make_report(
    context: Context, trained: Trained, scorecard: Scorecard, by_delay: Mapping[str, Evaluation],
    cleaned: CleanReport, decided: DecideReport, warnings: Sequence[DataWarning], outcome: str,
) -> dict[str, str]:  # fmt: skip
    """Write the HTML report, its pictures and the scorecard as JSON; returns their paths by name.

    `outcome`: whether the model serves, in a sentence.
    """
    reports = context.home / "reports"
    pictures = _pictures(context, trained)
    for name, content in pictures.items():
        write_file(reports / "plots" / f"{name}.png", content)
    page = write_report(
        reports / "report.html",
        replace(
            _content(context, trained, scorecard, by_delay, pictures),
            notes=[outcome, *_notes(context, trained, cleaned, decided)],
            warnings=[*(f"{warning.message} {warning.hint}" for warning in warnings), *_left_out(trained)],
        ),
    )
    card = reports / "scorecard.json"
    write_file(card, orjson.dumps(scorecard.to_json_dict(), option=orjson.OPT_INDENT_2))
    return {
        "report": str(page), "plots": str(reports / "plots"), "scorecard": str(card),
        "model": str(trained.path), "clean": str(context.home / "clean"),
        "journal": str(context.home / context.log / "journal.db"),
    }  # fmt: skip


def report_files(paths: Mapping[str, str]) -> dict[str, bytes]:
    """What `make_report` has written at these paths: contents by file name."""
    found = [Path(paths["report"]), Path(paths["scorecard"]), *Path(paths["plots"]).glob("*.png")]
    root = Path(paths["report"]).parent
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(found)}


def training_report(context: Context, trained: Trained) -> dict[str, bytes]:
    """The HTML report of a model on its test period alone, and its pictures; contents by file name."""
    pictures = _pictures(context, trained)
    page = render_report(_of_model(context, trained, pictures))
    return {"report.html": page.encode(), **{f"plots/{name}.png": png for name, png in pictures.items()}}


def _pictures(context: Context, trained: Trained) -> dict[str, bytes]:
    test, evaluation = trained.test, trained.evaluation
    return draw_all(
        trained.test_score, test.is_fraud, test.amount_minor, test.weight.astype(np.float64),
        days=evaluation.days, bins=evaluation.calibration, importance=trained.model.importance(),
        thresholds={"review": evaluation.review, "block": evaluation.block},
        currency=context.catalogue.currency, minor_digits=context.catalogue.minor_digits,
    )  # fmt: skip


def _content(
    context: Context, trained: Trained, scorecard: Scorecard, by_delay: Mapping[str, Evaluation],
    pictures: Mapping[str, bytes],
) -> ReportContent:  # fmt: skip
    return replace(
        _of_model(context, trained, pictures),
        scorecard=[(r.goal, r.target, r.reached, r.status, r.comment) for r in scorecard.rows],
        by_delay=_delay_rows(by_delay),
    )


def _of_model(context: Context, trained: Trained, pictures: Mapping[str, bytes]) -> ReportContent:
    split = trained.split
    return ReportContent(
        title="What the fraud model is worth",
        model=trained.model,
        evaluation=trained.evaluation,
        pictures=pictures,
        periods=[
            ("trained on", _period(split.train)), ("validated on", _period(split.validation)),
            ("tested on", _period(split.test)),
        ],
        warnings=_left_out(trained),
        versions={"Zaslon": __version__, "policy": trained.policy.hash},
        currency=context.catalogue.currency,
        minor_digits=context.catalogue.minor_digits,
    )  # fmt: skip


def _period(period: Period) -> str:
    """Days, what they hold, and why they are so many."""
    return (
        f"{period}: {len(period)} days with {period.frauds:,} frauds among {period.transactions:,} transactions; "
        f"length: {period.length_in_words}"
    )


def _delay_rows(by_delay: Mapping[str, Evaluation]) -> list[dict[str, str]]:
    rows = []
    for delay, evaluation in by_delay.items():
        values = evaluation_values(evaluation)
        row = {"labels after": delay}
        row |= {heading: _figure(values[name]) for name, heading in _DELAY_COLUMNS.items()}
        rows.append(row)
    return rows


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.3f}"


def _left_out(trained: Trained) -> list[str]:
    """What training and test lack, if anything."""
    ids = [str(named) for named in trained.left_out]
    if not ids:
        return []
    more = f" and {len(ids) - _NAMED_MAX:,} more" if len(ids) > _NAMED_MAX else ""
    return [
        "Transactions left out of training and test, themselves or their labels, because they break Zaslon's own"
        f" code: {len(ids):,} ({', '.join(ids[:_NAMED_MAX])}{more}). Please report the warnings of this run."
    ]


def _notes(context: Context, trained: Trained, cleaned: CleanReport, decided: DecideReport) -> list[str]:
    currency = f" (money in {context.catalogue.currency})"
    rejected = cleaned.rows_in - cleaned.rows_clean
    return [
        f"{cleaned.rows_in:,} rows were read and {rejected:,} of them rejected, each with a named reason.",
        f"{decided.decisions:,} transactions of the test period were decided by the engine, in order of "
        "time, each with the labels that had arrived by then.",
        "The thresholds were chosen earlier, on the validation period"
        f"{currency}: " + " ".join(limit.sentence for limit in trained.thresholds.limits),
    ]
