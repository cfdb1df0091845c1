"""Builders of plans, machines and past jobs, for the tests of previews."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from launcher.experiments.kind_interface import Kind
from launcher.experiments.kinds import COMMAND
from launcher.experiments.planning.comparison import Action, ComparedJob
from launcher.experiments.planning.estimates import PastJob, RuntimeHistory
from launcher.experiments.planning.first_wave import MachineState
from launcher.experiments.planning.plan import Plan, PlannedJob
from launcher.experiments.planning.plan_builder import build_plan
from launcher.experiments.taskfile.parser import ParseContext, parse
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.scheduler.policy.model import Machine
from tests.launcher.toylab import laboratory

GIB = 1 << 30
NOON = 1_795_176_000.0  # 20 November 2026, 12:00 UTC: the same day almost everywhere
KINDS: Mapping[str, Kind] = {**laboratory(), "command": COMMAND}
TOYS = """\
name: toys
about: poisoned and mended
shapes: [{data_root: data/toys}]
defaults: {data_root: data/toys}
train:
  - {model: null, data: dot:pre, poison: [0, 20]}
unlearn: [{model: dot:pre%20, method: pgu}]
autotest: [real:pre]
"""


def a_plan(text: str = TOYS) -> Plan:
    """Return the plan of a task file in a project without files."""
    return build_plan(
        parse(text, file="toys.yaml", context=ParseContext(kinds=KINDS)),
        root=Path("/project"),
        exists=lambda _: False,
        code=lambda _, roots: {"": "d", **dict.fromkeys(roots, "d")},
        content=lambda _: "c",
    )


def some_commands(*settings: str) -> Plan:
    """A plan of commands named c0, c1 …, each with these settings."""
    lines = [f"  - {{name: c{at}, argv: [echo]{one}}}" for at, one in enumerate(settings)]
    return a_plan("name: x\ncommand:\n" + "\n".join(lines) + "\n")


def compared_jobs(made: Plan, done: int = 0) -> list[ComparedJob]:
    """Return compared jobs, of which the first ones were done before and the others are new."""
    cached = Action.CACHED
    return [
        ComparedJob(job=job, action=cached, state="cached", reason="done before")
        if at < done
        else ComparedJob(job=job, action=Action.RUN, state="new", reason="new")
        for at, job in enumerate(made.jobs)
    ]


def changed(one: ComparedJob, *changes: str) -> ComparedJob:
    """Return a compared job that was done before and has changed since."""
    return one._replace(
        action=Action.RUN, state="changed", reason=", ".join(changes), changes=changes
    )


def a_gpu(index: int = 0, free: float = 39.0, total: float = 40.0) -> GpuSnapshot:
    """Return a GPU; memory in GiB."""
    return GpuSnapshot(
        uuid=f"GPU-{index}",
        index=index,
        name="NVIDIA A100",
        total=int(total * GIB),
        used=int((total - free) * GIB),
    )


def here(*gpus: GpuSnapshot, cpus: int = 4, **changes: Any) -> MachineState:
    """Return an idle machine."""
    machine = Machine(cpus=cpus, ram=16 * GIB, ram_free=12 * GIB, gpus=gpus)
    values: dict[str, Any] = {"now": NOON, "machine": machine, "disk_free": 412 * GIB}
    return MachineState(**values | changes)


def done_before(
    job: PlannedJob, seconds: float, *, disk: int | None = None, **changes: Any
) -> PastJob:
    """Return a past job equal to a planned one, done on the CPU."""
    past = PastJob(
        kind=job.kind,
        settings=job.settings,
        images=job.images,
        from_scratch=job.base is None,
        on_gpu=False,
        seconds=seconds,
        disk=disk,
    )
    return past._replace(**changes)


def a_history(
    *past: PastJob, gpus: bool = False, kinds: Mapping[str, Kind] = KINDS
) -> RuntimeHistory:
    """Return the history of past jobs."""
    return RuntimeHistory(past, kinds, gpus=gpus)


def named(made: Plan, name: str) -> PlannedJob:
    """Return a job of a plan."""
    return next(job for job in made.jobs if job.name == name)
