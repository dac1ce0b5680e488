"""How much the laws try: little while code is written (`dev`), much before it lands (`ci`)."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "dev")
IS_THOROUGH = PROFILE == "ci"
