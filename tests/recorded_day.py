"""Makes tests/data/day.jsonl: a day of one person's queue on a machine with three GPUs.

python -m tests.recorded_day [FILE]

A real scheduler runs real processes on the stand-in for NVML, for a minute and a half; then the
times are stretched to a working day, and names of people and folders are replaced.
"""

import contextlib
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from launcher.errors import JobError
from launcher.job import Resources, Spec, Terms
from launcher.screens.dashboard.screen_recording import Recorder
from launcher.screens.format import JobLine
from launcher.screens.gpu_view import Gauge
from launcher.screens.screen import Happening, Screen, Work
from launcher.screens.snapshots import Snapshots
from launcher.store.queue import NewJob, Store
from launcher.system.daemon_control import wake
from launcher.units import format_seconds, parse_seconds
from launcher.workers.job import Job
from launcher.workers.progress.steps import Step
from tests.build import a_context
from tests.e2e.machine import ROOT, Machine, a_machine
from tests.nvml.standin import GIB, Devices, compile_library

DAY = ROOT / "tests" / "data" / "day.jsonl"
HOME = "/home/ada/.local/state/launcher"
DAWN = datetime(2026, 11, 20, 7, 40, tzinfo=UTC).timestamp()
STRETCH = 360.0  # seconds of the day in one of ours
SPAN_S, EVERY_S = 100.0, 2.5
RECENT, WAITING = 5, 7  # that are written down
CARD = 40 * GIB
NEXT = 0.2  # s between two steps of a training
_TOLD = re.compile(r"(?<=in about )[0-9.]+ [dhms](?: [0-9]+ [hms])?\b")
TRAINED = ("gan2", "gan3", "sd", "sdXL")


def work(job: Job) -> Mapping[str, Any]:
    """Train or test as the settings say: take memory, report progress, fail where that is wanted."""
    said = job.settings
    taken = Path(os.environ["STANDIN_TAKEN"]) / str(os.getpid())
    cards = [card for card in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if card]
    grows = said["short"] and job.attempt == 1
    steps = max(1, round(float(said["seconds"]) / NEXT))
    try:
        for step in range(1, steps + 1):
            share = min(1.0, 0.6 + step / 10)
            held = round(float(said["takes"]) * GIB * share)
            temporary = taken.with_name(f".{taken.name}")
            temporary.write_text("".join(f"{card} {held}\n" for card in cards))
            temporary.rename(taken)
            if grows and step == 8:
                raise _out_of_memory(float(said["takes"]))
            if said["fails"] and step == 4:
                raise JobError(str(said["fails"]))
            loss = 0.08 + 0.61 * math.exp(-4 * step / steps) + random.uniform(0, 0.02)
            job.progress(step=step, total=steps, loss=loss)
            if job.stop.wait(NEXT):
                break
    finally:
        taken.unlink(missing_ok=True)
    if job.kind == "test":
        chance = random.Random(job.name)
        return {"n": 300, "auc": round(chance.uniform(0.9, 0.999), 4), "eer": 0.031}
    return {"epochs": 10, "loss": 0.0902}


def _out_of_memory(held: float) -> Exception:
    kind = type("OutOfMemoryError", (RuntimeError,), {"__module__": "torch"})
    error: Exception = kind(
        "CUDA out of memory. Tried to allocate 4.00 GiB. GPU 0 has a total capacity of 40.00 GiB of"
        f" which 3.10 GiB is free. Including non-PyTorch memory, this process has {held:.2f} GiB"
        f" memory in use. Of the allocated memory {held:.2f} GiB is allocated by PyTorch, and"
        " 12.00 MiB is reserved by PyTorch but unallocated."
    )
    return error


def jobs() -> Iterator[tuple[Spec, tuple[str, ...]]]:
    """Yield the jobs of the day, and the names of those that each needs."""
    yield a_job("command/crops", 0, 0, 7), ()
    for seed in (1, 2, 3):
        for place, name in enumerate(TRAINED):
            size = (11, 14, 18, 24)[place]
            train = f"train/{name}:pre&real:pre@seed={seed}"
            model = train.partition("/")[2]
            seconds = 14 + 5 * place + seed
            short = name == "gan3" and seed == 1
            yield a_job(train, size, size - 0.6, seconds, short=short), ("command/crops",)
            for data in ("real:pre", "sdXL:shr"):
                yield a_job(f"test/{model}/{name}:pre&{data}", 4, 3.6, 4), (train,)
    broken = "FileNotFoundError: no folder called Flux below data/TrueFace"
    yield a_job("train/flux:pre&real:pre", 12, 6, 10, fails=broken), ()
    yield a_job("test/flux:pre/real:pre", 4, 3.6, 4), ("train/flux:pre&real:pre",)
    yield a_job("train/vit:pre&real:pre", 30, 27, 16), ()


def a_job(
    name: str, asks: float, takes: float, seconds: float, *, short: bool = False, fails: str = ""
) -> Spec:
    """Return a job that asks for and takes so many GiB of a GPU."""
    kind = name.partition("/")[0]
    on_gpu = Resources(gpus=1, min_vram=round(asks * GIB), device="cuda", cpus=2)
    settings = {"takes": takes, "seconds": seconds, "short": short, "fails": fails}
    return Spec(
        name=name,
        kind=kind,
        role=kind if kind in {"train", "test"} else "plain",
        run="blend",
        root="/nowhere",
        entry="tests.recorded_day:work",
        settings=settings,
        resources=on_gpu if asks else Resources(cpus=4, device="cpu"),
        terms=Terms(retries=1, backoff_s=1.0) if short else Terms(),
        signature=f"{kind} {asks} {fails}",
    )


def put(machine: Machine, store: Store) -> dict[str, int]:
    """Queue the day's jobs, and return their numbers by name."""
    context = a_context(
        machine.project.folder,
        environment={**machine.project.environment, "PYTHONPATH": str(ROOT)},
    )
    numbers: dict[str, int] = {}
    with store.writing():
        run = store.run(Path("/nowhere"), "blend")
        for spec, needs in jobs():
            new = NewJob(spec=spec, needs=[numbers[need] for need in needs])
            numbers[spec.name] = store.put(run, context, new, time.time())
    return numbers


@contextmanager
def strangers(gpus: Devices) -> Iterator[Callable[[str, float], int]]:
    """Let other people's processes hold memory: a function starts one, and returns its pid."""
    started: list[subprocess.Popen[bytes]] = []

    def start(uuid: str, amount: float) -> int:
        started.append(subprocess.Popen(["sleep", "600"]))
        gpus.hold(uuid, started[-1].pid, round(amount * GIB))
        return started[-1].pid

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def play(machine: Machine, gpus: Devices, recorder: Recorder) -> None:
    """Live through the day and write it down."""
    cards = [gpus.add(CARD, name="NVIDIA_A100-SXM4-40GB", limit=400_000) for _ in range(3)]
    store = Store(machine.project.home)
    chance = random.Random(7)
    with contextlib.closing(store), strangers(gpus) as start:
        numbers = put(machine, store)
        vit = numbers["train/vit:pre&real:pre"]
        store.owning.hold([vit], time.time())
        others = [start(cards[1], 31)]
        machine.serve()
        began = time.time()
        snapshots = Snapshots(machine.project.home, store)
        for turn in range(round(SPAN_S / EVERY_S)):
            time.sleep(max(0.0, began + turn * EVERY_S - time.time()))
            match turn:
                case 11:
                    others.append(start(cards[2], 9))
                case 17:
                    gpus.leave(cards[1], others[0])
                case 21:
                    store.owning.release([vit], time.time())
                    store.owning.prioritise([vit], 5)
                    wake(machine.project.home)
                case 29:
                    gpus.leave(cards[2], others[1])
            screen = snapshots.take(waiting=WAITING, recent=RECENT)
            recorder.add(as_a_day(neutral(screen, others), began))
            for gauge in screen.gpus:
                busy = bool(gauge.guests or gauge.gpu.processes)
                gpus.set(
                    gauge.gpu.uuid,
                    util=chance.randint(82, 99) if busy else 0,
                    power=chance.randint(240, 390) * 1000 if busy else 52_000,
                    temp=chance.randint(58, 74) if busy else 34,
                )


def neutral(screen: Screen, others: Collection[int]) -> Screen:
    """Return a screen with other names for people and folders; `others` are strangers' pids."""
    gpus = tuple(_renamed(gauge, others) for gauge in screen.gpus)
    return replace(screen, home=HOME, gpus=gpus, warnings=())


def _renamed(gauge: Gauge, others: Collection[int]) -> Gauge:
    if gauge.gpu.processes is None:
        return gauge
    processes = tuple(
        replace(one, user="ben" if one.pid in others else "ada", command="python")
        for one in gauge.gpu.processes
    )
    return replace(gauge, gpu=replace(gauge.gpu, processes=processes))


def as_a_day(screen: Screen, began: float) -> Screen:
    """Return a screen in the times of a long day."""

    def moved(at: float) -> float:
        return round(DAWN + (at - began) * STRETCH)

    def line(one: JobLine) -> JobLine:
        return replace(one, since=moved(one.since), note=_longer(one.note))

    def step(one: Step | None) -> Step | None:
        if one is None:
            return None
        rate = None if one.rate is None else round(one.rate / STRETCH, 6)
        metrics = {
            key: round(value, 4) if isinstance(value, float) else value
            for key, value in one.metrics.items()
        }
        return replace(one, at=moved(one.at), rate=rate, metrics=metrics)

    def at_work(one: Work) -> Work:
        changed = line(one.line), moved(one.started), step(one.step)
        return replace(one, line=changed[0], started=changed[1], step=changed[2])

    def happened(one: Happening) -> Happening:
        seconds = None if one.seconds is None else round(one.seconds * STRETCH)
        return replace(one, at=moved(one.at), line=line(one.line), seconds=seconds)

    since = screen.scheduler.since
    return replace(
        screen,
        at=moved(screen.at),
        scheduler=replace(screen.scheduler, since=None if since is None else moved(since)),
        left_s=None if screen.left_s is None else round(screen.left_s * STRETCH),
        running=tuple(map(at_work, screen.running)),
        waiting=tuple(map(line, screen.waiting)),
        recent=tuple(map(happened, screen.recent)),
    )


def _longer(text: str) -> str:
    """Return a reason with the stretch of time that it tells."""
    return _TOLD.sub(lambda found: format_seconds(parse_seconds(found[0]) * STRETCH), text)


def main(words: list[str]) -> int:
    """Make the recording anew."""
    file = Path(words[0]) if words else DAY
    with tempfile.TemporaryDirectory() as place, file.open("w", encoding="utf-8") as lines:
        library = Path(place) / "library"
        library.mkdir()
        gpus = Devices(library, compile_library(library))
        with a_machine(Path(place), gpus) as machine:
            machine.project.environment["PYTHONPATH"] = str(ROOT)
            play(machine, gpus, Recorder(lines))
    sys.stderr.write(f"wrote {file}, {file.stat().st_size:,} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
