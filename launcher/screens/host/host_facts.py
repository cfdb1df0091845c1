"""The machine at one moment, and what the kernel's files say of it, as values."""

from dataclasses import asdict, dataclass

from launcher.system.files import Json

HOME, RUNS = "home", "runs"  # what a disk is for

_IDLE, _IOWAIT = 3, 4  # fields of a line of /proc/stat. Source: proc_stat(5)
_GUEST = 8  # from here on, what `user` and `nice` count already


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system that the queue writes to."""

    use: str  # HOME or RUNS
    free: int  # bytes that its user may still write
    total: int  # bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """Cores, main memory and disks of a machine; None: not known."""

    cores: int  # all that it has
    usable: int  # those that our affinity and our group's quota allow
    promised: int = 0  # those that are promised to running jobs of this queue
    busy: float | None = None  # cores' worth of work by everybody
    ours: float | None = None  # likewise by running jobs of this queue
    load: float | None = None  # runnable and blocked tasks, averaged over one minute
    memory: int = 0  # bytes that we can use at most: the machine's, or our group's limit
    memory_used: int = 0  # bytes of these that are in use and cannot be reclaimed
    memory_ours: int | None = None  # bytes of running jobs of this queue, without shared pages
    disks: tuple[Disk, ...] = ()

    @property
    def others(self) -> float | None:
        """Cores' worth of work that is not this queue's."""
        if self.busy is None or self.ours is None:
            return None
        return max(0.0, self.busy - self.ours)

    def record(self) -> dict[str, Json]:
        """Return for JSON what a single look tells: no measures of work, which need two."""
        disks: list[Json] = [asdict(disk) for disk in self.disks]
        return {
            "cores": self.cores,
            "usable": self.usable,
            "promised": self.promised,
            "load": self.load,
            "memory": self.memory,
            "memory_used": self.memory_used,
            "disks": disks,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuTime:
    """What all cores together did since the machine was started, in ticks."""

    busy: int
    total: int
    cores: int

    def since(self, before: "CpuTime") -> float | None:
        """Return the cores' worth of work since an earlier moment; None: no time has passed."""
        passed = self.total - before.total
        if passed <= 0:
            return None
        share = min(max(0, self.busy - before.busy), passed) / passed
        return share * self.cores


def cpu_time(stat: str) -> CpuTime | None:
    """Return what /proc/stat says of all cores, None where it says nothing."""
    rows = [line.split() for line in stat.splitlines() if line.startswith("cpu")]
    every = next((row[1:] for row in rows if row[0] == "cpu"), [])
    if len(every) <= _IOWAIT or not all(word.isdigit() for word in every):
        return None
    ticks = [int(word) for word in every[:_GUEST]]
    total = sum(ticks)
    cores = sum(row[0] != "cpu" for row in rows)
    return CpuTime(busy=total - ticks[_IDLE] - ticks[_IOWAIT], total=total, cores=max(1, cores))


def load_of(loadavg: str) -> float | None:
    """Return the load over one minute that /proc/loadavg says, None where it says nothing."""
    word = next(iter(loadavg.split()), "")
    return float(word) if word.replace(".", "", 1).isdecimal() else None


def group_use(current: str, stat: str) -> int | None:
    """Return the bytes of a memory group that cannot be reclaimed, None where it does not tell.

    Args:
        current: its memory.current, or memory.usage_in_bytes of version 1.
        stat: its memory.stat.
    """
    if not current.strip().isdigit():
        return None
    rows = (line.split() for line in stat.splitlines())
    fields = {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}
    cache = fields.get("total_inactive_file", fields.get("inactive_file", 0))
    return max(0, int(current) - cache)
