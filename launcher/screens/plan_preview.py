"""What a plan would take: a table of its kinds, free resources, the first wave, time and disk."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from textwrap import wrap

from launcher.errors import counted
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU
from launcher.planning.estimates import Estimate, wants_gpu
from launcher.planning.first_wave import MachineState
from launcher.planning.plan import Savings
from launcher.planning.preview import KindSum, Preview
from launcher.planning.queue_comparison import Action, ComparedJob
from launcher.screens.clusters.backend_prospects import backend_lines
from launcher.screens.format import columns, harmless
from launcher.units import format_bytes, format_seconds

# how much of the table's memory and time is shown: 2 with its source, 1 without, 0 nothing
_TABLES = ((2, 2), (2, 1), (1, 1), (1, 0), (0, 0))
_Pair = tuple[ComparedJob, Estimate]
_GAP = "  "
_LEAST_SPREAD = 0.01
_KEPT = "\u00a0"  # a space at which no line is broken


def prospects(
    compared_jobs: Sequence[ComparedJob],
    preview: Preview,
    width: int,
    *,
    savings: Sequence[Savings] = (),
) -> Iterator[str]:
    """Give the lines; where nothing has to run, only what the user's own words stand for.

    Args:
        compared_jobs: the plan's jobs beside what the queue knows of them.
        preview: what is expected of them.
        width: columns.
        savings: by jobs that do shared work.
    """
    parts = [_words(compared_jobs)]
    here = "" if preview.backends else " here"
    if any(compared.action is not Action.CACHED for compared in compared_jobs):
        parts += [
            f"Now free: {_free(preview.machine_state)}",
            *backend_lines(preview.backends, preview.machine_state.now),
            f"First wave: {_wave(preview)}",
            f"Job time: {_times(preview)}",
            f"Disk: {_disk(preview)}",
            *(f"{each.kind}: {_saved(each)}" for each in savings),
        ]
        parts += [
            f"{counted(number, 'job')} can never start{here}, and `run` would refuse this: {harmless(why)}"
            for why, number in preview.wave.hopeless.items()
        ]
    for part in parts:
        for line in _wrapped(part, width):
            yield from _wrapped(line.replace(_KEPT, " "), width)


def _saved(savings: Savings) -> str:
    """Tell how large the results of shared work become, and what they save."""
    size, most = savings.size, savings.most_bytes
    text = "of unknown size" if size is None else format_bytes(size)
    text += f", saves {savings.saved:,} of {savings.passes:,} passes"
    if savings.items is not None:
        text += f" over {savings.items:,} {savings.unit}"
    if size is not None and most is not None and size > most:
        text += f"; only {format_bytes(most)} are kept, and each job does the rest itself"
    return text


def _wrapped(text: str, width: int) -> list[str]:
    return wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def time_each(kind_sum: KindSum | None, *, source: bool) -> str:
    """Tell how long one job of a kind takes, '-' where none has to run.

    Args:
        kind_sum: what is known of the kind.
        source: also on what that rests.
    """
    if kind_sum is None:
        return "-"
    if not kind_sum.known:
        return "no data yet"
    text = f"~ {format_seconds(kind_sum.shortest)}"
    if format_seconds(kind_sum.longest) != format_seconds(kind_sum.shortest):
        text += f" to {format_seconds(kind_sum.longest)}"
    if kind_sum.spread is not None:
        text += f" ±{max(kind_sum.spread, _LEAST_SPREAD):.0%}".replace("%", " %")
    return f"{text} measured" if source else text


def _words(compared_jobs: Sequence[ComparedJob]) -> str:
    words: dict[str, tuple[str, ...]] = {}
    for compared in compared_jobs:
        words |= {**compared.job.words.subsets, **compared.job.words.modifiers}
    texts = [f"{word} = {', '.join(folders)}" for word, folders in words.items()]
    return harmless(f"Words of your own: {' · '.join(texts)}") if texts else ""


def _free(machine_state: MachineState) -> str:
    machine = machine_state.machine
    absent = f" ({harmless(machine.absent)})" if machine.absent else ""
    parts = [_gpu(gpu, machine_state) for gpu in machine.gpus] or [f"no GPU{absent}"]
    cores = max(0, machine.cpus - sum(running.cpus for running in machine_state.running))
    parts.append(f"{cores} of {counted(machine.cpus, 'core')}")
    if machine.ram:
        parts.append(f"{format_bytes(machine.ram_free)} of {format_bytes(machine.ram)} memory")
    return " · ".join(part.replace(" ", _KEPT) for part in parts)


def _gpu(gpu: GpuSnapshot, machine_state: MachineState) -> str:
    if gpu.fault:
        return harmless(f"{gpu.label} {gpu.fault}")
    name = harmless(f"{gpu.label} {gpu.name.removeprefix('NVIDIA ')}")
    if gpu.used is None:
        return f"{name} does not say how much is free"
    text = f"{name} {format_bytes(gpu.total - gpu.used)} of {format_bytes(gpu.total)}"
    ours = sum(gpu.uuid in running.devices for running in machine_state.running)
    return f"{text} (runs {counted(ours, 'job')} of ours)" if ours else text


def _wave(preview: Preview) -> str:
    wave = preview.wave
    starts = [
        f"{number} {kind} on {'the CPU' if device == CPU else device}"
        for (kind, device), number in wave.starts.items()
    ]
    nothing = "nothing starts here at once" if preview.backends else "nothing starts at once"
    text = ", ".join(starts) or nothing
    return f"{text}; {harmless(wave.hindrance)}" if wave.hindrance else text


def _times(preview: Preview) -> str:
    """Add up what is known, and name what is not."""
    estimated = [(kind, kind_sum) for kind, kind_sum in preview.kinds.items() if kind_sum.known]
    unknown = [kind for kind, kind_sum in preview.kinds.items() if not kind_sum.known]
    if not estimated:
        return "no data yet; it comes from jobs that are done"
    sums = [
        f"{format_seconds(kind_sum.seconds)} for "
        + (
            kind
            if kind_sum.known == kind_sum.jobs
            else f"{kind_sum.known} of {kind_sum.jobs} {kind}"
        )
        for kind, kind_sum in estimated
    ]
    runs = counted(sum(kind_sum.runs for _, kind_sum in estimated), "earlier run")
    total = sum(kind_sum.seconds for _, kind_sum in estimated)
    several = sum(kind_sum.known for _, kind_sum in estimated) > 1
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


def kinds_table(compared_jobs: Sequence[ComparedJob], preview: Preview, width: int) -> list[str]:
    """Return one line for each kind, and the sum."""
    kinds: dict[str, list[_Pair]] = {}
    for compared, estimate in zip(compared_jobs, preview.estimates, strict=True):
        kinds.setdefault(compared.job.kind, []).append((compared, estimate))
    lines: list[str] = []
    for memory, time in _TABLES:
        lines = _table_with(kinds, preview, width, memory=memory, time=time)
        if max(map(len, lines)) <= width:
            break
    if len(kinds) > 1:
        lines.insert(-1, "─" * min(width, max(map(len, lines))))
    return lines


def _table_with(
    kinds: Mapping[str, Sequence[_Pair]], preview: Preview, width: int, *, memory: int, time: int
) -> list[str]:
    gpus = bool(preview.machine_state.machine.gpus)
    rows = [["KIND", "JOBS", "TO RUN", "DONE", "VRAM EACH", "TIME EACH", "WHY"]]
    for name, pairs in kinds.items():
        duration = time_each(preview.kinds.get(name), source=time == 2)
        vram = _vram_each(pairs, gpus=gpus, source=memory == 2)
        rows.append([name, *_counts(pairs), vram, duration, _why(pairs)])
    if len(kinds) > 1:
        every = [pair for pairs in kinds.values() for pair in pairs]
        rows.append(["all", *_counts(every), "", "", ""])
    kept = [0, 1, 2, 3, *([4] if memory else []), *([5] if time else [])]
    lines = columns([[row[at] for at in kept] for row in rows], right=frozenset({1, 2, 3}))
    if memory or time:
        return columns(list(zip(lines, (row[-1] for row in rows), strict=True)))
    start = max(map(len, lines)) + len(_GAP)
    wrapped = []
    for line, row in zip(lines, rows, strict=True):
        first, *more = wrap(row[-1], max(width - start, len("cancelled"))) or [""]
        wrapped.append(f"{line.ljust(start)}{first}".rstrip())
        wrapped += [f"{'':{start}}{rest}" for rest in more]
    return wrapped


def _counts(pairs: Sequence[_Pair]) -> tuple[str, str, str]:
    run = sum(compared.action is not Action.CACHED for compared, _ in pairs)
    return str(len(pairs)), str(run), str(len(pairs) - run or "-")


def _why(pairs: Iterable[_Pair]) -> str:
    states = Counter(compared.state for compared, _ in pairs)
    return ", ".join(state if len(states) == 1 else f"{state} {n}" for state, n in states.items())


def _vram_each(pairs: Iterable[_Pair], *, gpus: bool, source: bool) -> str:
    """Tell what the jobs of a kind that run ask of a GPU's memory."""
    run = [
        (compared.job, estimate)
        for compared, estimate in pairs
        if compared.action is not Action.CACHED
    ]
    if not run:
        return "-"
    on_gpu = [estimate for job, estimate in run if wants_gpu(job, gpus=gpus)]
    if not on_gpu:
        return "(CPU)"
    sizes = [estimate.vram for estimate in on_gpu if estimate.vram is not None]
    if not sizes:
        return "none"
    least, most = format_bytes(min(sizes)), format_bytes(max(sizes))
    size = least if least == most else f"{least} to {most}"
    return f"{size} {on_gpu[0].vram_source}" if source else size
