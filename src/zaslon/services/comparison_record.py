"""What the registry keeps of a comparison: both models' figures with intervals, tests, verdict, distribution."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import orjson

from zaslon.models.comparison import Comparison
from zaslon.models.guards import TIMED
from zaslon.models.plots import replicates
from zaslon.ports.registry import ARTEFACT, RunRecord
from zaslon.services.context import Context
from zaslon.services.publishing import RegistryState, Waiting, keep_run, publish, write_waiting

_FACTS = ("period", "days", "transactions", "frauds", "false_positive_rate_max", "replicates", "days_needed")


def publish_comparison(
    context: Context, models: Mapping[str, str | None], report: Mapping[str, Any], found: Comparison | None,
    policies: Mapping[str, str | None] | None = None,
) -> RegistryState | None:  # fmt: skip
    """Tell the registry about a comparison, once however often it is repeated; None where there is no registry.

    Args:
        models: ids by `a`, which serves, and `b`, which is judged.
        report: what the command reports of it as JSON, with or without `guards`.
        found: the comparison with its replicates; None where the models could not be compared.
        policies: hashes of those that the guards were asked with, by `a` and `b`; None without guards.
    """
    values = {**{name: value for name, value in report.items() if name != "seconds"}, "models": dict(models)}

    def keep_and_write(context: Context) -> RegistryState | None:
        if context.open_registry() is None:
            return None
        key = _key({**_repeatable(values), "policies": policies, "catalogue": context.catalogue.hash})
        keep_run(context, Waiting(_run(key, values)), _files(values, found))
        return write_waiting(context)

    return publish(context, keep_and_write)


def _repeatable(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the same comparison gives again: all but times, which differ each time."""
    return {**values, "guards": [guard for guard in values.get("guards", []) if guard["name"] != TIMED]}


def _key(values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(orjson.dumps(values, option=orjson.OPT_SORT_KEYS)).hexdigest()
    return f"compare-{digest[:16]}"


def _run(key: str, values: Mapping[str, Any]) -> RunRecord:
    models = values["models"]
    params = {name: values[name] for name in _FACTS if values.get(name) is not None}
    tags = {
        "kind": "comparison", "verdict": values["verdict"], ARTEFACT: str(models["b"]),
        "compared_with": str(models["a"]), "reasons": " ".join(values["reasons"]),
    }  # fmt: skip
    return RunRecord(
        key, f"{models['a']} and {models['b']}: {values['verdict']}",
        {**params, "model_a": models["a"], "model_b": models["b"]}, _metrics(values), tags,
    )  # fmt: skip


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """`roc_auc_a`, `roc_auc_difference_low`, `roc_auc_delong_p`, `guard_…`; what is not known is left out."""
    found: dict[str, float] = {}
    for measure, figures in (values.get("measures") or values).items():
        if isinstance(figures, Mapping) and "interval" in figures:
            low, high = figures["interval"] or (None, None)
            all_of = {**figures, "difference_low": low, "difference_high": high}
            del all_of["interval"]
            found |= {f"{measure}_{name}": value for name, value in all_of.items() if value is not None}
    guards = {f"guard_{guard['name']}": guard["value"] for guard in values.get("guards", [])}
    return found | {name: value for name, value in guards.items() if value is not None}


def _files(values: Mapping[str, Any], found: Comparison | None) -> dict[str, bytes]:
    """The report as JSON, and the distribution of ROC-AUC as a picture and as numbers."""
    files = {"comparison.json": orjson.dumps(values, option=orjson.OPT_INDENT_2)}
    if found is not None:
        drawn = {"a": found.drawn_a, "b": found.drawn_b}
        models = values["models"]
        named = {f"{letter.upper()} {models[letter]}": roc_auc for letter, roc_auc in drawn.items()}
        files["roc_auc_replicates.png"] = replicates(named, "ROC-AUC")
        files["roc_auc_replicates.json"] = orjson.dumps({k: v.tolist() for k, v in drawn.items()})
    return files
