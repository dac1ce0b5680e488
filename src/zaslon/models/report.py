"""One HTML report: what a model does, for the head of risk, and where it comes from, for engineers.

Self-contained: pictures are inlined, nothing is loaded from anywhere. All text is escaped.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

from zaslon.domain.estimates import Estimate
from zaslon.domain.money import whole_text
from zaslon.models.metrics import Evaluation
from zaslon.models.model import Model
from zaslon.models.report_style import PICTURES, STYLE
from zaslon.system.durable import write_file

# (goal, target, reached, its status or None without a target, comment)
ScorecardRow = tuple[str, str, str, str | None, str]

_MEANING = {
    "pr_auc": ("PR-AUC (average precision)", "Precision, averaged over all recalls; chance gives the fraud rate."),
    "roc_auc": ("ROC-AUC", "How often a fraud scores higher than a good transaction; chance gives 0.5."),
    "recall_at_review": ("Recall", "Share of frauds stopped at the threshold in use."),
    "recall_by_amount_at_review": ("Recall by money", "Share of the frauds' money stopped."),
    "precision_at_review": ("Precision", "Share of what is stopped that is fraud."),
    "false_positive_rate_at_review": ("False-positive rate", "Share of good transactions stopped."),
    "recall_at_fpr_5pct": ("Recall at 5 % false positives", "What could be stopped if 5 % of good ones were."),
    "recall_at_fpr_1pct": ("Recall at 1 % false positives", "The same with 1 % of good ones stopped."),
    "recall_at_fpr_0.1pct": ("Recall at 0.1 % false positives", "The same with 1 good one in 1,000 stopped."),
    "recall_by_amount_at_fpr_1pct": ("Recall by money at 1 %", "Share of the frauds' money, 1 % of good ones stopped."),
    "card_precision_100": ("Card precision@100", "Of 100 customers called a day, the share that had a fraud."),
}  # fmt: skip


@dataclass(frozen=True)
class ReportContent:
    """Everything that a report shows.

    Attributes:
        title: its headline.
        model: the model.
        evaluation: on the test period.
        pictures: PNG bytes by name, from `plots.draw_all`.
        periods: (`trained on`, `2018-07-25 … 2018-07-31`) and so on.
        scorecard: business goals, targets and what was reached.
        by_delay: one row for each label delay: column heading → text, all with the same headings.
        notes: what the reader must know, one sentence each.
        warnings: what makes the figures doubtful; they come first.
        versions: name → version or hash.
        currency, minor_digits: of the money.
    """

    title: str
    model: Model
    evaluation: Evaluation
    pictures: Mapping[str, bytes] = field(default_factory=dict)
    periods: Sequence[tuple[str, str]] = ()
    scorecard: Sequence[ScorecardRow] = ()
    by_delay: Sequence[Mapping[str, str]] = ()
    notes: Sequence[str] = ()
    warnings: Sequence[str] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    currency: str = ""
    minor_digits: int = 2


def write_report(path: Path, content: ReportContent) -> Path:
    """Write `render_report` to `path`, whole or not at all; returns the path."""
    write_file(path, render_report(content).encode())
    return path


def render_report(content: ReportContent) -> str:
    """The report as one HTML text. Equal content gives equal text."""
    sections = [
        _warnings(content),
        _headline(content),
        _scorecard(content),
        _numbers(content),
        _picture_section("How well it ranks", ("precision_recall", "roc"), content),
        _picture_section("What a threshold is worth", ("money", "score_by_class"), content),
        _scenarios(content),
        _delays(content),
        _calibration(content),
        _picture_section("What it looks at", ("importance",), content),
        _origin(content),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(content.title)}</title><style>{STYLE}</style></head><body><main>"
        f"<h1>{escape(content.title)}</h1>{''.join(sections)}</main></body></html>\n"
    )


def _warnings(content: ReportContent) -> str:
    items = "".join(f'<li class="missed">{escape(warning)}</li>' for warning in content.warnings)
    return f"<h2>Read this first</h2><ul>{items}</ul>" if items else ""


def _headline(content: ReportContent) -> str:
    result, money = content.evaluation, content.evaluation.money
    rate = result["false_positive_rate_at_review"]
    sentences = [
        f"Of every 100 frauds this model stops {_per_hundred(result['recall_at_review'])}, "
        f"with {_percent(result['recall_by_amount_at_review'])} of their money.",
        f"It stops {_percent(rate)} of good transactions"
        + (f", 1 in {round(1 / rate):,}." if 0 < rate < 1 else "."),
        f"In 30 days that saves {_money(content, money.saved.value)} of {_money(content, money.fraud)} of fraud "
        f"and lets {_money(content, money.lost.value)} through.",
        f"Measured on {result.transactions:,.0f} transactions of {result.days} days with "
        f"{result.frauds:,} frauds among those scored, none of which the model has learned from.",
    ]
    notes = "".join(f"<li>{escape(note)}</li>" for note in content.notes)
    return f'<p class="lead">{escape(" ".join(sentences))}</p>' + (f"<ul>{notes}</ul>" if notes else "")


def _scorecard(content: ReportContent) -> str:
    if not content.scorecard:
        return ""
    marks = {
        "met": ("met", "✓ met"), "not_met": ("missed", "✗ not met"), "not_shown": ("open", "? not shown"),
        None: ("open", "– no target"),
    }  # fmt: skip
    rows = []
    for goal, target, reached, status, comment in content.scorecard:
        style, mark = marks[status]
        cells = "".join(f"<td>{escape(text)}</td>" for text in (goal, target, reached))
        rows.append(f'<tr>{cells}<td class="{style}">{mark}</td><td>{escape(comment)}</td></tr>')
    headings = ("goal", "target", "reached", "", "comment")
    return "<h2>Business goals</h2>" + _table(headings, rows, "goals")


def _numbers(content: ReportContent) -> str:
    result = content.evaluation
    rows = [
        _row(label, _value(result.headline[name]), _interval(result.headline[name]), meaning)
        for name, (label, meaning) in _MEANING.items()
        if name in result.headline and math.isfinite(result[name])
    ]
    rows += [
        _row(label, _money(content, estimate.value), _money_interval(content, estimate), meaning)
        for label, estimate, meaning in (
            ("Saved in 30 days", result.money.saved, "Amounts of the frauds that are stopped."),
            ("Lost in 30 days", result.money.lost, "Amounts of the frauds that are let through."),
        )
    ]
    explained = (
        f"<p>The interval holds the true value in 95 of 100 cases by chance of the sample alone "
        f"({result.replicates} bootstrap replicates). Frauds of one terminal or customer occur together, "
        "so the truth is somewhat wider.</p>"
    )
    return (
        "<h2>The numbers</h2>"
        + _table(("measure", "value", "95 % interval", "what it means"), rows, "numbers")
        + explained
    )


def _scenarios(content: ReportContent) -> str:
    rows = [
        _row(
            str(s.scenario) if s.scenario >= 0 else "unknown", f"{s.frauds:,.0f}", _percent(s.recall),
            _percent(s.recall_by_amount), _percent(s.recall_at_fpr_5pct),
            _money(content, s.lost_minor_per_month),
        )
        for s in content.evaluation.by_scenario
    ]  # fmt: skip
    if not rows:
        return ""
    headings = (
        "scenario", "frauds", "stopped", "of their money", "at 5 % false positives", "let through in 30 days",
    )  # fmt: skip
    text = (
        "<p>The numbers are those of the scenario that the data name. In simulated data and in the Fraud "
        "Detection Handbook's, 1 is a very large amount, 2 a terminal at which every payment is a fraud for "
        "four weeks, 3 a stolen card with which much more than usual is paid for two weeks.</p>"
    )
    return "<h2>By kind of fraud</h2>" + text + _table(headings, rows)


def _delays(content: ReportContent) -> str:
    if not content.by_delay:
        return ""
    rows = [_row(*line.values()) for line in content.by_delay]
    text = (
        "<p>The sooner a fraud is confirmed, the sooner the next one at the same place is recognised. "
        "The same model method, with labels known after different times:</p>"
    )
    return "<h2>What faster confirmation is worth</h2>" + text + _table(tuple(content.by_delay[0]), rows)


def _calibration(content: ReportContent) -> str:
    result = content.evaluation
    text = (
        f"<p>A score is meant to be a probability. The sum of all scores is "
        f"{result.expected_to_actual_frauds:.2f} times the number of frauds that came (1 is right); on "
        f"average a score is {100 * result.calibration_error:.3f} percentage points away from the share "
        f"of frauds among transactions scored like it (Brier score {result.brier:.5f}).</p>"
    )
    return "<h2>Whether a score means what it says</h2>" + text + _figures(("calibration",), content)


def _origin(content: ReportContent) -> str:
    facts = content.model.facts
    lines = [
        *content.periods,
        ("rows to train on", f"{facts.train_rows:,}, {facts.train_frauds:,} of them frauds"),
        ("model", content.model.artefact_id),
        ("catalogue", facts.catalogue_label),
        ("calibration", content.model.calibration.kind),
        ("review from", f"{content.evaluation.review:.6g}"),
        ("block from", f"{content.evaluation.block:.6g}"),
        *content.versions.items(),
        *((f"setting {name}", str(value)) for name, value in facts.settings.items()),
    ]
    return "<h2>Data and versions</h2>" + _table((), [_row(*line) for line in lines if line[1]])


def _picture_section(title: str, names: Sequence[str], content: ReportContent) -> str:
    figures = _figures(names, content)
    return f"<h2>{escape(title)}</h2>{figures}" if figures else ""


def _figures(names: Sequence[str], content: ReportContent) -> str:
    return "".join(
        f'<figure><img alt="{escape(PICTURES[name])}" '
        f'src="data:image/png;base64,{base64.b64encode(content.pictures[name]).decode()}">'
        f"<figcaption>{escape(PICTURES[name])}</figcaption></figure>"
        for name in names
        if name in content.pictures
    )


def _table(headings: Sequence[str], rows: Iterable[str], style: str = "plain") -> str:
    head = "".join(f"<th>{escape(h)}</th>" for h in headings)
    return f"<table class='{style}'>{f'<thead><tr>{head}</tr></thead>' if headings else ''}<tbody>{''.join(rows)}</tbody></table>"


def _row(*texts: str) -> str:
    return f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in texts)}</tr>"


def _value(estimate: Estimate) -> str:
    return f"{estimate.value:.4f}"


def _interval(estimate: Estimate) -> str:
    return f"{estimate.low:.4f} … {estimate.high:.4f}" if math.isfinite(estimate.low) else "–"


def _money_interval(content: ReportContent, estimate: Estimate) -> str:
    if not math.isfinite(estimate.low):
        return "–"
    return f"{whole_text(estimate.low, content.minor_digits)} … {_money(content, estimate.high)}"


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %" if math.isfinite(share) else "–"


def _per_hundred(share: float) -> str:
    return f"{100 * share:.0f}" if math.isfinite(share) else "an unknown number"


def _money(content: ReportContent, minor: float) -> str:
    return f"{whole_text(minor, content.minor_digits)} {content.currency}".strip()
