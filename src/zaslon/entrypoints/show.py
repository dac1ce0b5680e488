"""Results as tables for people."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.markup import escape

from zaslon.entrypoints.console import out, print_table
from zaslon.flows.reconcile import Reconciled
from zaslon.simulate import SimulationReport

# A list that may be long is cut after so many.
_NAMED_MAX = 10


def simulation_report(report: SimulationReport) -> None:
    """Rows, frauds and defects written."""
    out.print(f"{report.rows:,} rows of {report.days} days → {escape(report.path)}", soft_wrap=True)
    rows = max(report.rows, 1)
    frauds = [[f"scenario {k}", v, f"{v / rows:.3%}"] for k, v in report.frauds.items()]
    print_table("Frauds", ("kind", "rows", "share"), frauds)
    if any(report.defects.values()):
        print_table("Defects put in", ("defect", "rows"), [[k, v] for k, v in report.defects.items()])


def clean_report(report: Any) -> None:
    """Rows in = clean + rejected, by reason; where only new files were cleaned, of these."""
    values = report.to_json_dict()
    if not values.get("news", True):
        out.print(escape(report.no_news), highlight=False, soft_wrap=True)
        return
    rejected: dict[str, int] = values["rows_rejected"]
    rows: list[list[Any]] = [["clean", values["rows_clean"]]]
    rows += [[f"rejected: {reason}", count] for reason, count in sorted(rejected.items())]
    rows.append(["in", values["rows_in"]])
    if values.get("headers_inside"):
        rows.append(["repeated headers, not rows", values["headers_inside"]])
    print_table("Cleaning: every row has one outcome", ("outcome", "rows"), rows)
    _warnings(values)
    if values["answers_changed"]:
        out.print(f"{values['answers_changed']:,} answers came or changed with a repeat of their transaction")
    flags = {k: v for k, v in values.get("flags", {}).items() if v}
    if flags:
        print_table("Kept and flagged", ("flag", "rows"), [[k, v] for k, v in flags.items()])


def _warnings(values: dict[str, Any]) -> None:
    for warning in values.get("warnings", []):
        sentence = escape(f"{warning['message']} {warning['hint']}")
        out.print(f"[yellow]Warning:[/] {sentence}", highlight=False, soft_wrap=True)


def features_report(report: Any) -> None:
    """What was written, and the memory of the history."""
    out.print(
        f"{report.rows:,} rows of {len(report.days)} days, {len(report.features)} features"
        f" → {escape(report.path)}",
        soft_wrap=True,
    )
    size = "" if report.bytes_per_event is None else f" at {report.bytes_per_event:.1f} bytes each"
    out.print(f"{report.remembered:,} transactions remembered{size}")


_METRICS = (
    ("ROC-AUC", "roc_auc"), ("PR-AUC", "pr_auc"), ("Recall", "recall"), ("Precision", "precision"),
    ("False-positive rate", "false_positive_rate"), ("Card precision@100", "card_precision_100"),
)  # fmt: skip


def _metrics(values: dict[str, Any]) -> None:
    intervals = values.get("intervals") or {}
    rows = []
    for name, key in _METRICS:
        if not math.isfinite(values.get(key, math.nan)):
            continue
        low_high = intervals.get(key)
        interval = f"{low_high[0]:.4f} … {low_high[1]:.4f}" if low_high else None
        rows.append([name, float(values[key]), interval])
    print_table("Test period", ("metric", "value", "95 % interval"), rows)


_COUNTED = ("first", "last", "days", "frauds", "transactions")


def _periods(values: dict[str, Any]) -> None:
    """Which days figures are from, what these hold, and why they are so many."""
    periods = values["periods"]
    rows = [[name, *(period[key] for key in _COUNTED)] for name, period in periods.items()]
    print_table("Periods", ("period", "from", "to", "days", "frauds", "transactions"), rows)
    _lengths(periods)


def _lengths(periods: dict[str, Any]) -> None:
    for name, period in periods.items():
        out.print(f"  Length of {name}: {period['length']}.", highlight=False)


def train_report(report: Any) -> None:
    """The periods, and metrics of the test period."""
    values = report.to_json_dict()
    _warnings(values)
    _periods(values)
    _metrics(values)
    for sentence in values.get("limits", []):
        out.print(f"  {sentence}", highlight=False)
    if report.gated is not None:
        gated(report.gated)
    _paths(values.get("paths", {}))


_VERDICTS = {
    "first": "There is no champion yet",
    "better": "[green]B is better[/]",
    "not_shown": "B is not shown to be better",
    "worse": "[red]B is worse[/]",
    "not_enough_evidence": "Not enough evidence",
}
_COMPARED = (
    ("ROC-AUC", "roc_auc", ".4f"), ("PR-AUC", "pr_auc", ".4f"), ("recall", "recall", ".4f"),
    ("loss", "loss_minor_per_month", ",.0f"),
)  # fmt: skip


def comparison(report: Any) -> None:
    """Both models side by side, and the verdict on the second."""
    values = report.to_json_dict()
    models = values["models"]
    _warnings(values)
    out.print(f"A {models['a'] or 'none'}, B {models['b']}", highlight=False)
    rows = [[name, *_compared(values[key], form)] for name, key, form in _COMPARED]
    if values["period"] is not None:
        title = f"{values['period']}: {values['transactions']:,} transactions, {values['frauds']:,} frauds"
        print_table(title, ("measure", "A", "B", "B − A", "95 % from", "to", "p"), rows)
        _lengths(values["periods"])
        at_most = f"at most {values['false_positive_rate_max']:.1%} of good transactions are stopped"
        out.print(f"  Recall, and loss in 30 days in minor units: while {at_most}.", highlight=False)
    roc_auc = values["roc_auc"]
    if roc_auc["delong_p"] is not None:
        out.print(f"  DeLong's test of ROC-AUC: p {_p(roc_auc['delong_p'])}.", highlight=False)
        out.print(
            f"  t-test over {values['replicates']:,} replicates: p {_p(roc_auc['t_test_p'])}. It falls with their "
            "number and decides nothing.",
            highlight=False,
        )
    out.print(f"[bold]{_VERDICTS[values['verdict']]}.[/]")
    for reason in values["reasons"]:
        out.print(f"  {reason}", highlight=False)


def live_comparison(report: Any) -> None:
    """What champion and challenger have decided beside each other, and the verdict on the challenger."""
    values = report.to_json_dict()
    models = values["models"]
    out.print(f"A {models['a']}, B {models['b']}", highlight=False)
    forms = (*_COMPARED, ("false-positive rate", "false_positive_rate", ".4f"))
    rows = [[name, *_compared(values[key], form)] for name, key, form in forms]
    title = (
        f"{values['days']} days: {values['transactions']:,} transactions, {values['frauds']:,} known frauds "
        f"in {values['series']:,} series, {values['good']:,} old enough to be good"
    )
    print_table(title, ("measure", "A", "B", "B − A", "95 % from", "to", "p"), rows)
    out.print(
        "  Recall and loss: with the thresholds and rules of each. Recall is the mean over series of frauds, and its "
        "interval holds at every look; those of ROC-AUC and PR-AUC hold for a single look and decide nothing.",
        highlight=False,
    )
    _warnings(values)
    out.print(f"[bold]{_VERDICTS[values['verdict']]}.[/]")
    for reason in values["reasons"]:
        out.print(f"  {reason}", highlight=False)


def _compared(measure: dict[str, Any], form: str) -> list[str]:
    figures = [measure["a"], measure["b"]]
    changes = [measure["difference"], *(measure["interval"] or (None, None))]
    return [
        *("–" if figure is None else f"{figure:{form}}" for figure in figures),
        *("–" if change is None else f"{change:{'+' + form}}" for change in changes),
        "–" if measure["p"] is None else _p(measure["p"]),
    ]


def _p(p: float) -> str:
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"


def retrained(report: Any) -> None:
    """News, verdict, guards and what became of the challenger."""
    values = report.to_json_dict()
    if report.gated is None:
        out.print(report.no_news, highlight=False, soft_wrap=True)
        return
    out.print(f"New days: {values['news_days']}. Learned from {values['window']}.", highlight=False)
    _metrics(values["trained"])
    gated(report.gated)
    _paths(values["paths"])


def gated(found: Any) -> None:
    """The guards, the verdict with its reasons, and whether the model that was trained serves."""
    values = found.to_json_dict()
    if values["refusals"] or found.champion is not None:
        guards(values["guards"])
    else:
        out.print(
            f"Every guard is kept; nothing to check for {', '.join(values['not_checked'])}.", highlight=False
        )
    out.print(f"[bold]{_VERDICTS[values['verdict']].replace('B is', 'The challenger is')}.[/]")
    for reason in [*values["reasons"], *values["refusals"]]:
        out.print(f"  {reason}", highlight=False)
    out.print(f"[bold]{found.outcome}[/]", highlight=False)
    if not found.promoted and (found.another_serves or found.champion is None):
        out.print(
            f"  `zaslon promote {found.model} --unguarded` lets it serve all the same, and the ledger says so.",
            highlight=False,
        )


def guards(found: Sequence[Mapping[str, Any]]) -> None:
    """Every guard with its number and its limit."""
    rows = [
        [
            g["name"],
            "–" if g["value"] is None else f"{g['value']:,.4g}",
            f"{g['limit']:,.4g}",
            "not checked" if g["value"] is None and g["passed"] else g["passed"],
            g["detail"],
        ]
        for g in found
    ]
    print_table("Guards", ("guard", "value", "limit", "kept", "detail"), rows)
    unknown = [g["name"] for g in found if g["value"] is None and g["passed"]]
    if unknown:
        out.print(
            f"[yellow]Not checked[/], for want of anything to measure: {', '.join(unknown)}.", highlight=False
        )


def _decided(values: dict[str, Any]) -> None:
    actions = values["actions"]
    out.print(
        f"Decided {values['decisions']:,} transactions at {values['decisions_per_second']:,.0f}/s: "
        + ", ".join(f"{count:,} {action}" for action, count in actions.items())
    )
    if values["records_rejected"]:
        refused = [[reason, count] for reason, count in values["records_rejected"].items()]
        print_table("Rejected by the engine, each with its reason", ("reason", "records"), refused)
    if values["rules_fired"]:
        fired = [[rule, count] for rule, count in values["rules_fired"].items()]
        print_table("Rules that fired", ("rule", "transactions"), fired)


def score_report(report: Any) -> None:
    """Rows cleaned and decided."""
    values = report.to_json_dict()
    clean_report(report.clean)
    _decided(values)
    if values["records_already_done"]:
        out.print(f"{values['records_already_done']:,} records of this source already had their outcomes")
    _labels(values)
    _paths(values["paths"])


def _labels(values: dict[str, Any]) -> None:
    """Answers in the log, and those that are not there yet."""
    if values["labels"] or values["labels_to_come"]:
        later = f"; {values['labels_to_come']:,} become known later and are not in the log"
        out.print(f"{values['labels']:,} labels of this source" + (later if values["labels_to_come"] else ""))


def label_report(report: Any) -> None:
    """Labels taken and refused."""
    out.print(f"{report.labels:,} labels taken")
    if report.rejected:
        print_table("Refused", ("reason", "labels"), [[k, v] for k, v in report.rejected.items()])
        first = [[rejection.position, rejection.detail] for rejection in report.first_rejected]
        print_table("The first of them", ("log position", "what is wrong"), first)


_STATUS = {"met": "met", "not_met": "not met", "not_shown": "not shown", None: ""}


def scorecard(values: dict[str, Any]) -> None:
    """What makes the figures doubtful, then each goal with its target and what was reached."""
    _warnings(values)
    rows = [
        [row["goal"], row["target"], row["reached"], _STATUS[row["status"]], row["comment"]]
        for row in values["scorecard"]
    ]
    print_table("Scorecard of the test period", ("goal", "target", "reached (95 %)", "status", "why"), rows)
    if values.get("label_delay"):
        rows = [
            [delay, row["recall"], row["pr_auc"], row["roc_auc"]]
            for delay, row in values["label_delay"].items()
        ]
        print_table(
            "What faster confirmation is worth", ("labels after", "recall", "PR-AUC", "ROC-AUC"), rows
        )


def run_report(report: Any) -> None:
    """The whole run."""
    values = report.to_json_dict()
    clean_report(report.clean)
    _periods(values)
    _metrics(values)
    _decided(values)
    _labels(values)
    scorecard(values)
    gated(report.gated)
    _seconds(values["seconds"])
    _paths(values["paths"])


def demo_report(report: Any) -> None:
    """The run, and what to try next."""
    run_report(report.run)
    out.print("\n[bold]What to try next[/]")
    for sentence, command in report.next_steps:
        out.print(f"  {sentence}\n    [bold]{escape(as_called(command))}[/]", highlight=False, soft_wrap=True)


def as_called(command: str) -> str:
    """A command as it can be typed here: after `make demo` the program is not on the PATH."""
    called = Path(sys.argv[0])
    if not command.startswith("zaslon ") or called.name != "zaslon" or shutil.which("zaslon"):
        return command
    here = called.relative_to(Path.cwd()) if called.is_relative_to(Path.cwd()) else called
    return f"{here}{command.removeprefix('zaslon')}"


def _seconds(seconds: dict[str, float]) -> None:
    rows = [[stage, value] for stage, value in seconds.items()]
    rows.append(["all", round(sum(seconds.values()), 3)])
    print_table("Seconds by stage", ("stage", "seconds"), rows)


def _paths(paths: dict[str, str]) -> None:
    for name, path in paths.items():
        out.print(f"{name + ':':<11} {escape(path)}", highlight=False, soft_wrap=True)


def replayed(replayed: Any) -> None:
    """The decision, and whether it came out the same."""
    out.print_json(replayed.recorded.decode())
    if replayed.identical:
        out.print(
            f"Position {replayed.position}: recomputed from the log, [green]identical byte for byte[/]."
        )
    else:
        out.print(f"Position {replayed.position}: [red]recomputed differently[/]:")
        out.print_json(replayed.recomputed.decode())


def found_decisions(found: Any) -> None:
    """A line for each decision, and how to see the next page."""
    content = found.to_json_dict()
    columns = ("position", "transaction_id", "event_time", "action", "score")
    rows = [[decision[column] for column in columns] for decision in content["decisions"]]
    print_table(f"Decisions about this {found.entity}", columns, rows)
    if content["next"] is not None:
        out.print(f"There may be older ones: --before {content['next']}")


def reconciled(found: Reconciled) -> None:
    """Records by outcome, what is missing or double, and whether the log is complete."""
    rows = [["decision", found.decisions], ["label", found.labels]]
    rows += [["change of model or policy", found.changes]] if found.changes else []
    rows += [[f"rejected: {reason}", count] for reason, count in found.rejections.items()]
    rows += [["none", len(found.without_outcome)], ["all records", found.records]]
    print_table("The log's records by outcome", ("outcome", "records"), rows)
    if found.degraded:
        degradation = [[what, count] for what, count in found.degraded.items()]
        print_table("Left out for lack of time", ("what", "decisions"), degradation)
    if found.sent:
        out.print(f"{found.sent:,} transactions sent, {len(found.unanswered):,} of them unanswered")
    _named("Records without an outcome, by position", found.without_outcome)
    _named("Transactions decided more than once", found.decided_twice)
    _named("Transactions sent, and neither decided nor rejected", found.unanswered)
    _named(
        "Transactions sent, and not checkable: not decided, and the bytes of that many rejected records have left"
        " the log", found.not_checkable,
    )  # fmt: skip
    out.print(
        "[green]Complete: nothing is missing or double.[/]" if found.is_whole else "[red]Not complete.[/]"
    )


def _named(title: str, found: Sequence[int | str]) -> None:
    """The first of them and the number of the others; nothing for an empty list."""
    more = f" and {len(found) - _NAMED_MAX:,} more" if len(found) > _NAMED_MAX else ""
    if found:
        named = escape(", ".join(map(str, found[:_NAMED_MAX])))
        out.print(f"[red]{title}:[/] {named}{more}", highlight=False, soft_wrap=True)


def checks(found: Sequence[Any]) -> None:
    """What the doctor found."""
    rows = [[check.name, check.is_ok, check.detail] for check in found]
    print_table("Checks", ("what", "fine", "detail"), rows)
