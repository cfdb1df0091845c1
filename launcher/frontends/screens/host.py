"""The machine at one moment, as a value and in one line."""

from typing import NamedTuple

from launcher.system.files import Json
from launcher.system.text_table import TextLine, TextSpan, TextStyle, join_spans, width_of

HOME, RUNS = "home", "runs"  # uses of a disk
OVERLOADED = 2.0  # tasks for each core, from which on all of them are slow
SHORT_MEMORY = 0.10  # unused part at which memory is short
NO_MEMORY = 0.03  # unused part at which processes will be killed
SHORT_DISK, NO_DISK = 5 << 30, 1 << 30  # bytes
SHORT_SHARE = 0.02  # part of a disk
_GIB, _TIB = 1 << 30, 1 << 40
_ROUND = 10  # amounts from which on no fraction is shown


class DiskUsage(NamedTuple):
    """A file system that the queue writes to."""

    use: str  # HOME or RUNS
    free: int  # bytes that the user of the job may still write
    total: int  # bytes
    files: int | None = None  # free inodes; None: no limit


class Host(NamedTuple):
    """Cores, main memory and disks of a machine. Unknown values are None."""

    cores: int  # all cores of the machine
    usable: int  # cores that our affinity and our group's quota allow
    reserved: int = 0  # cores that are reserved for running jobs of this queue
    busy: float | None = None  # cores' worth of work by all processes
    ours: float | None = None  # cores' worth of work by running jobs of this queue
    load: float | None = None  # runnable and blocked tasks, averaged over one minute
    memory: int = 0  # bytes that we can use at most: the machine's, or our group's limit
    memory_used: int = 0  # bytes of main memory that are in use and cannot be reclaimed
    memory_ours: int | None = None  # bytes of running jobs of this queue, without shared pages
    disks: tuple[DiskUsage, ...] = ()
    reserved_elsewhere: int = 0  # cores that other queues of the machine have reserved

    @property
    def others(self) -> float | None:
        """Cores' worth of work that is not this queue's."""
        if self.busy is None or self.ours is None:
            return None
        return max(0.0, self.busy - self.ours)

    def to_json(self) -> dict[str, Json]:
        """Return as JSON the values of a single reading, without those of work, which need two."""
        disks: list[Json] = [disk._asdict() for disk in self.disks]
        return {
            "cores": self.cores,
            "usable": self.usable,
            "promised": self.reserved,
            "reserved_elsewhere": self.reserved_elsewhere,
            "load": self.load,
            "memory": self.memory,
            "memory_used": self.memory_used,
            "disks": disks,
        }


def host_line(host: Host, width: int) -> TextLine:
    """Return the machine in one line; if the width is small, less important values are left out."""
    shown = TextLine(())
    for detailed, with_load in ((True, True), (False, True), (False, False)):
        parts = [_cores(host, is_detailed=detailed)]
        if with_load and host.load is not None:
            slow = host.load > OVERLOADED * host.cores
            parts.append(
                TextSpan(f"load {host.load:.1f}", TextStyle.WARN if slow else TextStyle.PLAIN)
            )
        if host.memory:
            parts.append(_memory(host, is_detailed=detailed))
        shown = join_spans([*parts, *map(_disk, host.disks)])
        if width_of(shown.text) <= width:
            break
    return shown.truncate(width)


def _cores(host: Host, *, is_detailed: bool) -> TextSpan:
    if host.busy is None:
        reserved = min(host.cores, host.reserved + host.reserved_elsewhere)
        text = f"host: {reserved}/{host.cores} cores reserved"
    else:
        text = f"host: {host.busy:.1f}/{host.cores} cores"
    notes = []
    if host.reserved_elsewhere:
        notes.append(f"{host.reserved_elsewhere} reserved by other queues")
    if host.ours is not None and host.others is not None:
        notes += [f"{host.ours:.1f} ours", f"{host.others:.1f} others'"]
    if host.usable < host.cores:
        notes.append(f"{host.usable} usable")
    return TextSpan(f"{text} ({', '.join(notes)})" if is_detailed and notes else text)


def _memory(host: Host, *, is_detailed: bool) -> TextSpan:
    left = 1 - host.memory_used / host.memory
    tone = (
        TextStyle.BAD
        if left < NO_MEMORY
        else TextStyle.WARN
        if left < SHORT_MEMORY
        else TextStyle.PLAIN
    )
    text = f"memory {_number(host.memory_used / _GIB)}/{_number(host.memory / _GIB)} GiB"
    if is_detailed and host.memory_ours is not None:
        text += f" ({_number(host.memory_ours / _GIB)} ours)"
    return TextSpan(text, tone)


def _disk(disk: DiskUsage) -> TextSpan:
    tone = TextStyle.PLAIN
    if disk.free < max(SHORT_DISK, SHORT_SHARE * disk.total):
        tone = TextStyle.WARN
    if disk.free < NO_DISK:
        tone = TextStyle.BAD
    which = "disk" if disk.use == HOME else disk.use
    if disk.files == 0:
        return TextSpan(f"{which}: no inodes free", TextStyle.BAD)
    unit, name = (_TIB, "TiB") if disk.free >= _TIB else (_GIB, "GiB")
    return TextSpan(f"{which} {_number(disk.free / unit)} {name} free", tone)


def _number(amount: float) -> str:
    return f"{amount:.1f}" if amount < _ROUND else f"{amount:.0f}"
