"""The table of a plan's kinds: how many jobs of each have to run, with their memory and time."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import partial

from launcher.experiments.planning.comparison import Action, ComparedJob, open_jobs
from launcher.experiments.planning.estimates import JobEstimate
from launcher.experiments.planning.preview import KindEstimate, Preview
from launcher.queue.texts import format_range
from launcher.system.text_table import TextTable, text_columns
from launcher.system.units import format_bytes, format_seconds

# shown part of the table's memory and time: 2 with its source, 1 without, 0 nothing
_TABLES = ((2, 2), (2, 1), (1, 1), (1, 0), (0, 0))
_COLUMNS = text_columns(
    *("KIND", "JOBS", "TO RUN", "DONE", "VRAM EACH", "TIME EACH", "WHY"),
    numbers={1, 2, 3},
    least=len("cancelled"),
)
_Pair = tuple[ComparedJob, JobEstimate]
_LEAST_SPREAD = 0.01


def time_each(kind_sum: KindEstimate | None, *, source: bool) -> str:
    """Return how long one job of a kind takes, '-' if none has to run.

    Args:
        kind_sum: the estimate of the kind.
        source: also return the source of the estimate.
    """
    if kind_sum is None:
        return "-"
    if not kind_sum.known:
        return "no data yet"
    text = f"~ {format_range(format_seconds(kind_sum.shortest), format_seconds(kind_sum.longest))}"
    if kind_sum.spread is not None:
        text += f" ±{max(kind_sum.spread, _LEAST_SPREAD):.0%}".replace("%", " %")
    return f"{text} measured" if source else text


def kinds_table(compared_jobs: Sequence[ComparedJob], preview: Preview, width: int) -> list[str]:
    """Return one line for each kind, and the sum."""
    kinds: dict[str, list[_Pair]] = {}
    for pair in zip(compared_jobs, preview.estimates, strict=True):
        kinds.setdefault(pair[0].job.kind, []).append(pair)
    lines = [line.text for line in _table_with(kinds, preview).to_lines(width)]
    if len(kinds) > 1:
        lines.insert(-1, "─" * min(width, max(map(len, lines))))
    return lines


def _table_with(kinds: Mapping[str, Sequence[_Pair]], preview: Preview, form: int = 0) -> TextTable:
    """Return the table with the detail of memory and time that an entry of `_TABLES` sets; later ones have less."""
    memory, time = _TABLES[form]
    gpus = bool(preview.machine_state.machine.gpus)
    rows = []
    for name, pairs in kinds.items():
        duration = time_each(preview.kinds.get(name), source=time == 2) if time else ""
        vram = _vram_each(pairs, gpus=gpus, source=memory == 2) if memory else ""
        rows.append((name, *_counts(pairs), vram, duration, _why(pairs)))
    if len(kinds) > 1:
        every = [pair for pairs in kinds.values() for pair in pairs]
        rows.append(("all", *_counts(every), "", "", ""))
    shorter = partial(_table_with, kinds, preview, form + 1)
    return TextTable(_COLUMNS, rows, narrower=shorter if form + 1 < len(_TABLES) else None)


def _counts(pairs: Sequence[_Pair]) -> tuple[str, str, str]:
    run = len(open_jobs(compared for compared, _ in pairs))
    return str(len(pairs)), str(run), str(len(pairs) - run or "-")


def _why(pairs: Iterable[_Pair]) -> str:
    states = Counter(compared.state for compared, _ in pairs)
    return ", ".join(state if len(states) == 1 else f"{state} {n}" for state, n in states.items())


def _vram_each(pairs: Iterable[_Pair], *, gpus: bool, source: bool) -> str:
    """Return the GPU memory that the jobs of a kind request if they have to run."""
    run = [pair for pair in pairs if pair[0].action is not Action.CACHED]
    if not run:
        return "-"
    on_gpu = [
        estimate
        for compared, estimate in run
        if compared.job.resources.works_on_gpu(machine_has_gpu=gpus)
    ]
    if not on_gpu:
        return "(CPU)"
    sizes = [estimate.vram for estimate in on_gpu if estimate.vram is not None]
    if not sizes:
        return "none"
    size = format_range(format_bytes(min(sizes)), format_bytes(max(sizes)))
    return f"{size} {on_gpu[0].vram_source}" if source else size
