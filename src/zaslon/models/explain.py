"""Contributions of features to a score: exact SHAP values of trees, leaf by leaf.

The values are those of path-dependent TreeSHAP (Lundberg et al., "From local explanations to
global understanding with explainable AI for trees", Nature Machine Intelligence 2, 2020), equal
to LightGBM's own to rounding and many times faster; they are needed for every stopped
transaction. A leaf of value v whose path asks d features contributes to feature i

    v · (o_i - r_i) · ∫ from 0 to 1 of Π over j ≠ i of (r_j + (o_j - r_j) · t) dt

with o_j = 1 where the row meets what the path asks of feature j, else 0, and r_j the share of
training rows that met it. The integral over orders of features is the Shapley value's (Owen,
"Multilinear extensions of games", 1972); as it is of a polynomial of degree d - 1, Gauss-Legendre
quadrature with d/2 points gives it exactly.

A row either meets or misses each thing that a leaf asks, so a leaf that asks d features has 2**d
answers. They are computed once, when the model is loaded, for the leaves with the fewest features
until `TABLE_VALUES_MAX` is used up (that is all leaves of usual models); a row then only looks up.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from zaslon.models.quadrature import gauss_legendre
from zaslon.models.trees import Tree
from zaslon.system.compiled import Integer, compiled, inlined

Float64 = NDArray[np.float64]
Int32 = NDArray[np.int32]
Integers = NDArray[np.int64]

# At most 32 MiB of answers, computed before they are asked for.
TABLE_VALUES_MAX = 1 << 22

_BLOCK_ROWS = 128  # their features and contributions fit into the processor's second cache


class LeafPaths(NamedTuple):
    """All leaves of all trees with what their paths ask, flat; `leaf_paths` makes it.

    Attributes:
        value: float64[leaves], log-odds.
        start: int32[leaves + 1]: leaf k asks for the features at start[k] … start[k+1]-1.
        feature: int32[asked], its column.
        low, high: float64[asked]: met by low < x <= high.
        takes_missing: bool[asked]: whether NaN meets it.
        share: float64[asked], share of training rows that met it.
        nodes, weights: float64[deepest + 1, points]: Gauss-Legendre on 0 … 1 by features asked.
        answers: int64[leaves]: where in `table` the leaf's answers begin, -1 without.
        table: float64[…]: by what is met (bit j: the leaf's j-th feature), a contribution per feature.
    """

    value: Float64
    start: Int32
    feature: Int32
    low: Float64
    high: Float64
    takes_missing: NDArray[np.bool_]
    share: Float64
    nodes: Float64
    weights: Float64
    answers: NDArray[np.int64]
    table: Float64


class _Asked(NamedTuple):
    """What the paths of one tree ask: as in `LeafPaths`, but `sizes` is int64[leaves], features by leaf."""

    value: Float64
    sizes: Integers
    feature: Int32
    low: Float64
    high: Float64
    takes_missing: NDArray[np.bool_]
    share: Float64


def contributions(paths: LeafPaths, x: NDArray[np.float32]) -> Float64:
    """float64[m, F]: contributions in log-odds for float32[m, F] rows, each on its own."""
    result = np.empty(x.shape, np.float64)
    for begin in range(0, len(x), _BLOCK_ROWS):
        block = np.ascontiguousarray(x[begin : begin + _BLOCK_ROWS].T, np.float64)
        found = np.zeros_like(block)
        met = np.empty(block.shape[1], np.int64)
        _add_contributions(paths, block, met, np.empty((3, len(paths.nodes))), found)
        result[begin : begin + _BLOCK_ROWS] = found.T
    return result


def leaf_paths(trees: Sequence[Tree]) -> LeafPaths:
    """The leaves of all trees with what their paths ask."""
    found = [_asked_by(tree) for tree in trees]
    asked = _Asked(*(np.concatenate(columns) for columns in zip(*found, strict=True)))
    nodes, weights = _quadrature(int(asked.sizes.max(initial=0)))
    start = np.cumsum([0, *asked.sizes.tolist()]).astype(np.int32)
    answers, table = _room_for_answers(asked.sizes)
    paths = LeafPaths(
        asked.value, start, asked.feature, asked.low, asked.high, asked.takes_missing, asked.share,
        nodes, weights, answers, table,
    )  # fmt: skip
    _fill_answers(paths, np.empty((2, len(nodes))))
    return paths


def _asked_by(tree: Tree) -> _Asked:
    leaves = len(tree.value)
    most = leaves * len(tree.feature)  # every leaf below every question
    asked = _Asked(
        np.empty(leaves), np.empty(leaves, np.int64), np.empty(most, np.int32), np.empty(most),
        np.empty(most), np.empty(most, np.bool_), np.empty(most),
    )  # fmt: skip
    total = int(_walk(tree, np.empty((2, leaves + 1), np.int64), np.empty(leaves, np.int64), asked))
    return _Asked(
        asked.value, asked.sizes, asked.feature[:total], asked.low[:total], asked.high[:total],
        asked.takes_missing[:total], asked.share[:total],
    )  # fmt: skip


def _room_for_answers(asked: NDArray[np.int64]) -> tuple[NDArray[np.int64], Float64]:
    """(where each leaf's answers begin, or -1; empty table) for int64[leaves] numbers of features."""
    values = np.where(
        asked < TABLE_VALUES_MAX.bit_length(), asked << np.minimum(asked, 32), TABLE_VALUES_MAX + 1
    )
    order = np.argsort(values, kind="stable")
    ends = np.cumsum(values[order])
    fits = ends <= TABLE_VALUES_MAX
    answers = np.full(len(asked), -1, np.int64)
    answers[order[fits]] = (ends - values[order])[fits]
    return answers, np.zeros(int(ends[fits][-1]) if fits.any() else 0)


@compiled
def _walk(tree: Tree, waiting: Integers, path: Integers, asked: _Asked) -> Integer:
    """Go to every leaf of a tree, right ones first; returns how much is asked in all.

    Args:
        waiting: int64[2, leaves + 1], room for nodes and their depths.
        path: int64[leaves], room for the questions above a node.
        asked: room for every leaf below every question, filled.
    """
    waiting[0, 0], waiting[1, 0] = (0 if tree.feature.size else -1), 0
    count, leaf, start = 1, 0, 0
    while count:
        count -= 1
        node, depth = waiting[0, count], waiting[1, count]
        if node >= 0:
            path[depth] = node
            for child in (tree.left[node], tree.right[node]):
                waiting[0, count], waiting[1, count] = child, depth + 1
                count += 1
            continue
        end = start
        for level in range(depth):
            below = path[level + 1] if level + 1 < depth else node
            end = _ask(tree, path[level], below, start, end, asked)
        asked.value[leaf], asked.sizes[leaf] = tree.value[~node], end - start
        leaf, start = leaf + 1, end
    return start


@inlined
def _ask(
    tree: Tree, question: Integer, child: Integer, start: Integer, end: Integer, asked: _Asked
) -> Integer:
    """Add what a question asks on the way to a child to what is asked at [start, end); returns the new end."""
    place = start
    while place < end and asked.feature[place] != tree.feature[question]:
        place += 1
    if place == end:
        asked.feature[place], asked.takes_missing[place] = tree.feature[question], True
        asked.low[place], asked.high[place], asked.share[place] = -np.inf, np.inf, 1.0
        end += 1
    threshold, is_left = tree.threshold[question], tree.left[question] == child
    if is_left:
        asked.high[place] = min(asked.high[place], threshold)
    else:
        asked.low[place] = max(asked.low[place], threshold)
    rows = tree.leaf_rows[~child] if child < 0 else tree.rows[child]
    asked.takes_missing[place] = asked.takes_missing[place] and is_left == tree.missing_left[question]
    asked.share[place] = asked.share[place] * rows / tree.rows[question]
    return end


def _quadrature(deepest: int) -> tuple[Float64, Float64]:
    points = max(1, (deepest + 1) // 2)
    nodes, weights = np.zeros((2, deepest + 1, points))
    for asked in range(1, deepest + 1):
        for point, (node, weight) in enumerate(gauss_legendre((asked + 1) // 2)):
            nodes[asked, point], weights[asked, point] = node, weight
    return nodes, weights


@inlined
def _answer(paths: LeafPaths, leaf: Integer, gain: Float64, term: Float64, answer: Float64) -> None:
    """Contributions of one leaf into answer[0 … d-1], for gain[j] = o_j - r_j."""
    start, asked = paths.start[leaf], paths.start[leaf + 1] - paths.start[leaf]
    answer[:asked] = 0.0
    for point in range((asked + 1) // 2):
        at = paths.nodes[asked, point]
        product = paths.weights[asked, point] * paths.value[leaf]
        for j in range(asked):
            term[j] = paths.share[start + j] + gain[j] * at
            product *= term[j]
        for j in range(asked):
            answer[j] += product * gain[j] / term[j]


@inlined
def _note_met(paths: LeafPaths, k: Integer, bit: Integer, given: Float64, met: Integers) -> None:
    """Set a bit of each row that meets what is asked at `k`; without branches, which would be guessed wrong."""
    low, high, takes_missing = paths.low[k], paths.high[k], int(paths.takes_missing[k])
    for row in range(len(met)):
        value = given[row]
        within = int(low < value) & int(value <= high)  # never for NaN
        met[row] |= (within | (takes_missing & int(value != value))) << bit  # noqa: PLR0124  NaN alone


@compiled
def _fill_answers(paths: LeafPaths, scratch: Float64) -> None:
    gain, term = scratch[0], scratch[1]
    for leaf in range(len(paths.value)):
        start, asked = paths.start[leaf], paths.start[leaf + 1] - paths.start[leaf]
        if paths.answers[leaf] < 0:
            continue
        for met in range(1 << asked):
            for j in range(asked):
                gain[j] = ((met >> j) & 1) - paths.share[start + j]
            place = paths.answers[leaf] + met * asked
            _answer(paths, leaf, gain, term, paths.table[place : place + asked])


@compiled
def _add_contributions(
    paths: LeafPaths, x: Float64, met: Integers, scratch: Float64, result: Float64
) -> None:
    """Contributions of float64[F, m] columns into float64[F, m], leaf by leaf for all rows.

    Columns, so that the same question is put to many rows at once by one instruction.
    """
    gain, term, answer = scratch[0], scratch[1], scratch[2]
    for leaf in range(len(paths.value)):
        start, asked = paths.start[leaf], paths.start[leaf + 1] - paths.start[leaf]
        met[:] = 0
        for j in range(asked):
            _note_met(paths, start + j, j, x[paths.feature[start + j]], met)
        if paths.answers[leaf] >= 0:
            answers = paths.table[paths.answers[leaf] :]
            for j in range(asked):
                column = result[paths.feature[start + j]]
                for row in range(len(met)):
                    column[row] += answers[met[row] * asked + j]
        else:
            for row in range(len(met)):
                for j in range(asked):
                    gain[j] = ((met[row] >> j) & 1) - paths.share[start + j]
                _answer(paths, leaf, gain, term, answer)
                for j in range(asked):
                    result[paths.feature[start + j], row] += answer[j]
