"""The jobs of which the pictures of docs/ are taken: those of one person on a machine with three GPUs.

They are real processes on the stand-in for NVML.
"""

import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher.queue.jobs.job import Resources, Spec, Terms
from launcher.queue.store.queue import NewJob, Store
from launcher.queue.workers.worker_job import Job
from launcher.system.errors import JobError
from tests.build import a_context
from tests.e2e.machine import ROOT, Machine
from tests.nvml.standin import GIB, Devices

CARD = 40 * GIB
NEXT = 0.2  # s between two steps of a training
TRAINED = ("resnet18", "resnet50", "vit-b", "vit-l")


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
            if step % 10 == 0:
                sys.stdout.write(f"step {step} of {steps}: loss {loss:.4f}\n")
                sys.stdout.flush()
            if job.stop.wait(NEXT):
                break
    finally:
        taken.unlink(missing_ok=True)
    if job.kind == "test":
        rng = random.Random(job.name)
        return {"n": 300, "auc": round(rng.uniform(0.9, 0.999), 4), "eer": 0.031}
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
    """Yield the jobs, and the names of those that each needs."""
    yield a_job("prepare/crops", 0, 0, 7), ()
    for seed in (1, 2, 3):
        for place, name in enumerate(TRAINED):
            size = (11, 14, 18, 24)[place]
            model = f"{name}@seed={seed}"
            train = f"train/{model}"
            seconds = 14 + 5 * place + seed
            short = name == "resnet50" and seed == 1
            yield a_job(train, size, size - 0.6, seconds, short=short), ("prepare/crops",)
            for data in ("photos", "faces"):
                yield a_job(f"test/{model}/{data}", 4, 3.6, 4), (train,)
    broken = "FileNotFoundError: no folder data/sketches"
    yield a_job("train/sketches", 12, 6, 10, fails=broken), ()
    yield a_job("test/sketches/photos", 4, 3.6, 4), ("train/sketches",)
    yield a_job("train/vit-h", 30, 27, 16), ()


def a_job(
    name: str, asks: float, takes: float, seconds: float, *, short: bool = False, fails: str = ""
) -> Spec:
    """Return a job that asks for and takes so many GiB of a GPU."""
    kind = name.partition("/")[0]
    on_gpu = Resources(gpus=1, vram=round(asks * GIB), device="cuda", cpus=2)
    settings = {"takes": takes, "seconds": seconds, "short": short, "fails": fails}
    return Spec(
        name=name,
        kind=kind,
        role=kind if kind in {"train", "test"} else "plain",
        run="blend",
        root="/nowhere",
        entry="tests.pictured_jobs:work",
        settings=settings,
        resources=on_gpu if asks else Resources(cpus=4, device="cpu"),
        terms=Terms(retries=1, backoff_s=1.0) if short else Terms(),
        signature=f"{kind} {asks} {fails}",
    )


def put(machine: Machine, store: Store) -> dict[str, int]:
    """Queue the jobs, and return their numbers by name."""
    context = a_context(
        machine.project.folder,
        environment={**machine.project.environment, "PYTHONPATH": str(ROOT)},
    )
    numbers: dict[str, int] = {}
    with store.database.writing():
        run = store.ensure_run(Path("/nowhere"), "blend")
        for spec, needs in jobs():
            new = NewJob(spec=spec, dependencies=[numbers[need] for need in needs])
            numbers[spec.name] = store.insert_or_replace(run, context, new, time.time())
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
