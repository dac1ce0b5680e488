"""The registry follows the home and the ledger: runs that wait to be written there, and the alias `champion`.

What is to be written is kept in the home first, then copied to the registry. A registry that is away keeps nobody
from training or promoting: what it lacks is written when it is back, by the next promotion or `zaslon registry sync`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import orjson

from zaslon.domain.errors import ArtefactError, BusyError, SystemRefusedError, ZaslonError
from zaslon.domain.ledger import LedgerEntry
from zaslon.domain.time import time_text
from zaslon.models.artefact import load_model
from zaslon.ports.registry import ARTEFACT, Candidate, Registry, RunRecord
from zaslon.services.context import Context
from zaslon.services.home import named_champion
from zaslon.services.promotion_ledger import record_champion
from zaslon.system.durable import make_directory, settle, write_file

_WAITING, _RECORD = "registry", "record.json"
LEDGER_ENTRY = "ledger_entry"  # tag of a served version
# How often in a row others may promote before one who follows the ledger gives up.
_OVERTAKEN_MAX = 20


@dataclass(frozen=True)
class Waiting:
    """A run that is to be written into the registry.

    Attributes:
        run: `files` is left empty.
        model: id of an artefact in the home, to be registered with the run; None for a run without one.
        features: names of its features, in the order of the columns.
        example: rows of them, NaN where a feature has no value.
    """

    run: RunRecord
    model: str | None = None
    features: Sequence[str] = ()
    example: Sequence[Sequence[float]] = ()


@dataclass(frozen=True)
class Named:
    """A model that something names, with the ledger's entry that it was named by; None where not known."""

    model: str | None = None
    entry: int | None = None


@dataclass(frozen=True)
class RegistryState:
    """Who names which model as the one that serves.

    Attributes:
        place: of the registry; None where none is configured.
        ledger: the newest entry.
        home: what `champion.json` names.
        champion, challenger: what the aliases name.
        waiting: runs that are not in the registry yet.
        problem: why it could not be asked or written; None where it could.
    """

    place: str | None
    ledger: Named
    home: Named
    champion: Named = field(default_factory=Named)
    challenger: Named = field(default_factory=Named)
    waiting: int = 0
    problem: str | None = None

    @property
    def agrees(self) -> bool:
        """Whether ledger, home and, where there is a registry, its alias name the same, and no run waits."""
        in_step = self.place is None or (self.champion == self.ledger and not self.waiting)
        return self.problem is None and self.ledger.model == self.home.model and in_step

    def to_json_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "agrees": self.agrees}


def keep_run(context: Context, waiting: Waiting, files: Mapping[str, bytes]) -> None:
    """Keep a run for the registry, durably, until it is written there.

    Args:
        waiting: what is known of it.
        files: that belong to it, by name, which may have a directory.

    Raises:
        SystemRefusedError: the home cannot be written.
    """
    place = context.home / _WAITING / waiting.run.key
    if (place / _RECORD).exists():
        return
    try:
        for name, content in files.items():
            write_file(place / name, content)
        for directory in {place, *((place / name).parent for name in files)}:
            settle(directory)  # half files of a killed attempt would be taken for files of the run
        write_file(place / _RECORD, orjson.dumps(asdict(waiting)))  # NaN becomes null
    except OSError as error:
        raise SystemRefusedError(f"A run for the registry cannot be kept in '{place}': {error}.") from error


def publish(
    context: Context, work: Callable[[Context], RegistryState | None] | None = None
) -> RegistryState | None:
    """`follow_ledger`, or other `work`, where a registry that fails is a warning: what it lacks stays in the home."""
    try:
        return (work or follow_ledger)(context)
    except ZaslonError as error:
        context.progress.warn(
            f"{error.message} The next promotion or `zaslon registry sync` writes what the registry lacks."
        )
        return RegistryState(None, Named(), Named(), problem=error.message)


def write_waiting(context: Context) -> RegistryState | None:
    """Write what waits, and leave the aliases of served models alone; None without a registry.

    Raises:
        ZaslonError: the registry cannot be used.
    """
    registry = context.open_registry()
    if registry is None:
        return None
    with _alone(context):
        _write_all(context, registry)
    return registry_state(context, registry)


def follow_ledger(context: Context) -> RegistryState | None:
    """Write what waits, then let the alias name what the ledger's newest entry does; None without a registry.

    The registry has no compare-and-set, so the ledger is read again after the alias was moved. Of several who
    promote at once the last to move the alias sees the newest entry afterwards, or moves it again.

    Raises:
        ZaslonError: the registry or the store cannot be used. The champion serves on.
    """
    registry = context.open_registry()
    if registry is None:
        return None
    with _alone(context):
        _write_all(context, registry)
        entry = record_champion(context)
        for _ in range(_OVERTAKEN_MAX):
            if entry is None or _named(registry.champion()).entry == entry.number:
                return registry_state(context, registry)
            _promote(context, registry, entry)
            entry = context.open_ledger().newest()
    raise BusyError("Others promote all the time; the registry is behind.", hint="Try again.")


def registry_state(context: Context, registry: Registry | None) -> RegistryState:
    """Ask ledger, home and registry; one that does not answer is a problem in words.

    Raises:
        ZaslonError: the ledger's store cannot be used.
    """
    newest = context.open_ledger().newest()
    ledger = Named() if newest is None else Named(newest.promotion.model, newest.number)
    try:
        home = Named(named_champion(context).model)
    except ArtefactError:
        home = Named()
    if registry is None:
        return RegistryState(None, ledger, home)
    waiting = len(_waiting(context))
    try:
        champion, challenger = _named(registry.champion()), _named(registry.challenger())
    except ZaslonError as error:
        return RegistryState(registry.place, ledger, home, waiting=waiting, problem=error.message)
    return RegistryState(registry.place, ledger, home, champion, challenger, waiting)


@contextmanager
def _alone(context: Context) -> Iterator[None]:
    make_directory(context.home / _WAITING)
    with context.adapters.one_at_a_time_in(context.home / _WAITING):
        yield


def _named(tags: Mapping[str, str] | None) -> Named:
    if tags is None:
        return Named()
    number = tags.get(LEDGER_ENTRY, "")
    return Named(tags.get(ARTEFACT), int(number) if number.isdecimal() else None)


def _promote(context: Context, registry: Registry, entry: LedgerEntry) -> None:
    promotion = entry.promotion
    tags = {
        ARTEFACT: promotion.model, "catalogue": promotion.catalogue, "policy": promotion.policy,
        "verdict": promotion.verdict, "action": promotion.action, "actor": promotion.actor,
        "promoted_at": time_text(promotion.recorded_seconds), "approval": promotion.approval or "none",
        "ledger_hash": entry.hash, LEDGER_ENTRY: str(entry.number),
    }  # fmt: skip
    if registry.promote(promotion.model, tags):
        return
    registry.write(*_from_artefact(context, promotion.model))
    registry.promote(promotion.model, tags)


def _from_artefact(context: Context, model_id: str) -> tuple[RunRecord, Candidate]:
    """A run of a model from before there was a registry: what its artefact says of itself."""
    directory = context.home / "models" / model_id
    model = load_model(directory)
    facts = asdict(model.facts)
    metrics, params = facts.pop("metrics"), {**facts.pop("settings"), **facts}
    tags = {ARTEFACT: model_id, "catalogue": model.facts.catalogue_hash, "kind": "import"}
    run = RunRecord(f"import-{model_id}", f"model {model_id}", params, metrics, tags)
    return run, Candidate(directory, model.names, [[0.0] * len(model.names)])


def _waiting(context: Context) -> list[Path]:
    """Directories of the runs that are not in the registry yet, oldest first; a run cut short by a crash is left out."""
    records = (context.home / _WAITING).glob(f"*/{_RECORD}")
    return [path.parent for path in sorted(records, key=lambda path: path.stat().st_mtime_ns)]


def _write_all(context: Context, registry: Registry) -> None:
    """Write them, and forget each that is written."""
    for place in _waiting(context):
        run, candidate = _read(context, place)
        registry.write(run, candidate)
        shutil.rmtree(place)


def _read(context: Context, place: Path) -> tuple[RunRecord, Candidate | None]:
    """A run that waits; without its model where that is no longer in the home."""
    try:
        record = orjson.loads((place / _RECORD).read_bytes())
        files = sorted(path for path in place.iterdir() if path.name != _RECORD)
        run = RunRecord(**{**record["run"], "files": files})
        model, features, example = record["model"], record["features"], record["example"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"'{place}' does not hold a run that waits for the registry: {error}.", hint="Remove it."
        ) from error
    directory = None if model is None else context.home / "models" / model
    if directory is None or not directory.is_dir():
        return run, None
    return run, Candidate(directory, features, example)
