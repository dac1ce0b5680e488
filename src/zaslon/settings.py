"""Settings: from environment variables (ZASLON_…) or a `zaslon.toml` in the working directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, SecretStr, ValidationError, ValidationInfo, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from zaslon.domain.errors import ZaslonError, sentence_of
from zaslon.domain.retraining import VALIDATED, checked_window
from zaslon.domain.time import checked_duration
from zaslon.system.loopback import sends_in_clear

MEBIBYTE = 1024 * 1024
KEY_CHARACTERS_MIN = 16
_ALMOST = 0.85  # as difflib counts: two letters changed places, one is missing or too many


def _checked_place(text: str) -> str:
    if "://" in text and not re.fullmatch(r"s3://[a-z0-9][a-z0-9.-]{2,62}(/[^?#]*)?", text):
        raise ValueError(f"'{text}' is neither a directory nor s3://bucket/prefix")
    return text


def _checked_key(key: SecretStr) -> SecretStr:
    if len(key.get_secret_value()) < KEY_CHARACTERS_MIN:
        raise ValueError(f"a key of fewer than {KEY_CHARACTERS_MIN} characters can be guessed")
    return key


def _checked_store(url: SecretStr) -> SecretStr:
    if not re.match(r"postgresql://[^/?#]*/[^/?#]+", url.get_secret_value()):
        raise ValueError("a store is named as postgresql://user@host:port/database")
    return url


def _checked_mlflow(uri: str) -> str:
    """No user and password in it: it is shown to people."""
    if not re.fullmatch(r"https?://[^/?#@\s]+(/[^?#@\s]*)?", uri):
        raise ValueError("a tracking server is named as https://host:port, its user in ZASLON_MLFLOW_USER")
    return uri.rstrip("/")


def _checked_model(name: str) -> str:
    if not re.fullmatch(r"[\w.-]+( [\w.-]+)*", name):
        raise ValueError("a registered model's name has letters, digits, dots and hyphens")
    return name


def _checked_webhook(url: SecretStr) -> SecretStr:
    if not re.fullmatch(r"https?://[^/?#\s]+(/\S*)?", url.get_secret_value()):
        raise ValueError("a webhook is named as https://host/path")
    return url


def _checked_web_addresses(text: str) -> str:
    for pair in text.split():
        if not re.fullmatch(r"[^=/\s]+=[^=/:\s]+:\d{1,5}", pair):
            raise ValueError(f"'{pair}' is not NAMENODE=HOST:PORT")
    return text


Duration = Annotated[str, AfterValidator(checked_duration)]
RetrainWindow = Annotated[str, AfterValidator(checked_window)]
PseudonymKey = Annotated[SecretStr, AfterValidator(_checked_key)]
StoreUrl = Annotated[SecretStr, AfterValidator(_checked_store)]
MlflowUri = Annotated[str, AfterValidator(_checked_mlflow)]
RegisteredModel = Annotated[str, AfterValidator(_checked_model)]
SnapshotPlace = Annotated[str, AfterValidator(_checked_place)]
WebAddresses = Annotated[str, AfterValidator(_checked_web_addresses)]
Webhook = Annotated[SecretStr, AfterValidator(_checked_webhook)]


class Settings(BaseSettings):
    """All settings with their defaults, units in the names."""

    model_config = SettingsConfigDict(
        env_prefix="ZASLON_", toml_file="zaslon.toml", extra="forbid", frozen=True
    )

    home: Path = Field(Path("zaslon-data"), description="where models, log and reports are kept")
    catalogue: Path | None = Field(None, description="catalogue file; the built-in one if not set")
    pseudonym_key: PseudonymKey | None = Field(
        None,
        description="secret of the home, for pseudonyms, digests and hash tables; made in the home if not set",
    )
    store_url: StoreUrl | None = Field(
        None,
        description="PostgreSQL for keys and the promotion ledger, `postgresql://user@host/database`; SQLite in the home if not set",
    )
    store_password_file: Path | None = Field(None, description="file with the password of its user")
    store_timeout_seconds: float = Field(5.0, gt=0, le=600, description="how long to wait for PostgreSQL")
    threads: int = Field(2, ge=1, le=256, description="threads for training")
    seed: int = Field(42, ge=0, lt=2**31, description="seed of everything random")
    label_delay: Duration = Field("7d", description="when answers in a file become known")
    chunk_bytes: int = Field(
        32 * MEBIBYTE, ge=1024, le=1024 * MEBIBYTE, description="bytes read at once while cleaning"
    )
    repeat_filter_bytes: int = Field(
        128 * MEBIBYTE, ge=1024, description="memory of the filter that finds repeats in files"
    )
    spark_master: str | None = Field(
        None,
        description="Spark's master, local[N], spark://host:port or yarn; None: what Spark is configured for",
    )
    spark_partitions: int = Field(
        0, ge=0, le=1_000_000, description="partitions of an exchange in Spark; 0: four for each core"
    )
    spark_driver_memory: str = Field(
        "2g", pattern=r"^[1-9][0-9]*[mg]$", description="memory of Spark's driver where it is started by us"
    )
    spark_jars: Path | None = Field(
        None, description="folder with the jars that Spark needs for S3; none if it has them"
    )
    batch_records: int = Field(
        10_000, ge=1, le=1_000_000, description="records decided in one transaction of the log"
    )
    snapshot_every_records: int = Field(
        1_000_000, ge=1, description="records between two snapshots of the state, restarts or not"
    )
    original_retention_days: int = Field(
        0,
        ge=0,
        le=36_500,
        description="days after which logs and quarantines lose original bytes; 0 keeps them permanently, in clear",
    )
    train_rows_max: int = Field(1_000_000, ge=1_000, description="rows in a training sample")
    test_rows_max: int = Field(1_000_000, ge=1_000, description="rows in an evaluation sample")
    decide_rows_max: int = Field(
        1_000_000, ge=1, description="rows of the last days that `run` decides; at least one day"
    )
    test_days: int = Field(7, ge=1, description="fewest days of the test period")
    validation_days: int = Field(7, ge=1, description="fewest days of the validation period")
    period_frauds_target: int = Field(
        400, ge=1, description="frauds wanted in either; a period with fewer takes more days"
    )
    period_days_max: int = Field(28, ge=1, le=3_650, description="days up to which either grows for that")
    false_positive_rate_max: float = Field(0.05, gt=0, lt=1, description="good payments stopped")
    limit_margin: float = Field(
        0.1, ge=0, lt=1, description="part of the false-positive limit kept free when choosing thresholds"
    )
    rejected_share_max: float = Field(
        0.2, ge=0, le=1, description="rejected rows of a file, above which `run` stops before training"
    )
    missed_frauds_max: float = Field(0.02, gt=0, lt=1, description="frauds missed")
    loss_per_month_max: float = Field(500_000, gt=0, le=1e15, description="customers' loss, major units")
    reviews_per_day_max: int | None = Field(
        None, ge=0, description="what analysts can look at on an average day; no limit if not set"
    )
    retrain_window: RetrainWindow = Field(
        VALIDATED,
        description="days that a challenger learns from: `expanding`, all; a duration such as `60d`, the newest; `validated`, whichever of these ranks the validation period best",
    )
    retrain_days_min: int = Field(
        1, ge=1, le=366, description="new days with mature answers that are news for `retrain`"
    )
    guard_calibration_max: float = Field(
        2.0, gt=1, le=100, description="expected frauds over actual ones, or the reverse, for a new champion"
    )
    guard_segment_max: float = Field(
        0.05, ge=0, le=1, description="by how much a new champion may be worse in one segment"
    )
    guard_drift_max: float = Field(
        0.25, gt=0, le=100, description="population stability index of a new champion's scores"
    )
    guard_score_us_max: float = Field(
        5_000.0, gt=0, description="microseconds for a new champion to score and explain one transaction"
    )
    guard_model_bytes_max: int = Field(64 * MEBIBYTE, ge=1, description="bytes of a new champion's artefact")
    guard_served_max: float = Field(
        0.05, ge=0, le=1, description="served scores that the clean data do not confirm"
    )
    api_decider: Literal["embedded", "kafka"] = Field(
        "embedded",
        description="who decides for the service: `embedded`, its own engine; `kafka`, the stream",
    )
    api_kept_records: int = Field(
        1_000_000, ge=1, description="newest records of the stream whose decisions the service can look up"
    )
    api_host: str = Field("127.0.0.1", description="address on which the service listens")
    api_port: int = Field(8080, ge=0, le=65_535, description="its port; 0 takes a free one")
    api_tls_certificate: Path | None = Field(None, description="certificate chain, PEM")
    api_tls_key: Path | None = Field(None, description="its private key, PEM")
    api_plain_http: bool = Field(
        False, description="allow other than local addresses without TLS, behind a proxy that has it"
    )
    api_budget_ms: int = Field(200, ge=1, le=60_000, description="time budget of a call")
    api_body_bytes_max: int = Field(
        2 * MEBIBYTE, ge=1024, le=64 * MEBIBYTE, description="bytes in a request's body"
    )
    api_batch_records_max: int = Field(1_000, ge=1, le=10_000, description="records in one call")
    api_json_depth_max: int = Field(8, ge=2, le=100, description="levels of nesting in a body")
    api_rate_per_second: int = Field(1_000, ge=1, description="records a second for one key")
    api_rate_burst: int = Field(2_000, ge=1, description="records at once for one key")
    api_queue_records_max: int = Field(10_000, ge=1, description="records without outcome")
    api_queue_bytes_max: int = Field(
        64 * MEBIBYTE, ge=1024, description="bytes of records without outcome, with the embedded engine"
    )
    api_group_records_max: int = Field(
        256, ge=1, le=10_000, description="records that make a full group, decided in one transaction"
    )
    api_page_max: int = Field(500, ge=1, le=10_000, description="decisions on a page")
    api_scan_records_max: int = Field(
        10_000, ge=1, description="outcomes looked through for one page of filtered decisions"
    )
    api_connections_max: int = Field(1_000, ge=1, description="connections and calls at once")
    api_head_bytes_max: int = Field(
        16_384, ge=1024, le=MEBIBYTE, description="bytes of a request's line and headers"
    )
    api_head_seconds: int = Field(
        5, ge=1, le=600, description="for a request's head to come, from the connection or its first byte on"
    )
    api_body_seconds: int = Field(
        10, ge=1, le=600, description="for a request's body to come, and for a caller to read its answer"
    )
    api_idle_seconds: int = Field(
        5, ge=1, le=600, description="how long a connection is kept without a request after an answer"
    )
    api_open_metrics: bool = Field(False, description="whether `/metrics` needs no key")
    api_log_requests: bool = Field(True, description="whether every request is a line in the log")
    kafka_servers: str | None = Field(None, description="brokers of the stream, `host:port,host:port`")
    kafka_security: Literal["sasl_ssl", "ssl", "plaintext"] = Field(
        "sasl_ssl", description="`sasl_ssl` (SCRAM-SHA-512 over TLS), `ssl` or `plaintext`"
    )
    kafka_user: str | None = Field(None, description="user of the broker")
    kafka_password: SecretStr | None = Field(None, description="its password")
    kafka_password_file: Path | None = Field(None, description="file with the password instead")
    kafka_ca_file: Path | None = Field(
        None, description="authority that signed the brokers' certificates; the system's if not set"
    )
    kafka_timeout_seconds: float = Field(
        10.0, gt=0, le=600, description="how long to wait for a first answer of the brokers"
    )
    kafka_group: str = Field(
        "zaslon-scorer", min_length=1, description="group and transactional id of the scorers"
    )
    kafka_session_timeout_seconds: float = Field(
        6.0, ge=3, le=300, description="a scorer silent for so long is considered dead; a standby takes over"
    )
    kafka_topic_input: str = Field("input", min_length=1, description="raw transactions")
    kafka_topic_labels: str = Field("labels", min_length=1, description="verdicts")
    kafka_topic_predictions: str = Field("predictions", min_length=1, description="decisions")
    kafka_topic_rejections: str = Field(
        "rejections", min_length=1, description="rejected records with their reasons"
    )
    kafka_topic_order: str = Field(
        "order", min_length=1, description="typed records in the order in which they are applied: the log"
    )
    kafka_partitions: int = Field(
        1, ge=1, le=1024, description="partitions of a new `input`, `labels` and `predictions`"
    )
    kafka_retention: Duration = Field("30d", description="how long a new topic keeps its records")
    stream_batch_records: int = Field(5_000, ge=1, le=100_000, description="most records in a micro-batch")
    stream_batch_bytes: int = Field(
        4 * MEBIBYTE, ge=1024, le=256 * MEBIBYTE, description="most bytes in a micro-batch"
    )
    stream_batch_ms: int = Field(
        2, ge=0, le=10_000, description="how long a micro-batch that is not full waits for more"
    )
    stream_snapshots: SnapshotPlace | None = Field(
        None,
        description="where the stream's states are kept: a directory, or `s3://bucket/prefix`; in the home if not set",
    )
    stream_takeover_from_engine: int | None = Field(
        None,
        ge=1,
        description="engine version whose log a scorer of another version may take over, to upgrade",
    )
    registry: Literal["auto", "mlflow", "none"] = Field(
        "auto", description="`auto`: MLflow where it is installed; `mlflow`; `none`: nothing is written there"
    )
    mlflow_uri: MlflowUri | None = Field(
        None,
        description="MLflow's tracking server, `https://host:port`; SQLite and files in the home if not set",
    )
    mlflow_user: str | None = Field(None, description="user who writes runs and candidates there")
    mlflow_password_file: Path | None = Field(None, description="file with the password")
    mlflow_promoter_user: str | None = Field(
        None, description="user who writes the served models; `ZASLON_MLFLOW_USER` if not set"
    )
    mlflow_promoter_password_file: Path | None = Field(None, description="file with that user's password")
    mlflow_ca_file: Path | None = Field(
        None, description="authority that signed the server's certificate; the system's if not set"
    )
    mlflow_timeout_seconds: int = Field(
        5, ge=1, le=600, description="how long to wait for one answer of the server"
    )
    mlflow_retries: int = Field(1, ge=0, le=10, description="how often a call is tried again")
    mlflow_experiment: str = Field("zaslon", min_length=1, description="under which name runs are listed")
    mlflow_model: RegisteredModel = Field(
        "zaslon", description="registered model of what was promoted; `…-candidates` has what was trained"
    )
    schedule_jobs: Path | None = Field(None, description="list of jobs; the built-in one if not set")
    schedule_sources: str | None = Field(
        None,
        description="all files that the job `clean` cleans: paths and patterns such as `/data/in/*.txt`, separated by spaces",
    )
    schedule_alert_url: Webhook | None = Field(
        None, description="webhook that is told what failed or was missed, as JSON"
    )
    schedule_alert_program: Path | None = Field(
        None, description="program that is told it on standard input, as JSON"
    )
    schedule_metrics_host: str = Field("127.0.0.1", description="address where Prometheus reads metrics")
    schedule_metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="where Prometheus reads metrics of jobs; nowhere if not set"
    )
    stream_report_seconds: float = Field(
        10.0, ge=0, description="between two points in a run of the tracker (MLflow); 0 writes none"
    )
    stream_metrics_host: str = Field("127.0.0.1", description="address where Prometheus reads metrics")
    stream_metrics_port: int | None = Field(
        None, ge=1, le=65_535, description="where Prometheus reads metrics; nowhere if not set"
    )

    hadoop_jars: Path | None = Field(
        None, description="folder with the jars of Hadoop and DistCp; the program `hadoop` if not set"
    )
    hadoop_webhdfs: WebAddresses | None = Field(
        None,
        description="where WebHDFS answers, `NAMENODE=HOST:PORT` with spaces between, NAMENODE as in `hdfs://NAMENODE/`; Hadoop's configuration or port 9870 of that host if not set",
    )
    copy_maps: int = Field(8, ge=1, le=1_000, description="files that `copy` copies at once")
    copy_megabytes_per_second: int = Field(
        100, ge=1, le=100_000, description="megabytes a second of one of them, at most"
    )
    copy_verify_threads: int = Field(4, ge=1, le=64, description="files that `copy` reads at once to compare")
    copy_timeout: Duration = Field("1d", description="how long DistCp may take before it is ended")
    package_timeout: Duration = Field("30m", description="how long `package` waits for pip before it ends it")

    @field_validator("mlflow_user", "mlflow_promoter_user")
    @classmethod
    def _has_a_safe_way(cls, user: str | None, known: ValidationInfo) -> str | None:
        """A password is not sent where the network can read it."""
        uri = known.data.get("mlflow_uri")
        if user is not None and uri is not None and sends_in_clear(uri):
            raise ValueError(
                f"its password would go to '{uri}' unencrypted: name the server as https://host:port"
            )
        return user

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is given in code wins over the environment, which wins over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings(**given: object) -> Settings:
    """The settings, with what is `given` on top; None is an option that was not given.

    Raises:
        ZaslonError: names the setting, its value's problem and what was expected; or a variable
            that is called almost like a setting, which would otherwise do nothing.
    """
    _refuse_misspelt(os.environ)
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))}: {sentence_of(e).removesuffix('.')}" for e in error.errors()
        )
        raise ZaslonError(
            f"The settings cannot be used: {problems}.",
            hint="They come from ZASLON_… variables and zaslon.toml.",
        ) from error


def _refuse_misspelt(names: Iterable[str]) -> None:
    """Other variables may begin with ZASLON_, such as those that Kubernetes sets for a service."""
    prefix, known = "zaslon_", Settings.model_fields.keys()
    for name in sorted(names):
        setting = name.lower().removeprefix(prefix)
        if not name.lower().startswith(prefix) or setting in known:
            continue
        if near := get_close_matches(setting, known, n=1, cutoff=_ALMOST):
            raise ZaslonError(
                f"The variable {name} is not a setting.", hint=f"Did you mean {(prefix + near[0]).upper()}?"
            )
