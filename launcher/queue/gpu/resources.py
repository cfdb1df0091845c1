"""The resources that schedulers of one machine reserve, by their names."""

from typing import NamedTuple

from launcher.queue.jobs.accounts import OWN_QUEUE_PREFIX

LONGEST_NAME = 96  # characters of a resource's name, as files are read
# resources of the machine that schedulers reserve, except GPU memory, which is named by its UUID
MEMORY = "memory"  # bytes of main memory
CORES = "cores"  # number of cores; the name also contains the mask of the permitted cores in hexadecimal digits
JOBS = "jobs"  # number of jobs on a GPU, with its UUID
EXCLUSIVE = "alone"  # number of exclusive jobs, also by UUID


def resource_name(kind: str, identifier: str) -> str:
    """Return the name of a resource of which there are several, such as jobs on one GPU."""
    return f"{kind}:{identifier}"


def core_resource_name(mask: int) -> str:
    """Return the name of the cores in a mask; the same for all if a machine has too many for a name."""
    name = resource_name(CORES, f"{mask:x}")
    return name if len(name) <= LONGEST_NAME else CORES


def is_cores(name: str) -> bool:
    """Whether a resource is cores."""
    return name.partition(":")[0] == CORES


def shares_cores(name: str, mask: int) -> bool:
    """Whether cores of this name may overlap with those of a mask."""
    kind, _, of = name.partition(":")
    if kind != CORES:
        return False
    try:
        return not of or bool(int(of, 16) & mask)
    except ValueError:
        return True


class ForeignReservation(NamedTuple):
    """Reservation of one resource by the scheduler of another queue. Of GPU memory, the unused part."""

    user: str
    device: str  # the resource: a GPU's UUID, or one of the names above
    amount: int  # bytes, or how many
    inside: bool = False  # the queue shares the quota that limits our cores or memory
    folder: str = ""  # folder of the queue that reserved it; "" if unknown

    @property
    def queue(self) -> str:
        """The queue that reserved it, for messages."""
        user = self.user.removeprefix(OWN_QUEUE_PREFIX)
        if not self.folder:
            return f"another queue of user {user}"
        return f"the queue {self.folder} of user {user}"
