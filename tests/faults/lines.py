"""Which tests run which lines, and how long each takes: a folder in build/faults for each state of the code."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from coverage import CoverageData

from launcher.system.files import write_atomic
from tests.faults.changes import Change
from tests.faults.copies import Checkout, Copy, Report, work_in_copies

LONGEST_TEST_S = 900.0  # while lines are recorded
BATCH = 8  # files that one process runs: torch is imported once for them


class LinesOfTests:
    """The lines of the product that each test runs, with all processes that it starts."""

    def __init__(self, checkout: Checkout) -> None:
        texts = json.dumps([[module, checkout.read(module)] for module in checkout.modules()])
        state = hashlib.sha256(texts.encode()).hexdigest()[:12]
        self._folder = checkout.root / "build" / "faults" / state
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = self._folder / "tests.json"
        # test → seconds, None if it fails or is skipped though each function has only a harmless change
        self.seconds: dict[str, float | None] = (
            json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        )
        self._data = CoverageData(str(self._folder / "lines.db"))
        self._data.read()

    @property
    def modules_of_tests(self) -> set[str]:
        """The files whose tests were run."""
        return {test.split("::", 1)[0] for test in self.seconds}

    def add(self, run: Report, steps: Mapping[str, Mapping[str, set[tuple[int, int]]]]) -> None:
        """Add what tests ran."""
        passed = {test for test, (outcome, _) in run.outcomes.items() if outcome == "passed"}
        for test in sorted(passed & steps.keys()):
            self._data.set_context(test)
            self._data.add_arcs(steps[test])
        self.seconds |= {
            test: seconds if test in passed else None for test, (_, seconds) in run.outcomes.items()
        }
        write_atomic(self._file, json.dumps(self.seconds, indent=0, sort_keys=True))

    def by_line(self, module: str) -> dict[int, list[str]]:
        """Return the tests that run each line of a module; lines without a test are left out."""
        return {
            line: known
            for line, tests in self._data.contexts_by_lineno(module).items()
            if (known := sorted(test for test in tests if self.seconds.get(test) is not None))
        }

    def tests_of(self, module: str, change: Change) -> dict[str, float]:
        """Return the tests that run the statement of a change, with their seconds, the fastest first."""
        by_line = self.by_line(module)
        tests = {test for line in change.lines for test in by_line.get(line, ())}
        seconds = {test: self.seconds[test] or 0.0 for test in tests}
        return dict(sorted(seconds.items(), key=lambda item: (item[1], item[0])))


def record_lines(
    checkout: Checkout, paths: Sequence[str], *, copies: int, again: bool = False
) -> Iterator[str]:
    """Run tests and record their lines, except those of files that are recorded already.

    Args:
        checkout: where the tests lie.
        paths: files and folders of tests.
        copies: Number of files that run at the same time.
        again: Whether recorded files are run, too.

    Yields:
        one line of text per file of tests.
    """
    store = LinesOfTests(checkout)
    roots = tuple(path.rstrip("/") for path in paths)
    files = [
        name
        for name in checkout.files
        if Path(name).match("test_*.py")
        and any(name == root or name.startswith(f"{root}/") for root in roots)
        and (again or name not in store.modules_of_tests)
    ]

    batches = [files[at : at + BATCH] for at in range(0, len(files), BATCH)]

    def run(
        copy: Copy, batch: Sequence[str]
    ) -> tuple[Sequence[str], Report, dict[str, dict[str, set[tuple[int, int]]]]]:
        ended = copy.run_tests(batch, limit_s=lambda _: LONGEST_TEST_S)
        return batch, ended, copy.read_steps()

    for batch, ended, steps in work_in_copies(
        checkout, batches, run, copies=copies, traces_lines=True
    ):
        store.add(ended, steps)
        for file in batch:
            outcomes = {
                test: outcome
                for test, (outcome, _) in ended.outcomes.items()
                if test.startswith(f"{file}::")
            }
            others = "".join(
                f"\n  {outcome}: {test}"
                for test, outcome in outcomes.items()
                if outcome != "passed"
            )
            passed = sum(outcome == "passed" for outcome in outcomes.values())
            broken = "; it was not collected" if not outcomes else ""
            yield f"{file}: {passed} of {len(outcomes)} tests passed{broken}{others}"
