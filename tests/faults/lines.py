"""Which tests run which lines, and how long each takes: a folder in build/faults for each state of the code."""

import ast
import hashlib
import json
import sqlite3
import zlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

from tests.faults.changes import Change
from tests.faults.copies import Checkout, Copy, Report, work_in_copies

LONGEST_TEST_S = 900.0  # while lines are recorded
BATCH = 8  # files that one process runs: torch is imported once for them


_TESTS = "tests (name TEXT PRIMARY KEY, seconds REAL, steps BLOB)"  # numbers of 32 bits, compressed
_STEPS = "steps (number INTEGER PRIMARY KEY, module TEXT, before INTEGER, after INTEGER)"


class LinesOfTests:
    """The lines of the product that each test runs, and the steps between them, with all processes that it starts."""

    def __init__(self, checkout: Checkout) -> None:
        self._checkout = checkout
        texts = json.dumps([[module, checkout.read(module)] for module in checkout.modules()])
        state = hashlib.sha256(texts.encode()).hexdigest()[:12]
        folder = checkout.root / "build" / "faults" / state
        folder.mkdir(parents=True, exist_ok=True)
        self._database = sqlite3.connect(folder / "lines.db", isolation_level=None)
        for table in (_TESTS, _STEPS):
            self._database.execute(f"CREATE TABLE IF NOT EXISTS {table}")
        # test → seconds, None if it fails or is skipped though each function has only a harmless change
        self.seconds: dict[str, float | None] = dict(
            self._database.execute("SELECT name, seconds FROM tests")
        )
        self._numbers: dict[tuple[str, int, int], int] = {
            (module, before, after): number
            for number, module, before, after in self._database.execute("SELECT * FROM steps")
        }
        self._by_line: dict[str, dict[int, list[str]]] = {}

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    @property
    def modules_of_tests(self) -> set[str]:
        """The files whose tests were run."""
        return {test.split("::", 1)[0] for test in self.seconds}

    def add(self, run: Report, steps: Mapping[str, Mapping[str, set[tuple[int, int]]]]) -> None:
        """Add what tests ran."""
        rows = []
        for test, (outcome, seconds) in run.outcomes.items():
            numbers = [
                self._number(module, *step)
                for module, own in steps.get(test, {}).items()
                for step in own
            ]
            passed = outcome == "passed"
            self.seconds[test] = seconds if passed else None
            packed = zlib.compress(array("I", sorted(numbers) if passed else []).tobytes())
            rows.append((test, self.seconds[test], packed))
        self._database.execute("BEGIN")
        known = self._database.execute("SELECT count(*) FROM steps").fetchone()[0]
        new = [(number, *step) for step, number in self._numbers.items() if number >= known]
        self._database.executemany("INSERT INTO steps VALUES (?, ?, ?, ?)", new)
        self._database.executemany("INSERT OR REPLACE INTO tests VALUES (?, ?, ?)", rows)
        self._database.execute("COMMIT")
        self._by_line.clear()

    def _number(self, module: str, before: int, after: int) -> int:
        return self._numbers.setdefault((module, before, after), len(self._numbers))

    def steps(self) -> "Iterator[tuple[str, array[int]]]":
        """Yield each test that passes, with the numbers of its steps."""
        for name, packed in self._database.execute(
            "SELECT name, steps FROM tests WHERE seconds IS NOT NULL ORDER BY name"
        ):
            yield name, array("I", zlib.decompress(packed))

    def steps_in_functions(self) -> set[int]:
        """Return the numbers of the steps that do not belong to the import of a module."""
        modules = {module for module, _, _ in self._numbers if module.endswith(".py")}
        inside = {module: lines_of_functions(self._checkout.read(module)) for module in modules}
        return {
            number
            for (module, before, after), number in self._numbers.items()
            if module in inside and (before in inside[module] or after in inside[module])
        }

    def by_line(self, module: str) -> dict[int, list[str]]:
        """Return the tests that run each line of a module; lines without a test are left out."""
        if not self._by_line:
            lines = {number: step for step, number in self._numbers.items()}
            found: dict[str, dict[int, set[str]]] = {}
            for test, numbers in self.steps():
                for number in numbers:
                    of_module, *ends = lines[number]
                    by_line = found.setdefault(of_module, {})
                    for line in ends:
                        if line > 0:
                            by_line.setdefault(line, set()).add(test)
            self._by_line = {
                each: {line: sorted(tests) for line, tests in by_line.items()}
                for each, by_line in found.items()
            }
        return self._by_line.get(module, {})

    def tests_of(self, module: str, change: Change) -> dict[str, float]:
        """Return the tests that run the statement of a change, with their seconds, the fastest first."""
        by_line = self.by_line(module)
        tests = {test for line in change.lines for test in by_line.get(line, ())}
        seconds = {test: self.seconds[test] or 0.0 for test in tests}
        return dict(sorted(seconds.items(), key=lambda item: (item[1], item[0])))


def lines_of_functions(text: str) -> set[int]:
    """Return the lines of all bodies of functions in the text of a module."""
    return {
        line
        for node in ast.walk(ast.parse(text))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        for line in range(node.body[0].lineno, (node.end_lineno or node.lineno) + 1)
    }


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
    with closing(LinesOfTests(checkout)) as store:
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
