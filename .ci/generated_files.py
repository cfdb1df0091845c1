"""The files that programs write as a whole. All others are written by hand, or hold both.

PYTHONPATH=. python .ci/generated_files.py            exit code 1 if a file differs from what its program writes
PYTHONPATH=. python .ci/generated_files.py --write    write all of them again
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import reference_pages
from benchmarks import charts, measured

TREE = Path(__file__).parents[1]
# path below the root → function that returns its text
FILES: Mapping[str, Callable[[], str]] = {
    **{f"docs/{name}": partial(reference_pages.text_of, name) for name in reference_pages.PAGES},
    "docs/measured.md": measured.page,
    "docs/measured.svg": measured.chart,
    "benchmarks/RESULTS.md": measured.page_of_all,
    **{f"docs/{chart.file}": partial(charts.drawn, chart) for chart in charts.CHARTS},
}
# written whole by `make bill`, which needs the package index
BY_BILL = "docs/licences.md"


def main(words: Sequence[str]) -> int:
    """Write or check the files; return the exit code."""
    stale = []
    for name, text_of in FILES.items():
        file, text = TREE / name, text_of()
        if words == ["--write"]:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            print(
                f"{name} is not what its program writes. Write it: python .ci/generated_files.py --write"
            )
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
