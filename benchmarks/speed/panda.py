"""pandas, the handbook's way: by customer and by terminal, rolling windows over a time index.

Cleaning has no chapter in the book; here it is text columns, `to_numeric` and `to_datetime` with
errors as nulls, `drop_duplicates`, Parquet by day.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from benchmarks.speed.ours import FEATURES

_WINDOWS = (1, 7, 30)
_NAMES = ["id", "moment", "customer", "terminal", "amount", "elapsed", "days", "fraud", "scenario", "more"]
_READ = ["transaction_id", "event_time_seconds", "customer_key", "terminal_key", "amount_minor", "is_fraud"]


def clean(raw: Path, out: Path) -> dict[str, Any]:
    """Text to Parquet by day."""
    import numpy as np  # noqa: PLC0415
    import pandas as pd  # noqa: PLC0415  only in the process that runs it

    text = pd.read_csv(
        raw, header=None, skiprows=1, names=_NAMES, dtype=str, na_filter=True, keep_default_na=False,
        na_values=[], quoting=3,
    )  # fmt: skip
    moment = pd.to_datetime(text["moment"], format="%Y-%m-%d %H:%M:%S", errors="coerce")
    number = {
        n: pd.to_numeric(text[n], errors="coerce") for n in ("id", "customer", "terminal", "amount", "fraud")
    }
    listed = text["terminal"].isin(["Err", "None"])
    no_time = moment.isna()
    # Patterns are tried on the few rows without a time only.
    odd = text.loc[no_time, "moment"].fillna("")
    shaped = odd.str.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d").reindex(text.index, fill_value=False)
    midnight = odd.str.endswith(" 24:00:00") & pd.to_datetime(odd.str[:10], errors="coerce").notna()
    blank = [(f"missing_field:{name}", (text[n] == "")) for n, name in (
        ("id", "transaction_id"), ("moment", "tx_datetime"), ("customer", "customer_id"),
        ("terminal", "terminal_id"), ("amount", "tx_amount"))]  # fmt: skip
    known = [
        ("wrong_field_count", (text["scenario"].fillna("") == "") | (text["more"].fillna("") != "")), *blank,
        ("not_an_integer:transaction_id", number["id"].isna()),
        ("not_an_integer:customer_id", number["customer"].isna()),
        ("not_an_integer:terminal_id", number["terminal"].isna() & ~listed),
        ("not_a_number:tx_amount", number["amount"].isna()),
        ("not_a_time:tx_datetime", no_time & ~shaped),
        ("out_of_range:tx_amount", number["amount"] < 0),
        ("unknown_entity:customer_id", number["customer"] == -999_999),
        ("unknown_entity:terminal_id", listed),
        ("hour_24:tx_datetime", no_time & midnight.reindex(text.index, fill_value=False)),
        ("impossible_time:tx_datetime", no_time),
    ]  # fmt: skip
    reason = np.select([c.to_numpy() for _, c in known], range(1, len(known) + 1), 0)
    counts = np.bincount(reason, minlength=len(known) + 1)
    fine = reason == 0
    frame = pd.DataFrame(
        {
            "transaction_id": number["id"][fine].astype("int64"),
            "event_time_seconds": moment[fine].astype("datetime64[s]").astype("int64"),
            "customer_key": number["customer"][fine].astype("int64"),
            "terminal_key": number["terminal"][fine].astype("int64"),
            "amount_minor": (number["amount"][fine] * 100).round().astype("int64"),
            "is_fraud": number["fraud"][fine].astype("int8"),
        }
    )
    unique = frame.drop_duplicates("transaction_id")
    day = pd.to_datetime(unique["event_time_seconds"] // 86_400 * 86_400, unit="s").dt.strftime("%Y-%m-%d")
    unique.assign(day=day).to_parquet(out, partition_cols=["day"])
    rejected = {name: int(counts[i]) for i, (name, _) in enumerate(known, start=1) if counts[i]}
    return {"rows_clean": len(unique), **rejected, "duplicate": len(frame) - len(unique)}


def features(clean: Path, out: Path) -> dict[str, Any]:
    """The 15 features as a frame in memory."""
    return {"rows": len(_features(clean))}


def features_checked(clean: Path, out: Path) -> dict[str, Any]:
    """The same as Parquet."""
    out.mkdir(parents=True)
    frame = _features(clean)
    frame.to_parquet(out / "features.parquet")
    return {"rows": len(frame)}


def _features(clean: Path) -> Any:
    import pandas as pd  # noqa: PLC0415

    files = sorted(clean.glob("day=*/*.parquet"))
    rows = pd.concat([pd.read_parquet(path, columns=_READ) for path in files], ignore_index=True)
    rows["moment"] = pd.to_datetime(rows["event_time_seconds"], unit="s")
    rows["amount"] = rows["amount_minor"] / 100
    rows["is_weekend"] = (rows["moment"].dt.weekday >= 5).astype(int)
    rows["is_night"] = (rows["moment"].dt.hour <= 6).astype(int)
    columns = ["transaction_id", "moment", "amount", "is_fraud"]
    customers = rows.groupby("customer_key")[columns].apply(_customer)
    terminals = rows.groupby("terminal_key")[columns].apply(_terminal)
    known = rows[["transaction_id", "amount", "is_weekend", "is_night"]].set_index("transaction_id")
    joined = known.join(customers.set_index("transaction_id")).join(terminals.set_index("transaction_id"))
    return joined.reset_index()[["transaction_id", *FEATURES]]


def _customer(rows: Any) -> Any:
    import pandas as pd  # noqa: PLC0415

    amount = rows.set_index("moment")["amount"]
    found = {"transaction_id": rows["transaction_id"].to_numpy()}
    for days in _WINDOWS:
        window = amount.rolling(f"{days}D")
        count, total = window.count(), window.sum()
        found[f"customer_payments_{days}d"] = count.to_numpy()
        found[f"customer_average_{days}d"] = (total / count).to_numpy()
    return pd.DataFrame(found)


def _terminal(rows: Any) -> Any:
    """Windows that end before the delay: those of delay and window less those of the delay alone."""
    import pandas as pd  # noqa: PLC0415

    fraud = rows.set_index("moment")["is_fraud"]
    found = {"transaction_id": rows["transaction_id"].to_numpy()}
    delay = fraud.rolling("7D")
    frauds_delay, known_delay = delay.sum().to_numpy(), delay.count().to_numpy()
    for days in _WINDOWS:
        window = fraud.rolling(f"{7 + days}D")
        known = window.count().to_numpy() - known_delay
        frauds = window.sum().to_numpy() - frauds_delay
        found[f"terminal_known_{days}d"] = known
        found[f"terminal_share_{days}d"] = frauds / known.clip(1)
    return pd.DataFrame(found)
