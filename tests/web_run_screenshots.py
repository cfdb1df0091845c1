"""Takes the pictures of a run's page for docs/, of the tour of the README, really run on the CPU.

python -m tests.web_run_screenshots [FOLDER]

Takes a few minutes. Only names of folders are replaced. Wants Playwright and a Chromium on PATH.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.system.paths import Home
from tests.build import end_everything
from tests.e2e.machine import ROOT
from tests.launcher.web.browser import served
from tests.web_screenshots import DOCS, NARROW, shoot

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TASKS = "tasks/tour.yaml"
TALL = (1400, 1150)  # pixels: results, figures and pictures on one


def take(place: Path, folder: Path, browser: "Browser") -> None:
    """Run the tour, write its report, and take the pictures.

    Args:
        place: an empty folder.
        folder: where the pictures are put.
        browser: takes them.
    """
    project, home = place / "blend", Home(place / "home")
    (project / "tasks").mkdir(parents=True)
    shutil.copy(ROOT / TASKS, project / TASKS)
    environment = {
        **os.environ,
        "LAUNCHER_HOME": str(home.folder),
        "LAUNCHER_CLAIMS": str(place / "claims"),
        "LAUNCHER_CONFIG": os.devnull,
        "PYTHONPATH": str(ROOT),
    }
    try:
        for program, *words in (("launcher", "run", TASKS), ("trueface", "report", "tour")):
            command = [str(Path(sys.executable).with_name(program)), *words]
            subprocess.run(command, cwd=project, env=environment, check=True)
        names = [(str(home.folder), "~/.local/state/launcher"), (str(project), "~/blend")]
        with served(place, "--read-only", environment=environment) as page:
            shoot(browser, page, "run/tour", "light", TALL, names, folder / "web-run.png")
            shoot(browser, page, "run/tour", "dark", TALL, names, folder / "web-run-dark.png")
            phone = folder / "web-run-phone.png"
            shoot(browser, page, "run/tour", "light", NARROW, names, phone)
    finally:
        end_everything(home)


def main(words: list[str]) -> int:
    """Take the pictures again."""
    from playwright.sync_api import sync_playwright  # of the extra `dev`; tests run without it

    folder = Path(words[0]) if words else DOCS
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        take(Path(place), folder, browser)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
