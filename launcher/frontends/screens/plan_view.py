"""The output of `launcher run --dry-run`: the jobs in order with dependencies and reasons, and their cost.

The cost is a table of kinds, the free resources, the first wave, time and disk space.
"""

import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from launcher.experiments.planning.comparison import ComparedJob, Comparison, open_jobs
from launcher.experiments.planning.estimates import JobEstimate
from launcher.experiments.planning.first_wave import MachineState
from launcher.experiments.planning.plan import Plan, PlannedJob, SharedWorkSavings
from launcher.experiments.planning.preview import Preview
from launcher.frontends.screens.plan_backends import backend_lines
from launcher.frontends.screens.plan_differences import other_code, other_folder, other_options
from launcher.frontends.screens.plan_kinds import kinds_table
from launcher.provenance.git import WorkTree
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.jobs.job import CPU
from launcher.queue.texts import format_time, list_first_texts
from launcher.system.errors import pluralize
from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import sanitize_terminal
from launcher.system.text_table import columns
from launcher.system.units import format_bytes, format_seconds

_wrap = partial(textwrap.wrap, break_on_hyphens=False)  # as in names of models
_hanging = partial(_wrap, subsequent_indent="  ", break_long_words=False)
_NO_BREAK_SPACE = "\u00a0"  # a space at which no line is broken
MOST_LISTED = 40  # jobs; `--all` lists every one
MOST_AFTER = 2  # dependencies named in a line
MOST_FILES = 3  # uncommitted files that are named
WIDTH = 120  # columns if there is no terminal
NARROWEST = 40  # columns
_NAMES_SHARE = 0.55  # part of the width; a longer name has a line for itself
_LEAST_ROOM = 28  # columns for added data and dependencies, before there is any for the memory
_LEAST_ADDED = 12  # columns for added data, as in "+ real:pre"
_GAP = "  "
# reasons without a detail
_PLAIN = frozenset({"new", "cached", "forced", "queued", "held", "running"})
_OF_THE_FILE = compile_lazily(r" *[0-9]* \| | *--> ")


def draw_preview(comparison: Comparison, preview: Preview, width: int) -> Iterator[str]:
    """Yield the lines of the cost; if nothing has to run, only the meaning of the user's own words."""
    parts = [_words(comparison.jobs)]
    here = "" if preview.backends else " here"
    if open_jobs(comparison.jobs):
        parts += [
            f"Now free: {_free(preview.machine_state)}",
            *backend_lines(preview.backends, preview.machine_state.now),
            f"First wave: {_starting_text(preview)}",
            f"Job time: {_times(preview)}",
            f"Disk: {_disk(preview)}",
            *(f"{each.kind}: {_savings_text(each)}" for each in comparison.savings),
        ]
        parts += [
            f"{pluralize(number, 'job')} can never start{here}, so `launcher run` refuses the file: {sanitize_terminal(why)}"
            for why, number in preview.wave.unsatisfiable.items()
        ]
    for part in parts:
        for line in _hanging(part, width):
            yield from _hanging(line.replace(_NO_BREAK_SPACE, " "), width)


def _savings_text(savings: SharedWorkSavings) -> str:
    """Return the size of shared results, and the work that they save."""
    size, most = savings.size, savings.most_bytes
    text = "of unknown size" if size is None else format_bytes(size)
    text += f", saves {savings.saved:,} of {savings.passes:,} passes"
    if savings.items is not None:
        text += f" over {savings.items:,} {savings.unit}"
    if size is not None and most is not None and size > most:
        text += f"; only {format_bytes(most)} are cached, and each job computes the rest"
    return text


def _words(compared_jobs: Sequence[ComparedJob]) -> str:
    words: dict[str, tuple[str, ...]] = {}
    for compared in compared_jobs:
        words |= {**compared.job.words.subsets, **compared.job.words.modifiers}
    texts = [f"{word} = {', '.join(folders)}" for word, folders in words.items()]
    return sanitize_terminal(f"Your own words: {' · '.join(texts)}") if texts else ""


def _free(machine_state: MachineState) -> str:
    machine = machine_state.machine
    absent = f" ({sanitize_terminal(machine.absent)})" if machine.absent else ""
    parts = [_gpu(gpu, machine_state) for gpu in machine.gpus] or [f"no GPU{absent}"]
    cores, memory = machine_state.free_cpus_and_ram
    parts.append(f"{cores} of {pluralize(machine.cpus, 'core')}")
    if machine.ram:
        parts.append(f"{format_bytes(memory)} of {format_bytes(machine.ram)} memory")
    return " · ".join(part.replace(" ", _NO_BREAK_SPACE) for part in parts)


def _gpu(gpu: GpuSnapshot, machine_state: MachineState) -> str:
    if gpu.fault:
        return sanitize_terminal(f"{gpu.label} {gpu.fault}")
    name = sanitize_terminal(f"{gpu.label} {gpu.name.removeprefix('NVIDIA ')}")
    if gpu.used is None:
        return f"{name} does not report free memory"
    text = f"{name} {format_bytes(gpu.total - gpu.used)} of {format_bytes(gpu.total)}"
    ours = sum(gpu.uuid in running.devices for running in machine_state.running)
    return f"{text} (runs {pluralize(ours, 'job')})" if ours else text


def _starting_text(preview: Preview) -> str:
    wave = preview.wave
    starts = [
        f"{number} {kind} on {'the CPU' if device == CPU else device}"
        for (kind, device), number in wave.starts.items()
    ]
    nothing = "no job starts here now" if preview.backends else "no job starts now"
    text = ", ".join(starts) or nothing
    return f"{text}; {sanitize_terminal(wave.wait_reason)}" if wave.wait_reason else text


def _times(preview: Preview) -> str:
    """Return the sum of known durations, and the kinds without one."""
    estimated = [(kind, kind_sum) for kind, kind_sum in preview.kinds.items() if kind_sum.known]
    unknown = [kind for kind, kind_sum in preview.kinds.items() if not kind_sum.known]
    if not estimated:
        return "no data yet; measured when jobs are done"
    sums = []
    runs = known = 0
    total = 0.0
    for kind, kind_sum in estimated:
        part = "" if kind_sum.known == kind_sum.jobs else f"{kind_sum.known} of {kind_sum.jobs} "
        sums.append(f"{format_seconds(kind_sum.seconds)} for {part}{kind}")
        runs, known = runs + kind_sum.runs, known + kind_sum.known
        total += kind_sum.seconds
    order = ", one after another," if known > 1 else ""
    parts = [f"about {', '.join(sums)}{order} from {pluralize(runs, 'earlier run')}"]
    if unknown:
        verb, counts = ("has", "is") if len(unknown) == 1 else ("have", "are")
        parts.append(f"{', '.join(unknown)} {verb} no history and {counts} not counted")
    if preview.longest_chain_s is not None and preview.longest_chain_s < total:
        parts.append(
            f"at least {format_seconds(preview.longest_chain_s)}, however many jobs run in parallel"
        )
    return "; ".join(parts)


def _disk(preview: Preview) -> str:
    parts = "no data yet"
    if preview.disk is not None:
        parts = f"~ {format_bytes(preview.disk)} of results"
        if preview.disk_unknown:
            parts += f" ({pluralize(preview.disk_unknown, 'job')} of unknown size not counted)"
    free = preview.machine_state.disk_free
    return parts if free is None else f"{parts}, {format_bytes(free)} free on the disk of runs/"


def draw_plan(
    comparison: Comparison,
    preview: Preview,
    *,
    taskfile: str,
    start: str,
    tree: WorkTree | None = None,
    width: int = WIDTH,
    everything: bool = False,
    refusals: Sequence[str] = (),
    snapshot: str = "",
) -> str:
    """Return the dry run as text; only single names and paths may exceed `width`.

    Args:
        comparison: the plan, and each of its jobs compared with the queue.
        preview: the expected cost.
        taskfile: the path to show.
        start: the command that queues the plan, for pasting.
        tree: the working tree, if there is one.
        width: columns of the terminal.
        everything: list every job instead of the first MOST_LISTED.
        refusals: reasons for which `run` would refuse the plan; empty if it would not.
        snapshot: the snapshot that its jobs would get, in words; '' for none.
    """
    plan, jobs = comparison.plan, comparison.jobs
    width = max(width, NARROWEST)
    inner = width - len(_GAP)
    blocks: list[Iterable[str]] = [
        _header(
            plan,
            preview.machine_state.now,
            taskfile=sanitize_terminal(taskfile),
            tree=tree,
            width=width,
        ),
        _indent_lines(kinds_table(jobs, preview, inner)),
        _indent_lines(_lines(jobs, len(jobs) if everything else MOST_LISTED, preview, inner)),
        _indent_lines(draw_preview(comparison, preview, inner)),
        _wrap(f"Snapshot: {sanitize_terminal(snapshot)}" if snapshot else "", width),
        _wrap(sanitize_terminal(other_code(jobs)), width),
        _wrap(sanitize_terminal(other_options(jobs)), width),
        _wrap(sanitize_terminal(other_folder(comparison, is_queued=False)), width),
        *(_wrap_warning(str(warning), width) for warning in plan.warnings),
        _last_lines(plan, jobs, sanitize_terminal(start), refusals, width),
    ]
    return "\n\n".join(text for lines in blocks if (text := "\n".join(lines)))


def _indent_lines(lines: Iterable[str]) -> Iterator[str]:
    return (f"{_GAP}{line}".rstrip() for line in lines)


def _header(
    plan: Plan, now: float, *, taskfile: str, tree: WorkTree | None, width: int
) -> Iterator[str]:
    """Yield file, name, subject, date and commit, then the uncommitted files."""
    at = format_time(now, "%d %b").lstrip("0") + (f", git {tree.short}" if tree else "")
    about = plan.name + (f": {sanitize_terminal(plan.about)}" if plan.about else "")
    about += f", share {plan.share:g}" if plan.share is not None else ""
    below = about
    if len(whole := f"{taskfile}   {about}      {at}") <= width:
        first, below = whole, ""
    elif len(first := f"{taskfile}      {at}") > width:
        first, below = taskfile, f"{about}      {at}"
    yield first
    yield from _indent_lines(textwrap.wrap(below, width - len(_GAP)))
    uncommitted = _describe_uncommitted(plan, tree)
    yield from _indent_lines(textwrap.wrap(uncommitted, width - len(_GAP), subsequent_indent=_GAP))


def _describe_uncommitted(plan: Plan, tree: WorkTree | None) -> str:
    """Return which changed files affect the results of which kinds; '' if none does."""
    if tree is None or not tree.modules:
        return ""
    changed = {
        kind: [file for module in sources for file in tree.modules.get(module, ())]
        for kind, sources in {job.kind: job.sources for job in plan.jobs}.items()
    }
    files = [*dict.fromkeys(chain.from_iterable(changed.values()))]
    if not files:
        return ""
    named = sanitize_terminal(list_first_texts(files, MOST_FILES))
    return f"* not committed: {named} (part of {', '.join(filter(changed.get, changed))})"


def _lines(
    compared_jobs: Sequence[ComparedJob], most: int, preview: Preview, width: int
) -> Iterator[str]:
    """Yield the first jobs with name, added real data, memory, dependencies and reason, then their changes."""
    shown = compared_jobs[:most]
    if not shown:
        yield "no jobs"
        return
    jobs = {compared.job.name: compared for compared in compared_jobs}
    named = min(max(len(compared.job.name) for compared in shown), int(width * _NAMES_SHARE))
    vram = [
        _vram(compared.job, estimate, gpus=bool(preview.machine_state.machine.gpus))
        for compared, estimate in zip(shown, preview.estimates, strict=False)
    ]
    cells = _cells(shown, vram, jobs, width - named - len(_GAP))
    for compared, cell in zip(shown, cells, strict=True):
        name = compared.job.name
        if len(name) > named:
            yield name
            name = ""
        yield f"{name.ljust(named)}{_GAP}{cell}"
        yield from _second_lines(compared, width)
    if len(shown) < len(compared_jobs):
        more = f"… {len(compared_jobs) - len(shown)} more; --all lists every job, --json gives the plan"
        yield from _wrap(more, width)


def _cells(
    compared_jobs: Sequence[ComparedJob],
    vram: list[str],
    jobs: Mapping[str, ComparedJob],
    width: int,
) -> list[str]:
    """Return the aligned columns after each name; on a narrow screen the memory is left out first."""
    added = [_added_data_forms(compared.job) for compared in compared_jobs]
    after = [_dependency_forms(compared, jobs) for compared in compared_jobs]
    room = width - max(len(compared.state) for compared in compared_jobs) - len(_GAP)
    for_vram = max(map(len, vram)) + len(_GAP)
    if room - for_vram < _LEAST_ROOM:
        vram = [""] * len(compared_jobs)
    else:
        room -= for_vram
    most = min(room, max(_LEAST_ADDED, room // 3)) if any(after) else room
    data = [next((form for form in forms if len(form) <= most), "") for forms in added]
    room -= max(map(len, data)) + len(_GAP)
    needs = [next((form for form in forms if len(form) <= room), "") for forms in after]
    return columns(
        [*zip(data, vram, needs, (compared.state for compared in compared_jobs), strict=True)]
    )


def _vram(job: PlannedJob, estimate: JobEstimate, *, gpus: bool) -> str:
    """Return the memory that a job reserves on its GPU, or on each of its GPUs."""
    memory = format_bytes(estimate.vram) if estimate.vram else ""
    number = job.resources.gpus
    if number < 2 or not job.resources.works_on_gpu(machine_has_gpu=gpus):
        return memory
    return f"{number} × {memory}" if memory else f"{number} GPUs"


def _second_lines(compared_job: ComparedJob, width: int) -> list[str]:
    """Return the lines below a job: its changes, or how it ended before."""
    if compared_job.is_other_code and compared_job.job.entry:  # printed once, for all of them
        return []
    notes = compared_job.changes or (
        (compared_job.reason,) if compared_job.state not in _PLAIN else ()
    )
    bar = f"{_GAP}│ "
    text = sanitize_terminal(" · ".join(notes))
    return _wrap(text, width, initial_indent=bar, subsequent_indent=bar)


def _added_data_forms(job: PlannedJob) -> tuple[str, ...]:
    """Return texts on the data that a kind added, from complete to short."""
    if job.images is None or job.data is None or job.images == job.data:
        return ()
    written = job.data.split("&")
    added = [part for part in job.images.split("&") if part not in written]
    fewer = [f"+ {'&'.join([*added[:at], '…'])}" for at in range(len(added) - 1, 0, -1)]
    return (f"+ {'&'.join(added)}", *fewer, "+ …") if added else ()


def _dependency_forms(
    compared_job: ComparedJob, jobs: Mapping[str, ComparedJob]
) -> tuple[str, ...]:
    """Return texts on the direct dependencies, from complete to their number only."""
    needs = _dependencies(compared_job)
    implied = {far for need in needs for far in _dependencies(jobs[need])}
    direct = [need for need in needs if need not in implied]
    mosts = range(min(len(direct), MOST_AFTER), 0, -1)
    forms = [f"after {list_first_texts(direct, most)}" for most in mosts]
    return (*forms, f"after {pluralize(len(direct), 'job')}") if direct else ()


def _dependencies(compared_job: ComparedJob) -> tuple[str, ...]:
    return (*compared_job.job.needs, *compared_job.after_any)


def _wrap_warning(warning: str, width: int) -> Iterator[str]:
    """Wrap the text of a warning; quoted lines of the file are not wrapped, as the caret points into them."""
    for line in warning.split("\n"):
        if len(line) <= width or _OF_THE_FILE.match(line):
            yield line
        else:
            indent = " " * max(2, len(line) - len(line.lstrip(" =")))
            yield from _wrap(line, width, subsequent_indent=indent)


def refusal(reasons: Sequence[str]) -> str:
    """Return the lines about a plan that `run` would refuse."""
    return f"launcher run refuses this file: {sanitize_terminal('; '.join(reasons))}"


def _last_lines(
    plan: Plan,
    compared_jobs: Iterable[ComparedJob],
    start: str,
    refusals: Sequence[str],
    width: int,
) -> Iterator[str]:
    """Yield that nothing was queued, and the command that queues the plan."""
    outcome, then = "nothing was queued (dry run).", f"To start: {start}"
    if refusals:
        then = refusal(refusals)
    elif not open_jobs(compared_jobs):
        then = "" if plan.searches else "No job has to run."  # a search has trials of its own
    whole = f"{outcome} {then}".rstrip()
    if len(whole) <= width:
        yield whole
        return
    yield outcome
    # a command line is not wrapped, so that it can be pasted
    yield from _wrap(then, width) if refusals else [then]
