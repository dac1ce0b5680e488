"""The registry on a real server with PostgreSQL, S3 and users: rights, outages, crashes, promotions at once."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.api.test_a_real_server import running as running_service
from tests.integration.mlflow_server import LocalMlflow
from tests.integration.s3_server import LocalS3
from tests.postgres_server import LocalPostgres, running
from tests.registry_world import home_with_data, other_models, registered, state_of
from tests.registry_world import published as published  # noqa: PLC0414  a fixture
from tests.registry_world import trained as trained  # noqa: PLC0414  a fixture
from tests.steady_calls import SteadyCalls
from tests.waiting import DEADLINE_SECONDS, until

from zaslon.bootstrap import build_context, migrate_store, open_api_keys
from zaslon.domain.errors import BusyError, ServerError
from zaslon.domain.ledger import PROMOTE
from zaslon.models.model import Model
from zaslon.services.context import Context
from zaslon.services.home import named_champion
from zaslon.services.key_management import create_key
from zaslon.services.model_training import Trained
from zaslon.services.promotion_ledger import promote
from zaslon.services.publishing import RegistryState, follow_ledger
from zaslon.settings import load_settings
from zaslon.testing import SmallWorld

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def database() -> Iterator[LocalPostgres]:
    """A PostgreSQL of its own, which a test kills."""
    yield from running()


@pytest.fixture(scope="module")
def server(
    database: LocalPostgres, s3: LocalS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalMlflow]:
    mlflow = LocalMlflow(tmp_path_factory.mktemp("mlflow"), database, s3)
    mlflow.start()
    yield mlflow
    mlflow.kill()


@pytest.fixture(scope="module")
def world(small_world: SmallWorld, server: LocalMlflow, tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A home that is registered as trainer and promoter."""
    return home_with_data(small_world, tmp_path_factory.mktemp("registered") / "home", **server.settings())


@pytest.fixture
def as_user(server: LocalMlflow, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """MLflow's own client as a user."""

    def client(user: str) -> Any:
        for name, value in server.environment(user).items():
            monkeypatch.setenv(name, value)
        from mlflow.tracking import MlflowClient

        return MlflowClient(server.address, server.address)

    return client


def start(world: Context, server: LocalMlflow, *arguments: str, **settings: object) -> subprocess.Popen[str]:
    """The `zaslon` command as a process of its own."""
    given = {**server.settings(), **settings}
    variables = {f"ZASLON_{name.upper()}": str(value) for name, value in given.items()}
    return subprocess.Popen(
        [sys.executable, "-m", "zaslon.entrypoints.cli", *arguments, "--home", str(world.home), "--json"],
        env={**os.environ, **variables}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str], code: int = 0) -> dict[str, Any]:
    out, err = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == code, out + err
    found: dict[str, Any] = json.loads(out)
    return found


def in_step(world: Context, model: Model) -> bool:
    """Whether ledger, home and alias name a model."""
    state = state_of(world)
    return (
        state.agrees and state.ledger.model == state.home.model == state.champion.model == model.artefact_id
    )


def refused(work: Callable[[], object]) -> bool:
    from mlflow.exceptions import MlflowException

    with pytest.raises(MlflowException) as error:
        work()
    return "Permission denied" in str(error.value) or "403" in str(error.value)


def test_a_training_and_its_promotion_are_on_the_server_and_in_s3(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState
) -> None:
    assert published.agrees, published
    assert (published.champion.model, published.challenger.model) == (trained.model.artefact_id,) * 2
    kept = {path.name for path in server.bucket.rglob("*") if path.is_file()}
    assert {"MLmodel", "model.txt", "scoring_code.py", "report.html", "roc.png"} <= kept
    assert not (world.home / "mlflow").exists()


def test_the_scorer_loads_the_champion_in_a_clean_process(
    server: LocalMlflow, trained: Trained, published: RegistryState, tmp_path: Path
) -> None:
    program = (
        "import json, mlflow\n"
        "model = mlflow.pyfunc.load_model('models:/zaslon@champion')\n"
        "print(json.dumps(model.predict(model.input_example)['score'].tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), **server.environment("scorer")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout.splitlines()[-1]) == trained.model.score(trained.example).tolist()


def test_the_trainer_may_register_and_not_promote(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState,
    as_user: Callable[[str], Any],
) -> None:  # fmt: skip
    (model,) = other_models(world, trained, 1)
    promote(world, model, trained.policy, PROMOTE, {})
    trainer = build_context(load_settings(home=world.home, **server.settings(promoter=None)))
    with pytest.raises(ServerError, match=r"Model \w+ could not be promoted in MLflow.*[Pp]ermission"):
        follow_ledger(trainer)
    behind = state_of(world)
    assert (behind.ledger.model, behind.champion) == (model.artefact_id, published.champion)
    assert behind.challenger.model == model.artefact_id, "it may register"
    client = as_user("trainer")
    assert refused(lambda: client.set_registered_model_alias("zaslon", "champion", "1"))
    assert refused(lambda: client.create_model_version("zaslon", "models:/zaslon-candidates/1"))
    assert refused(lambda: client.delete_registered_model("zaslon"))
    follow_ledger(world)
    assert in_step(world, model)


def test_the_promoter_may_not_train_and_the_scorer_writes_nothing(
    published: RegistryState, as_user: Callable[[str], Any]
) -> None:
    promoter = as_user("promoter")
    assert refused(lambda: promoter.set_registered_model_alias("zaslon-candidates", "challenger", "1"))
    experiment = promoter.get_experiment_by_name("zaslon").experiment_id
    assert refused(lambda: promoter.create_run(experiment))
    scorer = as_user("scorer")
    version = scorer.get_model_version_by_alias("zaslon", "champion")
    assert version.tags["ledger_entry"]
    for work in (
        lambda: scorer.set_registered_model_alias("zaslon", "champion", version.version),
        lambda: scorer.set_model_version_tag("zaslon", version.version, "verdict", "better"),
        lambda: scorer.create_model_version("zaslon", version.source),
        lambda: scorer.create_run(experiment),
        lambda: scorer.delete_model_version("zaslon", version.version),
    ):
        assert refused(work)


def test_of_two_promotions_at_once_the_alias_names_the_newer(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState
) -> None:
    models = other_models(world, trained, 3)[1:]
    processes = [start(world, server, "promote", model.artefact_id, "--unguarded") for model in models]
    answers = [process.communicate(timeout=DEADLINE_SECONDS) for process in processes]
    # Both may win, one after the other; one that was overtaken before its entry is told so.
    assert {process.returncode for process in processes} <= {0, BusyError.exit_code}, answers
    won = [process.returncode == 0 for process in processes]
    numbers = [
        json.loads(out)["number"] if is_in else 0 for (out, _), is_in in zip(answers, won, strict=True)
    ]
    assert any(won)
    assert in_step(world, models[numbers.index(max(numbers))]), state_of(world)
    assert state_of(world).champion.entry == max(numbers)


def test_a_process_killed_between_ledger_and_alias_is_made_good(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState
) -> None:
    model = other_models(world, trained, 4)[3]
    before = state_of(world).champion
    server.freeze(True)
    try:
        process = start(world, server, "promote", model.artefact_id, "--unguarded")
        champion = world.home / "champion.json"
        until(
            lambda: (
                json.loads(champion.read_bytes())["model"] == model.artefact_id or process.poll() is not None
            )
        )
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)
    finally:
        server.freeze(False)
    assert state_of(world).champion == before
    assert answer(start(world, server, "registry", "status"), code=1)["agrees"] is False
    assert answer(start(world, server, "registry", "sync"))["agrees"]
    assert in_step(world, model)


def test_a_server_that_hangs_keeps_nobody_from_promoting(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState
) -> None:
    model = other_models(world, trained, 5)[4]
    server.freeze(True)
    try:
        # By default MLflow waits two minutes for an answer, eight times: longer than this test would.
        promoted = answer(
            start(world, server, "promote", model.artefact_id, "--unguarded", mlflow_timeout_seconds=1)
        )
    finally:
        server.freeze(False)
    assert promoted["registry_agrees"] is False
    assert (state_of(world).home.model, state_of(world).ledger.model) == (model.artefact_id,) * 2
    follow_ledger(world)
    assert in_step(world, model)


def test_a_training_and_a_promotion_wait_for_a_dead_server(
    world: Context, trained: Trained, server: LocalMlflow, published: RegistryState
) -> None:
    from dataclasses import replace

    model = other_models(world, trained, 6)[5]
    server.kill()
    try:
        state = registered(world, replace(trained, model=model))
        assert state.problem is not None
        promoted = answer(start(world, server, "promote", model.artefact_id, "--unguarded"))
        assert promoted["registry_agrees"] is False
        status = answer(start(world, server, "registry", "status"), code=1)
        assert (status["ledger"]["entry"], status["waiting"]) == (promoted["number"], 1)
    finally:
        server.go_on()
    assert answer(start(world, server, "registry", "sync"))["agrees"]
    assert in_step(world, model)


def test_a_promotion_waits_for_the_database_of_the_server(
    world: Context, trained: Trained, server: LocalMlflow, database: LocalPostgres, published: RegistryState
) -> None:
    model = other_models(world, trained, 7)[6]
    database.kill()
    try:
        promoted = answer(start(world, server, "promote", model.artefact_id, "--unguarded"))
    finally:
        database.go_on()
    assert promoted["registry_agrees"] is False
    assert state_of(world).home.model == model.artefact_id
    follow_ledger(world)
    assert in_step(world, model)


@contextmanager
def silent_on(port: int) -> Iterator[None]:
    """A server on a port of this machine that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", port)):
        yield


def test_a_promotion_without_both_servers_disturbs_no_call(
    small_world: SmallWorld, trained: Trained, server: LocalMlflow, database: LocalPostgres, tmp_path: Path
) -> None:
    """First both are dead, then PostgreSQL hangs, then it is back and MLflow is not."""
    # Longer than a call may take: whatever waited for the store would be answered with an error.
    store = {"store_url": database.new_database(), "store_timeout_seconds": 30}
    world = home_with_data(small_world, tmp_path / "home", **server.settings(), **store)
    settings = load_settings(home=world.home, **store)
    migrate_store(settings)
    key = create_key(open_api_keys(settings), "scorer", "", None, 0).secret
    model, first = other_models(world, trained, 8)[7], named_champion(world)
    service_settings = {**store, "api_budget_ms": 15_000, "api_rate_per_second": 100_000}
    given = {f"ZASLON_{name.upper()}": str(value) for name, value in service_settings.items()}

    def promoted(code: int = 0, **more: object) -> dict[str, Any]:
        return answer(
            start(world, server, "promote", model.artefact_id, "--unguarded", **(store | more)), code=code
        )

    with running_service(world.home, **given) as service:
        calls = SteadyCalls(service.address, key)
        with calls.going_on():
            calls.wait_for(20)
            server.kill()
            database.kill()
            try:
                calls.wait_for(20)
                assert "error" in promoted(code=ServerError.exit_code)
                with silent_on(database.port):
                    assert "error" in promoted(code=ServerError.exit_code, store_timeout_seconds=2)
                    calls.wait_for(20)
                assert named_champion(world) == first
            finally:
                database.go_on()
            behind = promoted()
            assert behind["registry_agrees"] is False
            until(lambda: calls.answers[-1]["model"] == model.artefact_id)
            server.go_on()
            calls.wait_for(20)
            assert answer(start(world, server, "registry", "sync", **store))["agrees"]
    assert calls.failures == []
    assert in_step(world, model)
    assert_log_agrees(world, calls, first.model, behind)


def assert_log_agrees(world: Context, calls: SteadyCalls, first: str, promoted: dict[str, Any]) -> None:
    """The log has one change, which is the ledger's last entry, and each decision as it was answered."""
    entries = world.open_ledger().entries()
    assert [entry.promotion.model for entry in entries] == [first, promoted["model"]]
    with closing(world.open_journal_for_reading()) as journal:
        recorded = [json.loads(outcome) for _, outcome in journal.outcomes()]
    (change,) = (outcome for outcome in recorded if outcome["outcome"] == "change")
    assert (change["model"], change["policy"]) == entries[-1].promotion.serving[:2]
    assert (change["number"], change["by"]) == (named_champion(world).number, entries[-1].promotion.actor)
    assert change["reason"] == f"promote, entry {promoted['number']}"
    before, after = set[str](), set[str]()
    for given in calls.answers:
        assert recorded[given["position"]]["model"] == given["model"]
        (before if given["position"] < change["position"] else after).add(given["model"])
    assert (before, after) == ({first}, {promoted["model"]})
    assert len(recorded) == len(calls.answers) + 1
