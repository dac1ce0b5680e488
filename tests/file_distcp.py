"""A program that copies files of this machine as DistCp does, faults and all: for tests without Java.

`hadoop distcp -conf F -update|-overwrite … -filters F SOURCE TARGET`. A line of the environment's `DISTCP_FAULT` makes it
fail: `stop N` after N files with one half written, `say TEXT` with that text in its log, `garble`, `hang`.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path


def install(home: Path) -> Path:
    """Make a HADOOP_HOME whose program `hadoop` this is; it keeps its last command line and configuration there."""
    program = home / "bin" / "hadoop"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n" + Path(__file__).read_text("utf-8"), "utf-8")
    program.chmod(0o755)
    return home


def main(arguments: list[str]) -> int:
    """Copy, and return the exit code."""
    home = Path(sys.argv[0]).resolve().parents[1]
    (home / "arguments").write_text("\n".join(arguments), "utf-8")
    (home / "configuration").write_bytes(Path(arguments[arguments.index("-conf") + 1]).read_bytes())
    fault, _, detail = os.environ.get("DISTCP_FAULT", "").partition(" ")
    if fault == "hang":
        signal.pause()
    if fault == "say":
        print(detail, file=sys.stderr)
        return 25
    source, target = (Path(address.removeprefix("file://")) for address in arguments[-2:])
    for done, name in enumerate(_chosen(arguments, source)):
        to = target / name
        if fault == "stop" and done == int(detail):
            (target / ".distcp.tmp.attempt_1").write_bytes(b"half")
            return 137
        if (
            "-overwrite" in arguments
            or not to.exists()
            or to.stat().st_size != (source / name).stat().st_size
        ):
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / name, to.with_name(".distcp.tmp.one"))
            to.with_name(".distcp.tmp.one").replace(to)
            if fault == "garble":
                to.write_bytes(b"?" * to.stat().st_size)
    for percent in (0, 40, 100):
        print(f"INFO mapreduce.Job:  map {percent}% reduce 0%", file=sys.stderr)
    return 0


def _chosen(arguments: list[str], source: Path) -> Iterator[str]:
    """The names of the files that no filter leaves out."""
    filters = Path(arguments[arguments.index("-filters") + 1]).read_text("utf-8").splitlines()
    for path in sorted(source.rglob("*")):
        if path.is_file() and not any(re.fullmatch(line, f"file://{path}") for line in filters):
            yield path.relative_to(source).as_posix()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
