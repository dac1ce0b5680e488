"""The documents are complete and true: what exists is described, what is described exists."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, cast

import pytest
import typer

from zaslon.domain.errors import ZaslonError
from zaslon.domain.jobs import Chain, Job
from zaslon.domain.rejections import Reason
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.entrypoints.cli import MOSTLY_TOO_LATE, NOT_IN_ORDER, RECOMPUTED_DIFFERENTLY, app
from zaslon.entrypoints.cli_schedule import JOB_FAILED
from zaslon.entrypoints.console import INTERRUPTED
from zaslon.entrypoints.options import NO_NEWS
from zaslon.entrypoints.stream_metrics import StreamMetrics
from zaslon.flows.reconcile import Reconciled
from zaslon.flows.stream import StreamReport
from zaslon.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md")
    for path in ROOT.glob(pattern)
)  # fmt: skip
RECORDS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))


def _read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def _headings(text: str) -> list[int]:
    """Levels of a document's headings, in order."""
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [len(found) for found in re.findall(r"^(#+) ", without_blocks, re.MULTILINE)]


def _blocks(text: str) -> list[str]:
    return re.findall(r"^```.*?^```$", text, re.MULTILINE | re.DOTALL)


def _links(text: str) -> list[str]:
    without_blocks = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"\]\(([^)\s]+)\)", without_blocks)


def test_rejection_reasons_are_documented_in_order() -> None:
    described = re.findall(r"^## `(\w+)`$", _read("docs/reference/rejections.md"), re.MULTILINE)
    assert described == [reason.code for reason in Reason if reason is not Reason.ACCEPTED]


def test_every_rejection_reason_has_advice() -> None:
    sections = re.split(r"^## (?=`)", _read("docs/reference/rejections.md"), flags=re.MULTILINE)[1:]
    assert [s.split("\n", 1)[0] for s in sections if "**What to do.**" not in s] == []


def test_every_setting_is_described_with_its_default() -> None:
    rows = re.findall(
        r"^\| `ZASLON_(\w+)` \| (.+?) \| (.+?) \|$", _read("docs/reference/settings.md"), re.MULTILINE
    )
    expected = [
        (name.upper(), "none" if field.default is None else f"`{field.default}`", field.description)
        for name, field in Settings.model_fields.items()
    ]
    assert rows == expected


@pytest.mark.parametrize(
    ("metrics", "prefix", "page"),
    [
        (Metrics(), "zaslon", "docs/operating/runbook-service.md"),
        (StreamMetrics(), "zaslon_stream", "docs/guides/stream.md"),
    ],
    ids=["service", "stream"],
)
def test_every_metric_is_on_its_page(metrics: Metrics | StreamMetrics, prefix: str, page: str) -> None:
    documented = set(re.findall(rf"^\| `({prefix}_\w+)` \|", _read(page), re.MULTILINE))
    counted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in metrics.registry.collect()
        if family.name.startswith("zaslon_")
    }
    assert documented == counted


def test_every_metric_of_the_schedule_is_on_its_page() -> None:
    from zaslon.entrypoints.schedule_metrics import ScheduleMetrics

    documented = set(re.findall(r"^\| `(zaslon_\w+)` \|", _read("docs/operating/schedule.md"), re.MULTILINE))
    counted = {
        family.name + ("_total" if family.type == "counter" else "")
        for family in ScheduleMetrics().registry.collect()
        if family.name.startswith("zaslon_")
    }
    assert documented == counted


def test_every_key_of_the_list_of_jobs_is_explained() -> None:
    page = _read("docs/operating/schedule.md")
    keys = {*Chain.model_fields, *Job.model_fields} - {"jobs"}
    assert [key for key in keys if f"`{key}`" not in page] == []


@pytest.mark.parametrize(("command", "report"), [("stream", StreamReport()), ("reconcile", Reconciled())])
def test_every_json_key_is_in_the_reference(command: str, report: StreamReport | Reconciled) -> None:
    (section,) = re.findall(
        rf"^## `zaslon {command}`\n(.*?)^## ", _read("docs/reference/commands.md"), re.MULTILINE | re.DOTALL
    )
    assert [key for key in report.to_json_dict() if f"`{key}`" not in section] == []


def test_every_make_target_is_explained_to_people() -> None:
    targets = re.findall(r"^([a-z-]+):.*## ", _read("Makefile"), re.MULTILINE)
    assert "demo" in targets
    documented = _read("README.md") + _read("CONTRIBUTING.md")
    assert [target for target in targets if f"make {target}" not in documented] == []


def test_every_package_is_in_the_architecture() -> None:
    source = ROOT / "src" / "zaslon"
    packages = {path.parent.relative_to(source).as_posix() for path in source.glob("*/**/__init__.py")}
    modules = {path.name for path in source.glob("*.py")} - {"__init__.py"}
    text = _read("ARCHITECTURE.md")
    missing = [p for p in packages if f"`{p}/`" not in text] + [m for m in modules if f"`{m}`" not in text]
    assert missing == []


def test_every_folder_that_the_architecture_names_exists() -> None:
    named = re.findall(r"^\| `([a-z/]+)/` \|", _read("ARCHITECTURE.md"), re.MULTILINE)
    assert len(named) > 10
    known = [ROOT, ROOT / "src" / "zaslon"]
    assert [n for n in named if not any((base / n).is_dir() for base in known)] == []


def test_the_two_readmes_have_the_same_headings_and_the_same_blocks() -> None:
    english, russian = _read("README.md"), _read("README.ru.md")
    assert _headings(english) == _headings(russian)
    assert _blocks(english) == _blocks(russian)
    assert _blocks(english), "the README has no command"


def test_the_two_readmes_have_the_same_tables_and_links() -> None:
    english, russian = _read("README.md"), _read("README.ru.md")
    for pattern in (r"^\| `([^`]+)`", r"^\d\. ", r"^- "):
        assert len(re.findall(pattern, english, re.MULTILINE)) == len(
            re.findall(pattern, russian, re.MULTILINE)
        ), pattern
    to_each_other = {"README.md", "README.ru.md"}
    assert set(_links(english)) - to_each_other == set(_links(russian)) - to_each_other


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in _links(document.read_text("utf-8")):
        if link.startswith(("http://", "https://", "#")):
            continue
        assert (document.parent / link.split("#", 1)[0]).exists(), link


def test_decision_records_are_numbered_without_gaps_and_listed() -> None:
    assert [int(path.name[:4]) for path in RECORDS] == list(range(len(RECORDS)))
    index = _read("docs/decisions/README.md")
    assert [path.name for path in RECORDS if f"({path.name})" not in index] == []


@pytest.mark.parametrize("record", RECORDS, ids=lambda path: path.stem)
def test_a_decision_record_follows_the_template(record: Path) -> None:
    text = record.read_text("utf-8")
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Why", "Consequences"]
    assert re.search(r"^- \*\*Status:\*\* (proposed|accepted|replaced by)", text, re.MULTILINE)
    assert "**Where:**" in text
    assert text.count("\n") <= 60


def test_the_newest_version_has_an_entry_in_the_changelog() -> None:
    version = re.search(r'^version = "(.+)"$', _read("pyproject.toml"), re.MULTILINE)
    assert version is not None
    assert f"## [{version[1]}]" in _read("CHANGELOG.md") or "## [Unreleased]" in _read("CHANGELOG.md")


def _commands() -> list[str]:
    return [
        command.name or command.callback.__name__
        for command in app.registered_commands
        if command.callback is not None
    ] + [str(group.name) for group in app.registered_groups]


@pytest.mark.parametrize("readme", ["README.md", "README.ru.md"])
def test_every_command_is_in_both_readmes(readme: str) -> None:
    assert re.findall(r"^\| `(\w+)` \|", _read(readme), re.MULTILINE) == _commands()


def test_every_command_that_a_document_shows_exists() -> None:
    mentioned = {
        word
        for document in DOCUMENTS
        for word in re.findall(r"(?:bin/|^|`)zaslon ([a-z]+)\b", document.read_text("utf-8"), re.MULTILINE)
    }
    assert mentioned - set(_commands()) == set()


def test_every_command_and_every_option_of_it_is_described() -> None:
    page = _read("docs/reference/commands.md")
    common, *sections = re.split(r"^## ", page, flags=re.MULTILINE)
    documented = {s.split()[1].rstrip("`"): common + s for s in sections if s.startswith("`zaslon ")}
    assert list(documented) == _commands()
    commands = cast(Any, typer.main.get_command(app)).commands
    missing = [
        (name, option)
        for name, command in commands.items()
        for part in (command, *getattr(command, "commands", {}).values())
        for parameter in part.params
        if parameter.param_type_name == "option"
        for option in (*parameter.opts, *parameter.secondary_opts)
        if f"`{option}`" not in documented[name]
    ]
    assert missing == []


def test_every_exit_code_is_explained() -> None:
    page = _read("docs/reference/commands.md")
    explained = [int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)]
    kinds: list[type[ZaslonError]] = [ZaslonError, *ZaslonError.__subclasses__()]
    raised = {kind.exit_code for kind in kinds}
    raised |= {0, NOT_IN_ORDER, RECOMPUTED_DIFFERENTLY, MOSTLY_TOO_LATE, NO_NEWS, INTERRUPTED, JOB_FAILED}
    assert raised == set(explained)
    assert explained == sorted(set(explained))


def test_the_architecture_lists_every_flow() -> None:
    row = re.search(r"^\| `flows/` \| (.+) \|$", _read("ARCHITECTURE.md"), re.MULTILINE)
    assert row is not None
    flows = [path.stem for path in (ROOT / "src/zaslon/flows").glob("*.py") if path.stem != "__init__"]
    assert sorted(re.findall(r"`(\w+)`", row[1])) == sorted(flows)
