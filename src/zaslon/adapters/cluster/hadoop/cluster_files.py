"""What the configuration of a cluster says to us: which HDFS is meant by `hdfs:///path`, and where WebHDFS answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

from zaslon.adapters.cluster.hadoop.addresses import NAMENODE_PORT
from zaslon.domain.errors import ZaslonError

_USUAL = Path("/etc/hadoop/conf")
_FILES = ("core-site.xml", "hdfs-site.xml", "mapred-site.xml")


def cluster_configuration() -> Mapping[str, str]:
    """The properties of the files below; none where there is no configuration.

    Raises:
        ZaslonError: a file cannot be read.
    """
    found: dict[str, str] = {}
    for path in (_directory() / name for name in _FILES):
        try:
            root = ET.parse(path).getroot()  # noqa: S314  the administrator's, which Hadoop reads as well
        except FileNotFoundError:
            continue
        except (OSError, ET.ParseError) as error:
            raise ZaslonError(
                f"Hadoop's configuration '{path}' cannot be read: {error}.",
                hint="HADOOP_CONF_DIR names its directory.",
            ) from error
        found |= {(p.findtext("name") or "").strip(): (p.findtext("value") or "").strip() for p in root}
    return found


def _directory() -> Path:
    """Where Hadoop's own programs look."""
    if given := os.environ.get("HADOOP_CONF_DIR"):
        return Path(given)
    home = os.environ.get("HADOOP_HOME")
    return Path(home) / "etc" / "hadoop" if home else _USUAL


def default_namenode(configuration: Mapping[str, str]) -> str | None:
    """`host:port` of the HDFS that is meant where none is named."""
    address = configuration.get("fs.defaultFS", "")
    return address.removeprefix("hdfs://").rstrip("/") if address.startswith("hdfs://") else None


def web_address(configuration: Mapping[str, str], namenode: str) -> str | None:
    """`host:port` of its WebHDFS, for the HDFS of this configuration; None for another one, or where it is not said.

    An address that listens everywhere is that of the NameNode's host.
    """
    found = configuration.get("dfs.namenode.http-address", "")
    host, _, port = found.rpartition(":")
    if not port or default_namenode(configuration) not in (namenode, f"{namenode}:{NAMENODE_PORT}"):
        return None
    return f"{namenode.partition(':')[0] if host in ('', '0.0.0.0') else host}:{port}"  # noqa: S104  it is compared
