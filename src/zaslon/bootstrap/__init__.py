"""Puts the parts together: the one place where adapters are chosen. Nothing is built at import."""

from __future__ import annotations

import json
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from zaslon.adapters.embedded.clock import SystemClock
from zaslon.adapters.embedded.decision_store import SqliteDecisions
from zaslon.adapters.embedded.entity_index import SqliteEntityIndex
from zaslon.adapters.embedded.lock import exclusive_in, one_at_a_time_in
from zaslon.adapters.embedded.pseudonym_key import find_key, find_or_make_key
from zaslon.adapters.embedded.snapshots import FileSnapshots
from zaslon.adapters.embedded.sqlite_journal import SqliteJournal
from zaslon.adapters.embedded.sqlite_shadow import SqliteShadowStore
from zaslon.adapters.process.actor import system_user
from zaslon.adapters.process.alerts import AlertHooks
from zaslon.adapters.process.channel import Channel
from zaslon.adapters.process.job_process import ChildProcesses
from zaslon.adapters.process.run_process import RunProcesses
from zaslon.adapters.process.worker_process import WorkerCalls, WorkerProcess
from zaslon.admission import admit
from zaslon.bootstrap.storage_wiring import storage_access
from zaslon.bootstrap.store_wiring import ledger_of, policies_of
from zaslon.domain.catalogue import Catalogue, load_catalogue
from zaslon.domain.errors import ServerError, SystemRefusedError, ZaslonError
from zaslon.domain.events import Kind, RecordBatch
from zaslon.domain.jobs import load_jobs
from zaslon.domain.outcomes import Versions
from zaslon.domain.time import EVENT_TIME_SECONDS_MAX, parse_duration_seconds
from zaslon.flows.serve import CHANGE, GROUP, SNAPSHOT, GroupDone
from zaslon.ports import ApiKeys, Clock, Decider, DeliveryTiming, LogReader, RunTracker, SnapshotStore
from zaslon.ports.archives import Archive, ServedDecisions
from zaslon.ports.clusters import Cluster
from zaslon.ports.registry import Registry
from zaslon.ports.streams import Sender, Stream, Topics
from zaslon.services.chain import Ending, Schedule
from zaslon.services.context import GATEWAY, KEY, LOCK, SCHEDULE, STORE, STREAM, Adapters, Context, Options
from zaslon.services.job_runs import JobRun
from zaslon.services.promotion_ledger import StoreMigration
from zaslon.services.snapshot_writer import OnSnapshot, SnapshotResult
from zaslon.settings import Settings, load_settings
from zaslon.system.durable import make_directory

if TYPE_CHECKING:
    from zaslon.adapters.cluster.kafka.connection import Connection
    from zaslon.adapters.cluster.kafka.topics import TopicNames
    from zaslon.adapters.cluster.mlflow.tracking import Login, Tracking
    from zaslon.adapters.relational.store import Store


def build_context(settings: Settings, *, reading: bool = False) -> Context:
    """Everything that a flow needs, on embedded defaults; for one that is `reading` nothing is made.

    Raises:
        CatalogueError: the catalogue cannot be used.
        SystemRefusedError: the home cannot be made or written.
    """
    home = settings.home
    try:
        if not reading:
            make_directory(home)
        key = _pseudonym_key(settings, make=not reading)
    except (OSError, UnicodeDecodeError) as error:
        raise SystemRefusedError(
            f"Home '{home}' cannot be used: {error}.", hint="Name another one with --home."
        ) from error
    catalogue = load_catalogue(settings.catalogue)
    store_of = cache(lambda home: _open_store(settings, home))
    return Context(
        options=_options(settings),
        catalogue=catalogue,
        key=key,
        home=home,
        adapters=Adapters(
            open_journal=lambda log: SqliteJournal(log / "journal.db", catalogue),
            open_journal_for_reading=lambda log: _log_reader(settings, log, catalogue),
            open_snapshots=lambda log, journal: (
                _stream_snapshots(settings, log.parent)
                if log.name == STREAM
                else FileSnapshots(log / "snapshots" / journal.identity)
            ),
            open_run_tracker=lambda home: _run_tracker(settings, home),
            open_registry=lambda home: _registry(settings, home),
            exclusive_in=lambda home: exclusive_in(home / LOCK),
            one_at_a_time_in=one_at_a_time_in,
            open_stream_snapshots=lambda home: _stream_snapshots(settings, home),
            open_stream=lambda notify: _stream(settings, catalogue, notify),
            open_sender=lambda topic, notify: _sender(settings, topic, notify),
            open_archive=lambda: _archive(settings),
            open_entity_index=lambda log: SqliteEntityIndex(log / "entities.db", catalogue),
            open_cluster=lambda: _cluster(settings),
            served_decisions=lambda log: _served_decisions(settings, log, catalogue),
            open_shadow=lambda path, reading: SqliteShadowStore(path, read_only=reading),
            open_ledger=lambda home: ledger_of(store_of(home)),
            open_policies=lambda home: policies_of(store_of(home), home),
            clock=SystemClock(),
            actor=system_user(),
        ),
    )


def build_decider(
    settings: Settings, context: Context, *, begun: Callable[[int], None],
    grouped: Callable[[GroupDone], None], saved: OnSnapshot,
    passed: Callable[[Sequence[DeliveryTiming], int], None], notify: Callable[[str], None],
) -> Decider:  # fmt: skip
    """Who decides for the service: a decision worker in a separate process, or the stream.

    Args:
        begun: called with the process id of the decision worker.
        grouped: called for every group that the decision worker decided.
        saved: called for every snapshot that the decision worker wrote.
        passed: called with records that passed through the stream, and its next log position.
        notify: called with sentences for people about the stream.
    """
    if settings.api_decider == "kafka":
        return _gateway(settings, context, passed, notify)
    handlers: dict[str, Callable[[dict[str, Any]], None]] = {
        GROUP: lambda content: grouped(GroupDone(**content)),
        SNAPSHOT: lambda content: saved(SnapshotResult(**content)),
        CHANGE: lambda content: worker.serves(Versions(**content)),
    }
    worker = WorkerProcess(
        _start_worker, _as_json(settings), settings.api_queue_records_max, settings.api_queue_bytes_max,
        SystemClock(), context.open_journal_for_reading, lambda topic, content: handlers[topic](content),
    )  # fmt: skip
    begun(worker.pid)
    return worker


def _start_worker(end: socket.socket) -> subprocess.Popen[bytes]:
    """The decision worker's process at its end of the line; it keeps the home's lock too, which can be inherited.

    Who stops the service may signal all its processes. From its first moment on the decision worker does not listen:
    it ends when the service asks it to.
    """
    command = [sys.executable, "-P", "-m", "zaslon.entrypoints.decision_worker", str(end.fileno())]
    end.set_inheritable(True)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
    try:
        return subprocess.Popen(command, close_fds=False, stdin=subprocess.DEVNULL)  # noqa: S603  our own
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def open_calls(end: socket.socket) -> WorkerCalls:
    """The decision worker's side of the line."""
    return WorkerCalls(Channel(end))


def _as_json(settings: Settings) -> str:
    """All settings that are set, secrets too: for our own process, never to be printed.

    Python's own JSON holds what others do not: any whole number, infinity, paths that are not UTF-8.
    """
    secrets = {name: value.get_secret_value() for name, value in settings if isinstance(value, SecretStr)}
    return json.dumps(settings.model_dump(mode="json", exclude_none=True) | secrets)


def settings_from(text: str) -> Settings:
    """The inverse, in the decision worker's process."""
    return load_settings(**json.loads(text))


def _gateway(
    settings: Settings, context: Context, passed: Callable[[Sequence[DeliveryTiming], int], None],
    notify: Callable[[str], None],
) -> Decider:  # fmt: skip
    connection = kafka_connection(settings)
    from zaslon.adapters.cluster.kafka.gateway import GatewayLimits, KafkaGateway  # noqa: PLC0415  an extra

    path, kept = context.home / GATEWAY / "decisions.db", settings.api_kept_records

    def event_seconds_of(record: bytes) -> int | None:
        batch = RecordBatch.of([record], [Kind.TRANSACTION_JSON], [EVENT_TIME_SECONDS_MAX])
        moments = admit(batch, context.catalogue, context.key).transactions.event_time_seconds
        return int(moments[0]) if len(moments) else None

    return KafkaGateway(
        connection, _topic_names(settings), GatewayLimits(settings.api_queue_records_max, kept),
        open_store=lambda: SqliteDecisions(path, kept),
        open_outcomes=lambda: SqliteDecisions(path, kept, read_only=True),
        event_seconds_of=event_seconds_of, watch=passed, notify=notify,
    )  # fmt: skip


def open_api_keys(settings: Settings) -> ApiKeys:
    """The keys of the service; in a home nothing is made before the first one.

    Raises:
        ZaslonError: the store cannot be used, or keys from before it are damaged.
    """
    from zaslon.adapters.relational.from_files import take_key_file  # noqa: PLC0415
    from zaslon.adapters.relational.stored_api_keys import StoredApiKeys  # noqa: PLC0415  slow to import

    store = _open_store(settings, settings.home)
    take_key_file(store, settings.home)
    return StoredApiKeys(store)


def migrate_store(settings: Settings) -> StoreMigration:
    """Bring the store to the newest schema, with what the home has kept before.

    An empty PostgreSQL gets what the home's SQLite holds, and every store the home's key file and policies.

    Raises:
        ZaslonError: the store cannot be used.
    """
    from zaslon.adapters.relational.from_files import take_files  # noqa: PLC0415  slow to import
    from zaslon.adapters.relational.store import Store  # noqa: PLC0415

    store, embedded = _open_store(settings, settings.home), Store(settings.home / STORE)
    before, after = store.migrate()
    copied = embedded.copy_into(store) if settings.store_url is not None and store.is_empty() else 0
    return StoreMigration(store.name, before, after, copied, *take_files(store, settings.home))


def _open_store(settings: Settings, home: Path) -> Store:
    """The relational store: PostgreSQL where one is named, SQLite in the home otherwise."""
    from zaslon.adapters.relational.store import Store  # noqa: PLC0415  slow to import

    if settings.store_url is None:
        return Store(home / STORE)
    if find_spec("psycopg") is None:
        raise ZaslonError(
            "PostgreSQL's client is not installed.", hint="Install it with: pip install 'zaslon[postgres]'."
        )
    from zaslon.adapters.relational.address import postgresql_address  # noqa: PLC0415

    password = _password_in(settings.store_password_file, "ZASLON_STORE_PASSWORD_FILE")
    url = postgresql_address(settings.store_url.get_secret_value(), password)
    return Store(url, settings.store_timeout_seconds)


def _archive(settings: Settings) -> Archive:
    if settings.store_url is None:
        raise ServerError(
            "Decisions are archived on PostgreSQL, and none is named.",
            hint="Set ZASLON_STORE_URL, then run `zaslon store migrate`.",
        )
    from zaslon.adapters.relational.decision_archive import PostgresArchive  # noqa: PLC0415  slow to import

    return PostgresArchive(_open_store(settings, settings.home))


def _cluster(settings: Settings) -> AbstractContextManager[Cluster]:
    if find_spec("pyspark") is None:
        raise ZaslonError("Spark is not installed.", hint="Install it with: pip install 'zaslon[spark]'.")
    from zaslon.adapters.cluster.spark.cluster import spark_cluster  # noqa: PLC0415  an extra

    return spark_cluster(
        settings.spark_master, settings.spark_partitions, settings.spark_driver_memory, settings.spark_jars,
        lambda: storage_access(settings),
    )  # fmt: skip


def _served_decisions(
    settings: Settings, log: Path, catalogue: Catalogue
) -> list[Callable[[], ServedDecisions]]:
    """What opens the log in a directory of the home, and the archive, where there are any."""
    places: list[Callable[[], ServedDecisions]] = []
    if log.name != STREAM and log.is_dir():
        places.append(lambda: SqliteJournal(log / "journal.db", catalogue, read_only=True))
    if settings.store_url is not None:
        places.append(lambda: _archive(settings))
    return places


def build_schedule(
    settings: Settings, ending: Ending, notify: Callable[[str], None], observe: Callable[[str, JobRun], None]
) -> Schedule:
    """The jobs of this machine, as child processes of the `zaslon` command in the same home.

    Raises:
        ZaslonError: the list of jobs or the setting of their files cannot be used.
    """
    url, program = settings.schedule_alert_url, settings.schedule_alert_program
    hooks = AlertHooks(None if url is None else url.get_secret_value(), program)
    return Schedule(
        jobs=load_jobs(settings.schedule_jobs), directory=settings.home / SCHEDULE,
        sources=_words(settings.schedule_sources or "", "ZASLON_SCHEDULE_SOURCES"),
        processes=ChildProcesses(
            [sys.executable, "-P", "-m", "zaslon.entrypoints.cli"], {"ZASLON_HOME": str(settings.home)}
        ),
        exclusive_in=lambda directory: exclusive_in(directory / LOCK), clock=SystemClock(), ending=ending,
        alerts=None if url is None and program is None else hooks,
        notify=notify, observe=observe, host=socket.gethostname(),
    )  # fmt: skip


def _words(text: str, setting: str) -> list[str]:
    """Words as in a shell, where one with spaces is quoted."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ZaslonError(f"{setting} cannot be read: {error}.", hint="Close every quote.") from error


def build_clock() -> Clock:
    """The clock of this machine."""
    return SystemClock()


def _options(settings: Settings) -> Options:
    given = settings.model_dump(include={field.name for field in fields(Options)})
    return Options(**given, label_delay_seconds=parse_duration_seconds(settings.label_delay))


def _pseudonym_key(settings: Settings, *, make: bool) -> bytes:
    """The key from the settings, or the home's."""
    if settings.pseudonym_key is not None:
        return settings.pseudonym_key.get_secret_value().encode()[:64]
    path = settings.home / KEY
    return find_or_make_key(path) if make else find_key(path)


def _run_tracker(settings: Settings, home: Path) -> RunTracker | None:
    """MLflow in a process of its own, so that the one that decides never imports it."""
    if not _has_registry(settings):
        return None
    command = [sys.executable, "-P", "-m", "zaslon.entrypoints.run_writer"]
    return RunProcesses(command, {"settings": _as_json(settings), "home": str(home)})


def build_run_tracker(settings: Settings, home: Path) -> RunTracker:
    """The same in that process."""
    from zaslon.adapters.cluster.mlflow.live_runs import MlflowRuns  # noqa: PLC0415  an extra

    return MlflowRuns(_mlflow(settings, home))


def _registry(settings: Settings, home: Path) -> Registry | None:
    """MLflow where it is wanted; None where nothing is to be written."""
    if not _has_registry(settings):
        return None
    from zaslon.adapters.cluster.mlflow.model_registry import MlflowRegistry  # noqa: PLC0415  an extra

    return MlflowRegistry(_mlflow(settings, home), settings.mlflow_model)


def _has_registry(settings: Settings) -> bool:
    """A tracking server that is named is wanted, even if MLflow is not installed."""
    if settings.registry == "auto" and settings.mlflow_uri is None:
        return find_spec("mlflow") is not None
    return settings.registry != "none"


def _mlflow(settings: Settings, home: Path) -> Tracking:
    from zaslon.adapters.cluster.mlflow.tracking import Tracking  # noqa: PLC0415  an extra

    return Tracking(
        home / "mlflow", settings.mlflow_uri, settings.mlflow_experiment,
        _login(settings.mlflow_user, settings.mlflow_password_file, "ZASLON_MLFLOW_PASSWORD_FILE"),
        _login(
            settings.mlflow_promoter_user, settings.mlflow_promoter_password_file,
            "ZASLON_MLFLOW_PROMOTER_PASSWORD_FILE",
        ),
        settings.mlflow_ca_file, settings.mlflow_timeout_seconds, settings.mlflow_retries,
    )  # fmt: skip


def _login(user: str | None, password_file: Path | None, setting: str) -> Login | None:
    from zaslon.adapters.cluster.mlflow.tracking import Login  # noqa: PLC0415  an extra

    def password() -> str:
        found = _password_in(password_file, setting)
        if not found:
            raise ZaslonError(f"There is no password of the MLflow user '{user}'.", hint=f"Set {setting}.")
        return found

    return None if user is None else Login(user, password)


def kafka_connection(settings: Settings, *, password: str | None = None) -> Connection:
    """How the brokers are reached; `password` instead of the one in the settings.

    Raises:
        ZaslonError: the extra is not installed, or a setting is missing.
    """
    if find_spec("confluent_kafka") is None:
        raise ZaslonError(
            "Kafka's client is not installed.", hint="Install it with: pip install 'zaslon[kafka]'."
        )
    if settings.kafka_servers is None:
        raise ServerError(
            "No Kafka broker is named.", hint="Set ZASLON_KAFKA_SERVERS=host:port, or start one: make kafka."
        )
    password = password or _kafka_password(settings)
    if settings.kafka_security == "sasl_ssl":
        _check_who(settings.kafka_user, password)
    if settings.kafka_ca_file is not None and not settings.kafka_ca_file.is_file():
        raise ZaslonError(f"There is no authority file '{settings.kafka_ca_file}' (ZASLON_KAFKA_CA_FILE).")
    from zaslon.adapters.cluster.kafka.connection import Connection  # noqa: PLC0415  an extra

    return Connection(
        settings.kafka_servers, settings.kafka_security, settings.kafka_user,
        password, settings.kafka_ca_file, settings.kafka_timeout_seconds,
    )  # fmt: skip


def _check_who(user: str | None, password: str | None) -> None:
    if not user:
        raise ZaslonError("No user of the Kafka broker is named.", hint="Set ZASLON_KAFKA_USER.")
    if not password:
        raise ZaslonError(
            f"There is no password of the Kafka user '{user}', or it is empty.",
            hint="Set ZASLON_KAFKA_PASSWORD_FILE.",
        )


def _kafka_password(settings: Settings) -> str | None:
    if settings.kafka_password is not None:
        return settings.kafka_password.get_secret_value()
    return _password_in(settings.kafka_password_file, "ZASLON_KAFKA_PASSWORD_FILE")


def _password_in(path: Path | None, setting: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ZaslonError(f"The password file of {setting} cannot be read: {error}.") from error


def _log_reader(settings: Settings, log: Path, catalogue: Catalogue) -> LogReader:
    """The log in a directory of the home; the one of the stream is kept by the broker."""
    if log.name != STREAM:
        return SqliteJournal(log / "journal.db", catalogue, read_only=True)
    connection = kafka_connection(settings)
    from zaslon.adapters.cluster.kafka.kafka_journal import KafkaJournal  # noqa: PLC0415  an extra

    return KafkaJournal(connection, _topic_names(settings), catalogue)


def _stream_snapshots(settings: Settings, home: Path) -> SnapshotStore:
    """The states of the stream, which the scorers of several machines may share."""
    place = settings.stream_snapshots
    if place is None or "://" not in place:
        return FileSnapshots(home / STREAM / "snapshots" if place is None else Path(place))
    if find_spec("s3fs") is None:
        raise ZaslonError("S3's client is not installed.", hint="Install it with: pip install 'zaslon[s3]'.")
    from zaslon.adapters.cluster.s3 import S3Snapshots  # noqa: PLC0415  an extra

    return S3Snapshots(place)


def _topic_names(settings: Settings) -> TopicNames:
    from zaslon.adapters.cluster.kafka.topics import TopicNames  # noqa: PLC0415  an extra

    return TopicNames(
        settings.kafka_topic_input, settings.kafka_topic_labels, settings.kafka_topic_predictions,
        settings.kafka_topic_rejections, settings.kafka_topic_order,
    )  # fmt: skip


def open_topics(settings: Settings) -> Topics:
    """The topics of the stream."""
    connection = kafka_connection(settings)
    from zaslon.adapters.cluster.kafka.topics import KafkaTopics  # noqa: PLC0415  an extra

    return KafkaTopics(
        connection, _topic_names(settings), partitions=settings.kafka_partitions,
        retention_ms=parse_duration_seconds(settings.kafka_retention) * 1000,
    )  # fmt: skip


def _stream(settings: Settings, catalogue: Catalogue, notify: Callable[[str], None]) -> Stream:
    connection = kafka_connection(settings)
    from zaslon.adapters.cluster.kafka.live_log import KafkaStream, Limits  # noqa: PLC0415  an extra

    return KafkaStream(
        connection, _topic_names(settings), settings.kafka_group, catalogue,
        Limits(settings.stream_batch_bytes, settings.stream_batch_ms),
        session_timeout_seconds=settings.kafka_session_timeout_seconds,
        takeover_from_engine=settings.stream_takeover_from_engine, notify=notify,
    )  # fmt: skip


def _sender(settings: Settings, topic: str, notify: Callable[[str], None]) -> Sender:
    connection = kafka_connection(settings)
    from zaslon.adapters.cluster.kafka.sender import KafkaSender  # noqa: PLC0415  an extra

    return KafkaSender(connection, topic, notify)
