"""Addresses of trees: `s3a://bucket/prefix`, `hdfs://namenode:port/path`, `hdfs:///path`, `file:///path`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from zaslon.domain.errors import ZaslonError

_SCHEMES = {"s3a": "s3a", "s3": "s3a", "s3n": "s3a", "hdfs": "hdfs", "file": "file"}
_EXAMPLES = "Write s3a://bucket/folder or hdfs://namenode/folder."
NAMENODE_PORT = 8020  # of a NameNode whose address names none


@dataclass(frozen=True)
class Address:
    """An address in parts; `path` has no slash at either end."""

    scheme: str
    authority: str
    path: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}/{self.path}"

    def holds(self, other: Address) -> bool:
        """Whether the other one is this one or lies below it."""
        return (self.scheme, self._server) == (other.scheme, other._server) and (
            f"{other.path}/".startswith(f"{self.path}/") or not self.path
        )

    @property
    def _server(self) -> str:
        has_port = self.scheme != "hdfs" or re.search(r":\d+$", self.authority)
        return self.authority if has_port else f"{self.authority}:{NAMENODE_PORT}"


def parse_address(text: str, namenode: str | None = None) -> Address:
    """The parts of an address. S3's has one name here, whatever its scheme: Hadoop's.

    Args:
        text: the address.
        namenode: `host:port` of the HDFS that is meant where none is named.

    Raises:
        ZaslonError: it is none, or one with what would not be taken literally.
    """
    found = re.fullmatch(r"(\w+)://([^/]*)(/.*)?", text)
    if found is None or found[1] not in _SCHEMES:
        # Not the text: what is written wrong may hold a key as well.
        what = f"'{found[1]}://…'" if found else "A path without a scheme"
        raise ZaslonError(f"{what} is not an address of S3 or HDFS.", hint=_EXAMPLES)
    scheme, authority, path = _SCHEMES[found[1]], found[2], (found[3] or "").strip("/")
    if scheme == "hdfs" and not authority:
        authority = namenode or ""
    if bool(authority) == (scheme == "file"):
        raise ZaslonError(f"'{text}' does not say on which server or in which bucket.", hint=_EXAMPLES)
    if "@" in authority:
        raise ZaslonError(
            "An address of S3 or HDFS holds no user, key or password: others could read it.",
            hint="Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, the user from HADOOP_USER_NAME.",
        )
    # A secret key may hold a slash: then the `@` is in the path, and the bucket is what comes before.
    if scheme == "s3a" and not re.fullmatch(r"[A-Za-z0-9._-]+", authority):
        raise ZaslonError(
            "The bucket of an address is not a name: letters, digits, '.', '_' and '-'.",
            hint=f"{_EXAMPLES} Keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.",
        )
    if re.search(r"[*?{}\[\]\\\n]|//|(^|/)\.\.?(/|$)", path):
        raise ZaslonError(
            f"'{text}' has a pattern or a relative part; one folder is meant, with all that is below it.",
            hint=_EXAMPLES,
        )
    return Address(scheme, authority, path)


def parse_pair(source: str, target: str, namenode: str | None) -> tuple[Address, Address]:
    """Source and target of a copy; `namenode` as in `parse_address`.

    Raises:
        ZaslonError: one of them is not an address, or one lies below the other.
    """
    one, other = parse_address(source, namenode), parse_address(target, namenode)
    if one.holds(other) or other.holds(one):
        raise ZaslonError(f"'{source}' and '{target}' overlap.", hint="Copy into another folder.")
    return one, other
