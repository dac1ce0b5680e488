"""What every job on a Data Proc cluster runs: one command of Zaslon, whose exit code becomes the job's.

Upload it beside the archive that `zaslon package` makes, and name it in the setting `driver`.
"""

from __future__ import annotations

import sys

from zaslon.entrypoints.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
