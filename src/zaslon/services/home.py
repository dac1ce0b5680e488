"""The layout of a home: models, the champion, its policy."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from zaslon.decisions.policy import Policy, load_policy, parse_policy
from zaslon.domain.errors import ArtefactError, DataError, PolicyError, did_you_mean
from zaslon.domain.events import Change
from zaslon.domain.policy_version import PolicyVersion
from zaslon.engine import ENGINE_VERSION, Engine, restore_engine
from zaslon.features.plan import FeaturePlan, plan_features
from zaslon.models.artefact import load_model
from zaslon.models.model import Model
from zaslon.ports import Journal, LogReader, SnapshotStore
from zaslon.services.context import Context
from zaslon.system.durable import rename, write_file

Champion = tuple[Model, Policy]  # what scores and decides
CHAMPION = "champion"  # the name of whichever model serves
_CHAMPION_FILE, POLICY_FILE = "champion.json", "policy.toml"
EDITED_FILE = "edited file"  # who made a change by an edit, as nobody said so
_NEXT_FILE = ".policy.toml.next"
_IDENTITY_FILE = "home.id"
_POLICIES, _WRITTEN = "policies", "written"
_NUMBER_LIMIT = 1 << 53  # what every reader of JSON keeps exactly
_TEXT_CHARACTERS_MAX = 1_000

_REPLAY_AGAIN_RECORDS_MAX = 1_000  # a failing engine is recovered a dozen times; a longer replay is done once


def existing_home(home: Path) -> Path:
    """The home, if there is one.

    Raises:
        DataError: there is none.
    """
    if not home.is_dir():
        raise DataError(
            f"There is no home '{home}'.",
            hint="`zaslon run FILE` makes one; another one is named with --home.",
        )
    return home


def home_identity(home: Path) -> str:
    """16 hex digits that no other home has, made at the first call; a copy of a home has those of the original.

    Called by who holds the lock on promotions.
    """
    path = existing_home(home) / _IDENTITY_FILE
    if not path.exists():
        write_file(path, secrets.token_hex(8).encode())
    return path.read_text()


def policy_names(plan: FeaturePlan) -> list[str]:
    """What rules may use: the features, and the model's score."""
    return [*plan.names, "score"]


def written_policy(context: Context, plan: FeaturePlan) -> Policy:
    """The policy that people wrote into the home, or the default one without rules.

    Raises:
        PolicyError: it is inconsistent; points at the word.
    """
    _finish_policy_file(context)
    path = context.home / POLICY_FILE
    return load_policy(path if path.exists() else None, policy_names(plan))


def keep_policy(context: Context, policy: Policy, content: bytes | None = None) -> None:
    """Keep a policy under its hash, for the replay of what it decides; with the file it was made from, for a return.

    Args:
        content: that file; for None it is `policy.toml`, if that gives this policy.
    """
    path = context.home / _POLICIES / f"{policy.hash}.toml"
    if not path.exists():
        write_file(path, policy.to_toml().encode())
    written = path.parent / _WRITTEN / path.name
    if content is not None:
        write_file(written, content)
    elif not written.exists() and _gives(context, current := _policy_file(context), policy):
        write_file(written, current)


def kept_text(context: Context, policy_hash: str) -> str | None:
    """What people wrote of a policy that the home keeps; None where nobody wrote it."""
    written = context.home / _POLICIES / _WRITTEN / f"{policy_hash}.toml"
    return written.read_bytes().decode() if written.is_file() else None


def put_policy(context: Context, version: PolicyVersion) -> None:
    """Keep a policy as the store has it; a damaged or lost file of it is replaced."""
    path = context.home / _POLICIES / f"{version.policy}.toml"
    write_file(path, version.meaning.encode())
    if version.text is not None:
        write_file(path.parent / _WRITTEN / path.name, version.text.encode())


def policy_file_of(context: Context, model: Model, policy: Policy) -> bytes:
    """What `policy.toml` holds while a policy serves: the text it was made from, or one of the same meaning.

    Thresholds that were chosen in the model's training are not in it, so that the next training chooses others.
    """
    kept = context.home / _POLICIES / _WRITTEN / f"{policy.hash}.toml"
    if kept.is_file() and _gives(context, content := kept.read_bytes(), policy):
        return content
    chosen, thresholds = model.facts.thresholds, policy.thresholds
    is_chosen = (chosen.get("review"), chosen.get("block")) == (thresholds.review, thresholds.block)
    return policy.to_toml(thresholds=not is_chosen).encode()


def is_written(context: Context, policy: Policy) -> bool:
    """Whether `policy.toml` gives a policy, with its thresholds where the file states none."""
    _finish_policy_file(context)
    return _gives(context, _policy_file(context), policy)


def _finish_policy_file(context: Context) -> None:
    """Put the file of the policy that serves in place, where a killed process has named that policy only."""
    if (context.home / _NEXT_FILE).exists():
        with context.adapters.one_at_a_time_in(context.home):
            _put_policy_file(context)


def _put_policy_file(context: Context) -> None:
    """For who holds the lock. The file before is kept as `policy.toml.before`."""
    path, new = context.home / POLICY_FILE, context.home / _NEXT_FILE
    if not new.exists():
        return
    try:
        kept = context.home / _POLICIES / _WRITTEN / f"{named_champion(context).policy}.toml"
    except ArtefactError:
        kept = new.parent
    if not kept.is_file() or kept.read_bytes() != new.read_bytes():  # killed before that policy was named
        new.unlink()
        return
    if path.exists() and (before := path.read_bytes()) != new.read_bytes():
        write_file(path.with_suffix(".toml.before"), before)
    rename(new, path)


def _policy_file(context: Context) -> bytes:
    path = context.home / POLICY_FILE
    return path.read_bytes() if path.exists() else b""


def _gives(context: Context, content: bytes, policy: Policy) -> bool:
    """Whether a file gives a policy, with its thresholds where the file states none."""
    try:
        written = parse_policy(content.decode(), policy_names(plan_features(context.catalogue)))
    except (PolicyError, UnicodeDecodeError):
        return False
    thresholds = policy.thresholds
    return with_chosen_thresholds(written, thresholds.review, thresholds.block).hash == policy.hash


def keep_champion(
    context: Context, model: Model, policy: Policy, *, by: str = "training", reason: str = "",
    entry: int | None = None, policy_file: bytes | None = None,
) -> Change:  # fmt: skip
    """Make a saved model and its policy the ones that serve; old policies stay readable.

    A service that decides for this home takes them over within seconds. What the home named before may be
    missing or unreadable: it is replaced, and the ledger's entry then keeps the number above earlier ones.

    Args:
        entry: of the ledger that it is promoted by; None for one without.
        policy_file: what `policy.toml` is to be from then on; None leaves it as it is.
    """
    keep_policy(context, policy, policy_file)
    with context.adapters.one_at_a_time_in(context.home):
        number = max(_number_before(context) + 1, entry or 1)
        named = Change(model.artefact_id, policy.hash, number, by, reason, entry)
        _name(context, named, policy_file)
    return named


def _name(context: Context, named: Change, policy_file: bytes | None) -> None:
    """For who holds the lock: after a kill, what serves and `policy.toml` are both the old ones or both the new ones."""
    if policy_file is not None:
        write_file(context.home / _NEXT_FILE, policy_file)
    write_file(context.home / _CHAMPION_FILE, orjson.dumps(named))
    _put_policy_file(context)


def _number_before(context: Context) -> int:
    try:
        return named_champion(context).number
    except ArtefactError:
        return 0


def adopt_champion(context: Context, named: Change, model: Model, policy: Policy) -> Change | None:
    """Let the home name a champion that the log has from elsewhere, so that the next one here gets a higher number.

    `policy.toml` becomes that policy's, or the next start would take it for edited and put an older policy back.

    Returns:
        What it named before; None where that stays, as its number is higher or it is this one, or could not be read.
    """
    content = None if is_written(context, policy) else policy_file_of(context, model, policy)
    keep_policy(context, policy, content)
    with context.adapters.one_at_a_time_in(context.home):
        try:
            before = named_champion(context)
        except ArtefactError:
            before = None
        if before == named or (before is not None and before.number > named.number):
            return None
        _name(context, named, content)
    return before


def replace_champion(context: Context, before: Change, named: Change) -> bool:
    """Let the home name another champion, unless something was promoted since it named `before`."""
    with context.adapters.one_at_a_time_in(context.home):
        if named_champion(context) != before:
            return False
        write_file(context.home / _CHAMPION_FILE, orjson.dumps(named))
    return True


def named_champion(context: Context) -> Change:
    """What the home says about the model and policy that serve.

    Raises:
        DataError: there is no home.
        ArtefactError: there is no model, or the file is damaged.
    """
    path = existing_home(context.home) / _CHAMPION_FILE
    if not path.exists():
        raise no_champion(context.home)
    try:
        return _change_of(orjson.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtefactError(
            f"'{path}' does not name the model and policy that serve.",
            hint="Name one: `zaslon promote ID --unguarded`; `models/` of the home has the ids.",
        ) from error


def no_champion(home: Path) -> ArtefactError:
    """The error of a home in which no model serves: it has none yet, or none was promoted."""
    if _known_models(home):
        return ArtefactError(
            f"No model serves in '{home}'.",
            hint="A trained model serves if it keeps the guards. `zaslon promote ID --unguarded` lets one serve all "
            "the same; `models/` of the home has the ids.",
        )
    return ArtefactError(
        f"There is no model in '{home}'.", hint="Train one: `zaslon run FILE` or `zaslon train`."
    )


def _known_models(home: Path) -> list[Path]:
    return [path for path in (home / "models").glob("[!.]*") if path.is_dir()]


def _change_of(found: dict[str, Any]) -> Change:
    """What the file names; one from before promotions were counted has number 0, and others have no `entry`.

    Raises:
        KeyError, TypeError, ValueError: it is not such a file.
    """
    texts = [found["model"], found["policy"], found.get("by", ""), found.get("reason", "")]
    number = found.get("number", 0)
    entry = found.get("entry")
    for counted in (number, 0 if entry is None else entry):
        if type(counted) is not int or not 0 <= counted < _NUMBER_LIMIT:
            raise ValueError("the number of the promotion")
    if not all(isinstance(text, str) and len(text) <= _TEXT_CHARACTERS_MAX for text in texts):
        raise ValueError("a text")
    model, policy, by, reason = texts
    if "entry" not in found:
        return Change.with_entry_in_words(model, policy, number, by, reason)
    return Change(model, policy, number, by, reason, entry)


def load_champion(context: Context, plan: FeaturePlan) -> Champion:
    """The serving model and policy: the written one, with the champion's thresholds if it has none.

    Raises:
        DataError: there is no home.
        ArtefactError: there is no model, or it is damaged or of another catalogue.
        PolicyError: `policy.toml` is inconsistent.
    """
    return load_named(context, plan, named_champion(context))


def names_champion(context: Context) -> bool:
    """Whether the home says which model serves."""
    return (existing_home(context.home) / _CHAMPION_FILE).exists()


def champion_or_none(context: Context, plan: FeaturePlan) -> Champion | None:
    """What serves; None for a home that has no champion yet. Raises as `load_champion`."""
    if not names_champion(context):
        return None
    return load_champion(context, plan)


def load_named(context: Context, plan: FeaturePlan, named: Change) -> Champion:
    """The model that is named, and `policy.toml` with the thresholds that are named (see `load_champion`).

    Thresholds that people have taken out of the file again are named no longer: those of the model's training apply.
    """
    model, policy = load_versions(context, plan, named.model, named.policy)
    review, block = policy.thresholds.review, policy.thresholds.block
    if _were_stated(context, plan, policy):
        review, block = (model.facts.thresholds.get(n, t) for n, t in (("review", review), ("block", block)))
    return model, with_chosen_thresholds(written_policy(context, plan), review, block)


def _were_stated(context: Context, plan: FeaturePlan, policy: Policy) -> bool:
    """Whether people wrote the thresholds of a policy down, as far as that is known."""
    kept = context.home / _POLICIES / _WRITTEN / f"{policy.hash}.toml"
    return kept.is_file() and load_policy(kept, policy_names(plan)).states_thresholds


def named_model(context: Context, name: str) -> Model | None:
    """The model that a person names: `champion`, the id of one in the home, an artefact's directory, or another home.

    Of another home its champion is meant, or its only model. A directory is looked for where the command runs, then in the home. None for the champion of a home without one.

    Raises:
        ArtefactError: there is no such model, or it is damaged or of another catalogue.
    """
    home = existing_home(context.home)
    if name == CHAMPION:
        if not (home / _CHAMPION_FILE).exists():
            return None
        return load_champion(context, plan_features(context.catalogue))[0]
    for directory in (home / "models" / name, Path(name), home / name):
        if directory.is_dir():
            return load_model(_artefact_in(context, directory), context.catalogue.hash)
    known = [path.name for path in _known_models(home)]
    raise ArtefactError(
        f"There is no model '{name}' in '{home}'.", hint=did_you_mean(name, [*known, CHAMPION])
    )


def _artefact_in(context: Context, directory: Path) -> Path:
    """The artefact that is meant by a directory: itself, or one in it if it is a home."""
    if (directory / _CHAMPION_FILE).is_file():
        return directory / "models" / named_champion(context.in_home(directory)).model
    known = _known_models(directory)
    return known[0] if len(known) == 1 else directory


def with_chosen_thresholds(written: Policy, review: float, block: float) -> Policy:
    """A written policy with thresholds from training, where it states none itself."""
    return written if written.states_thresholds else written.with_thresholds(review, block)


def load_versions(context: Context, plan: FeaturePlan, model_id: str, policy_hash: str) -> Champion:
    """A model and a policy by their ids, for serving or for the replay of an old decision."""
    directory = context.home / "models" / model_id
    if not directory.is_dir():
        raise ArtefactError(
            f"Model {model_id} is no longer in '{directory.parent}'.",
            hint="Restore its directory from a backup.",
        )
    return load_model(directory, context.catalogue.hash), load_kept_policy(context, plan, policy_hash)


def load_kept_policy(context: Context, plan: FeaturePlan, policy_hash: str) -> Policy:
    """A policy that has served, or serves now.

    Raises:
        ArtefactError: the home does not have it, or it was changed.
        PolicyError: it cannot be read.
    """
    path = context.home / _POLICIES / f"{policy_hash}.toml"
    if not path.is_file():
        raise ArtefactError(
            f"Policy {policy_hash} is no longer in '{path.parent}'.", hint="Restore its file from a backup."
        )
    policy = load_policy(path, policy_names(plan))
    if policy.hash != policy_hash:
        raise ArtefactError(
            f"Policy {policy_hash} was changed: it now has the hash {policy.hash}.",
            hint="Restore the file from a backup; policies are never edited in place.",
        )
    return policy


def recover_engine(
    context: Context, journal: Journal, snapshots: SnapshotStore, champion: Champion,
    keep: Callable[[Engine], None] | None = None,
) -> Engine:  # fmt: skip
    """The engine as it was after the journal's last record: newest snapshot, then replay.

    Nothing is emitted again: records of the journal already have their outcomes.

    Args:
        champion: decides from now on.
        keep: saves a snapshot; called as by `keep_recovered`, for None never.
    """
    model, policy = champion
    beyond = snapshots.forget_after(journal.next_position)
    if beyond:
        context.progress.warn(
            f"The log ends at position {journal.next_position}, before {beyond} of its snapshots: it was "
            "restored from an older copy. They were removed."
        )
    past = engine_at(context, journal, snapshots, journal.next_position)
    engine = Engine(
        context.catalogue, key=context.key, model=model, policy=policy,
        history=past.history, position=past.position, plan=past.plan,
    )  # fmt: skip
    _warn_of_another_engine(context, journal)
    if journal.next_position == 0:
        engine.save(snapshots)  # what the log begins from
    for batch in journal.read(engine.position, originals=False):
        engine.replay(batch)
    if keep is not None:
        keep_recovered(engine, keep)
    return engine


def keep_recovered(engine: Engine, keep: Callable[[Engine], None]) -> None:
    """Save a recovered engine where so much was replayed that the next recovery should not repeat it."""
    if engine.records_since_snapshot > _REPLAY_AGAIN_RECORDS_MAX:
        keep(engine)


def _warn_of_another_engine(context: Context, journal: Journal) -> None:
    before = journal.serving(journal.next_position - 1)
    if before is not None and before.engine != ENGINE_VERSION:
        context.progress.warn(
            f"Engine version {ENGINE_VERSION} decides from position {journal.next_position} on; before it was "
            f"engine version {before.engine}."
        )


def engine_at(context: Context, journal: LogReader, snapshots: SnapshotStore, up_to_position: int) -> Engine:
    """An engine without model from the newest readable snapshot at or before a position.

    Raises:
        ArtefactError: the log has records, and the state that it began from is gone.
    """
    found = snapshots.newest(up_to_position)
    if found is not None:
        position, content, complaints = found
        for complaint in complaints:
            context.progress.warn(complaint)
        return restore_engine(context.catalogue, position, content, key=context.key)
    if journal.next_position:
        raise ArtefactError(
            f"The log in '{context.home / context.log}' has {journal.next_position} records and no "
            "snapshot of the state that it began from.",
            hint="Restore its directory `snapshots` from a backup.",
        )
    return Engine(context.catalogue, key=context.key)
