"""The GPUs of this machine, as the scheduler last saw them, or as a look of our own does where it does not look."""

import time
from collections.abc import Callable, Sequence

from launcher.gpu.gpus_file import Look, seen_gpus
from launcher.gpu.monitor import Lookout
from launcher.gpu.nvml import Nvml
from launcher.gpu.snapshot import GpuSnapshot
from launcher.system.files import stamp
from launcher.system.paths import Home

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
