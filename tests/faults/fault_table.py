"""The table of all planted faults: a compressed file of one line per fault, below the line with the names of tests."""

import json
import lzma
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from launcher.system.files import write_atomic
from tests.source_tree import ROOT

FILE = ROOT / "tests" / "data" / "faults.jsonl.xz"
RESULTS = ("passed", "failed")  # numbers of tests in the file


class Fault(NamedTuple):
    """A fault and the result of the tests."""

    place: str  # module:line:column
    function: str
    change: str
    code: str  # digest of the module's text
    seconds: float | None = None  # time of all tests, None if it was not measured yet
    passed: tuple[str, ...] = ()  # tests
    failed: tuple[str, ...] = ()  # tests, also those that did not end in time
    broken: tuple[str, ...] = ()  # modules of tests that could not be collected

    @property
    def module(self) -> str:
        """The changed file."""
        return self.place.split(":", 1)[0]

    @property
    def folder(self) -> str:
        """The folder of the changed file."""
        return self.module.rpartition("/")[0]

    @property
    def is_found(self) -> bool:
        """Whether a test failed, or could not be collected."""
        return bool(self.failed or self.broken)

    @property
    def only_finder(self) -> str:
        """The test that alone found it, empty if there is none or several."""
        return self.failed[0] if len(self.failed) == 1 and not self.broken else ""

    @property
    def key(self) -> tuple[str, str, str]:
        """The same fault has the same key."""
        return self.place, self.change, self.code


def read_faults(file: Path) -> list[Fault]:
    """Return the faults of a table, none if there is no file."""
    if not file.exists():
        return []
    head, *rows = map(json.loads, lzma.decompress(file.read_bytes()).decode().splitlines())
    return [
        Fault(
            **row
            | {name: tuple(head["tests"][number] for number in row[name]) for name in RESULTS}
            | {"broken": tuple(row["broken"])}
        )
        for row in rows
    ]


def write_faults(file: Path, faults: Iterable[Fault]) -> None:
    """Write a table; the same faults give the same bytes."""
    faults = sorted(faults, key=lambda fault: fault.key)
    tests = sorted({test for fault in faults for test in (*fault.passed, *fault.failed)})
    number = {test: place for place, test in enumerate(tests)}
    rows = [
        fault._asdict()
        | {name: [number[test] for test in getattr(fault, name)] for name in RESULTS}
        for fault in faults
    ]
    lines = [json.dumps(row) for row in [{"schema": 1, "tests": tests}, *rows]]
    write_atomic(file, lzma.compress("".join(f"{line}\n" for line in lines).encode()))
