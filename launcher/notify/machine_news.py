"""What happens to the GPUs of this machine: cards that fail, and cards that idle while work waits."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace

from launcher.job_options.notifications import Event
from launcher.notify.bundles import with_notes
from launcher.notify.gpu_faults import faults_noted
from launcher.notify.gpu_sight import GpuSight
from launcher.notify.idle_gpus import Sight, for_gpus, free_gpus, looked
from launcher.notify.settings import NotifySettings
from launcher.notify.state import Idle, Notices
from launcher.store.news import RunNewsReader
from launcher.system.paths import Home
from launcher.system.processes import boot_id

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
