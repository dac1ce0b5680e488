"""Start the service: recover, warm up, listen; stop without losing what was taken."""

from __future__ import annotations

import sys
from dataclasses import replace

from zaslon.bootstrap import build_clock, build_context, build_decider, open_api_keys
from zaslon.domain.errors import ZaslonError
from zaslon.entrypoints.api.http_server import HttpServer
from zaslon.entrypoints.api.service import Service
from zaslon.entrypoints.api.service_metrics import Metrics
from zaslon.entrypoints.json_log import LogProgress, log_as_json
from zaslon.features.plan import plan_features
from zaslon.services.context import Context
from zaslon.services.home import load_champion
from zaslon.services.key_management import KeyRing
from zaslon.services.logs import exclusive
from zaslon.settings import Settings
from zaslon.system.loopback import is_loopback

_SWITCH_SECONDS = 0.0005  # the event loop waits at most so long for a thread that brings answers


def build_service(settings: Settings, context: Context) -> Service:
    """All parts; the decider is recovering and warming up when this returns."""
    clock, metrics = build_clock(), Metrics()
    model, policy = load_champion(context, plan_features(context.catalogue))
    decider = build_decider(
        settings, context, begun=metrics.watch_worker, grouped=metrics.group, saved=metrics.snapshots.observe,
        passed=metrics.passed, notify=context.progress.warn,
    )  # fmt: skip
    keys = KeyRing(open_api_keys(settings), clock.now_seconds)
    return Service(settings, context, decider, keys, clock, metrics, model, policy)


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then decide what was taken and save the state.

    Raises:
        ZaslonError: a setting, the home or the keys do not allow it.
    """
    _check_address(settings)
    # First: a home that is not there stays so.
    if len(KeyRing(open_api_keys(settings), build_clock().now_seconds)) == 0:
        raise ZaslonError(
            f"The service of '{settings.home}' has no valid key.",
            hint="Create one: `zaslon keys create --role scorer`.",
        )
    context = replace(build_context(settings), progress=LogProgress())
    with exclusive(context):
        _serve(build_service(settings, context))


def _serve(service: Service) -> None:
    sys.setswitchinterval(_SWITCH_SECONDS)
    log_as_json()
    server = HttpServer(service)
    with service.keys.watched(service.context.progress.warn):
        server.run()
    if server.failure is not None:
        raise server.failure


def _check_address(settings: Settings) -> None:
    has_tls = settings.api_tls_certificate is not None
    if has_tls != (settings.api_tls_key is not None):
        raise ZaslonError("TLS needs both `api_tls_certificate` and `api_tls_key`.")
    for path in (settings.api_tls_certificate, settings.api_tls_key):
        if path is not None and not path.is_file():
            raise ZaslonError(f"'{path}' is not a file.", hint="Name the certificate and its key, PEM.")
    if not has_tls and not settings.api_plain_http and not is_loopback(settings.api_host):
        raise ZaslonError(
            f"'{settings.api_host}' is not a local address, and TLS is not configured.",
            hint="Give a certificate, or set `api_plain_http` if a proxy in front has one.",
        )
