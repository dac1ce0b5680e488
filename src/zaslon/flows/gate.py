"""The gate: a model that was just trained is judged beside the champion, and serves only where it has earned it.

trained ─► champion? ──none──► guards ──────────────► first model of the home, or refused
              │ one
              ▼
      comparison on days new to both ─► guards ─► promoted, or the champion serves on

`run`, `train` and `retrain` all end here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from zaslon.domain.errors import ArtefactError, DataError
from zaslon.domain.time import SECONDS_PER_DAY, duration_text
from zaslon.features.plan import plan_features
from zaslon.flows.challenge import Challenge, Evidence, challenge
from zaslon.flows.compare import period_bounds
from zaslon.intake import clean_arrival_seconds
from zaslon.models.dataset import Days, Sample
from zaslon.models.model import Model
from zaslon.models.verdict import Judged, Verdict
from zaslon.services.comparison_record import publish_comparison
from zaslon.services.context import Context
from zaslon.services.featurising import Day
from zaslon.services.home import Champion, champion_or_none, named_champion, names_champion
from zaslon.services.model_training import Trained, trained_values
from zaslon.services.promotion_ledger import promote
from zaslon.services.samples import Samples

UNREADABLE = "unreadable"  # instead of the id of a champion that the home cannot name


@dataclass(frozen=True)
class Gated:
    """What became of a model that was trained.

    Attributes:
        model: its id.
        challenge: the verdict and the guards.
        champion: what served before; None where nothing did.
        entry: of the ledger, if it was promoted.
        another_serves: whether the home names something else than this model and its policy.
    """

    model: str
    challenge: Challenge
    champion: str | None
    entry: int | None
    another_serves: bool

    @property
    def promoted(self) -> bool:
        """Whether it serves from now on."""
        return self.entry is not None

    @property
    def outcome(self) -> str:
        """One sentence for people."""
        became = "serves already"
        if self.promoted:
            became = f"serves now, entry {self.entry} of the ledger"
        elif self.another_serves or self.champion is None:
            became = "does not serve"
        return f"Model {self.model} {became}; before: {self.champion or 'none'}."

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values, the same for every command that trains."""
        return {
            "champion": self.champion,
            **self.challenge.to_json_dict(),
            "refusals": self.challenge.refusals,
            "promoted": self.promoted,
            "entry": self.entry,
        }


def pass_gate(
    context: Context, trained: Trained, samples: Samples, days: Sequence[Day], action: str, *,
    log: Context | None = None,
) -> Gated:  # fmt: skip
    """Judge a trained model beside what serves, and promote it if it has earned it.

    A champion that cannot be compared with, such as one of another catalogue or label delay, is not replaced.

    Args:
        context, trained, samples, days: the home, the model, what it was made from, and all clean days.
        action: RUN or TRAIN of the ledger.
        log: that it decides first, where that is not the home's.

    Raises:
        BusyError: another model became the champion meanwhile.
        ServerError: the ledger's store does not answer. The champion serves on.
    """
    arrival = clean_arrival_seconds(context.home / "clean", context.catalogue)
    champion, problem = _champion(context)
    try:
        found = judge_trained(context, trained, champion, samples, days, arrival)
    except DataError as error:  # the champion does not say what it has learned from
        champion, problem = None, error.message
    if problem:
        found = _not_compared(judge_trained(context, trained, None, samples, days, arrival), problem)
    return conclude(context, trained, champion, found, action, log=log)


def conclude(
    context: Context, trained: Trained, champion: Champion | None, found: Challenge, action: str, *,
    may_promote: bool = True, log: Context | None = None,
) -> Gated:  # fmt: skip
    """Tell the registry about the comparison, and promote the model where the verdict and every guard allow it."""
    against = None if champion is None else champion[0].artefact_id
    before = against or _named(context)
    policies = {"a": None if champion is None else champion[1].hash, "b": trained.policy.hash}
    models = {"a": before, "b": trained.model.artefact_id}
    publish_comparison(context, models, found.to_json_dict(), found.comparison, policies)
    entry = None
    if may_promote and found.may_serve:
        evidence = {"challenge": found.to_json_dict(), "metrics": trained_values(trained)}
        entry = promote(
            context, trained.model, trained.policy, action, evidence,
            verdict=found.judged.verdict.value, against=against, log=log,
        ).number  # fmt: skip
    is_champion = (models["b"], policies["b"]) == (models["a"], policies["a"])
    another = entry is None and before is not None and not is_champion
    return Gated(trained.model.artefact_id, found, before, entry, another)


def judge_trained(
    context: Context, trained: Trained, champion: Champion | None, samples: Samples, days: Sequence[Day],
    arrival_seconds: int,
) -> Challenge:  # fmt: skip
    """Judge it on its test period: the mature part that is new to the champion too; without one on all of it.

    Models of different label delays know different answers on the same day: they are not compared.

    Raises:
        DataError: the champion does not say what it has learned from.
    """
    if champion is not None and (problem := _other_delay(champion[0], trained.model)):
        return _not_compared(judge_trained(context, trained, None, samples, days, arrival_seconds), problem)
    models = [trained.model] if champion is None else [champion[0], trained.model]
    bounds = period_bounds(models, arrival_seconds, context.options.label_delay_seconds)
    test = samples.split.test
    period = Days(test.first, test.last)
    if champion is not None:
        period = Days(max(test.first, bounds.first), min(test.last, bounds.last))
    sample = _within(samples.test, period)
    evidence = Evidence(days, bounds, period if sample else None, sample, samples.validation)
    return challenge(context, (trained.model, trained.policy), champion, evidence)


def _within(sample: Sample, period: Days) -> Sample | None:
    day = sample.event_time_seconds // SECONDS_PER_DAY
    chosen = (day >= period.first) & (day <= period.last)
    return sample.take(chosen) if np.any(chosen) else None


def _champion(context: Context) -> tuple[Champion | None, str]:
    """What serves, and why it cannot be compared with, if it cannot."""
    try:
        return champion_or_none(context, plan_features(context.catalogue)), ""
    except ArtefactError as error:
        return None, error.message


def _named(context: Context) -> str | None:
    """The model that the home names; None where it names none."""
    try:
        return named_champion(context).model if names_champion(context) else None
    except ArtefactError:
        return UNREADABLE


def _other_delay(champion: Model, model: Model) -> str:
    """How their label delays differ, if they do."""
    before, now = champion.facts.label_delay_seconds, model.facts.label_delay_seconds
    if before == now:
        return ""
    return (
        f"it was trained with a label delay of {duration_text(before)}, model {model.artefact_id} with one of "
        f"{duration_text(now)}."
    )


def _not_compared(found: Challenge, problem: str) -> Challenge:
    reason = f"The champion cannot be compared with, and serves on: {problem}"
    return replace(found, judged=Judged(Verdict.NOT_ENOUGH_EVIDENCE, (reason,)))
