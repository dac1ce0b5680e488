"""Who acts: the user of this process."""

from __future__ import annotations

import os
import pwd


def system_user() -> str:
    """By name, or by number where the system knows no name."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
