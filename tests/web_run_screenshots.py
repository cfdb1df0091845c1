"""Takes the pictures of a run's page for docs/: of the first study of the lab, a sweep and a search, really run on the CPU.

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

from launcher.queue.home.paths import Home
from tests.build import end_everything
from tests.e2e.machine import ROOT
from tests.launcher.web.browser import served
from tests.web_screenshots import DOCS, NARROW, shoot

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TASKS = "tasks/tour.yaml"
TALL = (1400, 1400)  # pixels: curves, results, figures and pictures on one
CURVES = (1400, 900)  # pixels: the curves of the sweep
SEARCH = (980, 925)  # pixels: the charts of the search
# a program whose numbers look like those of a training
_PROGRAM = """
import argparse, math, random

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--batch", type=int)
parser.add_argument("--seed", type=int)
given = parser.parse_args()
random.seed(1000 * given.seed + given.batch)
distance = abs(math.log10(given.lr / 0.03))
noise = random.gauss(0, 0.06)
for epoch in range(1, 61):
    height = 0.08 + 0.12 * distance + math.exp(-epoch / (12 + 14 * distance))
    loss = height * (1 + noise) + random.gauss(0, 0.012)
    val_loss = 1.08 * loss + abs(random.gauss(0, 0.02))
    numbers = f"loss={loss:.4f} val_loss={val_loss:.4f} val_auc={max(0.5, 1 - val_loss / 2.4):.4f}"
    print(f"launcher: step={epoch} total=60 {numbers}")
"""
# a program whose best setting is known
_SEARCHED = """
import argparse, math

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int)
parser.add_argument("--act")
given = parser.parse_args()
distance = abs(math.log10(given.lr / 0.003)) / 3 + abs(given.layers - 4) / 10
print(f"launcher: acc={0.97 - 0.25 * distance - (0.02 if given.act == 'relu' else 0):.4f}")
"""
_ADD = ("launcher", "add", "--run", "sweep", "--name", "train", "--cpus", "1")
_SWEEP = ("lr=0.5,0.1,0.03,0.002", "batch=32,128,512", "seed=1,2,3")
_SEARCH = ("launcher", "add", "--run", "tune", "--name", "fit", "--search", "acc", "--trials", "24")
_SPACE = ("lr=1e-5..1e-1:log", "layers=2..6", "act=relu,gelu")


def take(place: Path, folder: Path, browser: "Browser") -> None:
    """Run the tour, a sweep and a search, write the report of the tour, and take the pictures.

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
    (project / "train.py").write_text(_PROGRAM)
    (project / "fit.py").write_text(_SEARCHED)
    sweep = [word for each in _SWEEP for word in ("--sweep", each)]
    values = [f"--{name}={{{name}}}" for name in ("lr", "batch", "seed")]
    space = [word for each in _SPACE for word in ("--sweep", each)]
    commands = (
        ("launcher", "run", TASKS),
        ("trueface", "report", "tour"),
        (*_ADD, *sweep, "--", sys.executable, "train.py", *values),
        ("launcher", "wait", "run:sweep"),
        (*_SEARCH, *space, "--", sys.executable, "fit.py", "{sweep}"),
        ("launcher", "wait", "run:tune"),
    )
    try:
        for program, *words in commands:
            command = [str(Path(sys.executable).with_name(program)), *words]
            subprocess.run(command, cwd=project, env=environment, check=True)
        names = [(str(home.folder), "~/.local/state/launcher"), (str(project), "~/blend")]
        with served(place, "--read-only", environment=environment) as page:
            shoot(browser, page, "run/tour", "light", TALL, names, folder / "web-run.png")
            shoot(browser, page, "run/tour", "dark", TALL, names, folder / "web-run-dark.png")
            phone = folder / "web-run-phone.png"
            shoot(browser, page, "run/tour", "light", NARROW, names, phone)
            shoot(browser, page, "run/sweep", "light", CURVES, names, folder / "web-curves.png")
            dark = folder / "web-curves-dark.png"
            shoot(browser, page, "run/sweep", "dark", CURVES, names, dark)
            phone = folder / "web-curves-phone.png"
            shoot(browser, page, "run/sweep", "light", NARROW, names, phone)
            shoot(browser, page, "run/tune", "light", SEARCH, names, folder / "web-search.png")
    finally:
        end_everything(home)


def main(words: list[str]) -> int:
    """Take the pictures again."""
    from playwright.sync_api import (
        sync_playwright,
    )  # a package of the extra `dev`; tests run without it

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
