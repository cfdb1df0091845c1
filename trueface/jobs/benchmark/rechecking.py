"""Rows of a benchmark measured again: from the image files on, without stored features."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from launcher.api import Job
from trueface.benchmark.cells import Cell, CellScores, Index
from trueface.benchmark.measures import DELTA, measure_attack, measure_scores, minus_clean
from trueface.benchmark.run_results import Result, RunResults
from trueface.benchmark.settings import BenchmarkSettings
from trueface.benchmark.table import Row, row_of, same_value
from trueface.jobs.benchmark.benchmarking import Bench, manifest_of, open_bench, score
from trueface.runtime.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A row and its value now."""

    row: Row
    again: float | None

    @property
    def agrees(self) -> bool:
        """Whether both are the same."""
        return same_value(self.row.value, self.again)


def recheck(
    run: RunResults,
    run_folder: Path,
    *,
    count: int,
    seed: int,
    device: str,
    cpus: int,
    progress: Callable[..., None],
    stop: Event,
) -> Iterator[Checked]:
    """Yield some rows of a run with their values now, in the order of the table.

    Args:
        run: as it was read.
        run_folder: of it.
        count: how many rows, drawn at random.
        seed: of the draw.
        device: to score on.
        cpus: threads.
        progress: called while images are scored.
        stop: ends it.

    Raises:
        DataError: an image is not what it was.
    """
    rows = [
        (at, value.name)
        for at, result in enumerate(run.results)
        for value in result.measured.values
        if value.value is not None
    ]
    chosen = sorted(random.Random(seed).sample(rows, min(count, len(rows))))
    opened: tuple[Index, Bench] | None = None
    scores: dict[int, CellScores] = {}
    for at, name in chosen:
        result = run.results[at]
        if opened is None or opened[0] is not result.index:
            job = _job(run_folder, result.index, device, cpus, progress, stop)
            opened = (result.index, _bench(job, result.index))
        if at not in scores:
            scores[at] = score(opened[1], result.cell.condition)
        clean = _clean(run.results, result)
        if name == DELTA and clean not in scores:
            scores[clean] = score(opened[1], run.results[clean].cell.condition)
        yield Checked(
            row=row_of(run.manifest.name, result, name),
            again=_value(result, name, scores[at], scores.get(clean), run),
        )


def _value(
    result: Result, name: str, again: CellScores, clean: CellScores | None, run: RunResults
) -> float | None:
    entries = {entry.path: entry for entry in run.manifest.entries}

    def measured(scores: CellScores, cell: Cell) -> float | None:
        if cell.condition.is_attack:
            made = measure_attack(scores)
        else:
            rows = [entries[path] for path in scores.paths]
            made = measure_scores(
                scores, result.facts, [row.key for row in rows], [row.source for row in rows]
            )
        if name == DELTA and clean is not None:
            rows = [entries[path] for path in clean.paths]
            keys, sources = [row.key for row in rows], [row.source for row in rows]
            made = replace(
                made,
                values=(minus_clean(made, measure_scores(clean, result.facts, keys, sources)),),
            )
        value = made[name]
        return None if value is None else value.value

    return measured(again, result.cell)


def _clean(results: Sequence[Result], result: Result) -> int:
    """Return the place of the cell of the same model and test whose images are as they are."""
    return next(
        at
        for at, other in enumerate(results)
        if other.index is result.index and other.cell.condition.is_clean
    )


def _bench(job: Job, index: Index) -> Bench:
    bench = open_bench(job, BenchmarkSettings.model_validate(index.settings), stored=False)
    images = manifest_of(bench)
    if images.sha256 != index.manifest:
        raise DataError(
            f"the images of {index.test} are not those of the benchmark: it is of "
            f"{index.manifest[:12]}, they are {images.name}; bring the files back"
        )
    return bench


def _job(
    run_folder: Path,
    index: Index,
    device: str,
    cpus: int,
    progress: Callable[..., None],
    stop: Event,
) -> Job:
    return Job(
        name=f"benchmark/{index.model}/{index.test}",
        kind="benchmark",
        run=run_folder.name,
        run_folder=run_folder,
        folder=Path(index.root),
        attempt_folder=run_folder,
        attempt=1,
        device=device,
        cpus=cpus,
        model=index.model,
        data=index.test,
        images=index.test,
        settings=index.settings,
        words=index.words,
        progress=progress,
        stop=stop,
    )
