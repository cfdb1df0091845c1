"""Takes the pictures of `launcher web` for docs/, of a real queue on stand-in GPUs, in a real Chromium.

python -m tests.web_screenshots [FOLDER]

Only names of people and folders are replaced. Wants Playwright and a Chromium on PATH.
"""

import contextlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from launcher.queue.gpu.gpus_file import read_gpu_status
from launcher.queue.jobs.states import ENDED_STATES, State
from launcher.queue.store.queue import Store
from launcher.queue.workers.progress.attempt_progress import read_newest_step
from tests.e2e.machine import ROOT, Machine, a_machine
from tests.launcher.web.browser import Page, served
from tests.nvml.standin import Devices, asked_here, compile_library
from tests.pictured_jobs import CARD, put, strangers

if TYPE_CHECKING:
    from playwright.sync_api import Browser

DOCS = ROOT / "docs"
WIDE, NARROW = (1400, 900), (400, 860)  # pixels
PATIENCE_S = 120.0
WORKS, ENDS = 4, 5  # jobs that run and have ended in the pictures
# replaces texts of a page by others, and its line of the host by one of a larger machine; also after each change
_RENAME = """([pairs, host]) => {
  const rename = () => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode())
      for (const [text, other] of pairs)
        walker.currentNode.data = walker.currentNode.data.replaceAll(text, other);
    for (const line of document.querySelectorAll('.host')) line.textContent = host;
  };
  const watch = () => observer.observe(
    document.body, { childList: true, subtree: true, characterData: true });
  const observer = new MutationObserver(() => { observer.disconnect(); rename(); watch(); });
  rename();
  watch();
}"""
HOST = "host: 11.4/16 cores · load 12.1 · memory 71/256 GiB · disk 58 GiB free"


def take(machine: Machine, gpus: Devices, folder: Path, browser: "Browser") -> None:
    """Live through half a minute of a queue, and take the pictures."""
    cards = [gpus.add(CARD, name="NVIDIA_A100-SXM4-40GB", limit=400_000) for _ in range(3)]
    for card in cards:
        gpus.set(card, util=0, power=52_000, temp=34)
    store = Store(machine.project.home)
    with contextlib.closing(store), strangers(gpus) as start:
        stranger = start(cards[1], 24)
        numbers = put(machine, store)
        store.job_control.hold([numbers["train/vit-h"]], time.time())
        machine.serve()
        _until(lambda: _at_work(machine, gpus, store), "several jobs work")
        job = _longest(machine, store)
        names = [
            (str(machine.project.home.folder), "~/.local/state/launcher"),
            (f"root: 24 GiB, sleep pid {stranger}", f"ben: 24 GiB, python pid {stranger}"),
            ("root:", "ada:"),
            (str(machine.project.folder), "~/blend"),
            ("/nowhere/", "~/blend/"),  # the folder of `tests.pictured_jobs`
        ]
        with served(machine.project.folder, environment=machine.project.environment) as page:
            shoot(browser, page, f"jobs/{job}", "light", WIDE, names, folder / "web-job.png")
            for theme in ("light", "dark"):
                for kind, size in (("", WIDE), ("-phone", NARROW)):
                    picture = folder / f"web-{theme}{kind}.png"
                    shoot(browser, page, "", theme, size, names, picture)


def shoot(
    browser: "Browser",
    page: Page,
    path: str,
    theme: str,
    size: tuple[int, int],
    names: list[tuple[str, str]],
    picture: Path,
) -> None:
    """Take a picture of a page as it is when it has come to life."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme="dark" if theme == "dark" else "light",
    )
    tab = context.new_page()
    tab.set_default_timeout(1000 * PATIENCE_S)
    tab.goto(page.link)
    tab.goto(f"{tab.url}{path}")
    tab.locator("#connection", has_text="live").wait_for()
    tab.wait_for_timeout(1500)  # its first changes have come
    tab.wait_for_function("!document.querySelector('.undrawn')")  # its charts are drawn
    tab.evaluate(_RENAME, [[list(pair) for pair in names], HOST])
    tab.screenshot(path=picture)
    context.close()
    sys.stderr.write(f"wrote {picture}\n")


def _at_work(machine: Machine, gpus: Devices, store: Store) -> bool:
    """Let busy GPUs report their load. Return whether the queue is ready for the pictures."""
    look = read_gpu_status(machine.project.home)
    for place, gpu in enumerate(look.gpus if look else ()):
        if gpu.used and gpu.used > CARD / 8:
            load = 97 - 9 * place
            gpus.set(gpu.uuid, util=load, power=(240 + load) * 1000, temp=60 + 4 * place)
    counts = store.read.counts()
    ended = sum(counts.get(state, 0) for state in ENDED_STATES)
    return counts.get(State.RUNNING, 0) >= WORKS and ended >= ENDS


def _longest(machine: Machine, store: Store) -> int:
    """Return the running job that has the most steps."""
    steps = {
        row.id: read_newest_step(machine.project.home.attempt(row.id, row.attempts))
        for row in store.read.jobs_in_state(State.RUNNING)
    }
    return max(steps, key=lambda job: 0 if (step := steps[job]) is None else step.total or 0)


def _until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        time.sleep(0.3)


def main(words: list[str]) -> int:
    """Take all pictures again."""
    from playwright.sync_api import (
        sync_playwright,
    )  # a package of the extra `dev`; tests run without it

    folder = Path(words[0]) if words else DOCS
    with tempfile.TemporaryDirectory() as place, sync_playwright() as driver:
        library = Path(place) / "library"
        library.mkdir()
        gpus = Devices(library, compile_library(library))
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        with asked_here(gpus), a_machine(Path(place), gpus) as machine:
            machine.project.environment["PYTHONPATH"] = str(ROOT)
            take(machine, gpus, folder, browser)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
