"""How much is tried: `HYPOTHESIS_PROFILE=ci` for what must hold before a change lands."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

# No deadline: the first example of a compiled function may have to compile it.
settings.register_profile(
    "default", max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), max_examples=1_000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))
