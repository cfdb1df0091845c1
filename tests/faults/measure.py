"""Draws faults, plants each in a copy of the checkout, and runs the tests of the changed line."""

import itertools
import random
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.faults.changes import Change, draw, find_changes, plant, text_digest
from tests.faults.copies import Checkout, Copy, work_in_copies
from tests.faults.fault_table import Fault, read_faults, write_faults
from tests.faults.lines import LinesOfTests

BUDGET_S = 120.0  # time for the tests of one fault
LEAST_LIMIT_S, TIMES = 10.0, 5  # a test hangs after 10 s and five times its usual time


def draw_faults(checkout: Checkout, folder: str, count: int, seed: int) -> list[Fault]:
    """Draw faults in the executed lines of a folder; more of them begin with the same ones."""
    functions, modules = [], {}
    with closing(LinesOfTests(checkout)) as lines:
        executed_in = {
            module: lines.by_line(module).keys() for module in checkout.modules([folder])
        }
    for module, executed in executed_in.items():
        for changes in find_changes(checkout.read(module)):
            functions.append([each for each in changes if not executed.isdisjoint(each.lines)])
            modules.update({id(change): module for change in changes})
    faults = (
        Fault(f"{module}:{change.position}", change.function, change.text, text_digest(text))
        for change in draw(functions, random.Random(seed))
        if plant(text := checkout.read(module := modules[id(change)]), change) is not None
    )
    return list(itertools.islice(faults, count))


def add_faults(file: Path, drawn: Sequence[Fault]) -> int:
    """Add drawn faults to a table, and return how many were not in it."""
    faults = read_faults(file)
    known = {fault.key for fault in faults}
    new = [fault for fault in drawn if fault.key not in known]
    write_faults(file, faults + new)
    return len(new)


def measure_faults(
    checkout: Checkout,
    file: Path,
    *,
    folders: Sequence[str] = (),
    copies: int = 1,
    first: bool = False,
) -> Generator[Fault, None, None]:
    """Measure the faults of a table that are not measured yet, and write the table after each.

    A fault stays as it is if no test is known to run its line. If its module was changed, it is deleted.

    Args:
        checkout: the code and its tests.
        file: the table.
        folders: of the faults, all if there are none.
        copies: how many faults are measured at once.
        first: Whether the first test that finds a fault is the last one that is run.

    Yields:
        each fault with its result.
    """
    faults = {fault.key: fault for fault in read_faults(file)}
    modules = {*checkout.modules(folders)}
    tasks = []
    with closing(LinesOfTests(checkout)) as lines:
        for number, fault in enumerate([*faults.values()], 1):
            if fault.seconds is not None or fault.module not in modules:
                continue
            text = checkout.read(fault.module)
            change = _find(text, fault)
            if change is None:  # the module was changed since
                del faults[fault.key]
            elif tests := lines.tests_of(fault.module, change):
                tasks.append(_Task(fault, number, plant(text, change) or "", tests, first))
    for measured in work_in_copies(checkout, tasks, _measure, copies=copies):
        faults[measured.key] = measured
        write_faults(file, faults.values())
        yield measured
    write_faults(file, faults.values())


class _Task(NamedTuple):
    fault: Fault
    number: int
    text: str  # text of the changed module
    tests: Mapping[str, float]  # with their usual seconds, the fastest first
    first: bool  # whether one test that fails is enough


def _find(text: str, fault: Fault) -> Change | None:
    """Return a fault's change in the text of its module, None if the text is another one."""
    if text_digest(text) != fault.code:
        return None
    position = fault.place.split(":", 1)[1]
    return next(
        change
        for changes in find_changes(text)
        for change in changes
        if change.position == position and change.text == fault.change
    )


def _measure(copy: Copy, task: _Task) -> Fault:
    """Plant a fault, and run the fastest tests of its line that fit into the time."""
    ends = [*itertools.accumulate(task.tests.values())]
    fitting = max(1, sum(end <= BUDGET_S for end in ends))
    tests = dict(itertools.islice(task.tests.items(), fitting))
    begun = time.monotonic()
    found = _Found(set(), set(), set())
    with copy.changed(task.fault.module, task.text, task.number):
        _run(copy, tests, begun + BUDGET_S, found, first=task.first)
    return task.fault._replace(
        seconds=round(time.monotonic() - begun, 1),
        passed=tuple(sorted(found.passed)),
        failed=tuple(sorted(found.failed)),
        broken=tuple(sorted(found.broken)),
    )


class _Found(NamedTuple):
    passed: set[str]
    failed: set[str]
    broken: set[str]  # modules


def _run(
    copy: Copy, tests: Mapping[str, float], deadline: float, found: _Found, *, first: bool
) -> None:
    """Run tests, and add their results. After a test that hangs or kills pytest, the others are run again."""
    if not tests or time.monotonic() > deadline or (first and found.failed):
        return
    seconds: dict[str, float] = {}
    for test in tests:
        seconds[_module(test)] = seconds.get(_module(test), 0.0) + tests[test]
    modules = sorted(seconds, key=lambda module: (seconds[module], module))
    report = copy.run_tests(
        modules,
        tests,
        limit_s=lambda test: min(BUDGET_S, LEAST_LIMIT_S + TIMES * tests.get(test, 0.0)),
        deadline=deadline,
        first=first,
    )
    found.broken.update(report.broken)
    for test, (outcome, _) in report.outcomes.items():
        if outcome != "skipped":
            (found.passed if outcome == "passed" else found.failed).add(test)
    if report.unfinished:
        found.failed.add(report.unfinished)
        ended = {*report.outcomes, report.unfinished}
        left = {test: tests[test] for test in tests.keys() - ended}
        left = {test: left[test] for test in left if _module(test) not in report.broken}
        _run(copy, left, deadline, found, first=first)
    elif first and found.failed:
        pass
    elif report.is_late or (len(modules) == 1 and not report.outcomes):
        found.broken.update(modules)
    elif not report.outcomes and not report.broken:
        for module in modules:  # a conftest.py cannot be imported; other folders do not need it
            own = {test: tests[test] for test in tests if _module(test) == module}
            _run(copy, own, deadline, found, first=first)


def _module(test: str) -> str:
    return test.split("::", 1)[0]
