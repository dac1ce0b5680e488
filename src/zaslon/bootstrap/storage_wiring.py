"""How addresses of S3 and HDFS are reached: by the settings, the environment and the configuration of a cluster."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable
from importlib.util import find_spec
from typing import TYPE_CHECKING

from zaslon.domain.errors import ZaslonError
from zaslon.settings import Settings, load_settings
from zaslon.system.opening import is_on_cluster

if TYPE_CHECKING:
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess, WebAddresses


def reach_storages(addresses: Iterable[str]) -> None:
    """Let every reader of this process open addresses, where some are of S3 or HDFS.

    Raises:
        ZaslonError: a client is not installed, or a setting cannot be used.
    """
    wanted = list(filter(is_on_cluster, addresses))
    if not wanted:
        return
    if find_spec("requests") is None and not any(address.startswith("hdfs:") for address in wanted):
        return  # S3 alone needs no more than the extra `s3`, of which fsspec knows
    require_clients()
    from zaslon.adapters.cluster.hadoop.foreign_files import use_storages  # noqa: PLC0415  an extra

    use_storages(_web_addresses(load_settings()), hdfs_user())


def storage_access(settings: Settings) -> StorageAccess:
    """What tasks on other machines reach both with.

    Raises:
        ZaslonError: a client is not installed, or a setting cannot be used.
    """
    require_clients()
    from zaslon.adapters.cluster.hadoop.foreign_files import StorageAccess  # noqa: PLC0415  an extra

    return StorageAccess.here(_web_addresses(settings), hdfs_user())


def require_clients() -> None:
    """Refuse to go on without the clients of S3 and HDFS.

    Raises:
        ZaslonError: one is not installed.
    """
    if any(find_spec(library) is None for library in ("requests", "s3fs")):
        raise ZaslonError(
            "The clients of S3 and HDFS are not installed.",
            hint="Install them with: pip install 'zaslon[hadoop]'.",
        )


def hdfs_user() -> str:
    """Who is at work for HDFS, as its own client finds it."""
    return os.environ.get("HADOOP_USER_NAME") or pwd.getpwuid(os.geteuid()).pw_name


def _web_addresses(settings: Settings) -> WebAddresses:
    from zaslon.adapters.cluster.hadoop.cluster_files import cluster_configuration  # noqa: PLC0415  an extra
    from zaslon.adapters.cluster.hadoop.foreign_files import WebAddresses  # noqa: PLC0415

    return WebAddresses.of_setting(settings.hadoop_webhdfs, cluster_configuration())
