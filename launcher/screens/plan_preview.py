"""What a plan is up to, in words: what is free, what starts first, how long it takes, how much disk."""

from collections.abc import Iterator, Sequence
from textwrap import wrap

from launcher.errors import counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU
from launcher.planning.first_wave import FirstWave, MachineState
from launcher.planning.preview import KindSum, Preview
from launcher.planning.queue_comparison import Action, ComparedJob
from launcher.screens.format import harmless
from launcher.units import format_bytes, format_seconds

_LEAST_SPREAD = 0.01
_KEPT = "\u00a0"  # a space at which no line is broken


def prospects(standings: Sequence[ComparedJob], preview: Preview, width: int) -> Iterator[str]:
    """Give the lines; where nothing has to run, only what the user's own words stand for.

    Args:
        standings: the plan's jobs beside what the queue knows of them.
        preview: what is expected of them.
        width: columns.
    """
    parts = [_words(standings)]
    if any(one.action is not Action.CACHED for one in standings):
        parts += [
            f"Now free: {_free(preview.machine_state)}",
            f"First wave: {_wave(preview.wave)}",
            f"Job time: {_times(preview)}",
            f"Disk: {_disk(preview)}",
        ]
        parts += [
            f"{counted(number, 'job')} can never start here, and `run` would refuse this: {harmless(why)}"
            for why, number in preview.wave.hopeless.items()
        ]
    for one in parts:
        for line in _wrapped(one, width):
            yield from _wrapped(line.replace(_KEPT, " "), width)


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def time_each(one: KindSum | None, *, source: bool) -> str:
    """Tell how long one job of a kind takes, '-' where none has to run.

    Args:
        one: what is known of the kind.
        source: also on what that rests.
    """
    if one is None:
        return "-"
    if not one.known:
        return "no data yet"
    text = f"~ {format_seconds(one.shortest)}"
    if format_seconds(one.longest) != format_seconds(one.shortest):
        text += f" to {format_seconds(one.longest)}"
    if one.spread is not None:
        text += f" ±{max(one.spread, _LEAST_SPREAD):.0%}".replace("%", " %")
    return f"{text} measured" if source else text


def _words(standings: Sequence[ComparedJob]) -> str:
    words: dict[str, tuple[str, ...]] = {}
    for one in standings:
        words |= {**one.job.words.subsets, **one.job.words.modifiers}
    texts = [f"{word} = {', '.join(folders)}" for word, folders in words.items()]
    return harmless(f"Words of your own: {' · '.join(texts)}") if texts else ""


def _free(machine_state: MachineState) -> str:
    machine = machine_state.machine
    absent = f" ({harmless(machine.absent)})" if machine.absent else ""
    parts = [_gpu(gpu, machine_state) for gpu in machine.gpus] or [f"no GPU{absent}"]
    cores = max(0, machine.cpus - sum(one.cpus for one in machine_state.running))
    parts.append(f"{cores} of {counted(machine.cpus, 'core')}")
    if machine.ram:
        parts.append(f"{format_bytes(machine.ram_free)} of {format_bytes(machine.ram)} memory")
    return " · ".join(one.replace(" ", _KEPT) for one in parts)


def _gpu(gpu: GpuSnapshot, machine_state: MachineState) -> str:
    if gpu.fault:
        return harmless(f"{gpu.label} {gpu.fault}")
    name = harmless(f"{gpu.label} {gpu.name.removeprefix('NVIDIA ')}")
    if gpu.used is None:
        return f"{name} does not say how much is free"
    text = f"{name} {format_bytes(gpu.total - gpu.used)} of {format_bytes(gpu.total)}"
    ours = sum(gpu.uuid in one.devices for one in machine_state.running)
    return f"{text} (runs {counted(ours, 'job')} of ours)" if ours else text


def _wave(wave: FirstWave) -> str:
    starts = [
        f"{number} {kind} on {'the CPU' if device == CPU else device}"
        for (kind, device), number in wave.starts.items()
    ]
    text = ", ".join(starts) or "nothing starts at once"
    return f"{text}; {harmless(wave.hindrance)}" if wave.hindrance else text


def _times(preview: Preview) -> str:
    """Add up what is known, and name what is not."""
    estimated = [(kind, one) for kind, one in preview.kinds.items() if one.known]
    unknown = [kind for kind, one in preview.kinds.items() if not one.known]
    if not estimated:
        return "no data yet; it comes from jobs that are done"
    sums = [
        f"{format_seconds(one.seconds)} for "
        + (kind if one.known == one.jobs else f"{one.known} of {one.jobs} {kind}")
        for kind, one in estimated
    ]
    runs = counted(sum(one.runs for _, one in estimated), "earlier run")
    total = sum(one.seconds for _, one in estimated)
    several = sum(one.known for _, one in estimated) > 1
    parts = [f"about {', '.join(sums)}{', one after the other,' if several else ''} from {runs}"]
    if unknown:
        verb = "has" if len(unknown) == 1 else "have"
        counts = "is" if len(unknown) == 1 else "are"
        parts.append(f"{', '.join(unknown)} {verb} no history yet and {counts} not counted")
    if preview.chain is not None and preview.chain < total:
        parts.append(f"at least {format_seconds(preview.chain)}, however many run side by side")
    return "; ".join(parts)


def _disk(preview: Preview) -> str:
    parts = "no data yet"
    if preview.disk is not None:
        parts = f"~ {format_bytes(preview.disk)} of results"
        if preview.disk_unknown:
            parts += f" ({counted(preview.disk_unknown, 'job')} of unknown size not counted)"
    free = preview.machine_state.disk_free
    return parts if free is None else f"{parts}, {format_bytes(free)} free where runs/ lies"
