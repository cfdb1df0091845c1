"""Takes the pictures of `launcher top` for README and docs/, from a real queue on stand-in GPUs.

python -m tests.screenshots [FOLDER]

A real scheduler runs real processes, as `tests.pictured_jobs` queues them, on the stand-in for NVML;
the application draws without a terminal. Only names of people and folders are replaced.
"""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from textual.pilot import Pilot

from launcher.frontends.screens.dashboard.app import Top
from launcher.frontends.screens.gpu_view import GpuView
from launcher.frontends.screens.host import Host
from launcher.frontends.screens.job_view import RECENT
from launcher.frontends.screens.snapshots import QueueSnapshot, QueueSnapshotReader
from launcher.queue.gpu.monitor import GpuPoller
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.jobs.states import State
from launcher.queue.store.queue import Store
from launcher.system.files import write_atomic
from tests.e2e.machine import CORES, ROOT, Machine, a_machine
from tests.nvml.standin import GIB, Devices, asked_here, compile_library
from tests.pictured_jobs import CARD, put, strangers

DOCS = ROOT / "docs"
HOME = "/home/ada/.local/state/launcher"
SIZE = (118, 38)  # columns and rows
PATIENCE_S = 120.0
# a font that a viewer would fetch from elsewhere; any fixed-width font does
_FETCHED = re.compile(r"\s*@font-face \{.*?\}(?=\s)", re.DOTALL)
_NOTES = re.compile(r"\s*<!--.*?-->", re.DOTALL)
_NUMBER = re.compile(r"terminal-\d+")


class Renamed(QueueSnapshotReader):
    """A queue as it is now, with other names for people and folders."""

    others: Collection[int] = ()  # pids of other people's processes

    def read_snapshot(
        self, *, waiting_limit: int = 0, recent: int = RECENT, search_text: str = ""
    ) -> QueueSnapshot:
        """Return the screen as of now."""
        screen = super().read_snapshot(
            waiting_limit=waiting_limit, recent=recent, search_text=search_text
        )
        gpus = tuple(_renamed(gauge, self.others) for gauge in screen.gpus)
        return screen._replace(home=HOME, gpus=gpus, warnings=(), host=_enlarged(screen.host))


def _enlarged(host: Host | None) -> Host | None:
    """Return a host with the cores and the memory of a machine with three such GPUs."""
    if host is None:
        return None
    return host._replace(
        cores=CORES,
        usable=CORES,
        busy=11.4,
        ours=10.9,
        load=12.1,
        memory=256 * GIB,
        memory_used=71 * GIB,
    )


def _renamed(gauge: GpuView, others: Collection[int]) -> GpuView:
    if gauge.gpu.processes is None:
        return gauge
    processes = tuple(
        one._replace(user="ben" if one.pid in others else "ada", command="python")
        for one in gauge.gpu.processes
    )
    return gauge._replace(gpu=replace(gauge.gpu, processes=processes))


def picture(app: Top, file: Path) -> None:
    """Write what an application shows; nothing in it is fetched from anywhere."""
    text = app.export_screenshot(title="launcher top")
    for unwanted in (_FETCHED, _NOTES):
        text = unwanted.sub("", text)
    name = file.stem  # the same on each run, and another for each picture of a page
    text = _NUMBER.sub(name, text).replace("Fira Code, monospace", "monospace")
    write_atomic(file, f"{text}\n")
    sys.stderr.write(f"wrote {file}\n")


@asynccontextmanager
async def shown(queue: QueueSnapshotReader) -> AsyncIterator[tuple[Top, Pilot[int]]]:
    """Run the application on a screen that nobody sees."""
    app = Top(queue, colour=True)
    async with app.run_test(size=SIZE) as pilot:
        yield app, pilot


async def until(
    app: Top, pilot: Pilot[int], holds: Callable[[QueueSnapshot], object], what: str
) -> None:
    """Wait until the screen is as a picture wants it."""
    deadline = time.monotonic() + PATIENCE_S
    while app.snapshot is None or not holds(app.snapshot):
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited in vain until {what}")
        await pilot.pause(0.2)


async def take(machine: Machine, gpus: Devices, folder: Path) -> None:
    """Live through a minute of a queue, and take the pictures."""
    cards = [gpus.add(CARD, name="NVIDIA_A100-SXM4-40GB", limit=400_000) for _ in range(3)]
    for card in cards:
        gpus.set(card, util=0, power=52_000, temp=34)
    store = Store(machine.project.home)
    queue = Renamed(
        machine.project.home, gpu_poller=GpuPoller(Nvml().snapshot, _unneeded), measures=True
    )
    with contextlib.closing(store), contextlib.closing(queue), strangers(gpus) as start:
        async with shown(queue) as (app, pilot):
            machine.serve()
            await until(app, pilot, lambda one: one.gpus and one.scheduler.pid, "GPUs are seen")
            queue.others = {start(cards[1], 24)}
            numbers = put(machine, store)
            store.job_control.hold([numbers["train/vit-h"]], time.time())
            await _work(app, pilot, gpus)
            picture(app, folder / "top-busy.svg")
            await _open_job(app, pilot)
            picture(app, folder / "top-job.svg")
            await pilot.press("escape", "escape")  # the job, and the filter
            await until(app, pilot, _has_failed, "jobs have failed")
            await pilot.press("G")
            await pilot.pause(1.5)
            picture(app, folder / "top-failure.svg")


async def _work(app: Top, pilot: Pilot[int], gpus: Devices) -> None:
    """Let the queue work for a while, with the matching GPU loads."""

    def busy(screen: QueueSnapshot) -> bool:
        for place, gauge in enumerate(screen.gpus):
            if gauge.jobs:
                load = 97 - 7 * place - len(screen.recent)
                gpus.set(gauge.gpu.uuid, util=load, power=(240 + load) * 1000, temp=60 + 4 * place)
        trains = [
            work for work in screen.running if work.memory and (work.memory.now or 0) > CARD / 8
        ]
        holding = all(work.memory and work.memory.now for work in screen.running)
        return holding and len(trains) > 3 and len(screen.recent) > 2

    await until(app, pilot, busy, "several jobs work")


async def _open_job(app: Top, pilot: Pilot[int]) -> None:
    """Open the training that has gone furthest, on the page of its metrics."""
    assert app.snapshot is not None
    works = list(app.snapshot.running)
    furthest = max(works, key=lambda work: work.step.step if work.step else 0)
    await pilot.press("/", *str(furthest.id), "enter")
    await pilot.press("enter", "3")
    await pilot.pause(6.0)


def _has_failed(screen: QueueSnapshot) -> bool:
    failed = [one for one in screen.recent if one.state is State.FAILED]
    return any("memory" in one.reason for one in failed) and any(
        "folder" in one.reason for one in failed
    )


def _unneeded() -> None:
    """Skip waiting for a GPU measurement. The next screen has it."""


def main(words: list[str]) -> int:
    """Take all pictures again."""
    folder = Path(words[0]) if words else DOCS
    with tempfile.TemporaryDirectory() as place:
        library = Path(place) / "library"
        library.mkdir()
        gpus = Devices(library, compile_library(library))
        with asked_here(gpus), a_machine(Path(place), gpus) as machine:
            machine.project.environment["PYTHONPATH"] = str(ROOT)
            # the screen is drawn here: the picture shows no reservations of other queues
            os.environ["LAUNCHER_CLAIMS"] = machine.project.environment["LAUNCHER_CLAIMS"]
            asyncio.run(take(machine, gpus, folder))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
