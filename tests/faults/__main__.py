"""Measure what the tests find, in steps that continue where they were interrupted.

`coverage PATH…` runs tests and records their lines. `draw FOLDER…` adds faults in executed lines to the fault table.
`run` plants each of them in a copy of the checkout and runs the tests of its line. `table` prints the result.
`needless` prints test functions that could be deleted: other functions run each of their lines and branches twice.
Tests that fail because of a harmless change of the code, such as those of digests, are left out.
"""

import argparse
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing

from tests.faults.choice import find_needless, functions_of
from tests.faults.copies import Checkout
from tests.faults.fault_table import FILE, Fault, read_faults
from tests.faults.lines import LinesOfTests, record_lines
from tests.faults.measure import add_faults, draw_faults, measure_faults
from tests.source_tree import ROOT

LONGEST_CHANGE = 100  # characters on the screen


def main() -> None:
    """Do one of the steps."""
    words = _parser().parse_args()
    checkout = Checkout(ROOT)
    match words.step:
        case "coverage":
            number = 0
            for line in record_lines(checkout, words.paths, copies=words.copies, again=words.again):
                number += 1
                _print(line)
            _print(f"{number} files of tests were run; recorded ones are not repeated")
        case "draw":
            for folder in words.folders:
                drawn = draw_faults(checkout, folder, words.count, words.seed)
                _print(f"{folder}: {len(drawn)} faults, {add_faults(FILE, drawn)} of them new")
        case "run":
            for fault in measure_faults(
                checkout, FILE, folders=words.folders, copies=words.copies, first=words.first
            ):
                _print(_describe(fault))
            left = sum(fault.seconds is None for fault in read_faults(FILE))
            _print(f"{left} faults are left; if the code was changed, repeat `coverage` first")
        case "needless":
            with closing(LinesOfTests(checkout)) as lines:
                known = lines.steps_in_functions()
                functions = functions_of(lines.steps(), lines.seconds, known)
            candidates = [
                each
                for each in functions
                if each.seconds >= words.seconds and each.name.startswith(tuple(words.paths))
            ]
            for each in find_needless(functions, candidates):
                _print(f"{each.seconds:7.2f} s  {each.name}")
        case _:
            faults = read_faults(FILE)
            _print("\n".join(_rows(faults)))
            if words.each:
                _print("\n".join(_describe(fault) for fault in faults))
            if words.alone:
                counts = Counter(fault.only_finder for fault in faults if fault.only_finder)
                _print("\n".join(f"{count} {test}" for test, count in counts.most_common()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    steps = parser.add_subparsers(dest="step", required=True)
    copies = argparse.ArgumentParser(add_help=False)
    copies.add_argument("--copies", type=int, default=1, help="Work in N copies at once.")
    lines = steps.add_parser("coverage", parents=[copies], help="Record the lines of tests.")
    lines.add_argument("paths", nargs="+", help="Files and folders of tests.")
    lines.add_argument("--again", action="store_true", help="Repeat recorded files.")
    draw = steps.add_parser("draw", help="Draw faults.")
    draw.add_argument("folders", nargs="+", help="Folders of launcher and trueface.")
    draw.add_argument("--count", type=int, default=40, help="Faults per folder.")
    draw.add_argument("--seed", type=int, default=1)
    run = steps.add_parser("run", parents=[copies], help="Measure the drawn faults.")
    run.add_argument("folders", nargs="*", help="Folders of launcher and trueface, default all.")
    run.add_argument("--first", action="store_true", help="One test that finds a fault is enough.")
    needless = steps.add_parser("needless", help="Print functions whose lines others run twice.")
    needless.add_argument("paths", nargs="+", help="Files and folders of tests.")
    needless.add_argument("--seconds", type=float, default=0.0, help="Only those that take longer.")
    table = steps.add_parser("table", help="Print the result by folder.")
    table.add_argument("--each", action="store_true", help="Print each fault.")
    table.add_argument("--alone", action="store_true", help="Print tests that alone find a fault.")
    return parser


def _print(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _rows(faults: Iterable[Fault]) -> Iterator[str]:
    """Return the table by folder in Markdown."""
    yield "| folder | drawn | found | not found | found by one test | seconds |"
    yield "|---|---:|---:|---:|---:|---:|"
    folders: dict[str, list[Fault]] = defaultdict(list)
    for fault in faults:
        folders[fault.folder].append(fault)
    for folder, drawn in sorted(folders.items()):
        measured = [fault for fault in drawn if fault.seconds is not None]
        found = sum(fault.is_found for fault in measured)
        alone = sum(bool(fault.only_finder) for fault in measured)
        seconds = sum(fault.seconds or 0.0 for fault in measured)
        counts: Sequence[int] = (len(drawn), found, len(measured) - found, alone, round(seconds))
        yield f"| {folder} | {' | '.join(f'{count:,}' for count in counts)} |"


def _describe(fault: Fault) -> str:
    result = "found" if fault.is_found else "NOT FOUND"
    broken = f", {len(fault.broken)} modules not collected" if fault.broken else ""
    counts = f"{len(fault.failed)} of {len(fault.passed) + len(fault.failed)} tests{broken}"
    result += f" ({counts}, {fault.seconds} s)"
    change = fault.change[:LONGEST_CHANGE]
    return f"{'not measured' if fault.seconds is None else result}: {fault.place} {change}"


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)  # as shells have it
