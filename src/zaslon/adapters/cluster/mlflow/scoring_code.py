"""How MLflow scores with an artefact: a copy of this file travels with the model and runs where it is loaded.

MLflow calls that "models from code": nothing is pickled. Who loads the model has MLflow and Zaslon installed.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel

from zaslon.models.artefact import load_model

ARTEFACT, SCORE = "artefact", "score"


class ScoringModel(PythonModel):
    """Rows of features in, calibrated probabilities of fraud out."""

    def load_context(self, context: Any) -> None:
        """Read the artefact and check that it is whole."""
        self.model = load_model(context.artifacts[ARTEFACT])

    def predict(self, context: Any, model_input: pd.DataFrame, params: Any = None) -> pd.DataFrame:
        """One column, `score`, 0 … 1, with the index of the input; features are found by their names."""
        del context, params
        x = model_input[list(self.model.names)].to_numpy(np.float32)
        return pd.DataFrame({SCORE: self.model.score(x)}, index=model_input.index)


set_model(ScoringModel())
