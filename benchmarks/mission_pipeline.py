"""The mission's pipeline as its description has it, in Spark ML: cleaning, features, model. No history.

Only what the description says is as there: which rows are repaired, which features there are, how classes are
balanced and which parameters are tried. Rows are chosen by a hash of id and seed, so a run can be repeated.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from benchmarks.speed.native_spark import session
from numpy.typing import NDArray

_DAY = 86_400
_TEXT = (
    "transaction_id bigint, tx_datetime string, customer_id bigint, terminal_id string, tx_amount double, "
    "tx_time_seconds bigint, tx_time_days bigint, tx_fraud int, tx_fraud_scenario int"
)
REGULARISATION, ITERATIONS = (0.0, 0.1, 0.5), (100, 500, 1_000)
LEARNED_SHARE = 0.8  # of the training rows; the others choose the parameters
NONE, TRAIN, TEST = 0, 1, 2  # what a transaction is for


@dataclass(frozen=True)
class Roles:
    """What each transaction is for.

    Attributes:
        transaction_id: int64[n].
        role: int8[n]; a transaction may be to learn from (`TRAIN`), to score (`TEST`) or neither (`NONE`).
        rest_until_day: day number; transactions that are not listed are learned from up to here.
    """

    transaction_id: NDArray[np.int64]
    role: NDArray[np.int8]
    rest_until_day: int


@dataclass(frozen=True)
class Fitted:
    """A model on its test rows.

    Attributes:
        score: by transaction id, the probability of fraud among equally many of both classes.
        train_rows, train_frauds: learned from, after the classes were balanced.
        regularisation, iterations_max: that the validation chose.
        roc_auc: of the scores by Spark's own evaluator.
    """

    score: pl.DataFrame
    train_rows: int
    train_frauds: int
    regularisation: float
    iterations_max: int
    roc_auc: float


def clean(raw: Path, out: Path) -> int:
    """Write the repaired transactions of a file, text or Parquet; returns how many."""
    from pyspark.sql import functions as f  # noqa: PLC0415  only where the extra is

    reader = session().read
    table = reader.parquet(str(raw)) if raw.suffix == ".parquet" else reader.csv(str(raw), _TEXT, comment="#")
    rows = table.toDF(*(name.lower() for name in table.columns))
    moment = f.col("tx_datetime")
    if dict(rows.dtypes)["tx_datetime"] == "string":
        moment = f.try_to_timestamp(moment, f.lit("yyyy-MM-dd HH:mm:ss"))
    repaired = rows.select(
        f.col("transaction_id").cast("bigint").alias("transaction_id"),
        moment.cast("timestamp").alias("moment"),
        f.abs("customer_id").cast("bigint").alias("customer"),
        f.coalesce(f.col("terminal_id").try_cast("bigint"), f.lit(0)).alias("terminal"),
        f.col("tx_amount").alias("amount"),
        f.col("tx_time_seconds").cast("bigint").alias("elapsed_seconds"),
        f.floor(f.col("tx_time_seconds") / _DAY).alias("elapsed_days"),
        f.col("tx_fraud").cast("int").alias("is_fraud"),
    )
    repaired.dropna().dropDuplicates(["transaction_id"]).write.parquet(str(out))
    return int(session().read.parquet(str(out)).count())


def fit_and_score(cleaned: Path, roles: Roles, seed: int, scratch: Path) -> Fitted:
    """Learn from the rows with the role `TRAIN`, score those with `TEST`.

    Args:
        cleaned: what `clean` wrote.
        roles: of its transactions.
        seed: of the balancing and of the choice of parameters.
        scratch: an empty directory for this model.
    """
    from pyspark.ml.evaluation import BinaryClassificationEvaluator  # noqa: PLC0415
    from pyspark.ml.functions import vector_to_array  # noqa: PLC0415
    from pyspark.sql import functions as f  # noqa: PLC0415

    rows = _with_roles(cleaned, roles, scratch)
    learned = _balanced(rows.filter(f"role = {TRAIN}"), seed).coalesce(1).cache()
    features = _features().fit(learned)
    prepared = features.transform(learned).select("features", "is_fraud").cache()
    counts = {row["is_fraud"]: row["count"] for row in prepared.groupBy("is_fraud").count().collect()}
    best = _search(seed).fit(prepared).bestModel
    answers = best.transform(features.transform(rows.filter(f"role = {TEST}")))
    probability = vector_to_array(f.col("probability"))[1].alias("score")
    answers.select("transaction_id", probability, "is_fraud").write.parquet(str(scratch / "scores"))
    prepared.unpersist()
    learned.unpersist()
    scored = session().read.parquet(str(scratch / "scores"))
    area = BinaryClassificationEvaluator(labelCol="is_fraud", rawPredictionCol="score", numBins=0)
    return Fitted(
        pl.read_parquet(scratch / "scores" / "*.parquet").select("transaction_id", "score"),
        sum(counts.values()), counts.get(1, 0), best.getRegParam(), best.getMaxIter(), area.evaluate(scored),
    )  # fmt: skip


def _with_roles(cleaned: Path, roles: Roles, scratch: Path) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    path = scratch / "roles.parquet"
    pl.DataFrame({"transaction_id": roles.transaction_id, "listed": roles.role}).write_parquet(path)
    listed = session().read.parquet(str(path))
    day = f.unix_date(f.col("moment").cast("date"))
    rest = f.when(day <= roles.rest_until_day, TRAIN).otherwise(NONE)
    rows = session().read.parquet(str(cleaned)).join(listed, "transaction_id", "left")
    hour = f.hour("moment")
    part = f.when(hour < 6, "night").when(hour < 12, "morning").when(hour < 18, "day").otherwise("evening")
    return rows.select(
        "transaction_id",
        "is_fraud",
        "amount",
        "elapsed_seconds",
        (f.col("terminal") == 0).cast("double").alias("terminal_is_zero"),
        part.alias("part_of_day"),
        f.coalesce("listed", rest).alias("role"),
    )


def _balanced(rows: Any, seed: int) -> Any:
    """All of the rarer class and about as many of the other."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    counts = {row["is_fraud"]: row["count"] for row in rows.groupBy("is_fraud").count().collect()}
    share = min(1.0, counts[1] / counts[0])
    luck = f.pmod(f.xxhash64("transaction_id", f.lit(seed)), f.lit(1 << 32)) / float(1 << 32)
    return rows.filter((f.col("is_fraud") == 1) | (luck < share))


def _features() -> Any:
    """Amount, elapsed seconds, whether the terminal is 0, and four parts of the day; scaled."""
    from pyspark.ml import Pipeline  # noqa: PLC0415
    from pyspark.ml.feature import (  # noqa: PLC0415
        OneHotEncoder,
        StandardScaler,
        StringIndexer,
        VectorAssembler,
    )

    columns = ["amount", "elapsed_seconds", "terminal_is_zero", "part_vector"]
    return Pipeline(
        stages=[
            StringIndexer(inputCol="part_of_day", outputCol="part_number", handleInvalid="keep"),
            OneHotEncoder(inputCol="part_number", outputCol="part_vector"),
            VectorAssembler(inputCols=columns, outputCol="unscaled"),
            StandardScaler(inputCol="unscaled", outputCol="features", withMean=True),
        ]
    )


def _search(seed: int) -> Any:
    """Logistic regression, its parameters chosen by ROC-AUC on a random part of the training rows."""
    from pyspark.ml.classification import LogisticRegression  # noqa: PLC0415
    from pyspark.ml.evaluation import BinaryClassificationEvaluator  # noqa: PLC0415
    from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit  # noqa: PLC0415

    model = LogisticRegression(featuresCol="features", labelCol="is_fraud")
    grid = (
        ParamGridBuilder()
        .addGrid(model.regParam, list(REGULARISATION))
        .addGrid(model.maxIter, list(ITERATIONS))
        .build()
    )
    return TrainValidationSplit(
        estimator=model, estimatorParamMaps=grid, trainRatio=LEARNED_SHARE, seed=seed,
        evaluator=BinaryClassificationEvaluator(labelCol="is_fraud"),
    )  # fmt: skip
