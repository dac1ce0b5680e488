"""Training, the model, its explanation and its artefact, on a small made-up world."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lightgbm import Booster

from zaslon.domain.errors import ArtefactError, DataError, ZaslonError
from zaslon.models import tune as tune_module
from zaslon.models.artefact import load_model, save_model
from zaslon.models.dataset import Sample
from zaslon.models.model import Model, ModelFacts
from zaslon.models.training import TrainedModel, TrainSettings, smoothed_curve, train
from zaslon.models.tune import tune

NAMES = ("amount", "customer_mean", "terminal_risk", "hour")
SMALL = TrainSettings(rounds=25, rounds_max=60, patience_rounds=20, learning_rate=0.1, leaf_rows_min=10)
FACTS = ModelFacts(catalogue_hash="abc123abc123", catalogue_label="small@1 (abc123abc123)")


def make_sample(rows: int, seed: int) -> Sample:
    """Frauds are large amounts, amounts beyond the customer's mean, or at risky terminals."""
    random = np.random.default_rng(seed)
    amount = random.gamma(2, 30, rows).round(2)
    mean = random.gamma(4, 15, rows)
    risk = np.where(random.random(rows) < 0.9, np.nan, random.random(rows))
    hour = random.integers(0, 24, rows)
    log_odds = -7 + 0.03 * (amount - mean) + 6 * np.nan_to_num(risk) + 3 * (amount > 150)
    fraud = random.random(rows) < 1 / (1 + np.exp(-log_odds))
    return Sample(
        names=NAMES,
        x=np.stack([amount, mean, risk, hour], axis=1).astype(np.float32),
        is_fraud=fraud.astype(np.int8),
        weight=np.ones(rows, np.float32),
        event_time_seconds=np.sort(random.integers(0, 864_000, rows)),
        amount_minor=(amount * 100).astype(np.int64),
        transaction_id=np.arange(rows),
        entity_keys=random.integers(0, 500, (rows, 2)),
        scenario=np.full(rows, -1, np.int8),
    )


@pytest.fixture(scope="module")
def past() -> Sample:
    return make_sample(12_000, 1)


@pytest.fixture(scope="module")
def later() -> Sample:
    return make_sample(12_000, 2)


@pytest.fixture(scope="module")
def trained(past: Sample, later: Sample) -> TrainedModel:
    return train(past, later, SMALL, facts=FACTS)


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> Model:
    return trained.model


def test_training_stops_where_validation_is_best(trained: TrainedModel) -> None:
    assert trained.stopped_by == "validation"
    rounds = [done for done, _ in trained.curve]
    assert trained.rounds == rounds[int(np.argmax(smoothed_curve(trained.curve)))]
    assert trained.model.trees.count("Tree=") == trained.rounds


def test_the_model_finds_frauds_it_has_not_seen(model: Model) -> None:
    unseen = make_sample(12_000, 3)
    score = model.score(unseen.x)
    highest = np.argsort(-score)[: unseen.frauds]
    assert unseen.is_fraud[highest].mean() > 5 * unseen.is_fraud.mean()
    assert score.sum() == pytest.approx(unseen.frauds, rel=0.25)


def test_two_trainings_give_the_same_bytes_whatever_the_threads(past: Sample, later: Sample) -> None:
    first = train(past, later, SMALL, facts=FACTS).model
    second = train(past, later, SMALL.model_copy(update={"threads": 1}), facts=FACTS).model
    assert first.trees == second.trees
    assert first.described() == second.described()
    assert first.artefact_id == second.artefact_id


def test_a_row_scores_the_same_in_any_company(model: Model, later: Sample) -> None:
    x = later.x[:300]
    whole = model.score(x)
    exclusive = np.concatenate([model.score(x[i : i + 1]) for i in range(300)])
    sevens = np.concatenate([model.score(x[i : i + 7]) for i in range(0, 300, 7)])
    assert whole.tobytes() == exclusive.tobytes() == sevens.tobytes()
    assert model.score(x[:0]).shape == (0,)
    wide = np.repeat(x, 2, axis=1)[:, ::2]  # not contiguous
    assert model.score(wide).tobytes() == whole.tobytes()


def test_calibration_keeps_the_order_of_the_trees(model: Model, later: Sample) -> None:
    raw, score = model.raw_score(later.x), model.score(later.x)
    order = np.argsort(raw)
    assert ((np.diff(raw[order]) > 0) <= (np.diff(score[order]) > 0)).all()


def test_contributions_are_lightgbms_own_and_sum_to_the_score(model: Model, later: Sample) -> None:
    x = later.x[:500].copy()
    x[::5, 0] = np.nan  # training saw no missing amount
    x[1::5, 3] = -3.5
    parts = model.contributions(x)
    peer = np.asarray(Booster(model_str=model.trees).predict(x, pred_contrib=True))
    assert np.allclose(parts, peer[:, :-1], rtol=0, atol=1e-12)
    assert np.allclose(parts.sum(axis=1) + peer[:, -1], model.raw_score(x), rtol=0, atol=1e-10)
    exclusive = np.concatenate([model.contributions(x[i : i + 1]) for i in range(100)])
    assert exclusive.tobytes() == parts[:100].tobytes()
    assert model.contributions(x[:0]).shape == (0, 4)


def test_deep_trees_are_explained_exactly_too(past: Sample) -> None:
    deep = train(past, None, TrainSettings(rounds=5, leaves=200, leaf_rows_min=1, learning_rate=0.3)).model
    x = past.x[:200]
    peer = np.asarray(Booster(model_str=deep.trees).predict(x, pred_contrib=True))[:, :-1]
    assert np.allclose(deep.contributions(x), peer, rtol=0, atol=1e-11)


def test_importance_is_shared_out_among_all_features(model: Model) -> None:
    importance = model.importance()
    assert sorted(name for name, _ in importance) == sorted(NAMES)
    assert sum(share for _, share in importance) == pytest.approx(1)
    assert importance[-1][0] == "hour"


def test_without_validation_the_settings_set_the_tree_count(past: Sample) -> None:
    steps: list[int] = []
    trained = train(past, None, SMALL, progress=steps.append)
    assert (trained.rounds, trained.stopped_by, trained.curve) == (25, "settings", ())
    assert trained.model.calibration.kind == "none"
    assert sum(steps) == 25


def test_too_few_frauds_leave_the_tree_count_to_the_settings(past: Sample, later: Sample) -> None:
    few = later.take(np.cumsum(later.is_fraud) <= 30)
    assert train(past, few, SMALL).stopped_by == "settings"


def test_weights_undo_the_sampling_of_good_transactions(past: Sample, later: Sample) -> None:
    kept = past.take((past.is_fraud == 1) | (past.transaction_id % 5 == 0))
    weight = np.where(kept.is_fraud == 1, 1, 5).astype(np.float32)
    model = train(replace(kept, weight=weight), None, SMALL).model
    assert model.score(later.x).sum() == pytest.approx(later.frauds, rel=0.25)


def test_constant_features_alone_still_give_a_model(past: Sample) -> None:
    blank = replace(past, x=np.zeros_like(past.x))
    model = train(blank, None, SMALL).model
    assert np.allclose(model.score(blank.x[:5]), past.is_fraud.mean(), rtol=0.01)
    assert np.allclose(model.contributions(blank.x[:5]), 0)
    assert sum(share for _, share in model.importance()) == 0


@pytest.mark.parametrize("is_fraud", [0, 1])
def test_one_class_cannot_be_trained_or_validated_on(past: Sample, later: Sample, is_fraud: int) -> None:
    missing = "good transactions" if is_fraud else "frauds"
    with pytest.raises(DataError, match=f"no {missing} among the .* transactions to train on"):
        train(past.take(past.is_fraud == is_fraud), later, SMALL)
    with pytest.raises(DataError, match=f"no {missing} among the .* transactions to validate on"):
        train(past, later.take(later.is_fraud == is_fraud), SMALL)


def test_training_needs_rows(past: Sample) -> None:
    with pytest.raises(DataError, match="no frauds among the 0 transactions"):
        train(past.take(slice(0)), None, SMALL)


def test_validation_must_have_the_same_features(past: Sample, later: Sample) -> None:
    turned = replace(later, names=("customer_mean", "amount", *NAMES[2:]))
    with pytest.raises(DataError, match="Feature 0 is 'customer_mean', expected is 'amount'"):
        train(past, turned, SMALL)


def test_a_model_refuses_other_features(model: Model) -> None:
    with pytest.raises(DataError, match=r"rows of 4 features, but was given an array of shape \(2, 3\)"):
        model.score(np.zeros((2, 3), np.float32))
    with pytest.raises(DataError, match="rows of 4 features"):
        model.contributions(np.zeros(4, np.float32))
    with pytest.raises(DataError, match="3 features were given, 4 are expected; 'hour'"):
        model.check_names(NAMES[:3])


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rate": 0}, "learning_rate: Input should be greater than 0"),
        ({"leaves": 1}, "leaves: "),
        ({"leafs": 31}, "leafs: Extra inputs"),
        ({"bins": "many"}, "bins: "),
        ({"fine_bins": {"amount": 1}}, "fine_bins.amount: "),
    ],
)
def test_settings_out_of_range_are_named(values: dict[str, object], sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        TrainSettings.of(values)


def test_an_artefact_is_read_back_as_the_same_model(model: Model, later: Sample, tmp_path: Path) -> None:
    with_facts = model.with_facts(metrics={"pr_auc": 0.7}, thresholds={"review": 0.1, "block": math.inf})
    saved = save_model(with_facts, tmp_path / "m")
    again = load_model(tmp_path / "m", "abc123abc123")
    assert saved == with_facts.artefact_id == again.artefact_id
    assert saved != model.artefact_id
    assert again.facts.metrics == {"pr_auc": 0.7}
    assert again.facts.thresholds == {"review": 0.1, "block": math.inf}
    assert again.score(later.x).tobytes() == model.score(later.x).tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_saving_again_changes_nothing_and_another_model_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    assert save_model(model, tmp_path / "m") == model.artefact_id
    with pytest.raises(ArtefactError, match="holds model .* already"):
        save_model(model.with_facts(train_days="other"), tmp_path / "m")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("dear")
    with pytest.raises(ArtefactError, match="holds something else"):
        save_model(model, tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(ArtefactError, match="cannot be written"):
        save_model(model, tmp_path / "file")


def _change_a_byte(name: str) -> Callable[[Path], None]:
    def damage(directory: Path) -> None:
        content = bytearray((directory / name).read_bytes())
        content[len(content) // 2] ^= 1
        (directory / name).write_bytes(content)

    return damage


def _rewrite(directory: Path, **changed: object) -> None:
    """A model.json with other values and a checksum that fits it, as a newer version would write."""
    import hashlib

    path, sums = directory / "model.json", directory / "checksum.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changed))
    checksum = json.loads(sums.read_text())
    checksum["files"]["model.json"] = hashlib.sha256(path.read_bytes()).hexdigest()
    sums.write_text(json.dumps(checksum))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "trees gone": (lambda d: (d / "model.txt").unlink(), "model.txt is missing"),
    "facts gone": (lambda d: (d / "model.json").unlink(), "model.json is missing"),
    "checksum gone": (lambda d: (d / "checksum.json").unlink(), "checksum.json is missing"),
    "byte in the trees": (_change_a_byte("model.txt"), "model.txt has changed"),
    "byte in the facts": (_change_a_byte("model.json"), "model.json has changed"),
    "checksum no JSON": (lambda d: (d / "checksum.json").write_text("{"), "checksum.json is not JSON"),
    "checksum no object": (lambda d: (d / "checksum.json").write_text("[]"), "holds no object"),
    "checksum empty": (lambda d: (d / "checksum.json").write_text("{}"), "lists other files"),
    "newer format": (lambda d: _rewrite(d, format=99), "format 99; this version reads format 1"),
    "other facts": (lambda d: _rewrite(d, facts={"wings": 2}), "lacks or misstates"),
    "falling calibration": (
        lambda d: _rewrite(d, calibration={"kind": "platt", "raw": [0, 1], "calibrated": [1, 0]}),
        "do not rise",
    ),
    "fewer names": (lambda d: _rewrite(d, names=["amount"]), "take 4 features, but the model names 1"),
    "more trees": (lambda d: (d / "model.txt").write_text("no trees"), "model.txt has changed"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_every_damage_to_an_artefact_is_found_and_named(model: Model, tmp_path: Path, kind: str) -> None:
    save_model(model, tmp_path / "m")
    damage, sentence = DAMAGES[kind]
    damage(tmp_path / "m")
    with pytest.raises(ArtefactError, match=sentence):
        load_model(tmp_path / "m")


def test_a_model_of_another_catalogue_is_refused(model: Model, tmp_path: Path) -> None:
    save_model(model, tmp_path / "m")
    with pytest.raises(ArtefactError, match=r"catalogue small@1 \(abc123abc123\), not .* ffff"):
        load_model(tmp_path / "m", "ffff")
    with pytest.raises(ArtefactError, match="no complete model"):
        load_model(tmp_path / "nowhere")


def test_text_that_is_not_a_model_is_refused(model: Model) -> None:
    with pytest.raises(ArtefactError, match="trees cannot be read"):
        replace(model, trees="no trees")


def test_a_search_starts_from_the_given_settings_and_is_never_worse(past: Sample, later: Sample) -> None:
    pytest.importorskip("optuna", reason="the extra `tune` is not installed")
    quick = SMALL.model_copy(update={"rounds_max": 10})
    steps: list[int] = []
    found = tune(past, later, quick, trials=3, progress=steps.append)
    assert steps == [1, 1, 1]
    assert found == tune(past, later, quick, trials=3)
    best = [float(smoothed_curve(train(past, later, s).curve).max()) for s in (quick, found)]
    assert best[1] >= best[0]
    assert found.rounds_max == 10


def test_an_impossible_search_names_the_cause(
    past: Sample, later: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match="at least one"):
        tune(past, later, trials=0)
    with pytest.raises(DataError, match="too few to compare settings"):
        tune(past, later.take(slice(100)))
    monkeypatch.setattr(tune_module, "find_spec", lambda name: None)
    with pytest.raises(ZaslonError, match=r"pip install 'zaslon\[tune\]'"):
        tune(past, later)
