"""The default catalogue's features in Spark SQL: window functions alone, no Python in the rows.

Whatever can be a difference of growing frames is one, because Spark adds a sliding frame up anew at every
row; what cannot (a maximum, quantiles, distinct terminals) has a sliding frame over a customer's few rows.
Labels arrive after a constant delay, so a window over labels is a frame that ends that much earlier. A customer's
rows and a terminal's are exchanged and sorted once each.
"""

from __future__ import annotations

from typing import Any

from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.time import SECONDS_PER_DAY
from zaslon.features.plan import plan_features

LABEL_DELAY_SECONDS = 7 * SECONDS_PER_DAY
_WINDOWS = {"1h": 3_600, "1d": 86_400, "7d": 7 * 86_400, "30d": 30 * 86_400}
_MONTH = _WINDOWS["30d"]
# Over a terminal's labels these need the first element of a sliding frame of up to millions of rows.
_NOT_IN_SQL = {"since_first_fraud", "recent_risk"}


def compared_catalogue() -> Catalogue:
    """The default one without what Spark SQL has no frame for."""
    fields = load_catalogue().model_dump()
    kept = [
        {**one, "compute": [c for c in one["compute"] if c not in _NOT_IN_SQL]}
        for one in fields["aggregates"]
    ]
    return Catalogue.model_validate(
        {**fields, "name": "compared", "aggregates": [one for one in kept if one["compute"]]}
    )


def with_features(rows: Any) -> Any:
    """Clean rows with every feature of `compared_catalogue`, in the columns of `zaslon features`."""
    from pyspark.sql import functions as f  # noqa: PLC0415  only in the process that runs it

    wide = _terminals(_customers(_own(rows)))
    wide = wide.withColumns({name: f.col(name).cast("float") for name in _aggregates()})
    names = plan_features(compared_catalogue()).names
    numbers = [
        f.coalesce(f.col(name).cast("float"), f.lit(float("nan")).cast("float")).alias(name) for name in names
    ]
    return _derived(wide).select("transaction_id", "event_time_seconds", "is_fraud", *numbers)


def _aggregates() -> list[str]:
    return [info.name for info in plan_features(compared_catalogue()).infos if info.kind == "aggregate"]


def _own(rows: Any) -> Any:
    """Features of the transaction itself, and of its flags."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    seconds = f.col("event_time_seconds")
    flags = {
        f"flag_{name}": f.shiftrightunsigned("flags", bit).bitwiseAND(f.lit(1))
        for bit, name in enumerate(load_catalogue().flag_names)
    }
    return rows.withColumns(
        {
            "amount": f.col("amount_minor") / 100,
            "hour": f.floor(seconds % SECONDS_PER_DAY / 3_600),
            "weekday": (f.floor(seconds / SECONDS_PER_DAY) + 3) % 7,
            "second_of_day": seconds % SECONDS_PER_DAY,
            "fraud": f.when(f.col("is_fraud") == 1, 1).otherwise(0),
            "labelled": f.when(f.col("is_fraud") >= 0, 1).otherwise(0),
            **flags,
        }
    )


class _Frames:
    """Frames over the rows of a key by time. Bounds are seconds before the transaction; `delay` moves a frame back."""

    def __init__(self, *keys: str) -> None:
        from pyspark.sql.window import Window  # noqa: PLC0415

        self._by_time = Window.partitionBy(*keys).orderBy("event_time_seconds")
        self.in_order = Window.partitionBy(*keys).orderBy("event_time_seconds", "transaction_id")
        self._begin = Window.unboundedPreceding

    def until(self, seconds: int) -> Any:
        """All rows that are this old or older."""
        return self._by_time.rangeBetween(self._begin, -seconds)

    def sliding(self, seconds: int) -> Any:
        """Rows before this one that are younger."""
        return self._by_time.rangeBetween(1 - seconds, -1)

    def before(self, what: Any) -> Any:
        """What a sum has of all rows before this one in the log."""
        from pyspark.sql import functions as f  # noqa: PLC0415

        return f.coalesce(f.sum(what).over(self.in_order.rowsBetween(self._begin, -1)), f.lit(0))

    def sum(self, what: Any, seconds: int, delay: int | None = None) -> Any:
        """A sum over the window of `seconds`; with a delay, of what was known by then."""
        newest = self.before(what) if delay is None else self._until(what, delay)
        return newest - self._until(what, seconds + (delay or 0))

    def _until(self, what: Any, seconds: int) -> Any:
        from pyspark.sql import functions as f  # noqa: PLC0415

        return f.coalesce(f.sum(what).over(self.until(seconds)), f.lit(0))


def _customers(rows: Any) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    frames, one, seconds = _Frames("customer_key"), f.lit(1), f.col("event_time_seconds")
    amount = f.col("amount_minor")
    counts = {f"customer_count_{name}": frames.sum(one, length) for name, length in _WINDOWS.items()}
    totals = {f"total_{name}": frames.sum(amount, _WINDOWS[name]) for name in ("1d", "7d", "30d")}
    fraud_time = f.max(f.when(f.col("fraud") == 1, seconds)).over(frames.until(LABEL_DELAY_SECONDS))
    found = rows.withColumns(
        {
            **counts, **totals,
            "squares": frames.sum(amount * amount, _MONTH),
            "customer_frauds_14d": frames.sum(f.col("fraud"), 14 * SECONDS_PER_DAY, LABEL_DELAY_SECONDS),
            "since_last": seconds - f.lag(seconds).over(frames.in_order),
            "since_fraud": seconds - fraud_time,
            "customer_max_30d": f.max(amount).over(frames.sliding(_MONTH)) / 100,
            "customer_distinct_terminal_30d": f.size(f.collect_set("terminal_key").over(frames.sliding(_MONTH))),
            "amounts_7d": _newest(f.collect_list(amount).over(frames.sliding(_WINDOWS["7d"])), 32),
            "amounts_30d": _newest(f.collect_list(amount).over(frames.sliding(_MONTH)), 64),
        }
    )  # fmt: skip
    with_pairs = found.withColumn(
        "customer_same_terminal_30d", _Frames("customer_key", "terminal_key").sum(one, _MONTH)
    )
    return _customer_values(with_pairs)


def _newest(amounts: Any, most: int) -> Any:
    """The newest of a list by time, in ascending order of their values."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    return f.array_sort(f.slice(amounts, f.greatest(f.size(amounts) - most + 1, f.lit(1)), most))


def _customer_values(rows: Any) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    count, total = f.col("customer_count_30d"), f.col("total_30d")
    variance = (count * f.col("squares") - total * total) / (count * (count - 1))
    means = {
        f"customer_mean_{name}": f.when(
            f.col(f"customer_count_{name}") > 0,
            f.col(f"total_{name}") / f.col(f"customer_count_{name}") / 100,
        )
        for name in ("1d", "7d", "30d")
    }
    fraud_is_near = f.col("since_fraud") < _MONTH + LABEL_DELAY_SECONDS
    return rows.withColumns(
        {
            **means,
            "customer_std_30d": f.when(count > 1, f.sqrt(variance) / 100),
            "customer_since_last_30d": f.when(f.col("since_last") < _MONTH, f.col("since_last")),
            "customer_since_fraud_30d": f.when(fraud_is_near, f.col("since_fraud")),
            **{
                f"customer_{name}_{days}": _quantile(f"amounts_{days}", percent)
                for days in ("7d", "30d")
                for name, percent in (("median", 50), ("q90", 90))
            },
        }
    ).drop(
        "amounts_7d",
        "amounts_30d",
        "squares",
        "since_last",
        "since_fraud",
        "total_1d",
        "total_7d",
        "total_30d",
    )


def _quantile(amounts: str, percent: int) -> Any:
    """The nearest rank of a sorted list."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    rank = f.ceil(f.size(amounts) * percent / 100).cast("int")
    return f.when(f.size(amounts) > 0, f.element_at(amounts, f.greatest(rank, f.lit(1)))) / 100


def _terminals(rows: Any) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    frames, delay = _Frames("terminal_key"), LABEL_DELAY_SECONDS
    mean = f.col("customer_mean_30d").cast("float").cast("double")
    usual = f.coalesce(f.col("amount") / mean, f.lit(1.0)) <= 2.5
    marked = rows.withColumns(
        {
            "ordinary": f.when((f.col("amount") <= 200) & usual & (f.col("fraud") == 1), 1).otherwise(0),
            **{
                f"terminal_count_{name}": frames.sum(f.lit(1), _WINDOWS[name]) for name in ("1d", "7d", "30d")
            },
            "labels": f.sum("labelled").over(frames.until(0)),
        }
    )
    columns = {"known": f.coalesce(f.sum("labelled").over(frames.until(delay)), f.lit(0))}
    for name in ("1d", "7d", "30d"):
        for feature, what in (
            ("known", "labelled"),
            ("frauds", "fraud"),
            ("frauds_ordinary_amount", "ordinary"),
        ):
            columns[f"terminal_{feature}_{name}"] = frames.sum(f.col(what), _WINDOWS[name], delay)
    for feature, what in (("", "fraud"), ("_ordinary_amount", "ordinary")):
        newest = f.when(f.col(what) == 1, f.struct("event_time_seconds", "labels"))
        columns[f"newest{feature}"] = f.max(newest).over(frames.until(delay))
    return _terminal_values(marked.withColumns(columns))


def _terminal_values(rows: Any) -> Any:
    from pyspark.sql import functions as f  # noqa: PLC0415

    prior = load_catalogue().prior
    columns = {
        f"terminal_risk_{name}": (f.col(f"terminal_frauds_{name}") + prior.rate * prior.strength)
        / (f.col(f"terminal_known_{name}") + prior.strength)
        for name in ("1d", "7d", "30d")
    }
    for where in ("", "_ordinary_amount"):
        newest = f.col(f"newest{where}")
        since = f.col("event_time_seconds") - newest["event_time_seconds"]
        is_near = since < _MONTH + LABEL_DELAY_SECONDS
        columns[f"terminal_since_fraud{where}_30d"] = f.when(is_near, since)
        columns[f"terminal_good_since_fraud{where}_30d"] = f.when(is_near, f.col("known") - newest["labels"])
    return rows.withColumns(columns)


def _derived(rows: Any) -> Any:
    """What is made of features, in float64 of their float32."""
    from pyspark.sql import functions as f  # noqa: PLC0415

    amount = f.col("amount")
    mean, std = (f.col(f"customer_{name}_30d").cast("double") for name in ("mean", "std"))
    ratios = {
        f"amount_to_customer_{name}": amount / f.col(f"customer_{name}").cast("double")
        for name in ("mean_7d", "mean_30d", "median_30d", "q90_30d", "max_30d")
    }
    return rows.withColumns(
        {
            "is_night": (f.col("hour") <= 6).cast("int"),
            "is_weekend": (f.col("weekday") >= 5).cast("int"),
            **ratios,
            "amount_above_customer_mean_in_std_30d": (amount - mean) / std,
            "is_new_terminal_30d": (f.col("customer_same_terminal_30d") == 0).cast("int"),
        }
    )
