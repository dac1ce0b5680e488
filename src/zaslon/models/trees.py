"""Trees in LightGBM's text form, read and scored here, to the bit as LightGBM scores them.

Training is LightGBM's. Serving needs only a sum of leaves, and for that neither its second of start
nor its arguments checked for every call. Scores are found by elimination, not by walking (Lucchese et
al., "QuickScorer: a fast algorithm to rank documents with additive ensembles of regression trees",
SIGIR 2015): every row holds one bit for each leaf of a tree, a question that it answers with no crosses
out the leaves below the yes, and the first leaf left is the row's. A question is put to many rows at
once by one instruction. Trees with more leaves than bits are walked, and so are few rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.domain.errors import ArtefactError
from zaslon.system.compiled import Integer, compiled, inlined
from zaslon.system.intrinsics import trailing_zeros

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
UInt64 = NDArray[np.uint64]

LEAVES_BY_BITS_MAX = 64
_EVERY = (1 << LEAVES_BY_BITS_MAX) - 1
_BLOCK_ROWS = 256  # their columns fit into the processor's second cache
_ROWS_FOR_BITS = 8  # fewer are walked: there is nothing to share

_CATEGORICAL, _DEFAULT_LEFT, _MISSING_SHIFT = 1, 2, 2  # of LightGBM's `decision_type`
_MISSING_NONE, _MISSING_NAN = 0, 2


class Tree(NamedTuple):
    """One tree. Children below zero are leaves: -1 is leaf 0, -2 is leaf 1.

    Attributes:
        feature: int32[questions], its column.
        threshold: float64[questions]: left where x <= threshold.
        missing_left: bool[questions]: whether NaN goes left.
        left, right: int32[questions], children.
        value: float64[leaves], log-odds.
        rows, leaf_rows: float64, training rows that reached each question and leaf.
        gain: float64[questions], by which each question lowered the training's loss.
    """

    feature: Int32
    threshold: Float64
    missing_left: NDArray[np.bool_]
    left: Int32
    right: Int32
    value: Float64
    rows: Float64
    leaf_rows: Float64
    gain: Float64


class Trees(NamedTuple):
    """All trees, flat: tree t has questions first[t] … first[t+1]-1 and leaves from first_leaf[t] on.

    Attributes:
        feature, threshold, missing_left, left, right, value: as in `Tree`, of all trees, with each
            tree's leaves numbered from left to right.
        crossed_out: uint64[questions], bits of the leaves that stay on a no.
    """

    first: Int32
    first_leaf: Int32
    feature: Int32
    threshold: Float64
    missing_left: NDArray[np.bool_]
    left: Int32
    right: Int32
    crossed_out: UInt64
    value: Float64


def read_trees(text: str) -> tuple[Tree, ...]:
    """The trees of a model in text form.

    Raises:
        ArtefactError: the text cannot be read, or the trees are of a kind that training here never makes.
    """
    head, *parts = text.split("\nTree=")
    if "\nnum_tree_per_iteration=1\n" not in head or "\naverage_output" in head:
        raise ArtefactError("The model's trees cannot be read: they are not one sum for one score.")
    if not parts:
        raise ArtefactError("The model's trees cannot be read: there is none.")
    try:
        return tuple(_tree(_fields(part)) for part in parts)
    except (KeyError, ValueError, IndexError) as error:
        raise ArtefactError(f"The model's trees cannot be read: {error} is missing or wrong.") from error


def feature_count(text: str) -> int:
    """How many features the trees of a model in text form take.

    Raises:
        ArtefactError: the text does not name it.
    """
    found = text.partition("\nmax_feature_idx=")[2].partition("\n")[0]
    if not (found.isascii() and found.isdigit()):
        raise ArtefactError("The model's trees cannot be read: the number of features is missing.")
    return int(found) + 1


def _fields(part: str) -> dict[str, list[float]]:
    lines = (line.partition("=") for line in part.split("\n\n", maxsplit=1)[0].splitlines()[1:])
    return {name: [float(v) for v in values.split()] for name, _, values in lines if values}


def _tree(fields: dict[str, list[float]]) -> Tree:
    leaves = int(fields["num_leaves"][0])
    if fields["num_cat"][0] or fields["is_linear"][0]:
        raise ArtefactError("The model's trees have splits of a kind that training here never makes.")
    if leaves == 1:
        fields = {name: [] for name in _OF_QUESTIONS} | {"leaf_count": [0.0]} | fields
    of_questions = [fields[name] for name in _OF_QUESTIONS]
    if {leaves - 1} != set(map(len, of_questions)) or len(fields["leaf_value"]) != leaves:
        raise ValueError("the number of leaves")
    feature, threshold, decision_type, left, right, rows, gain = of_questions
    for question, child in (*enumerate(left), *enumerate(right)):
        if not (-leaves <= child < 0 or question < child < leaves - 1):
            raise ValueError(f"the child {child:.0f}")
    return Tree(
        np.array(feature, np.int32), np.array(threshold, np.float64),
        np.array([_missing_left(int(d), t) for d, t in zip(decision_type, threshold, strict=True)], np.bool_),
        np.array(left, np.int32), np.array(right, np.int32), np.array(fields["leaf_value"], np.float64),
        np.array(rows, np.float64), np.array(fields["leaf_count"], np.float64), np.array(gain, np.float64),
    )  # fmt: skip


_OF_QUESTIONS = (
    "split_feature", "threshold", "decision_type", "left_child", "right_child", "internal_count", "split_gain",
)  # fmt: skip


def _missing_left(decision_type: int, threshold: float) -> bool:
    missing = decision_type >> _MISSING_SHIFT & 3
    if decision_type & _CATEGORICAL or missing not in (_MISSING_NONE, _MISSING_NAN):
        raise ArtefactError("The model's trees have splits of a kind that training here never makes.")
    if missing == _MISSING_NONE:
        return threshold >= 0  # LightGBM takes NaN for 0 where training saw no NaN
    return bool(decision_type & _DEFAULT_LEFT)


def flat(trees: Sequence[Tree]) -> Trees:
    """The trees side by side, as they are scored."""
    leaves = [_from_left_to_right(tree) for tree in trees]
    orders = [order for order, _ in leaves]
    return Trees(
        _firsts(len(tree.feature) for tree in trees),
        _firsts(len(tree.value) for tree in trees),
        np.concatenate([tree.feature for tree in trees]),
        np.concatenate([tree.threshold for tree in trees]),
        np.concatenate([tree.missing_left for tree in trees]),
        np.concatenate([_renumbered(t.left, order) for t, order in zip(trees, orders, strict=True)]),
        np.concatenate([_renumbered(t.right, order) for t, order in zip(trees, orders, strict=True)]),
        np.concatenate([crossed_out for _, crossed_out in leaves]),
        np.concatenate([tree.value[order] for tree, order in zip(trees, orders, strict=True)]),
    )


def _firsts(counts: Iterable[int]) -> Int32:
    return np.cumsum([0, *counts]).astype(np.int32)


def _from_left_to_right(tree: Tree) -> tuple[list[int], UInt64]:
    """(leaves from left to right, for each question the bits of those that stay on a no)."""
    crossed_out = np.zeros(len(tree.feature), np.uint64)
    order: list[int] = []
    waiting: list[tuple[int, int | None]] = [(0 if len(tree.feature) else -1, None)]
    while waiting:
        node, began = waiting.pop()
        if node < 0:
            order.append(~node)
        elif began is None:  # left side first, then this question again, then the right side
            waiting += [(int(tree.right[node]), None), (node, len(order)), (int(tree.left[node]), None)]
        else:
            below_yes = (1 << len(order)) - (1 << began)
            crossed_out[node] = ~below_yes & _EVERY
    return order, crossed_out


def _renumbered(children: Int32, order: list[int]) -> Int32:
    """The children, with leaves by their place from left to right."""
    place = np.empty(len(order), np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    is_leaf = children < 0
    return np.where(is_leaf, ~place[np.where(is_leaf, ~children, 0)], children).astype(np.int32)


def raw_scores(trees: Trees, x: NDArray[np.float32]) -> Float64:
    """float64[n]: log-odds, the trees' values added in their order. `x`: float32[n, F]."""
    result = np.zeros(len(x), np.float64)
    for begin in range(0, len(x), _BLOCK_ROWS):
        columns = np.ascontiguousarray(x[begin : begin + _BLOCK_ROWS].T, np.float64)
        _add_scores(
            trees, columns, np.empty(columns.shape[1], np.uint64), result[begin : begin + _BLOCK_ROWS]
        )
    return result


@compiled
def _add_scores(trees: Trees, columns: Float64, left: UInt64, result: Float64) -> None:
    for tree in range(len(trees.first) - 1):
        first_leaf = trees.first_leaf[tree]
        leaves = trees.first_leaf[tree + 1] - first_leaf
        if leaves > LEAVES_BY_BITS_MAX or len(result) < _ROWS_FOR_BITS:
            for row in range(len(result)):
                leaf = _walk(trees, trees.first[tree], trees.first[tree + 1], columns, row)
                result[row] += trees.value[first_leaf + leaf]
            continue
        left[:] = np.uint64(_EVERY)
        for question in range(trees.first[tree], trees.first[tree + 1]):
            _cross_out(trees, question, columns[trees.feature[question]], left)
        for row in range(len(result)):
            result[row] += trees.value[first_leaf + trailing_zeros(left[row])]


@inlined
def _cross_out(trees: Trees, question: Integer, given: Float64, left: UInt64) -> None:
    """Keep what a no leaves; NaN is a yes where it goes left. One comparison, so that rows go in step."""
    threshold, stays = trees.threshold[question], trees.crossed_out[question]
    every = np.uint64(_EVERY)
    if trees.missing_left[question]:
        for row in range(len(left)):
            left[row] &= stays if given[row] > threshold else every
    else:
        for row in range(len(left)):
            left[row] &= every if given[row] <= threshold else stays


@inlined
def _walk(trees: Trees, first: Integer, end: Integer, columns: Float64, row: Integer) -> Integer:
    node = 0 if first < end else -1
    while node >= 0:
        question = first + node
        value = columns[trees.feature[question], row]
        is_yes = value <= trees.threshold[question]
        if value != value:  # noqa: PLR0124  NaN alone
            is_yes = trees.missing_left[question]
        node = trees.left[question] if is_yes else trees.right[question]
    return ~node
