"""What is set takes effect or is refused; nothing that was meant as a setting is passed over."""

from __future__ import annotations

import pytest

from zaslon.domain.errors import ZaslonError
from zaslon.settings import Settings, load_settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ZASLON_API_PROT", "ZASLON_API_PORT"), ("ZASLON_KAFKA_SERVER", "ZASLON_KAFKA_SERVERS"),
     ("zaslon_seeds", "ZASLON_SEED"), ("ZASLON_HOMES", "ZASLON_HOME")],
)  # fmt: skip
def test_a_misspelt_variable_is_refused_with_a_suggestion(
    name: str, meant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ZaslonError, match=f"The variable {name} is not a setting") as caught:
        load_settings()
    assert caught.value.hint == f"Did you mean {meant}?"


def test_variables_that_others_set_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "ZASLON_SERVICE_HOST", "ZASLON_SERVICE_PORT", "ZASLON_PORT", "ZASLON_PORT_8080_TCP_ADDR",
        "ZASLON_API_SERVICE_HOST", "ZASLON_API_PORT_8080_TCP_PORT", "ZASLON_KEY", "ZASLON_SERVERS_REQUIRED",
    ):  # fmt: skip
        monkeypatch.setenv(name, "tcp://localhost:8080")
    assert load_settings().seed == Settings.model_fields["seed"].default


@pytest.mark.parametrize("user", ["mlflow_user", "mlflow_promoter_user"])
def test_a_password_goes_to_mlflow_by_https_or_on_this_machine(user: str) -> None:
    for uri in ("http://mlflow.example:5000", "http://192.0.2.1", "http://localhost.example"):
        with pytest.raises(ZaslonError, match=f"{user}: its password would go to '{uri}.*https://") as caught:
            load_settings(mlflow_uri=uri, **{user: "trainer"})
        assert caught.value.exit_code == 2
    for uri in (
        "https://mlflow.example",
        "http://127.0.0.1:5000",
        "http://localhost:5000",
        "http://[::1]:5000",
    ):
        assert load_settings(mlflow_uri=uri, **{user: "trainer"}).mlflow_uri == uri
    assert load_settings(mlflow_uri="http://mlflow.example:5000").mlflow_user is None
