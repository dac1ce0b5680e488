"""The artefact: a model as a directory of plain text, checked when it is read. No pickles.

    model.txt      LightGBM's text form of the trees
    model.json     names, calibration, facts, format version
    checksum.json  the file names with their SHA-256 and the model's id

The id is the beginning of the checksum of the two first files: equal models have equal ids.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from zaslon.domain.errors import ArtefactError
from zaslon.models.calibration import Calibration
from zaslon.models.model import FORMAT, Model, ModelFacts
from zaslon.system.durable import make_directory, make_private, rename

TREES, FACTS, CHECKSUM = "model.txt", "model.json", "checksum.json"


def save_model(model: Model, directory: str | Path) -> str:
    """Write a model; returns its id. The directory appears whole or not at all.

    Saving the same model again changes nothing.

    Raises:
        ArtefactError: the directory holds something else, or cannot be written.
    """
    directory = Path(directory)
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        return _checked_same(model, directory)
    try:
        make_directory(directory.parent)
        _write(model, directory)
    except OSError as error:
        raise ArtefactError(f"The model cannot be written to '{directory}': {error}.") from error
    return model.artefact_id


def load_model(directory: str | Path, catalogue_hash: str | None = None) -> Model:
    """Read a model and check that it is whole and belongs to the catalogue.

    Args:
        directory: as given to `save_model`.
        catalogue_hash: of the catalogue that is to be served; None to accept any.

    Raises:
        ArtefactError: a file is missing or changed, the model is of another catalogue, or it was
            written by a newer version of the program.
    """
    directory = Path(directory)
    checksums = _json(directory, CHECKSUM, _read(directory, CHECKSUM))
    if not isinstance(checksums.get("files"), dict) or set(checksums["files"]) != {TREES, FACTS}:
        raise ArtefactError(f"The model in '{directory}' is damaged: {CHECKSUM} lists other files.")
    contents = {name: _read(directory, name) for name in (TREES, FACTS)}
    for name, content in contents.items():
        if hashlib.sha256(content).hexdigest() != checksums["files"][name]:
            raise ArtefactError(
                f"The model in '{directory}' is damaged: {name} has changed since it was written.",
                hint="Take the model from where it was made, or train again.",
            )
    model = _model(directory, _json(directory, FACTS, contents[FACTS]), contents[TREES])
    if checksums.get("id") != model.artefact_id:
        raise ArtefactError(f"The model in '{directory}' is damaged: its id does not fit its content.")
    if catalogue_hash is not None and model.facts.catalogue_hash != catalogue_hash:
        raise ArtefactError(
            f"The model in '{directory}' takes the features of catalogue {model.facts.catalogue_label}, "
            f"not of the catalogue {catalogue_hash} in use.",
            hint="Serve it with its own catalogue, or train a model with this one and promote it.",
        )
    return model


def _write(model: Model, directory: Path) -> None:
    unfinished = Path(tempfile.mkdtemp(prefix=".model-", dir=directory.parent))
    try:
        for name, content in _files(model).items():
            (unfinished / name).write_bytes(content)
        make_private(unfinished)
        rename(unfinished, directory)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _files(model: Model) -> dict[str, bytes]:
    files = {TREES: model.trees.encode(), FACTS: model.described()}
    sums = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return files | {
        CHECKSUM: orjson.dumps(
            {"id": model.artefact_id, "files": sums}, option=orjson.OPT_SORT_KEYS | orjson.OPT_INDENT_2
        )
    }


def _checked_same(model: Model, directory: Path) -> str:
    if not (directory / CHECKSUM).exists():
        raise ArtefactError(
            f"The model cannot be written to '{directory}': the directory holds something else.",
            hint="Choose a new or empty directory.",
        )
    other = load_model(directory).artefact_id
    if other != model.artefact_id:
        raise ArtefactError(
            f"The model cannot be written to '{directory}': it holds model {other} already.",
            hint="Choose a new directory; a model, once written, never changes.",
        )
    return other


def _read(directory: Path, name: str) -> bytes:
    try:
        return (directory / name).read_bytes()
    except OSError as error:
        what = f"{name} is missing" if isinstance(error, FileNotFoundError) else f"{name}: {error.strerror}"
        raise ArtefactError(
            f"There is no complete model in '{directory}': {what}.",
            hint="Give the directory that `zaslon train` wrote.",
        ) from error


def _json(directory: Path, name: str, content: bytes) -> dict[str, Any]:
    try:
        values = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ArtefactError(f"The model in '{directory}' is damaged: {name} is not JSON.") from error
    if not isinstance(values, dict):
        raise ArtefactError(f"The model in '{directory}' is damaged: {name} holds no object.")
    return values


def _model(directory: Path, values: dict[str, Any], trees: bytes) -> Model:
    if values.get("format") != FORMAT:
        raise ArtefactError(
            f"The model in '{directory}' has format {values.get('format')}; "
            f"this version reads format {FORMAT}.",
            hint="Use the version of Zaslon that wrote it, or train again.",
        )
    try:
        points = values["calibration"]
        calibration = Calibration(
            points["kind"],
            np.asarray(points["raw"], np.float64),
            np.asarray(points["calibrated"], np.float64),
        )
        facts_read = values["facts"]
        thresholds = {name: math.inf if t is None else t for name, t in facts_read["thresholds"].items()}
        facts = ModelFacts(**(facts_read | {"thresholds": thresholds}))  # JSON has no infinity
        return Model(tuple(values["names"]), trees.decode(), calibration, facts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtefactError(
            f"The model in '{directory}' is damaged: {FACTS} lacks or misstates {error}."
        ) from error
