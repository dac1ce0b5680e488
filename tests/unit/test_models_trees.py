"""Trees: scored as LightGBM scores them, and refused where they are not ours."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.models.calibration import no_calibration
from zaslon.models.model import Model
from zaslon.models.trees import flat, raw_scores, read_trees

FEATURES = 6


def _rows(seed: int, count: int) -> NDArray[np.float32]:
    """Numbers of all sizes, whole ones, zeros and missing ones; the last column is never missing."""
    chance = np.random.default_rng(seed)
    x = chance.normal(size=(count, FEATURES)) * 10.0 ** chance.integers(-3, 4, size=(count, FEATURES))
    x[:, 1] = np.round(x[:, 1])
    x[:, 2] *= chance.random(count) < 0.5
    x[chance.random(x.shape) < 0.1] = np.nan
    x[:, -1] = np.nan_to_num(x[:, -1])
    return x.astype(np.float32)


def _booster(leaves: int, rounds: int = 20) -> lightgbm.Booster:
    x = _rows(1, 4_000)
    is_fraud = np.nan_to_num(x[:, 0]) * np.sin(x[:, -1]) + np.nan_to_num(x[:, 1]) > 1
    settings = {
        "objective": "binary", "num_leaves": leaves, "min_data_in_leaf": 2, "verbosity": -1,
        "num_threads": 1, "deterministic": True,
    }  # fmt: skip
    return lightgbm.train(settings, lightgbm.Dataset(x, is_fraud.astype(np.int8)), rounds)


@pytest.mark.parametrize("leaves", [2, 15, 31, 64, 65, 300])
@pytest.mark.parametrize("count", [1, 7, 8, 257, 1_000])
def test_scores_are_lightgbms_to_the_bit(leaves: int, count: int) -> None:
    booster = _booster(leaves)
    x = _rows(2, count)
    x[::5] = np.nan  # the last column too, where training saw none
    x[1::7] = np.inf
    x[2::7] = -np.inf
    peer = np.asarray(booster.predict(x, raw_score=True))
    found = raw_scores(flat(read_trees(booster.model_to_string())), x)
    assert found.tobytes() == peer.tobytes()
    assert count < 100 or len(np.unique(found)) > min(leaves, 30) / 2  # or equality would show little


def test_a_value_on_a_threshold_goes_left_as_in_lightgbm() -> None:
    booster = _booster(31)
    trees = read_trees(booster.model_to_string())
    x = np.tile(_rows(3, 1), (sum(len(t.feature) for t in trees), 1))
    row = 0
    for tree in trees:
        for feature, threshold in zip(tree.feature, tree.threshold, strict=True):
            x[row, feature] = threshold
            row += 1
    peer = np.asarray(booster.predict(x, raw_score=True))
    assert raw_scores(flat(trees), x).tobytes() == peer.tobytes()


def test_trees_that_never_split_give_their_one_leaf() -> None:
    x = np.zeros((50, 2), np.float32)
    booster = lightgbm.train(
        {"objective": "binary", "verbosity": -1}, lightgbm.Dataset(x, np.arange(50) % 2), num_boost_round=3
    )
    trees = read_trees(booster.model_to_string())
    assert [len(tree.value) for tree in trees] == [1] * len(trees)
    for rows in (x[:1], x):
        peer = np.asarray(booster.predict(rows, raw_score=True))
        assert raw_scores(flat(trees), rows).tobytes() == peer.tobytes()


def _damaged(old: str, new: str) -> str:
    text = _booster(4, rounds=2).model_to_string()
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("num_tree_per_iteration=1", "num_tree_per_iteration=3", "not one sum"),
        ("num_cat=0", "num_cat=1", "never makes"),
        ("is_linear=0", "is_linear=1", "never makes"),
        ("left_child=1", "left_child=7", "the child 7"),
        ("left_child=1", "left_child=0", "the child 0"),
        ("num_leaves=4", "num_leaves=5", "number of leaves"),
        ("leaf_value=", "leaf_worth=", "leaf_value"),
        ("threshold=", "threshold=x ", "could not convert"),
    ],
)
def test_a_text_that_is_not_such_a_model_is_refused(old: str, new: str, sentence: str) -> None:
    with pytest.raises(ArtefactError, match=sentence):
        read_trees(_damaged(old, new))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("max_feature_idx=5", "max_feature_idx=6", "take 7 features, but the model names 6"),
        ("max_feature_idx=5", "max_feature_idx=-", "number of features is missing"),
        ("split_feature=", "split_feature=77", "ask for features that they do not take"),
    ],
)
def test_trees_of_other_features_are_refused(old: str, new: str, sentence: str) -> None:
    names = tuple("abcdef")
    with pytest.raises(ArtefactError, match=sentence):
        Model(names, _damaged(old, new), no_calibration())
