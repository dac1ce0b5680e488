"""The pictures and the HTML report."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from zaslon.models.dataset import Sample
from zaslon.models.metrics import evaluate
from zaslon.models.model import Model, ModelFacts
from zaslon.models.plots import calibration, draw_all, importance_bars, money_curve
from zaslon.models.report import ReportContent, render_report, write_report
from zaslon.models.report_style import PICTURES
from zaslon.models.training import TrainSettings, train

NAMES = ("amount", "<b>risk</b>")


@pytest.fixture(scope="module")
def content() -> ReportContent:
    random = np.random.default_rng(1)
    raw = random.normal(-3, 2, 5000)
    score = 1 / (1 + np.exp(-raw))
    fraud = (random.random(5000) < score).astype(np.int8)
    amount = random.integers(100, 100_000, 5000)
    weight = np.ones(5000)
    evaluation = evaluate(
        score, fraud, amount, weight, np.sort(random.integers(0, 864_000, 5000)),
        random.integers(0, 400, (5000, 1)), np.where(fraud == 1, 2, 0).astype(np.int8),
        review=0.3, block=math.inf, replicates=20,
    )  # fmt: skip
    pictures = draw_all(
        score, fraud, amount, weight, days=evaluation.days, thresholds={"review": 0.3, "block": math.inf},
        bins=evaluation.calibration, importance=[("amount", 0.9), ("<b>risk</b>", 0.1)], currency="RUB",
    )  # fmt: skip
    return ReportContent(
        title="What <it> is worth",
        model=_model(),
        evaluation=evaluation,
        pictures=pictures,
        periods=[("trained on", "2018-07-25 … 2018-07-31")],
        scorecard=[
            ("missed <frauds>", "at most 2 %", "24 %", "not_met", "22 % leave no evidence & cannot be seen"),
            ("false positives", "at most 5 %", "1 %", "met", ""),
            ("latency", "10 ms", "?", None, ""),
        ],
        by_delay=[
            {"labels after": "0 hours", "recall": "0.950"},
            {"labels after": "7 days", "recall": "0.760"},
        ],
        notes=["<script>alert('no')</script>"],
        versions={"Zaslon": "0.1.0"},
        currency="RUB",
    )


def _model() -> Model:
    random = np.random.default_rng(0)
    x = random.normal(size=(500, 2)).astype(np.float32)
    fraud = (x[:, 0] > 1).astype(np.int8)
    count = np.arange(500)
    sample = Sample(
        NAMES,
        x,
        fraud,
        np.ones(500, np.float32),
        count,
        count,
        count,
        count[:, None],
        np.full(500, -1, np.int8),
    )
    facts = ModelFacts(catalogue_label="small@1 (abc)")
    return train(sample, None, TrainSettings(rounds=3), facts=facts).model


class Page(HTMLParser):
    """Collects tags and attributes, and checks that tags close in order."""

    VOID = frozenset({"meta", "img"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_report_is_one_well_formed_page_that_loads_nothing(content: ReportContent) -> None:
    page = Page(render_report(content))
    assert page.open == []
    assert page.tags.count("img") == len(PICTURES) == len(content.pictures)
    assert all(address.startswith("data:image/png;base64,") for address in page.addresses)
    assert "link" not in page.tags and "script" not in page.tags


def test_text_from_outside_is_escaped(content: ReportContent) -> None:
    text = render_report(content)
    assert "<script>" not in text and "&lt;script&gt;" in text
    assert "What &lt;it&gt; is worth" in text
    assert "missed &lt;frauds&gt;" in text


def test_the_report_tells_goals_money_and_numbers_with_intervals(content: ReportContent) -> None:
    text = re.sub(r"<[^>]+>", " ", render_report(content))
    result = content.evaluation
    for fact in (
        "✗ not met", "✓ met", "– no target", "labels after", "0.760", "RUB of fraud",
        f"stops {100 * result['recall_at_review']:.0f},", f"{result['pr_auc']:.4f}",
        f"{result.headline['pr_auc'].low:.4f} … {result.headline['pr_auc'].high:.4f}",
        "Saved in 30 days", "Lost in 30 days", f"{result.money.lost.low / 100:,.0f} … ",
        content.model.artefact_id, "small@1 (abc)", "2018-07-25 … 2018-07-31", "setting leaves",
    ):  # fmt: skip
        assert fact in text
    assert "nan" not in text.lower().replace("finance", "")


def test_a_report_without_extras_leaves_their_sections_out(content: ReportContent) -> None:
    text = render_report(ReportContent("bare", content.model, content.evaluation))
    assert "Business goals" not in text and "faster confirmation" not in text and "<img" not in text
    assert Page(text).open == []


def test_the_report_is_written_whole(content: ReportContent, tmp_path: Path) -> None:
    path = write_report(tmp_path / "new" / "report.html", content)
    assert path.read_text("utf-8") == render_report(content)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]


def test_the_same_numbers_give_the_same_pictures(content: ReportContent) -> None:
    bins, importance = content.evaluation.calibration, content.model.importance()
    assert calibration(bins) == calibration(bins) == content.pictures["calibration"]
    assert importance_bars(importance) == importance_bars(importance)
    assert all(png.startswith(b"\x89PNG") for png in content.pictures.values())


def test_pictures_can_be_drawn_of_hardly_anything() -> None:
    score, fraud = np.array([0.2, 0.9]), np.array([0, 1], np.int8)
    pictures = draw_all(
        score, fraud, np.array([0, 0]), np.ones(2), days=1, thresholds={"review": math.inf}, bins=(),
        importance=[("amount", 0.0)],
    )  # fmt: skip
    assert set(pictures) == set(PICTURES)
    assert money_curve(score, fraud, np.array([1e9, 1.0]), {}, "RUB").startswith(b"\x89PNG")
