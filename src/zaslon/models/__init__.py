"""Models: train, calibrate, evaluate, explain, keep. Start reading at `train` and `model`."""

from __future__ import annotations

import os

# A waiting OpenMP thread spins by default and so takes the core that the working one needs when
# anything else runs: training was seen to take twenty times as long. Must run before LightGBM
# is loaded; a value that is already set stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
