"""The cores of the machine that no job has reserved, shared by the running jobs.

A job can use more cores than it reserved if they are free, for work that may be slower at any time, such as loading
images.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from launcher.queue.gpu.foreign_reservations import is_publication_current
from launcher.queue.gpu.publication import Publication
from launcher.queue.gpu.reservation_files import ReservationReader, home_hash, reservations_folder
from launcher.queue.gpu.resources import shares_cores
from launcher.system.processes import core_mask, usable_cores


class CoreShare(NamedTuple):
    """The cores that a process can use."""

    reserved: int  # cores reserved for the job; 0 outside of a queue
    free: int  # reserved by no job
    jobs: int  # running jobs, at least 1

    @property
    def usable(self) -> int:
        """The reserved cores, and an equal share of the free ones."""
        return self.reserved + self.free // self.jobs


def find_core_share(
    environ: Mapping[str, str],
    *,
    cores: Callable[[], int] = usable_cores,
    clock: Callable[[], float] = time.monotonic,
) -> CoreShare:
    """Return the cores that this process can use now.

    A job counts no core as free if its queue publishes no reservations on this machine, as on a node of a cluster.

    Args:
        environ: Environment of the process.
        cores: Returns the number of cores that this process may use.
        clock: Clock of the reservations.

    Raises:
        UsageError: LAUNCHER_CLAIMS is a relative path.
    """
    reserved, home = environ.get("LAUNCHER_CPUS", ""), environ.get("LAUNCHER_HOME", "")
    own = int(reserved) if reserved.isdecimal() else 0
    publications = _read_publications(reservations_folder(environ), clock())
    own_queue = home_hash(Path(home)) if home else ""
    if own and own_queue not in {each.home for each in publications}:
        return CoreShare(reserved=own, free=0, jobs=1)
    mask = core_mask()
    taken = sum(
        amount
        for publication in publications
        for amounts in (publication.settled, publication.fresh)
        for resource, amount in amounts.items()
        if shares_cores(resource, mask)
    )
    jobs = sum(len(each.supervisors) for each in publications)
    return CoreShare(reserved=own, free=max(0, cores() - taken), jobs=max(1, jobs))


def _read_publications(folder: Path, now: float) -> list[Publication]:
    try:
        found = ReservationReader(folder, lambda *_: None).read("")
    except OSError:  # the folder does not exist before the first queue
        return []
    return [each for name, each in found.items() if is_publication_current(name, each, now)]


def core_share() -> CoreShare:
    """Return the cores that this process can use now, see `find_core_share`."""
    return find_core_share(os.environ)
