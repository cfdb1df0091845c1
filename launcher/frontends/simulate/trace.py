"""The jobs of a replay that a cluster recorded.

A trace is a table with one row per job. The columns are found by their names, in any order: `submit_s duration_s
gpus vc` as in Microsoft's Philly trace, `submit_time duration num_gpu` as in that of Tiresias. The following columns
are optional; others are ignored:

* `vram`: amounts such as `8GiB`.
* `user`: the user of the job.
* `gpu_share` or `gpu_frac`: the part of a GPU that a job of one GPU requests, from 0 to 1.
* `gpu_milli`: the same in thousandths (Alibaba's traces of 2023).
* `plan_gpu`: the same in per cent (Alibaba's traces of 2020, where it is also the number of GPUs).

A value of `gpus` below 1 is such a part, too. The part counts as this part of the GPU's memory, because no column
describes the computation of a job.
"""

import csv
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from launcher.queue.store.lanes import rank_of
from launcher.system.errors import MOST_PROBLEMS, UsageError, pluralize
from launcher.system.units import parse_bytes

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "submitted": ("submit_s", "submit_time"),
    "seconds": ("duration_s", "duration"),
    "gpus": ("gpus", "num_gpu", "plan_gpu"),
}
SHARE: Mapping[str, float] = {"gpu_share": 1, "gpu_frac": 1, "gpu_milli": 1000, "plan_gpu": 100}
GROUP = ("vc", "model_name")  # jobs with the same value are probably similar
LONGEST_S = 1e10  # three centuries; more is a slip, and sums stay exact
MOST_GPUS = 100_000
_EXPECTED_HEADER = "expected a header such as submit_s,duration_s,gpus,vc"
_SHOWN = 40  # characters of a wrong cell
_LONGEST_NUMBER = 20  # characters; of a number of GPUs more are a slip

SimilarityGroup = tuple[str, int]  # group, and how many GPUs


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """A job that is to be replayed."""

    # the job's place in the file; of two jobs of the same time the smaller one came first
    index: int
    submitted: float  # seconds
    seconds: float  # the job's duration when it does not share a GPU
    gpus: int  # 0: the job needs none, and runs at once
    # bytes that the job requests on each of its GPUs; None: not in the file
    vram: int | None = None
    group: str = ""  # virtual cluster or model; jobs of a group are likely to take about as long
    exclusive: bool = False  # the job shares its GPUs with no other job
    priority: int = 0
    needs: tuple[int, ...] = ()  # indices of jobs that must have ended
    forecast: float | None = None  # seconds that are expected before anything is replayed
    user: str = ""  # the job's user; empty if the file does not say
    share: float | None = None  # part of a GPU that the job requests, below 1; None: whole GPUs

    @property
    def similarity_group(self) -> SimilarityGroup:
        """The key by which jobs are similar, as far as a trace shows."""
        return self.group, self.gpus

    @property
    def rank(self) -> float:
        """When it came, as the queue ranks it by its priority."""
        return rank_of(self.submitted, self.priority)


def read_trace(path: Path) -> tuple[TraceJob, ...]:
    """Read a trace, and make its first job the beginning of time.

    Raises:
        UsageError: there is no such file, or all that is wrong with it, line by line.
    """
    jobs: list[TraceJob] = []
    wrong: list[str] = []
    for line, job in _rows(path):
        if isinstance(job, str):
            wrong.append(f"{path}:{line}: {job}")
            if len(wrong) > MOST_PROBLEMS:
                break
        else:
            jobs.append(job)
    if wrong:
        shown = wrong[:MOST_PROBLEMS]
        more = "" if len(wrong) == len(shown) else f" (the first {MOST_PROBLEMS} are shown)"
        head = f"{pluralize(len(shown), 'error')} in the trace {str(path)!r}{more}"
        raise UsageError("\n  ".join([head, *shown]))
    if not jobs:
        raise UsageError(f"the trace {str(path)!r} contains no jobs. Write one line per job.")
    jobs.sort(key=lambda job: (job.submitted, job.index))
    zero = jobs[0].submitted
    return tuple(
        replace(job, index=place, submitted=job.submitted - zero) for place, job in enumerate(jobs)
    )


def _rows(path: Path) -> Iterator[tuple[int, TraceJob | str]]:
    """Yield each line's job or error."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.reader(file, strict=True)
            header = next(table, None)
            if header is None:
                raise UsageError(f"the trace {str(path)!r} is empty: {_EXPECTED_HEADER}")
            names = [name.strip() for name in header]
            places = _column_positions(names, path)
            parts = round(SHARE[names[places["share"]]]) if "share" in places else 1
            for number, cells in enumerate(table):
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(names):
                    message = f"expected {pluralize(len(names), 'cell')} as in the header, got {len(cells)}"
                    yield table.line_num, message
                    continue
                told = {what: cells[place].strip() for what, place in places.items()}
                yield (
                    table.line_num,
                    _job(
                        number, told, parts, has_share_column=places.get("share") == places["gpus"]
                    ),
                )
    except FileNotFoundError as error:
        raise UsageError(
            f"file {str(path)!r} does not exist. Give the path of a trace or task file."
        ) from error
    except IsADirectoryError as error:
        raise UsageError(f"{str(path)!r} is a folder. Give a trace or task file.") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{str(path)!r} is not a trace: it is not UTF-8 text") from error
    except csv.Error as error:
        raise UsageError(f"{str(path)!r} is not a trace: {error}") from error
    except (OSError, ValueError) as error:  # ValueError: a path with a zero byte
        raise UsageError(f"cannot read the trace {str(path)!r}: {error}") from error


def _column_positions(names: list[str], path: Path) -> dict[str, int]:
    """Return in which column each thing stands."""
    columns = {**COLUMNS, "group": GROUP, "vram": ("vram",), "user": ("user",)}
    columns |= {"share": tuple(name for name in SHARE if name in names)}
    places = {
        what: names.index(name)
        for what, choice in columns.items()
        for name in choice[::-1]  # the first of the choice wins
        if name in names
    }
    lacking = [" or ".join(choice) for what, choice in COLUMNS.items() if what not in places]
    if lacking:
        raise UsageError(
            f"{path}:1: no column {', no column '.join(lacking)}: {_EXPECTED_HEADER}, "
            f"got {', '.join(names)[:200]!r}"
        )
    return places


def _job(
    index: int, cells: Mapping[str, str], parts: int, *, has_share_column: bool
) -> TraceJob | str:
    """Return the job of a line, or its error.

    Args:
        index: index of the line.
        cells: cells of the line, by column.
        parts: parts of a GPU that are counted.
        has_share_column: one column says how many GPUs and which part of one (plan_gpu).
    """
    try:
        gpus, share = _gpus_and_share(cells, parts, has_share_column=has_share_column)
        return TraceJob(
            index=index,
            submitted=_seconds(cells["submitted"], COLUMNS["submitted"][0]),
            seconds=_seconds(cells["seconds"], COLUMNS["seconds"][0]),
            gpus=gpus,
            vram=parse_bytes(cells["vram"]) if cells.get("vram") else None,
            group=cells.get("group", ""),
            user=cells.get("user", ""),
            share=share,
        )
    except UsageError as error:
        return str(error)


def _seconds(text: str, name: str) -> float:
    value = _number(text)
    if not 0 <= value <= LONGEST_S:
        raise UsageError(
            f"{name}: expected seconds from 0 to {LONGEST_S:.0e}, got {_quote_cell(text)}"
        )
    return value


def _gpus_and_share(
    cells: Mapping[str, str], parts: int, *, has_share_column: bool
) -> tuple[int, float | None]:
    """Return the number of GPUs that a job requests, and the part of one if the job does not use a whole GPU."""
    text = cells["gpus"]
    asked = _number(text, _LONGEST_NUMBER) / (parts if has_share_column else 1)
    if not 0 < asked <= MOST_GPUS or (asked > 1 and not has_share_column and asked != int(asked)):
        raise UsageError(
            f"gpus: expected a number from 1 to {MOST_GPUS:,}, got {_quote_cell(text)}"
        )
    gpus = math.ceil(asked)
    share = asked
    if "share" in cells and not has_share_column and gpus == 1:
        part = cells["share"]
        share = _number(part, _LONGEST_NUMBER) / parts if part else 1.0
        if not 0 < share <= 1:
            raise UsageError(
                f"share of a GPU: expected more than 0 and at most {parts}, got {_quote_cell(part)}"
            )
    return gpus, share if share < 1 else None


def _number(text: str, longest: int | None = None) -> float:
    try:
        return float(text if longest is None or len(text) < longest else "nan")
    except ValueError:
        return math.nan


def _quote_cell(text: str) -> str:
    return repr(text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…")


def select_jobs(
    jobs: Sequence[TraceJob], *, first: int | None, all_at_once: bool, load: float
) -> tuple[TraceJob, ...]:
    """Return the first jobs, with their submission times.

    Args:
        jobs: jobs in the order of their submission.
        first: how many; None: all.
        all_at_once: all are submitted at the beginning, in their order.
        load: factor on the rate of submissions.
    """
    return tuple(
        replace(job, submitted=0.0 if all_at_once else job.submitted / load) for job in jobs[:first]
    )
