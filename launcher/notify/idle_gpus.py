"""GPUs that idle while work waits that could use one, as far as values tell."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from launcher.errors import counted
from launcher.gpu.monitor import unused_by_others
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job_options.notifications import Event
from launcher.notify.state import Idle, Note
from launcher.store.news import Waiting
from launcher.store.rows import read_lane
from launcher.system.stored_fields import Unreadable
from launcher.units import format_seconds

MOST_REASONS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What a look saw."""

    at: float  # seconds since 1970
    uptime: float  # seconds since the machine was started, which nobody sets
    boot: str  # the ID of that start
    free: Mapping[str, str]  # UUID → label, of GPUs that nobody uses
    waiting: Sequence[Waiting]  # work that could need one
    stopped: bool = False  # the queue is
    served: bool = True  # a scheduler lives


def free_gpus(
    gpus: Iterable[GpuSnapshot], in_use: Collection[str], devices: Collection[str] | None
) -> dict[str, str]:
    """Return the GPUs that nobody uses, UUID → label.

    Args:
        gpus: of this machine, as they are now.
        in_use: UUIDs of those that attempts of this home have.
        devices: numbers or UUIDs of those that are its owner's to use; None: all.
    """
    return {
        gpu.uuid: gpu.label
        for gpu in gpus
        if gpu.uuid not in in_use and _is_ours(gpu, devices) and unused_by_others(gpu)
    }


def _is_ours(gpu: GpuSnapshot, devices: Collection[str] | None) -> bool:
    if devices is None:
        return True
    return any(gpu.uuid.startswith(name) or str(gpu.index) == name for name in devices)


def for_gpus(waiting: Iterable[tuple[str, Waiting]]) -> list[Waiting]:
    """Return those of the jobs that wait which could need a GPU.

    Args:
        waiting: with the keys of their lanes.
    """
    jobs = []
    for key, each in waiting:
        try:
            if read_lane(key).resources.may_need_gpu:
                jobs.append(each)
        except Unreadable:  # a newer launcher's
            continue
    return jobs


def looked(before: Idle, sight: Sight, idle_s: float) -> tuple[Idle, list[Note]]:
    """Return what is known of idle GPUs after a look, and what is worth telling.

    A GPU counts as idle only while work waits; a message of it is not repeated before it was used.

    Args:
        before: what was known.
        sight: what the look saw.
        idle_s: how long a GPU idles before that is worth a message.
    """
    known = before if before.boot == sight.boot else Idle()
    free = sight.free if sight.waiting else {}
    since = {uuid: min(known.since.get(uuid, sight.uptime), sight.uptime) for uuid in free}
    mentioned = tuple(uuid for uuid in known.mentioned if uuid in free)
    fresh = [
        uuid for uuid in free if sight.uptime - since[uuid] >= idle_s and uuid not in mentioned
    ]
    idle = Idle(boot=sight.boot, since=since, mentioned=(*mentioned, *fresh))
    if not fresh:
        return idle, []
    labels = ", ".join(free[uuid] for uuid in fresh)
    span = format_seconds(round(max(sight.uptime - since[uuid] for uuid in fresh)))
    jobs = sum(each.jobs for each in sight.waiting)
    text = (
        f"{labels} {'idles' if len(fresh) == 1 else 'idle'} for {span} "
        f"while {counted(jobs, 'job')} {'waits' if jobs == 1 else 'wait'}"
    )
    text = "\n".join([text, *_reasons(sight)])
    return idle, [Note(events=(Event.GPU_IDLE,), at=sight.at, text=text, name=labels)]


def _reasons(sight: Sight) -> list[str]:
    """Return why the jobs wait, the commonest reason first."""
    jobs: dict[str, int] = {}
    for each in sight.waiting:
        jobs[_reason(each, sight)] = jobs.get(_reason(each, sight), 0) + each.jobs
    ordered = sorted(jobs.items(), key=lambda item: (-item[1], item[0]))
    lines = [f"  {counted(number, 'job')}: {reason}" for reason, number in ordered[:MOST_REASONS]]
    left = sum(number for _, number in ordered[MOST_REASONS:])
    return [*lines, f"  {counted(left, 'more job')}"] if left else lines


def _reason(waiting: Waiting, sight: Sight) -> str:
    if waiting.held:
        return "held; launcher release lets them start"
    if sight.stopped:
        return "the queue is stopped; launcher start goes on"
    if not sight.served:
        return "no scheduler lives; launcher start starts one"
    return waiting.reason or "about to start"
