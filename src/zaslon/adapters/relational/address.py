"""The address of a PostgreSQL database, as a setting names it."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from zaslon.domain.errors import ZaslonError
from zaslon.system.loopback import is_loopback


def postgresql_address(text: str, password: str | None) -> URL:
    """Where and how to connect.

    To another machine the connection is encrypted and the server's certificate is checked, unless the address
    itself says otherwise (`?sslmode=…`).

    Args:
        text: `postgresql://user@host:port/database`, with parameters of libpq behind `?`.
        password: instead of one in the address.

    Raises:
        ZaslonError: the address cannot be read.
    """
    try:
        url = make_url(text).set(drivername="postgresql+psycopg")
    except (ArgumentError, ValueError) as error:  # its text may hold the password
        raise ZaslonError(
            "ZASLON_STORE_URL is not an address.", hint="Write postgresql://user@host:port/database."
        ) from error
    if password is not None:
        url = url.set(password=password)
    if "sslmode" not in url.query and not _is_local(url):
        url = url.update_query_dict({"sslmode": "verify-full"})
    return url


def _is_local(url: URL) -> bool:
    """Whether it is this machine, by loopback or by a socket of the file system."""
    host = url.host or url.query.get("host") or "/"
    if not isinstance(host, str):
        return False
    return host.startswith("/") or is_loopback(host)
