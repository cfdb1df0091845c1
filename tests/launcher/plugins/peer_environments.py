"""The test suites of other tools, run on the queue in a process of their own."""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

DEADLINE_S = 900


def run_suite(module: str, conftest: str, folder: Path, options: Sequence[str]) -> str:
    """Run tests of an installed package; return the last line of pytest.

    Args:
        module: the module with the tests, or one of them as `module::test`.
        conftest: the text of a plugin that puts the queue into its place.
        folder: an empty folder.
        options: of pytest.
    """
    (folder / "on_the_queue.py").write_text(conftest, encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    words = (
        *(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "on_the_queue"),
        *("--basetemp", str(folder / "tmp"), "--pyargs", module, *options),
    )
    path = os.pathsep.join([str(folder), str(Path.cwd())])
    environment = {**os.environ, "PYTHONPATH": path}
    ran = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert ran.returncode == 0, ran.stdout[-6000:] + ran.stderr[-2000:]
    return ran.stdout.strip().splitlines()[-1]


def passed(line: str) -> int:
    """Return how many tests have passed, from the last line of pytest."""
    found = re.search(r"(\d+) passed", line)
    return int(found[1]) if found else 0
