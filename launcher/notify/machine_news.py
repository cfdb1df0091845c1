"""What happens to GPUs, here and on the nodes of pilots: those that fail, and those that idle while work waits for one.

They are seen as the scheduler last saw them, or by a look of our own where it does not look.
"""

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from launcher.errors import counted
from launcher.gpu.gpus_file import Look, seen_gpus
from launcher.gpu.monitor import Lookout, unused_by_others
from launcher.gpu.nvml import Nvml
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job_options.notifications import Event
from launcher.notify.bundles import with_notes
from launcher.notify.settings import NotifySettings
from launcher.notify.state import Idle, Note, Notices
from launcher.store.news import PilotFault, RunNewsReader, Waiting
from launcher.store.rows import read_lane
from launcher.system.files import stamp
from launcher.system.paths import Home
from launcher.system.processes import boot_id
from launcher.system.stored_fields import Unreadable
from launcher.units import format_seconds

MOST_KEPT = 200  # faults of pilots, which never work again


def faults_noted(
    before: Mapping[str, str], gpus: Sequence[GpuSnapshot], at: float
) -> tuple[dict[str, str], list[Note]]:
    """Return which GPUs have failed, and of which of them nobody was told yet.

    Args:
        before: UUID → fault, of those that had failed before.
        gpus: as they are now; one that is not listed is as it was.
        at: seconds since 1970.
    """
    listed = {gpu.uuid for gpu in gpus}
    faults = {uuid: fault for uuid, fault in before.items() if uuid not in listed}
    faults |= {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
    notes = [
        Note(
            events=(Event.GPU_FAILED,),
            at=at,
            text=f"{gpu.label} ({gpu.name}) has failed: {gpu.fault}\n  launcher gpus; launcher doctor",
            name=gpu.label,
        )
        for gpu in gpus
        if gpu.fault and gpu.uuid not in before
    ]
    return faults, notes


def pilot_faults_noted(
    before: Mapping[str, str], faults: Iterable[PilotFault], nodes: Mapping[str, str]
) -> tuple[dict[str, str], list[Note]]:
    """Return which GPUs of pilots have failed, and of which of them nobody was told yet.

    Args:
        before: what is known of all GPUs, as `faults_noted` has it.
        faults: for which attempts had to end.
        nodes: token of a pilot → the node where it is, as far as that is known.
    """
    known, notes = dict(before), []
    for fault in faults:
        key = f"{fault.pilot} {fault.fault}"
        if key in known:
            continue
        known[key] = fault.fault
        where = nodes.get(fault.pilot) or f"pilot {fault.pilot}"
        text = (
            f"{where}: {fault.fault}\n  {fault.name} (job {fault.job}) had to end; launcher doctor"
        )
        notes.append(Note(events=(Event.GPU_FAILED,), at=fault.at, text=text, name=where))
    return dict([*known.items()][-MOST_KEPT:]), notes


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


FRESH_S = 15.0  # what the scheduler saw before may have changed


class GpuSight:
    """Looks at the GPUs; a driver that hangs holds up nothing."""

    def __init__(self, home: Home, look: Callable[[], Sequence[GpuSnapshot]] | None = None) -> None:
        """Begin without having looked.

        Args:
            home: whose scheduler writes down what it sees.
            look: asks the driver; None: NVML does.
        """
        self._home = home
        self._lookout = Lookout(look or Nvml().snapshot, lambda: None)
        self._stamp: object = None

    def news(self) -> Look | None:
        """Return what the scheduler saw, where that is new."""
        now = stamp(str(self._home.gpus))
        if now is None or now == self._stamp:
            return None
        self._stamp = now
        return seen_gpus(self._home)

    def gpus(self) -> tuple[GpuSnapshot, ...]:
        """Return every GPU as it is now; none where that is not known yet: ask again later."""
        look = seen_gpus(self._home)
        if look is not None and look.gpus and abs(time.time() - look.at) <= FRESH_S:
            return look.gpus
        self._lookout.ask()
        sight = self._lookout.sight()
        return () if sight is None else sight.gpus


GPU_LOOK_S = 60.0  # between two looks at GPUs that may idle


class MachineNews:
    """Looks at the GPUs of a machine, and notes what its owner wants to know of them."""

    def __init__(
        self,
        home: Home,
        gpus: GpuSight,
        reader: Callable[[], AbstractContextManager[RunNewsReader]],
        uptime: Callable[[], float],
    ) -> None:
        """Look at nothing yet.

        Args:
            home: the queue's.
            gpus: looks at them.
            reader: opens the queue's database to read.
            uptime: seconds since the machine was started.
        """
        self._home, self._gpus, self._reader, self._uptime = home, gpus, reader, uptime
        self._looked_at: float | None = None  # by `uptime`
        self.devices: tuple[str, ...] | None = None  # those that the user's file allows; None: all

    def noted(
        self, notices: Notices, settings: NotifySettings, *, served: bool, now: float
    ) -> Notices:
        """Return the notices with what is to be said of the GPUs.

        Args:
            notices: those so far.
            settings: what is wanted.
            served: a scheduler lives.
            now: seconds since 1970.
        """
        wanted = settings.of_machine
        if Event.GPU_FAILED in wanted and (look := self._gpus.news()) is not None:
            faults, notes = faults_noted(notices.faults, look.gpus, now)
            machine = with_notes(notices.machine, notes, now)
            notices = replace(notices, faults=faults, machine=machine)
        if Event.GPU_IDLE in wanted and self._is_look_due(settings):
            sight = self._sight(served=served, now=now)
            idle, notes = looked(notices.idle, sight, settings.gpu_idle_s)
            notices = replace(notices, idle=idle, machine=with_notes(notices.machine, notes, now))
        elif Event.GPU_IDLE not in wanted:
            notices = replace(notices, idle=Idle())
        return notices

    def _is_look_due(self, settings: NotifySettings) -> bool:
        uptime = self._uptime()
        pause_s = min(GPU_LOOK_S, settings.gpu_idle_s / 4)
        if self._looked_at is not None and uptime < self._looked_at + pause_s:
            return False
        self._looked_at = uptime
        return True

    def _sight(self, *, served: bool, now: float) -> Sight:
        with self._reader() as reader:
            waiting = for_gpus(reader.waiting())
            in_use = reader.gpus_in_use() if waiting else frozenset()
        # nobody asks a driver where nothing waits
        gpus = self._gpus.gpus() if waiting else ()
        return Sight(
            at=now,
            uptime=self._uptime(),
            boot=boot_id(),
            free=free_gpus(gpus, in_use, self.devices),
            waiting=waiting,
            stopped=self._home.stop.exists(),
            served=served,
        )
