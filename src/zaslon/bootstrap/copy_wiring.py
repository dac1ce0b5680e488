"""The parts of a copy between storages."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from zaslon.adapters.embedded.lock import exclusive_in
from zaslon.bootstrap.storage_wiring import hdfs_user, require_clients
from zaslon.domain.time import parse_duration_seconds
from zaslon.flows.copy import Copying
from zaslon.services.context import LOCK, Progress
from zaslon.settings import Settings
from zaslon.system.durable import make_directory

if TYPE_CHECKING:
    from zaslon.adapters.cluster.hadoop.addresses import Address
    from zaslon.adapters.cluster.hadoop.file_trees import StoredTree
    from zaslon.adapters.cluster.hadoop.foreign_files import WebAddresses

COPIES = "copies"  # of a home: a directory for each pair of addresses


def build_copying(settings: Settings, source: str, target: str, progress: Progress) -> Copying:
    """A copy of `source` to `target` by this machine's Hadoop.

    Raises:
        ZaslonError: an address or a setting cannot be used, or something is not installed.
    """
    require_clients()
    from zaslon.adapters.cluster.hadoop.addresses import parse_pair  # noqa: PLC0415  an extra
    from zaslon.adapters.cluster.hadoop.cluster_files import (  # noqa: PLC0415
        cluster_configuration,
        default_namenode,
    )
    from zaslon.adapters.cluster.hadoop.distcp import CopyLimits, DistCp  # noqa: PLC0415
    from zaslon.adapters.cluster.hadoop.foreign_files import WebAddresses  # noqa: PLC0415
    from zaslon.adapters.cluster.hadoop.hadoop_program import find_hadoop  # noqa: PLC0415
    from zaslon.adapters.cluster.hadoop.hadoop_settings import s3_access  # noqa: PLC0415

    configuration = cluster_configuration()
    one, other = parse_pair(source, target, default_namenode(configuration))
    web = WebAddresses.of_setting(settings.hadoop_webhdfs, configuration)
    directory = settings.home / COPIES / hashlib.sha256(f"{one}\n{other}".encode()).hexdigest()[:16]
    scratch, maps = directory / "hadoop", settings.copy_maps
    hadoop = find_hadoop(settings.hadoop_jars, scratch, maps)
    make_directory(directory)
    limits = CopyLimits(
        maps, settings.copy_megabytes_per_second, parse_duration_seconds(settings.copy_timeout)
    )
    uses_s3 = "s3a" in (one.scheme, other.scheme)
    access = s3_access(configuration, one_process=hadoop.one_process) if uses_s3 else None
    return Copying(
        source=_tree(one, web), target=_tree(other, web),
        tool=DistCp(hadoop, str(one), str(other), access, directory, scratch, limits),
        directory=directory, exclusive=lambda: exclusive_in(directory / LOCK),
        threads=settings.copy_verify_threads, progress=progress,
    )  # fmt: skip


def open_tree(settings: Settings, address: str) -> StoredTree:
    """The files below one address.

    Raises:
        ZaslonError: it cannot be used, or something is not installed.
    """
    require_clients()
    from zaslon.adapters.cluster.hadoop.addresses import parse_address  # noqa: PLC0415  an extra
    from zaslon.adapters.cluster.hadoop.cluster_files import (  # noqa: PLC0415
        cluster_configuration,
        default_namenode,
    )
    from zaslon.adapters.cluster.hadoop.foreign_files import WebAddresses  # noqa: PLC0415

    configuration = cluster_configuration()
    parsed = parse_address(address, default_namenode(configuration))
    return _tree(parsed, WebAddresses.of_setting(settings.hadoop_webhdfs, configuration))


def _tree(address: Address, web: WebAddresses) -> StoredTree:
    from zaslon.adapters.cluster.hadoop.file_trees import hdfs_tree, local_tree, s3_tree  # noqa: PLC0415

    if address.scheme == "s3a":
        return s3_tree(address)
    if address.scheme == "file":
        return local_tree(address)
    return hdfs_tree(address, web, hdfs_user())
