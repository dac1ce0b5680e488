"""Environments of peers that pin other versions than our lock: made once, from hashed locks of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def own_python(peer: str) -> Path:
    """The Python of an environment with `requirements/PEER.txt`."""
    place = ROOT / ".kafka" / peer
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        subprocess.run(
            [str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r",
             str(ROOT / "requirements" / f"{peer}.txt")], check=True, stdout=sys.stderr,
        )  # fmt: skip
        (place / "complete").touch()
    return python
