"""Notebooks of docs/: executed as a person would, with a queue of their own.

`python -m tests.notebooks` puts what they print into the files below docs/notebooks/.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from launcher.queue.home.paths import Home
from tests.build import end_everything

NOTEBOOKS = Path(__file__).parents[1] / "docs" / "notebooks"
DEADLINE_S = 120


def execute(path: Path, target: Path, home: Home) -> None:
    """Execute a notebook in a process of its own, and write it with its output.

    Raises:
        CalledProcessError: a cell failed.
    """
    environment = {**os.environ, "LAUNCHER_HOME": str(home.folder), "LAUNCHER_CONFIG": os.devnull}
    words = [sys.executable, "-m", "tests.notebooks", str(path), str(target)]
    try:
        subprocess.run(words, env=environment, check=True, timeout=2 * DEADLINE_S)
    finally:
        end_everything(home)


def _execute_here(path: Path, target: Path) -> None:
    formats: Any = importlib.import_module("nbformat")  # a package of the extra `dev`
    client: Any = importlib.import_module("nbclient").NotebookClient
    notebook = formats.read(path, as_version=4)
    client(notebook, timeout=DEADLINE_S, record_timing=False).execute()
    formats.write(notebook, target)


def texts_of(path: Path) -> list[tuple[str, str]]:
    """Return what each cell printed, and its last value, as text."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    outputs = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    return [
        (
            "".join(text for output in of_cell for text in output.get("text", ())),
            "".join(
                text for output in of_cell for text in output.get("data", {}).get("text/plain", ())
            ),
        )
        for of_cell in outputs
    ]


def write() -> None:
    """Put what the notebooks print into their files."""
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            execute(path, path, Home(Path(folder, "home")))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        _execute_here(Path(sys.argv[1]), Path(sys.argv[2]))
    else:
        write()
