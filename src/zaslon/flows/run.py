"""Run: a raw file in; clean data, a proven model, decisions of the last days and a scorecard out."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any

from zaslon.domain.errors import DataError
from zaslon.domain.ledger import RUN
from zaslon.domain.time import SECONDS_PER_DAY, day_text
from zaslon.engine import Engine
from zaslon.flows.clean import clean
from zaslon.flows.gate import Gated, pass_gate
from zaslon.intake import CleanReport, clean_days, read_clean_day
from zaslon.labels.feedback import DelayedLabels
from zaslon.models.dataset import Days
from zaslon.models.metrics import Evaluation
from zaslon.models.training import TrainSettings
from zaslon.monitoring.data_warnings import DataWarning
from zaslon.monitoring.scorecard import Goals, Reached, Scorecard, make_scorecard
from zaslon.services.context import Context, Stopwatch
from zaslon.services.decision_loop import DecideReport, decide_records, records_of_days
from zaslon.services.featurising import Day
from zaslon.services.home import engine_at, keep_policy
from zaslon.services.logs import discard_new_log, has_records_of, new_log, put_in_use
from zaslon.services.model_training import (
    Trained,
    evaluate_sample,
    evaluation_values,
    fit,
    train_and_evaluate,
    trained_values,
)
from zaslon.services.poison import guarded
from zaslon.services.retention import forget_old_originals
from zaslon.services.run_report import make_report, report_files
from zaslon.services.run_warnings import (
    check_rows,
    check_samples,
    noted,
    rejected_rows,
    warnings_of_rows,
    warnings_of_samples,
)
from zaslon.services.samples import Samples, collect_samples, rows_of_day, time_split
from zaslon.services.training_record import publish_training

DELAYS_COMPARED_SECONDS = (0, 6 * 3600, 86_400, 3 * 86_400, 7 * 86_400)


@dataclass
class RunReport:
    """Everything that a run found out; `to_json_dict` uses the names of every command.

    `gated`: whether the model serves. `decided`: by this model, whether it serves or not.

    `labels_to_come`: answers in the files that become known after their last day. `warnings`: what makes its
    figures doubtful.
    """

    clean: CleanReport
    trained: Trained
    gated: Gated
    decided: DecideReport
    labels_to_come: int
    scorecard: Scorecard
    by_delay: dict[str, Evaluation]
    seconds: dict[str, float]
    peak_mib: dict[str, int]
    warnings: tuple[DataWarning, ...] = ()
    paths: dict[str, str] = field(default_factory=dict)

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        cleaned = self.clean.to_json_dict()
        return {
            **{k: cleaned[k] for k in ("rows_in", "rows_clean", "rows_rejected", "answers_changed")},
            **trained_values(self.trained),
            **self.gated.to_json_dict(),
            **self.decided.to_json_dict(),
            "labels_to_come": self.labels_to_come,
            "label_delay": {k: _delay_row(v) for k, v in self.by_delay.items()},
            "warnings": [warning.to_json_dict() for warning in self.warnings],
            "scorecard": self.scorecard.to_json_dict(),
            "seconds": self.seconds,
            "peak_mib": self.peak_mib,
            "paths": self.paths,
        }


def run(
    context: Context,
    sources: Sequence[str],
    *,
    compare_delays: bool = True,
    arrival_time_seconds: int | None = None,
    train_settings: TrainSettings | None = None,
) -> RunReport:
    """The whole job on one machine. See `docs/start.md`. The files arrived at a time, or for None now.

    Raises:
        ZaslonError: with the warnings found until then.
    """
    warnings: list[DataWarning] = []
    settings = train_settings or TrainSettings(seed=context.options.seed, threads=context.options.threads)
    with noted(warnings):
        return _run(context, sources, settings, warnings, arrival_time_seconds, compare_delays=compare_delays)


def _run(
    context: Context, sources: Sequence[str], settings: TrainSettings, warnings: list[DataWarning],
    arrival_time_seconds: int | None, *, compare_delays: bool,
) -> RunReport:  # fmt: skip
    """Fills `warnings` as they are found."""
    watch = Stopwatch()
    with watch.stage("clean"):
        cleaned = _clean(context, sources, arrival_time_seconds, warnings)
    days = clean_days(context.home / "clean", context.catalogue)
    delay = context.options.label_delay_seconds
    split = time_split(context, days, delay)
    log = new_log(context)
    decide_from = _first_decided_day(context, days, split.test)
    with watch.stage("features"):
        samples = _collect(log, days, delay, decide_from)
    with watch.stage("train"):
        warnings += warnings_of_samples(samples)
        check_samples(samples)
        trained = train_and_evaluate(context, samples, settings)
    with watch.stage("compare"):
        gated = pass_gate(context, trained, samples, days, RUN, log=log)
        del samples  # the next stage needs the memory
    if not gated.another_serves:
        keep_policy(context, trained.policy)  # for the replay, also of what a refused first model decides
    with watch.stage("decide"):
        decided, to_come = decide_days(log, trained, days, decide_from, delay)
        is_in_use = _use_log(context, log, gated)
    by_delay: dict[str, Evaluation] = {}
    if compare_delays:
        with watch.stage("label_delays"):
            by_delay = _by_delay(context, days, settings, trained)
    scorecard = _scorecard(context, trained, decided, by_delay)
    with watch.stage("report"):
        paths = make_report(context, trained, scorecard, by_delay, cleaned, decided, warnings, gated.outcome)
        registry = publish_training(
            context, trained, settings, days, report_files(paths), promoted=gated.promoted
        )
        if not is_in_use:  # the log in use goes on
            discard_new_log(context)
            del paths["journal"]
        paths |= {"registry": registry.place} if registry and registry.place else {}
    return RunReport(
        cleaned, trained, gated, decided, to_come, scorecard, by_delay, watch.seconds, watch.peak_mib,
        tuple(warnings), paths,
    )  # fmt: skip


def _clean(
    context: Context, sources: Sequence[str], arrival_time_seconds: int | None, warnings: list[DataWarning]
) -> CleanReport:
    """Clean the files; nothing is trained on them where too many rows are rejected."""
    found = clean(context, sources, context.home / "clean", arrival_time_seconds=arrival_time_seconds)
    rejected = rejected_rows(context, found)
    warnings += warnings_of_rows(context, found, rejected)
    check_rows(context, found, rejected)
    return found.report


def _first_decided_day(context: Context, days: Sequence[Day], test: Days) -> int:
    """The last days of the test period that hold at most `decide_rows_max` rows, at least one."""
    rows, first = 0, days[-1][0]
    for day, path in reversed(days):
        rows += rows_of_day(path)
        if day < test.first or (rows > context.options.decide_rows_max and day != days[-1][0]):
            break
        first = day
    return first


def _collect(context: Context, days: Sequence[Day], delay: int, decide_from: int) -> Samples:
    """Samples of all periods; the state before the first decided day becomes the log's beginning."""
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)

    def keep_state(day: int, engine: Engine) -> None:
        if day == decide_from:
            engine.save(snapshots)

    context.progress.start("features", None)
    return collect_samples(context, days, label_delay_seconds=delay, before_day=keep_state)


def decide_days(
    context: Context, trained: Trained, days: Sequence[Day], first_day: int, delay: int
) -> tuple[DecideReport, int]:
    """Decide the days from `first_day` on through the engine, into log and store.

    Returns also how many labels of all days are still to come after the last one.
    """
    last = [day for day in days if day[0] >= first_day]
    before = [day for day in days if day[0] < first_day]
    feedback = _labels_under_way(context, before, delay)
    with closing(context.open_journal()) as journal:
        snapshots = context.open_snapshots(journal)
        past = engine_at(context, journal, snapshots, 0)
        engine = Engine(
            context.catalogue, key=context.key, model=trained.model, policy=trained.policy,
            history=past.history,
        )  # fmt: skip
        guard = guarded(engine, context, journal, snapshots, (trained.model, trained.policy))
        context.progress.start("decide", None)
        decided = decide_records(
            guard, journal, snapshots, records_of_days(context, last, feedback),
            f"clean:{day_text(first_day)}",
            snapshot_every_records=context.options.snapshot_every_records, progress=context.progress,
            takes_answers=True,
        )  # fmt: skip
        return decided, len(feedback)


def _use_log(context: Context, log: Context, gated: Gated) -> bool:
    """Put the run's complete log in use, unless the one in use goes on; returns whether it did.

    A champion that was trained again has a log to put in use only after a crash between its promotion and this.
    """
    is_first = gated.promoted or gated.champion is None
    is_in_use = is_first or not (gated.another_serves or has_records_of(context, gated.model))
    if is_in_use:
        put_in_use(context)
    with closing((context if is_in_use else log).open_journal()) as journal:
        forget_old_originals(context, journal)
    return is_in_use


def _labels_under_way(context: Context, before: Sequence[Day], delay: int) -> DelayedLabels:
    """Labels of earlier days that had not arrived when the first decided day began."""
    feedback = DelayedLabels(delay)
    if before:
        begin = (before[-1][0] + 1) * SECONDS_PER_DAY
        for day, path in before:
            if (day + 1) * SECONDS_PER_DAY + delay > begin:
                feedback.add(read_clean_day(path, context.catalogue))
        feedback.due(begin)
    return feedback


def _by_delay(
    context: Context, days: Sequence[Day], settings: TrainSettings, trained: Trained
) -> dict[str, Evaluation]:
    """What faster confirmation is worth: the same periods, features and training at other delays."""
    found: dict[str, Evaluation] = {}
    options = context.options
    for delay in DELAYS_COMPARED_SECONDS:
        name = _delay_text(delay)
        if delay == options.label_delay_seconds:
            found[name] = trained.evaluation
            continue
        context.progress.start(f"labels after {name}", None)
        try:
            samples = collect_samples(context, days, label_delay_seconds=delay, split=trained.split)
            model, _, chosen = fit(context, samples, settings)
        except DataError:
            continue
        test = samples.test
        found[name] = evaluate_sample(
            model.score(test.x), test, chosen.review, chosen.block, options.seed, replicates=0
        )
    return found


def _delay_text(seconds: int) -> str:
    hours = seconds // 3600
    return f"{hours} hours" if hours < 24 else f"{hours // 24} day{'s' if hours >= 48 else ''}"


def _delay_row(evaluation: Evaluation) -> dict[str, Any]:
    values = evaluation_values(evaluation)
    return {k: values[k] for k in ("recall", "false_positive_rate", "roc_auc", "pr_auc")}


def _scorecard(
    context: Context, trained: Trained, decided: DecideReport, by_delay: dict[str, Evaluation]
) -> Scorecard:
    options, found = context.options, trained.evaluation
    least = next(iter(by_delay), None)
    return make_scorecard(
        Goals(
            options.missed_frauds_max, options.false_positive_rate_max,
            round(options.loss_per_month_max * 10**context.catalogue.minor_digits),
            options.reviews_per_day_max,
        ),
        Reached(
            frauds=found.frauds, frauds_effective=found.frauds_effective, transactions=found.rows, days=found.days,
            recall=found.headline["recall_at_review"], precision=found.headline["precision_at_review"],
            false_positive_rate=found.headline["false_positive_rate_at_review"],
            roc_auc=found.headline["roc_auc"], loss_minor_per_month=found.money.lost,
            reviews_per_day=trained.reviews_per_day,
            unseeable_share=trained.unseeable_share, entities=context.catalogue.entities,
            false_positive_rate_before=trained.thresholds.false_positive_rate,
            reviews_per_day_before=trained.thresholds.reviews_per_day,
            recall_at_least_delay=(least, by_delay[least]["recall_at_review"]) if least else None,
            rules=len(trained.policy.acting_rules),
            transactions_per_second=decided.decisions_per_second or None,
        ),
        currency=context.catalogue.currency, minor_digits=context.catalogue.minor_digits,
    )  # fmt: skip
