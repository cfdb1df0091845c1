"""NVML of the real driver beside the stand-in that the tests use, and beside torch."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml

from benchmarks.gpu.bench import GIB, ROOT, Bench
from benchmarks.gpu.measurements.nvml_questions import QUESTIONS, XID, Answer, answers
from benchmarks.gpu.measurements.programs import taken
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.workers.memory_share import DEFAULT_CONTEXT_BYTES
from tests.nvml.standin import Devices, compile_library

UUID = re.compile(r"GPU-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
OPTIONAL = frozenset({"mig", "fault", "warnings"})  # fields that are empty on a healthy whole card
RETURN_S = 5.0  # for memory of a process that ended
XID_S = 5.0  # for the driver's report of a fault


def measure(bench: Bench) -> None:
    """Compare answers field by field, then what follows an allocation, then the snapshot."""
    _compare(bench, answers(), assumed(bench.path))
    _relations(bench)
    uuid = _snapshot(bench)
    _allocation(bench, uuid)
    _return(bench, uuid)
    _torch(bench, uuid)
    if bench.provoke_xid:
        _xid(bench)


def assumed(folder: Path) -> dict[str, Answer]:
    """Return what the stand-in answers; nothing where it cannot be compiled."""
    place = folder / "standin"
    place.mkdir()
    try:
        devices = Devices(place, compile_library(place))
    except FileNotFoundError:
        return {}
    devices.add()
    # in a process of its own: two libraries of one name in one process are one too many
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu.measurements.nvml_questions"],
        cwd=ROOT, env={**os.environ, **devices.environment}, stdout=subprocess.PIPE, text=True,
        timeout=30, check=True,
    )  # fmt: skip
    return {name: Answer(**record) for name, record in json.loads(done.stdout).items()}


def _compare(bench: Bench, real: Mapping[str, Answer], standin: Mapping[str, Answer]) -> None:
    if not standin:
        bench.row("beside the stand-in", None, note="not compared: no C compiler (cc)")
    for name, question in QUESTIONS.items():
        if not standin:
            bench.row(name, str(real[name]))
            continue
        same = real[name].shape == standin[name].shape
        note = "" if same else "differs from the stand-in"
        if not same and real[name].refused:
            note += ": the launcher takes it as unknown"
        holds = same if question.needed or same else None
        bench.row(name, str(real[name]), holds=holds, note=note, standin=str(standin[name]))


def _relations(bench: Bench) -> None:
    """Check what the launcher computes with."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    bench.row(
        "used + free - total",
        memory.used + memory.free - memory.total,
        "bytes",
        holds=memory.used + memory.free == memory.total,
    )
    uuid = pynvml.nvmlDeviceGetUUID(handle)
    bench.row("form of the UUID", uuid[:12] + "…", holds=UUID.fullmatch(uuid) is not None)
    try:
        power = pynvml.nvmlDeviceGetPowerUsage(handle) / 1000
        limit = pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000
        bench.row("power", power, "W", holds=0 < power < 1.5 * limit, limit=limit)
    except pynvml.NVMLError as error:
        bench.row("power", None, note=f"unknown to the launcher: {error}")
    pynvml.nvmlShutdown()


def _snapshot(bench: Bench) -> str:
    """Take the launcher's own looks; return the UUID of the first card."""
    nvml = Nvml()
    (first, *_) = nvml.snapshot()
    began = time.perf_counter()
    for _ in range(20):
        nvml.snapshot()
    bench.row("a look at all cards", 1000 * (time.perf_counter() - began) / 20, "ms")
    unknown = [
        name
        for name in GpuSnapshot.__dataclass_fields__
        if name not in OPTIONAL and getattr(first, name) is None
    ]
    bench.row("fields that the driver does not report", ", ".join(unknown) or "none")
    bench.row(
        "faults and warnings", "; ".join((first.fault, *first.warnings)).strip("; ") or "none"
    )
    return first.uuid


def _held(uuid: str) -> tuple[int, GpuSnapshot]:
    """Return what the driver lists for this process, and the card."""
    card = next(gpu for gpu in Nvml().snapshot() if gpu.uuid == uuid)
    own = [each.used or 0 for each in card.processes or () if _is_own(each.pid)]
    return sum(own), card


def _is_own(pid: int) -> bool:
    return pid == int(Path("/proc/self").resolve().name)


def _allocation(bench: Bench, uuid: str) -> None:
    """Take 2 GiB, and see where they show up."""
    amount = 2 * GIB
    with taken(1 << 20, uuid):  # the context is there from now on
        before, card = _held(uuid)
        if not any(_is_own(each.pid) for each in card.processes or ()):
            bench.row(
                "this process in the driver's list",
                "not under its own pid",
                note="as in a container: the worker's own report counts",
            )
    with taken(amount, uuid):
        during, full = _held(uuid)
    grown = (full.used or 0) - (card.used or 0)
    near = abs(grown - amount) < GIB // 4
    bench.row("the card's use grows by 2 GiB", grown / GIB, "GiB", holds=near)
    if during:
        grown = during - before
        near = abs(grown - amount) < GIB // 4
        bench.row("the process's use grows by 2 GiB", grown / GIB, "GiB", holds=near)
        bench.row(
            "CUDA's own part of a process",
            (before - (1 << 20)) / GIB,
            "GiB",
            note="a limit is less than the request by so much",
            launcher_guesses=DEFAULT_CONTEXT_BYTES / GIB,
        )


def _torch(bench: Bench, uuid: str) -> None:
    """Compare the card as torch has it."""
    if bench.rehearsal:
        return
    import torch  # the other half of this part needs none

    properties = torch.cuda.get_device_properties(0)
    theirs = f"GPU-{str(getattr(properties, 'uuid', None)).removeprefix('GPU-')}"
    bench.row("torch names the same UUID", theirs[:12] + "…", holds=theirs == uuid)
    card = next(gpu for gpu in Nvml().snapshot() if gpu.uuid == uuid)
    bench.row(
        "memory that CUDA offers", properties.total_memory / GIB, "GiB", nvml=card.total / GIB
    )


def _return(bench: Bench, uuid: str) -> None:
    """Let a process take memory and end, and see whether it is free again."""
    before = _held(uuid)[1].used or 0
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu.measurements.programs",
        "hold",
        str(GIB),
        "/dev/null",
    ]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": uuid}
    subprocess.run(command, cwd=ROOT, env=environment, timeout=30, check=True)
    began = time.monotonic()
    free = _settled(uuid, before)
    bench.row("memory of an ended process is free", time.monotonic() - began, "s later", holds=free)


def _settled(uuid: str, expected: int) -> bool:
    deadline = time.monotonic() + RETURN_S
    while time.monotonic() < deadline:
        if (_held(uuid)[1].used or 0) <= expected + GIB // 4:
            return True
        time.sleep(0.1)
    return False


def _xid(bench: Bench) -> None:
    """Let a program fault, and wait for the report of the driver."""
    pynvml.nvmlInit()
    handle = pynvml.nvmlDeviceGetHandleByIndex(0)
    events = pynvml.nvmlEventSetCreate()
    pynvml.nvmlDeviceRegisterEvents(handle, XID, events)
    command = [sys.executable, "-m", "benchmarks.gpu.measurements.programs", "fault"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    event: Any = None
    try:
        event = pynvml.nvmlEventSetWait_v2(events, round(1000 * XID_S))
    except pynvml.NVMLError as error:
        bench.row("Xid of a program's fault", f"none reported: {error}", note=done.stdout.strip())
    if event is not None:
        xid = int(event.eventData)
        bench.row(
            "Xid of a program's fault", xid, holds=xid in {13, 31, 43}, expected="13, 31 or 43"
        )
    healthy = not next(iter(Nvml().snapshot())).fault
    bench.row("the card serves on after it", healthy, holds=healthy)
    pynvml.nvmlEventSetFree(events)
    pynvml.nvmlShutdown()
