"""The control groups that limit this process: their folders, and the smallest quota of CPU time among them."""

from pathlib import Path
from typing import NamedTuple

from launcher.system.files import read_bytes

_CGROUPS = Path("sys/fs/cgroup")  # below the root folder


class CpuQuota(NamedTuple):
    """A limit on CPU time."""

    cores: float  # cores' worth of CPU time
    folder: Path  # folder of the group that has the limit


def group_folders(controller: str, root: Path = Path("/")) -> list[Path]:
    """Return the folders of this process's group and its ancestors, the nearest first.

    Args:
        controller: name of the controller, such as memory or cpu. Version 1 has a hierarchy for each.
        root: the root folder.
    """
    cgroups = root / _CGROUPS
    for line in read_text(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, name = rest.partition(":")
        if number == "0" and (cgroups / "cgroup.controllers").exists():
            top = cgroups
        elif controller in controllers.split(","):
            top = _mount_point(cgroups, controllers, controller)
        else:
            continue
        here = top / name.strip("/")
        chain = [here, *here.parents]
        # inside a container the path may be the host's, and not be there
        present = [folder for folder in chain if folder.is_relative_to(top) and folder.is_dir()]
        if present:
            return present
    return []


def _mount_point(cgroups: Path, controllers: str, controller: str) -> Path:
    """Return where version 1 mounts a controller: alone, or together with others such as cpu,cpuacct."""
    together = cgroups / controllers
    return together if together.is_dir() else cgroups / controller


def cpu_quota(root: Path = Path("/")) -> CpuQuota | None:
    """Return the smallest quota of our group and its ancestors; None if there is none."""
    quotas = [
        CpuQuota(cores, folder)
        for folder in group_folders("cpu", root)
        if (cores := _quota_of(folder)) is not None
    ]
    # among equal quotas the highest group counts, as it limits most processes
    return min(reversed(quotas), key=lambda quota: quota.cores, default=None)


def _quota_of(folder: Path) -> float | None:
    """Return a group's own quota in cores; None if it has none. Source: cgroup-v2.rst, sched-bwc.rst."""
    words = read_text(folder / "cpu.max").split() or [
        read_text(folder / "cpu.cfs_quota_us"),
        read_text(folder / "cpu.cfs_period_us"),
    ]
    try:
        most, period = map(int, words)
    except ValueError:  # "max", or no such file
        return None
    return most / period if most > 0 and period > 0 else None


def read_text(path: Path) -> str:
    """Return a file's text; empty if it cannot be read."""
    try:
        return read_bytes(path).decode(errors="replace")
    except OSError:
        return ""
