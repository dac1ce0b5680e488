"""No test depends on speed: tests wait for what happens, however long it takes, and assert no durations."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CLOCKS = {
    "time", "monotonic", "perf_counter", "process_time", "thread_time", "time_ns", "monotonic_ns",
    "perf_counter_ns", "monotonic_seconds",
}  # fmt: skip
# Functions that may sleep, or compare times, and why.
ALLOWED = {
    "waiting.py deadline": "what hangs fails after minutes",
    "waiting.py until": "it looks again after a while",
    "recovery/test_kill_nine.py run": "kills at random moments",
    "recovery/test_service_kills.py under_fire": "kills at random moments",
    "integration/kafka_fire.py burn": "kills at random moments",
    "integration/kafka_fire.py _feed": "records keep coming while scorers are killed",
    "integration/test_kafka_commands.py test_a_time_lapse_keeps_the_distances_of_the_records": (
        "no record may be sent before its time; any may be sent later"
    ),
}


def _name(call: ast.Call) -> str:
    function = call.func
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")


def _is_sleep(node: ast.AST) -> bool:
    """`sleep(0)`, a turn of the event loop, does not count."""
    if not isinstance(node, ast.Call) or _name(node) != "sleep":
        return False
    return not (node.args and isinstance(node.args[0], ast.Constant) and node.args[0].value == 0)


def _reads_clock(node: ast.AST, names: set[str]) -> bool:
    """Whether an expression has a time in it: a call of a clock, or a variable made of one."""
    return any(
        (isinstance(part, ast.Call) and _name(part) in CLOCKS)
        or (isinstance(part, ast.Name) and part.id in names)
        for part in ast.walk(node)
    )


def _times(function: ast.AST) -> set[str]:
    """Variables of a function that are made of times."""
    found: set[str] = set()
    assignments = [n for n in ast.walk(function) if isinstance(n, ast.Assign | ast.AnnAssign | ast.AugAssign)]
    for node in assignments:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if node.value is not None and _reads_clock(node.value, found):
            found |= {t.id for target in targets for t in ast.walk(target) if isinstance(t, ast.Name)}
    return found


def _depends_on_speed(function: ast.AST) -> bool:
    times = _times(function)
    return any(
        _is_sleep(node) or (isinstance(node, ast.Compare | ast.Assert) and _reads_clock(node, times))
        for node in ast.walk(function)
    )


def _found(text: str) -> Iterator[str]:
    """Names of the functions of a module that depend on speed; those within others count as theirs."""
    for node in ast.parse(text).body:
        functions = node.body if isinstance(node, ast.ClassDef) else [node]
        for function in functions:
            if _depends_on_speed(function):
                yield getattr(function, "name", "the module")


def test_no_test_sleeps_or_asserts_a_duration() -> None:
    found = {
        f"{path.relative_to(TESTS)} {name}"
        for path in sorted(TESTS.rglob("*.py"))
        for name in _found(path.read_text("utf-8"))
    }
    assert found == set(ALLOWED)


def test_what_depends_on_speed_is_found() -> None:
    for line in (
        "time.sleep(1)", "sleep(seconds)", "await asyncio.sleep(0.1)", "assert time.monotonic() - begin < 3",
        "end = perf_counter() + 3\n    while perf_counter() < end: pass",
        "took = clock.monotonic_seconds() - begin\n    assert took < limit",
    ):  # fmt: skip
        assert list(_found(f"async def waits(begin, limit, seconds, clock):\n    {line}\n")) == ["waits"], (
            line
        )
    for line in (
        "await asyncio.sleep(0)",
        "begin = time.perf_counter()\n    report(begin)",
        "assert done.wait(300)",
    ):
        assert list(_found(f"async def waits(done, report):\n    {line}\n")) == [], line
