"""The machine in one line: what is in use, by whom, and what runs short."""

from collections.abc import Iterator, Sequence

from launcher.screens.host.host_facts import HOME, Disk, Host
from launcher.screens.text_table import Line, Span, Tone, width_of

OVERLOADED = 2.0  # tasks for each core, from which on all of them are slow
SHORT_MEMORY = 0.10  # of it is left, and
NO_MEMORY = 0.03  # so little that processes will be killed
SHORT_DISK, NO_DISK = 5 << 30, 1 << 30  # bytes
SHORT_SHARE = 0.02  # of a disk
_GIB, _TIB = 1 << 30, 1 << 40
_ROUND = 10  # amounts from which on no fraction is shown
_BETWEEN = " · "


def host_line(host: Host, width: int) -> Line:
    """Return the machine in one line; where there is little room, what is less needed is left out."""
    lines = [_joined(parts) for parts in _forms(host)]
    return next((line for line in lines if width_of(line.text) <= width), lines[-1].cut(width))


def _forms(host: Host) -> Iterator[list[Span]]:
    """Return the parts of the line, the longest form first."""
    for detailed, with_load in ((True, True), (False, True), (False, False)):
        parts = [_cores(host, detailed=detailed)]
        if with_load and host.load is not None:
            slow = host.load > OVERLOADED * host.cores
            parts.append(Span(f"load {host.load:.1f}", Tone.WARN if slow else Tone.PLAIN))
        if host.memory:
            parts.append(_memory(host, detailed=detailed))
        yield [*parts, *map(_disk, host.disks)]


def _joined(parts: Sequence[Span]) -> Line:
    spans = [Span("host: ")]
    for number, part in enumerate(parts):
        spans += [Span(_BETWEEN)] if number else []
        spans.append(part)
    return Line(tuple(spans))


def _cores(host: Host, *, detailed: bool) -> Span:
    if host.busy is None:
        text = f"{host.promised}/{host.cores} cores promised"
    else:
        text = f"{host.busy:.1f}/{host.cores} cores"
    notes = []
    if host.ours is not None and host.others is not None:
        notes += [f"{host.ours:.1f} ours", f"{host.others:.1f} others'"]
    if host.usable < host.cores:
        notes.append(f"{host.usable} usable")
    return Span(f"{text} ({', '.join(notes)})" if detailed and notes else text)


def _memory(host: Host, *, detailed: bool) -> Span:
    left = 1 - host.memory_used / host.memory
    tone = Tone.BAD if left < NO_MEMORY else Tone.WARN if left < SHORT_MEMORY else Tone.PLAIN
    text = f"memory {_number(host.memory_used / _GIB)}/{_number(host.memory / _GIB)} GiB"
    if detailed and host.memory_ours is not None:
        text += f" ({_number(host.memory_ours / _GIB)} ours)"
    return Span(text, tone)


def _disk(disk: Disk) -> Span:
    tone = Tone.PLAIN
    if disk.free < max(SHORT_DISK, SHORT_SHARE * disk.total):
        tone = Tone.WARN
    if disk.free < NO_DISK:
        tone = Tone.BAD
    unit, name = (_TIB, "TiB") if disk.free >= _TIB else (_GIB, "GiB")
    which = "disk" if disk.use == HOME else disk.use
    return Span(f"{which} {_number(disk.free / unit)} {name} free", tone)


def _number(amount: float) -> str:
    return f"{amount:.1f}" if amount < _ROUND else f"{amount:.0f}"
