"""Two other ways to consume the same backlog; started by stream_speed.py, each in its own process.

    mission_way   poll a batch of lines → pandas → types → Spark frame → Spark ML model → collect →
                  one message with the predictions joined by newlines; offsets are committed after it.
                  As the tools come: a poll gives at most 500 records, and Spark does without Arrow.
    mission_way_tuned
                  the same by somebody who has read about it: 5,000 records a poll, Arrow on.
    quix_streams  a stateful application: per customer the count and the mean of three windows (1, 7
                  and 30 days), exactly-once on, state in RocksDB with its changelog topic. Its input
                  is keyed by customer beforehand, which is not counted.

Prints one JSON object. The first third of the backlog is warm-up and is not counted.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, Producer, TopicPartition

LEARNED = 5_000  # transactions of which the mission's model is made
POLL_BY_DEFAULT, POLL_TUNED = 500, 5_000
COLUMNS = (
    "transaction_id", "tx_datetime", "customer_id", "terminal_id", "tx_amount",
    "tx_time_seconds", "tx_time_days", "tx_fraud", "tx_fraud_scenario",
)  # fmt: skip
FEATURES = ["tx_amount", "tx_time_seconds", "tx_time_days", "customer_id", "terminal_id"]
DAYS = (1, 7, 30)


def connection() -> dict[str, Any]:
    """The client's configuration, from the settings that stream_speed.py gives."""
    return {
        "bootstrap.servers": os.environ["ZASLON_KAFKA_SERVERS"],
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": os.environ["ZASLON_KAFKA_USER"],
        "sasl.password": Path(os.environ["ZASLON_KAFKA_PASSWORD_FILE"]).read_text("utf-8").strip(),
        "ssl.ca.location": os.environ["ZASLON_KAFKA_CA_FILE"],
    }


def lines_of(consumer: Consumer, count: int) -> list[bytes]:
    """Up to a batch of values; fewer only at the end."""
    values: list[bytes] = []
    while len(values) < count:
        values += [m.value() or b"" for m in consumer.consume(count - len(values), 0.5) if not m.error()]
    return values


def mission_way(
    total: int, scratch: Path, batch: int = POLL_BY_DEFAULT, arrow: bool = False
) -> dict[str, Any]:
    """As the mission consumes: so many records a poll, with Arrow between pandas and Spark or without."""
    import pandas as pd  # noqa: PLC0415
    from pyspark.ml import Pipeline  # noqa: PLC0415
    from pyspark.ml.classification import RandomForestClassifier  # noqa: PLC0415
    from pyspark.ml.feature import VectorAssembler  # noqa: PLC0415
    from pyspark.sql import SparkSession  # noqa: PLC0415

    spark = (
        SparkSession.builder.master("local[2]").appName("mission").config("spark.ui.enabled", "false")
        .config("spark.sql.execution.arrow.pyspark.enabled", str(arrow).lower())
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.local.dir", str(scratch / "spark")).getOrCreate()
    )  # fmt: skip
    spark.sparkContext.setLogLevel("ERROR")

    def frame(lines: list[bytes]) -> Any:
        rows = [line.decode("utf-8", "replace").split(",") for line in lines]
        found = pd.DataFrame([r for r in rows if len(r) == len(COLUMNS)], columns=list(COLUMNS))
        for name in (*FEATURES, "tx_fraud"):
            found[name] = pd.to_numeric(found[name], errors="coerce")
        found["tx_datetime"] = pd.to_datetime(found["tx_datetime"], errors="coerce")
        return spark.createDataFrame(found.dropna())

    consumer = Consumer(
        {**connection(), "group.id": "zaslon-mission", "auto.offset.reset": "earliest",
         "enable.auto.commit": False}
    )  # fmt: skip
    consumer.assign([TopicPartition(os.environ["ZASLON_KAFKA_TOPIC_INPUT"], 0, 0)])
    producer = Producer(connection())
    learned = frame(lines_of(consumer, LEARNED))
    assembler = VectorAssembler(inputCols=FEATURES, outputCol="features")
    forest = RandomForestClassifier(labelCol="tx_fraud", numTrees=20, maxDepth=5, maxBins=64, seed=1)
    model = Pipeline(stages=[assembler, forest]).fit(learned)
    done, counted, begin = LEARNED, 0, 0.0
    while done < total:
        size = min(batch, total - done)
        scored = model.transform(frame(lines_of(consumer, size))).select("prediction").collect()
        answer = "\n".join(str(row.prediction) for row in scored)
        producer.produce(os.environ["ZASLON_KAFKA_TOPIC_PREDICTIONS"], answer.encode())
        producer.flush()
        consumer.commit(asynchronous=False)
        done += size
        if begin:
            counted += size
        elif done >= total // 3:
            begin = time.perf_counter()
    seconds = time.perf_counter() - begin
    spark.stop()
    return {"tx_per_second": round(counted / seconds)}


def mission_way_tuned(total: int, scratch: Path) -> dict[str, Any]:
    """The mission's way, tuned."""
    return mission_way(total, scratch, POLL_TUNED, arrow=True)


def quix_streams(total: int, scratch: Path) -> dict[str, Any]:
    """A stateful application with three windows per customer."""
    from quixstreams import Application  # noqa: PLC0415
    from quixstreams.kafka.configuration import (  # noqa: PLC0415
        ConnectionConfig,
    )

    given = connection()
    keyed = f"{os.environ['ZASLON_KAFKA_TOPIC_INPUT']}-by-customer"
    application = Application(
        broker_address=ConnectionConfig(
            bootstrap_servers=given["bootstrap.servers"], security_protocol="SASL_SSL",
            sasl_mechanism="SCRAM-SHA-512", sasl_username=given["sasl.username"],
            sasl_password=given["sasl.password"], ssl_ca_location=given["ssl.ca.location"],
        ),
        consumer_group="zaslon-quix", auto_offset_reset="earliest", state_dir=str(scratch / "quix"),
        processing_guarantee="exactly-once", loglevel="WARNING",
    )  # fmt: skip
    topic = application.topic(keyed, value_deserializer="bytes")
    out = application.topic(os.environ["ZASLON_KAFKA_TOPIC_PREDICTIONS"], value_serializer="json")
    _key_by_customer(given, keyed, total)
    marks: list[float] = []

    def windows(line: bytes, state: Any) -> dict[str, Any]:
        fields = line.split(b",")
        marks.append(time.perf_counter())
        if len(fields) != len(COLUMNS):
            return {"rejected": True}
        moment = _seconds(fields[1])
        amount = _number(fields[4])
        past = [e for e in state.get("past", default=[]) if e[0] > moment - DAYS[-1] * 86_400]
        found: dict[str, Any] = {"transaction_id": fields[0].decode()}
        for days in DAYS:
            seen = [a for t, a in past if t > moment - days * 86_400]
            found[f"count_{days}d"] = len(seen)
            found[f"mean_{days}d"] = sum(seen) / len(seen) if seen else 0.0
        state.set("past", [*past, [moment, amount]])
        return found

    frame = application.dataframe(topic)
    frame = frame.apply(windows, stateful=True)
    frame.to_topic(out)
    application.run(count=total, timeout=60)
    skipped = total // 3
    return {"tx_per_second": round((len(marks) - skipped) / (marks[-1] - marks[skipped]))}


def _key_by_customer(given: dict[str, Any], keyed: str, total: int) -> None:
    consumer = Consumer({**given, "group.id": "zaslon-key", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(os.environ["ZASLON_KAFKA_TOPIC_INPUT"], 0, 0)])
    producer = Producer({**given, "queue.buffering.max.messages": 1_000_000})
    for line in lines_of(consumer, total):
        fields = line.split(b",")
        producer.produce(keyed, line, key=fields[2] if len(fields) > 2 else b"")
    producer.flush()
    consumer.close()


def _seconds(text: bytes) -> int:
    try:
        return int(time.mktime(time.strptime(text.decode(), "%Y-%m-%d %H:%M:%S")))
    except (ValueError, UnicodeDecodeError):
        return 0


def _number(text: bytes) -> float:
    try:
        return float(text)
    except ValueError:
        return 0.0


def main() -> None:
    """Run the named one."""
    name, total, scratch = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    peers = {"mission_way": mission_way, "mission_way_tuned": mission_way_tuned, "quix_streams": quix_streams}
    found = peers[name](total, scratch)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
