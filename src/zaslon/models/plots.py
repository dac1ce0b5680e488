"""Pictures of an evaluation, as PNG bytes. Drawn without pyplot, so nothing global is touched.

The same numbers give the same bytes. Colours are of the Okabe-Ito palette, which colour-blind
readers can distinguish.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zaslon.models.metrics import DAYS_PER_MONTH, CalibrationBin
from zaslon.models.ranking import FALSE_POSITIVE_RATES, rank

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREEN, GREY = "#0072b2", "#d55e00", "#009e73", "#777777"
_POINTS_MAX = 2000
_GRID = 241  # points of curves over the threshold

Float64 = NDArray[np.float64]
Int8 = NDArray[np.int8]
Int64 = NDArray[np.int64]


def draw_all(
    score: Float64,
    is_fraud: Int8,
    amount_minor: Int64,
    weight: Float64,
    *,
    days: int,
    thresholds: Mapping[str, float],
    bins: Sequence[CalibrationBin],
    importance: Sequence[tuple[str, float]],
    currency: str = "",
    minor_digits: int = 2,
) -> dict[str, bytes]:
    """All pictures by name: roc, precision_recall, calibration, score_by_class, money, importance.

    Args:
        score, is_fraud, amount_minor, weight: of n transactions, as for `evaluate`.
        days: how many days they span.
        thresholds: to mark, by name.
        bins: `Evaluation.calibration`.
        importance: `Model.importance()`.
        currency, minor_digits: for the money axis.
    """
    money = (amount_minor / 10.0**minor_digits) * weight * (DAYS_PER_MONTH / days)
    return {
        "roc": roc(score, is_fraud, amount_minor, weight),
        "precision_recall": precision_recall(score, is_fraud, amount_minor, weight),
        "money": money_curve(score, is_fraud, money, thresholds, currency),
        "calibration": calibration(bins),
        "score_by_class": score_by_class(score, is_fraud, weight, thresholds),
        "importance": importance_bars(importance),
    }


def roc(score: Float64, is_fraud: Int8, amount_minor: Int64, weight: Float64) -> bytes:
    """Recall by false-positive rate, on a logarithmic scale: the left tenth is what matters."""
    counts = rank(score, is_fraud, amount_minor, weight).counts
    stopped_good = np.cumsum(counts.tied + counts.between)
    rate = stopped_good / (stopped_good[-1] + counts.below[0])
    recall = np.cumsum(counts.fraud) / counts.fraud.sum()
    by_amount = np.cumsum(counts.fraud_minor) / max(counts.fraud_minor.sum(), 1.0)
    figure, axes = _axes("share of good transactions stopped (false-positive rate)", "share stopped")
    chosen = _thinned(len(rate))
    left = 1e-5
    axes.step(np.maximum(rate[chosen], left), recall[chosen], where="post", color=BLUE, label="of frauds")
    axes.step(
        np.maximum(rate[chosen], left), by_amount[chosen], where="post", color=GREEN, ls="--",
        label="of their money",
    )  # fmt: skip
    grid = np.logspace(-5, 0, 50)
    axes.plot(grid, grid, color=GREY, lw=0.8, ls=":", label="by chance")
    for limit in FALSE_POSITIVE_RATES:
        axes.axvline(limit, color=GREY, lw=0.5)
    axes.set(xscale="log", xlim=(left, 1), ylim=(0, 1.02))
    axes.legend(loc="lower right", frameon=False)
    return _png(figure)


def precision_recall(score: Float64, is_fraud: Int8, amount_minor: Int64, weight: Float64) -> bytes:
    """Precision by recall, with the fraud rate as what chance would give."""
    counts = rank(score, is_fraud, amount_minor, weight).counts
    caught = np.cumsum(counts.fraud)
    precision = caught / (caught + np.cumsum(counts.tied + counts.between))
    figure, axes = _axes("share of frauds stopped (recall)", "share of stopped that are frauds (precision)")
    chosen = _thinned(len(caught))
    axes.plot(caught[chosen] / caught[-1], precision[chosen], color=BLUE)
    axes.axhline(float(np.average(is_fraud, weights=weight)), color=GREY, lw=0.8, ls=":")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    return _png(figure)


def calibration(bins: Sequence[CalibrationBin]) -> bytes:
    """What was promised against what came, in logarithms, so that small probabilities show."""
    promised = np.array([b.mean_score for b in bins])
    actual = np.array([b.fraud_rate for b in bins])
    seen = (promised > 0) & (actual > 0)
    figure, axes = _axes("predicted probability of fraud", "share that were frauds")
    low = float(min(promised[seen].min(), actual[seen].min())) / 2 if seen.any() else 1e-3
    axes.plot([low, 1], [low, 1], color=GREY, lw=0.8, ls=":")
    axes.plot(promised[seen], actual[seen], color=BLUE, marker="o")
    axes.set(xscale="log", yscale="log", xlim=(low, 1), ylim=(low, 1.2))
    return _png(figure)


def score_by_class(score: Float64, is_fraud: Int8, weight: Float64, thresholds: Mapping[str, float]) -> bytes:
    """How scores of frauds and of good transactions are spread; each class sums to 1."""
    figure, axes = _axes("score (probability of fraud)", "share of its class (log scale)")
    edges = np.linspace(0, 1, 51)
    for kind, name, colour in ((0, "good", BLUE), (1, "fraud", ORANGE)):
        of = is_fraud == kind
        counts, _ = np.histogram(score[of], edges, weights=weight[of])
        axes.stairs(counts / counts.sum(), edges, color=colour, fill=True, alpha=0.45, label=name)
    _mark(axes, thresholds)
    axes.set(yscale="log", xlim=(0, 1))
    axes.legend(loc="upper center", frameon=False)
    return _png(figure)


def money_curve(
    score: Float64, is_fraud: Int8, money: Float64, thresholds: Mapping[str, float], currency: str
) -> bytes:
    """Fraud let through and good money stopped in 30 days, by the threshold for review.

    `money` is float64[n]: what each transaction represents, in major units in 30 days.
    """
    edges = np.concatenate([[0.0], np.logspace(-4, 0, _GRID)])
    fraud = is_fraud == 1
    missed = np.cumsum(np.histogram(score[fraud], edges, weights=money[fraud])[0])
    good = np.histogram(score[~fraud], edges, weights=money[~fraud])[0]
    stopped = good.sum() - np.cumsum(good)
    figure, axes = _axes("threshold: review from this score on", f"{currency} in 30 days".strip())
    axes.plot(edges[1:], missed, color=ORANGE, label="fraud let through")
    axes.plot(edges[1:], stopped, color=BLUE, ls="--", label="good payments stopped")
    _mark(axes, thresholds)
    axes.set(xscale="log", xlim=(1e-4, 1))
    if stopped[0] > 5 * missed[-1] > 0:
        axes.set(yscale="log", ylim=(missed[-1] / 1000, 2 * stopped[0]))
    else:
        axes.set_ylim(bottom=0)
    axes.legend(loc="upper left", frameon=False)
    return _png(figure)


def replicates(drawn: Mapping[str, Float64], label: str) -> bytes:
    """How a measure of each model is spread over the replicates of a bootstrap; lines mark the means.

    Args:
        drawn: float64[replicates] by the name of the model, at most three.
        label: of the measure.
    """
    figure, axes = _axes(label, "share of replicates")
    edges = np.histogram_bin_edges(np.concatenate(list(drawn.values())), 60)
    for (name, values), colour in zip(drawn.items(), (BLUE, ORANGE, GREEN), strict=False):
        counts, _ = np.histogram(values, edges)
        axes.stairs(counts / len(values), edges, color=colour, fill=True, alpha=0.45, label=name)
        axes.axvline(float(values.mean()), color=colour, lw=1.2)
    axes.legend(loc="upper left", frameon=False)
    return _png(figure)


def importance_bars(importance: Sequence[tuple[str, float]], top: int = 20) -> bytes:
    """The features that the trees gained most by."""
    largest = [(name, share) for name, share in importance[:top] if share > 0][::-1]
    figure, axes = _axes("share of the gain in training, %", "", (7.2, 0.9 + 0.28 * max(len(largest), 1)))
    axes.barh([name for name, _ in largest], [100 * share for _, share in largest], color=BLUE)
    axes.grid(visible=False)
    return _png(figure)


def _axes(x_label: str, y_label: str, inches: tuple[float, float] = (6.4, 4.0)) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure  # noqa: PLC0415  takes a second, which others need not wait

    figure = Figure(figsize=inches, layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#dddddd", lw=0.5)
    return figure, axes


def _mark(axes: Axes, thresholds: Mapping[str, float]) -> None:
    for name, threshold in thresholds.items():
        if 0 < threshold <= 1:
            axes.axvline(threshold, color="black", lw=0.8, ls="--" if name == "review" else "-.")
            axes.text(
                threshold, 1.0, f" {name}", transform=axes.get_xaxis_transform(), fontsize=8, va="bottom",
                ha="center",
            )  # fmt: skip


def _thinned(points: int) -> Int64:
    """Indices of at most about `_POINTS_MAX` points, the first and the last among them."""
    return np.unique(np.linspace(0, points - 1, min(points, _POINTS_MAX)).astype(np.int64))


def _png(figure: Figure) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415

    buffer = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
