"""The peers of `benchmarks/serve_speed.py`: the same trees behind other ingress paths, and nothing else.

Each takes one row of features and gives its score. The trees' text is in the file that `PEER_TREES` names.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np


def booster() -> Any:
    """The trees."""
    import lightgbm  # noqa: PLC0415

    return lightgbm.Booster(model_str=Path(os.environ["PEER_TREES"]).read_text())


def fastapi_app() -> Any:
    """A bare route: `uvicorn --factory benchmarks.serve_peers:fastapi_app`."""
    from fastapi import FastAPI  # noqa: PLC0415

    app, trees = FastAPI(), booster()

    @app.post("/predict")
    async def predict(row: list[float]) -> dict[str, float]:
        return {"score": float(trees.predict(np.array([row], np.float32), num_threads=1)[0])}

    return app


def save_for_mlflow(directory: str) -> None:
    """The trees as a model that `mlflow models serve` takes."""
    import mlflow.lightgbm  # noqa: PLC0415

    mlflow.lightgbm.save_model(booster(), directory)


if "bentoml" in os.environ.get("PEER", ""):
    import bentoml  # type: ignore[import-not-found, unused-ignore]

    class Scorer:
        """A service of BentoML: `bentoml serve serve_peers:Service`."""

        def __init__(self) -> None:
            self.trees = booster()

        @bentoml.api  # type: ignore[untyped-decorator, unused-ignore]
        def predict(self, row: list[float]) -> float:
            """The score of one row."""
            return float(self.trees.predict(np.array([row], np.float32), num_threads=1)[0])

    Service = bentoml.service(Scorer)


if __name__ == "__main__":
    save_for_mlflow(sys.argv[1])
