"""The words of the trade: none that a new engineer would have to look up here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEST_NAME = re.compile(r"^\s*(?:async )?def (test_\w+)\(", re.MULTILINE)
NAME_CHARACTERS_MAX = 64  # a short sentence: it stays on one line of a report
TEXTS = [
    *ROOT.glob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
    *(path for path in (ROOT / "src").rglob("*") if path.suffix in (".py", ".toml", ".sql")),
]
# What to write instead.
WORDS = {
    r"desks?": "decision worker",
    r"seals?|sealed": "transaction barrier, or checkpoint",
    r"milliards?": "billion",
    r"for ever": "permanently",
    r"mended|mends?": "fixed",
    r"surroundings": "request middleware",
    r"LeftOut": "degradation level",
    r"what stands (where|in)": "layout, or: is replaced by",
    r"no time at all": "at least 1s",
    r"the mistake is ours": "internal error",
}
# As names in the code; in a sentence a process may be told to end.
NAMES = {
    r"told|said": "hooks, message",
    r"pulses?|beats?": "batch metrics",
    r"Remembered|Passage|Surroundings|Bridge": "deduplication index, delivery timing, event-loop bridge",
}


def _found(pattern: str, paths: list[Path], flags: re.RegexFlag) -> list[str]:
    expression = re.compile(pattern, flags)
    return [
        f"{path.relative_to(ROOT)}: {match[0]}"
        for path in paths
        for match in expression.finditer(path.read_text("utf-8"))
    ]


@pytest.mark.parametrize("word", WORDS)
def test_no_text_has_a_word_that_only_we_use(word: str) -> None:
    assert _found(rf"\b({word})\b", TEXTS, re.IGNORECASE) == [], f"write: {WORDS[word]}"


@pytest.mark.parametrize("name", NAMES)
def test_no_name_is_a_word_that_only_we_use(name: str) -> None:
    code = [path for path in TEXTS if path.suffix == ".py"]
    assert _found(rf"\b(class |def )?({name})(?= =|:|\()", code, re.NOFLAG) == [], f"write: {NAMES[name]}"


def test_both_readmes_draw_admission_as_the_architecture_does() -> None:
    for name in ("README.md", "README.ru.md", "ARCHITECTURE.md"):
        drawing = (ROOT / name).read_text("utf-8").partition("rejections, named")[0].splitlines()[-1]
        assert drawing.split()[0] == "admission", name


def test_test_names_are_short_sentences() -> None:
    names = [
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in TEST_NAME.findall(path.read_text("utf-8"))
    ]
    assert len(names) > 1_000, "they are found"
    assert [name for name in names if len(name) > NAME_CHARACTERS_MAX] == []
