"""DuckDB on two threads: SQL only.

Cleaning: text columns read by its parallel CSV reader, `TRY_CAST`, one temporary table for the
reasons, `DISTINCT ON` over all input, Parquet by day. Features: range frames over integers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.ours import FEATURES

_DAY, _DELAY = 86_400, 7 * 86_400
_WINDOWS = (1, 7, 30)
_NAMES = ("id", "moment", "customer", "terminal", "amount", "elapsed", "days", "fraud", "scenario", "more")

_TYPED = """
CREATE TEMP TABLE typed AS
WITH fields AS (
  SELECT *, TRY_CAST(id AS BIGINT) AS transaction_id,
    TRY_CAST(epoch(TRY_STRPTIME(moment, '%Y-%m-%d %H:%M:%S')) AS BIGINT) AS event_time_seconds,
    TRY_CAST(customer AS BIGINT) AS customer_key, TRY_CAST(terminal AS BIGINT) AS terminal_key,
    CAST(round(TRY_CAST(amount AS DOUBLE) * 100) AS BIGINT) AS amount_minor,
    TRY_CAST(fraud AS TINYINT) AS is_fraud
  FROM read_csv($raw, auto_detect=false, header=false, skip=1, delim=',', quote='', escape='', null_padding=true,
                nullstr='\\N', columns={columns})
)
SELECT transaction_id, event_time_seconds, customer_key, terminal_key, amount_minor, is_fraud,
  CASE
    WHEN scenario IS NULL OR more IS NOT NULL THEN 'wrong_field_count'
    WHEN id = '' THEN 'missing_field:transaction_id' WHEN moment = '' THEN 'missing_field:tx_datetime'
    WHEN customer = '' THEN 'missing_field:customer_id' WHEN terminal = '' THEN 'missing_field:terminal_id'
    WHEN amount = '' THEN 'missing_field:tx_amount'
    WHEN transaction_id IS NULL THEN 'not_an_integer:transaction_id'
    WHEN customer_key IS NULL THEN 'not_an_integer:customer_id'
    WHEN terminal_key IS NULL AND terminal NOT IN ('Err', 'None') THEN 'not_an_integer:terminal_id'
    WHEN amount_minor IS NULL THEN 'not_a_number:tx_amount'
    WHEN event_time_seconds IS NULL AND NOT regexp_full_match(
      moment, '[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}} [0-9]{{2}}:[0-9]{{2}}:[0-9]{{2}}') THEN 'not_a_time:tx_datetime'
    WHEN amount_minor < 0 THEN 'out_of_range:tx_amount'
    WHEN customer = '-999999' THEN 'unknown_entity:customer_id'
    WHEN terminal_key IS NULL THEN 'unknown_entity:terminal_id'
    WHEN event_time_seconds IS NULL AND moment LIKE '% 24:00:00'
      AND TRY_CAST(moment[:10] AS DATE) IS NOT NULL THEN 'hour_24:tx_datetime'
    WHEN event_time_seconds IS NULL THEN 'impossible_time:tx_datetime'
  END AS reason
FROM fields
"""
_WRITE = """
COPY (
  SELECT DISTINCT ON (transaction_id) transaction_id, event_time_seconds, customer_key, terminal_key,
    amount_minor, is_fraud, DATE '1970-01-01' + CAST(event_time_seconds // 86400 AS INTEGER) AS day
  FROM typed WHERE reason IS NULL
) TO '{out}' (FORMAT parquet, PARTITION_BY (day))
"""


def _connection() -> Any:
    import duckdb  # noqa: PLC0415  only in the process that runs it

    connection = duckdb.connect()
    connection.execute("SET threads = 2; SET preserve_insertion_order = false; SET memory_limit = '6GB'")
    return connection


def clean(raw: Path, out: Path) -> dict[str, Any]:
    """Text to Parquet by day."""
    connection = _connection()
    columns = "{" + ", ".join(f"'{n}': 'VARCHAR'" for n in _NAMES) + "}"
    connection.execute(_TYPED.format(columns=columns), {"raw": str(raw)})
    found = dict(connection.execute("SELECT reason, count(*) FROM typed GROUP BY ALL").fetchall())
    fine = found.pop(None)
    out.parent.mkdir(parents=True, exist_ok=True)
    rows = connection.execute(_WRITE.format(out=out)).fetchone()[0]
    connection.close()
    return {"rows_clean": rows, **found, "duplicate": fine - rows}


def features(clean: Path, out: Path) -> dict[str, Any]:
    """The 15 features into a temporary table."""
    connection = _connection()
    connection.execute(f"CREATE TEMP TABLE features AS {_features(clean)}")
    rows = connection.execute("SELECT count(*) FROM features").fetchone()[0]
    connection.close()
    return {"rows": rows}


def features_checked(clean: Path, out: Path) -> dict[str, Any]:
    """The same as Parquet."""
    out.mkdir(parents=True)
    connection = _connection()
    connection.execute(f"COPY ({_features(clean)}) TO '{out / 'features.parquet'}' (FORMAT parquet)")
    connection.close()
    return features(clean, out)


def _features(clean: Path) -> str:
    frames, columns, final = [], [], []
    for days in _WINDOWS:
        w = days * _DAY
        frames.append(f"c{days} AS (PARTITION BY customer_key ORDER BY event_time_seconds "
                      f"RANGE BETWEEN {w - 1} PRECEDING AND CURRENT ROW)")  # fmt: skip
        frames.append(f"t{days} AS (PARTITION BY terminal_key ORDER BY event_time_seconds "
                      f"RANGE BETWEEN {_DELAY + w - 1} PRECEDING AND {_DELAY} PRECEDING)")  # fmt: skip
        columns.append(f"count(*) OVER c{days} AS customer_payments_{days}d, "
                       f"avg(amount_minor) OVER c{days} / 100 AS customer_average_{days}d, "
                       f"count(*) OVER t{days} AS terminal_known_{days}d, "
                       f"sum(is_fraud) OVER t{days} AS frauds_{days}d")  # fmt: skip
        final.append(
            f"coalesce(frauds_{days}d / nullif(terminal_known_{days}d, 0), 0) AS terminal_share_{days}d"
        )
    given = [name for name in FEATURES if not name.startswith("terminal_share")]
    return f"""
    SELECT transaction_id, {", ".join(given)}, {", ".join(final)} FROM (
      SELECT transaction_id, amount_minor / 100 AS amount,
        CAST((event_time_seconds // {_DAY} + 3) % 7 >= 5 AS INTEGER) AS is_weekend,
        CAST(event_time_seconds % {_DAY} < 7 * 3600 AS INTEGER) AS is_night, {", ".join(columns)}
      FROM read_parquet('{clean}/day=*/*.parquet') WINDOW {", ".join(frames)})"""
