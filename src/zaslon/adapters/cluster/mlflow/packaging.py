"""An artefact as a model of MLflow: with signature and input example, without pickles."""

from __future__ import annotations

from pathlib import Path

import mlflow
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from zaslon import __version__
from zaslon.adapters.cluster.mlflow import scoring_code
from zaslon.ports.registry import Candidate


def package(candidate: Candidate, directory: Path) -> None:
    """Write MLflow's form of an artefact into a new directory.

    Features are doubles in the signature, because MLflow refuses to make floats of a data frame's doubles.
    """
    example = pd.DataFrame(candidate.example, columns=list(candidate.features), dtype="float64")
    mlflow.pyfunc.save_model(
        str(directory),
        python_model=scoring_code.__file__,
        artifacts={scoring_code.ARTEFACT: str(candidate.directory)},
        signature=ModelSignature(
            Schema([ColSpec("double", name) for name in candidate.features]),
            Schema([ColSpec("double", scoring_code.SCORE)]),
        ),
        input_example=example,
        pip_requirements=[f"mlflow=={mlflow.__version__}", f"zaslon=={__version__}"],
    )
