"""The resources that schedulers of one machine reserve, by their names."""

from typing import NamedTuple

from launcher.accounts import OWN_QUEUE_PREFIX

LONGEST_NAME = 96  # characters of a resource's name, as files are read
# resources of the machine that schedulers reserve, beside memory of a GPU, which goes by its UUID alone
MEMORY = "memory"  # bytes of main memory
CORES = "cores"  # how many; with the mask of those that its home may use, in hexadecimal digits
JOBS = "jobs"  # how many jobs there are on a GPU, with its UUID
EXCLUSIVE = "alone"  # how many of them are exclusive, likewise


def resource_name(kind: str, identifier: str) -> str:
    """Return the name of a resource of which there are several, such as jobs on one GPU."""
    return f"{kind}:{identifier}"


def core_resource_name(mask: int) -> str:
    """Return the name of the cores in a mask; the same for all where a machine has too many for a name."""
    name = resource_name(CORES, f"{mask:x}")
    return name if len(name) <= LONGEST_NAME else CORES


def is_cores(name: str) -> bool:
    """Tell whether a resource is cores."""
    return name.partition(":")[0] == CORES


def shares_cores(name: str, mask: int) -> bool:
    """Tell whether cores of this name may be the same as those in a mask."""
    kind, _, of = name.partition(":")
    if kind != CORES:
        return False
    try:
        return not of or bool(int(of, 16) & mask)
    except ValueError:
        return True


class ForeignReservation(NamedTuple):
    """What another home's scheduler has reserved of one resource; of a GPU's memory, what is not in use yet."""

    user: str
    device: str  # the resource: a GPU's UUID, or one of the names above
    amount: int  # bytes, or how many
    inside: bool = False  # its home shares the quota that limits ours, of cores or of memory
    folder: str = ""  # of the queue that reserved it; "" if an earlier version published it

    @property
    def queue(self) -> str:
        """The queue that reserved it, for messages."""
        user = self.user.removeprefix(OWN_QUEUE_PREFIX)
        if not self.folder:
            return f"another queue of user {user}"
        return f"the queue {self.folder} of user {user}"
