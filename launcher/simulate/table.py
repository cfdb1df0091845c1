"""A simulation in words: what was replayed, what each policy made of it, what was assumed."""

from collections.abc import Sequence
from textwrap import wrap

from launcher.errors import counted
from launcher.screens.format import columns
from launcher.simulate.baselines import Assumptions, Study
from launcher.simulate.queue import PEAK_S, Foresight, Memory
from launcher.units import format_bytes, format_seconds

_HEADER = ("policy", "utilisation", "mean wait", "p95 wait", "turnaround", "makespan")
_KEPT = "\u00a0"  # a space at which no line is broken


def draw_study(name: str, done: Study, *, width: int) -> str:
    """Return a study as text: what was replayed, a table, what was assumed.

    Args:
        name: of the file.
        done: the study.
        width: columns.
    """
    load, assumed = done.workload, done.assumptions
    what = f"{counted(len(load.jobs), 'job')} of {name} on {assumed.fleet}"
    rows: list[Sequence[str]] = [_HEADER]
    for outcome in done.outcomes:
        times = (
            outcome.wait_mean_s,
            outcome.wait_p95_s,
            outcome.turnaround_mean_s,
            outcome.makespan_s,
        )
        used = (
            "–" if outcome.utilisation is None else f"{outcome.utilisation:.1%}".replace("%", " %")
        )
        rows.append((outcome.policy, used, *map(format_seconds, times)))
    rows.append(("lower bound", "", "", "", "", format_seconds(done.lower_bound)))
    table = columns(rows, right=frozenset(range(1, len(_HEADER))))
    paragraphs = [f"Dropped: {_dropped(done)}", f"Assumed: {'; '.join(_assumed(assumed))}"]
    notes = [line for outcome in paragraphs for line in _wrapped(outcome, width)]
    return "\n".join([*_wrapped(what, width), "", *table, "", *notes])


def sharing(assumed: Assumptions) -> str:
    """Tell how jobs share GPUs."""
    times = f"{assumed.slowdown:g}"
    if assumed.most == 1:
        return "no two jobs share a GPU"
    if assumed.most == 2:
        return f"two jobs may share a GPU, each then takes {times} times as long"
    return f"up to {assumed.most} jobs share a GPU, each of n takes {times}^(n-1) times as long"


def _wrapped(text: str, width: int) -> list[str]:
    kept = text.replace(" %", f"{_KEPT}%").replace(" GiB", f"{_KEPT}GiB")
    lines = wrap(
        kept, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
    )
    return [line.replace(_KEPT, " ") for line in lines]


def _dropped(done: Study) -> str:
    load, fleet = done.workload, done.assumptions.fleet
    parts = []
    if load.too_many_gpus:
        parts.append(
            f"{load.too_many_gpus:,} that ask for more than {counted(fleet.widest, 'GPU')}"
            f"{' of one machine' if len(fleet.machines) > 1 else ''}"
        )
    if load.too_much_vram:
        parts.append(f"{load.too_much_vram:,} that ask for more memory than enough of these have")
    if load.orphaned:
        parts.append(f"{load.orphaned:,} that need one of them")
    return ", ".join(parts) if parts else "none, each can fit"


def _assumed(assumed: Assumptions) -> list[str]:
    knows = {
        Foresight.KNOWN: "launcher knows how long each job takes alone",
        Foresight.LEARNED: "launcher learns durations from jobs that ended",
        Foresight.NONE: "launcher knows no durations",
    }
    parts = [f"durations {assumed.durations}"] if assumed.durations else []
    parts += [f"memory {assumed.memory}"]
    if assumed.knows is Memory.LEARNED:
        parts.append(
            "launcher learns memory from jobs that ended: the first of a group has its GPUs for itself, one that "
            f"takes more than the largest of eight before it runs again after {format_seconds(PEAK_S)}; "
            "first-fit knows it"
        )
    fleet = assumed.fleet
    if fleet.baseline:
        parts.append(f"{format_bytes(fleet.baseline)} of each GPU in use by others")
    if fleet.reserve:
        parts.append(f"{format_bytes(fleet.reserve)} of each GPU left to others")
    if assumed.users:
        parts.append("of launcher's users who has used less of late goes first (half-life a day)")
    if assumed.others:
        parts.append(
            f"others run {counted(len(assumed.others), 'job')} on whole idle GPUs, first come, first served, and are "
            "in no figure"
        )
    if len(fleet.machines) > 1:
        parts.append("a job has all of its GPUs on one machine")
    parts += [sharing(assumed), knows[assumed.foresight]]
    parts.append(
        "fifo, sjf and easy give whole GPUs, sjf knows all durations, first-fit and fifo none"
    )
    if assumed.all_at_once:
        parts.append("all jobs come at once")
    elif assumed.load != 1:
        parts.append(f"jobs come {assumed.load:g} times as fast")
    return parts
