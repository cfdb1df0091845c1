"""The benchmark of a run, as its jobs left it: every cell with its scores and measures."""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from trueface.benchmark import cells, manifest
from trueface.benchmark.cells import Cell, CellScores, Index, ModelFacts
from trueface.benchmark.conditions import CLEAN
from trueface.benchmark.manifest import Entry, Manifest, manifest_of
from trueface.benchmark.measures import (
    Marked,
    Measured,
    measure_attack,
    measure_scores,
    minus_clean,
)
from trueface.corruptions.grammar import NONE
from trueface.data.image_headers import DECIDING, Shortcut
from trueface.evaluation.over_seeds import without_seed as without_seed
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.ids import parse_model

MANIFESTS = "manifests"  # in the benchmark folder of a run: one file for each set of images


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell of a run."""

    index: Index
    cell: Cell
    facts: ModelFacts
    scores: CellScores | None
    measured: Measured
    keys: tuple[str, ...]  # of its images

    @property
    def group(self) -> str:
        """The model without its seed: models that differ in nothing else are repetitions."""
        return without_seed(self.index.model)

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from the other cells of its model: test and condition."""
        return self.index.test, self.cell.condition.name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """All cells of a run, sorted by model, test and the order of conditions."""

    name: str
    manifest: Manifest
    results: tuple[Result, ...]
    problems: tuple[str, ...]  # what was left out, and why

    @property
    def not_run(self) -> Iterator[str]:
        """What was not run and why, the models of one reason together, by their IDs."""
        yield from self.not_run_named({result.group: result.group for result in self.results})

    def not_run_named(self, names: Mapping[str, str]) -> Iterator[str]:
        """Yield what was not run and why, the models of one reason together.

        Args:
            names: of the models, by ID.
        """
        reasons: dict[tuple[str, str], dict[str, None]] = {}
        for result in self.results:
            if not result.cell.file:
                key = (result.cell.condition.name, result.cell.reason)
                reasons.setdefault(key, {})[names[result.group]] = None
        for (condition, reason), models in reasons.items():
            yield f"{condition}: {reason} ({', '.join(models)})"

    @property
    def without_area(self) -> Iterator[str]:
        """Which sets of images have no AUC, and why: of one class there are rates alone."""
        yield from dict.fromkeys(
            f"{result.index.test}: {result.measured.marked.reason}, so it has no AUC, and rates alone"
            for result in self.results
            if result.measured.marked.mark == "one class"
        )

    @property
    def confounds(self) -> Iterator[str]:
        """What the headers of the image files alone tell of their class, of each set of images."""
        yield from dict.fromkeys(
            f"{result.index.test}: {each.sentence} (real: {each.real}; fake: {each.fake})"
            for result in self.results
            for each in result.index.shortcuts
        )

    @property
    def settings(self) -> Iterator[str]:
        """Why each model has the setting that it has on each set of images."""
        seen: dict[str, None] = {}
        for result in self.results:
            name = "" if result.cell.corrupt == NONE else f" ({result.cell.corrupt})"
            seen[
                f"{result.group} on {result.index.test}{name}: {result.cell.setting}, {result.cell.why}"
            ] = None
        yield from seen


def read_run(run_folder: Path) -> RunResults:
    """Return the benchmark of a run; what cannot be read is left out, and said in `problems`.

    Raises:
        DataError: there is none, nothing of it can be read, or models were scored on different images.
    """
    folders = cells.find_indexes(run_folder)
    if not folders:
        raise DataError(
            f"{run_folder} holds no benchmark; write a section `benchmark:` into its task file, and "
            "wait for its jobs"
        )
    results: list[Result] = []
    problems: list[str] = []
    lists: dict[str, Manifest] = {}
    indexes = dict(_indexes(folders, problems))
    _refuse_other_images(indexes.values())
    for folder, index in indexes.items():
        try:
            facts = cells.read_facts(folder.parent.parent)
            if index.manifest not in lists:
                lists[index.manifest] = manifest.read(manifest_file(run_folder, index.manifest))
        except DataError as error:
            problems.append(f"{error}; {remedy(folder)}")
            continue
        if facts.checkpoint_sha256 != index.checkpoint_sha256:
            problems.append(
                f"{index.model} on {index.test}: the model was made anew since; run the task file again"
            )
            continue
        images = {entry.path: entry for entry in lists[index.manifest].entries}
        results += _results(folder, index, facts, images)
    if not results:
        raise DataError("; ".join(problems))
    problems += _without_cells(run_folder, indexes.values())
    whole = manifest_of(
        (entry for each in lists.values() for entry in each.entries),
        next((each.versions for each in lists.values()), {}),
    )
    order = sorted(
        results, key=lambda result: (result.group, result.index.model, result.index.test)
    )
    return RunResults(
        name=run_folder.name, manifest=whole, results=tuple(order), problems=tuple(problems)
    )


def remedy(folder: Path) -> str:
    """Return what to do where a file in a folder of cells, or of its model, cannot be read."""
    return f"remove {folder / cells.INDEX} and run the task file again, which keeps sound cells"


def _indexes(folders: Iterable[Path], problems: list[str]) -> Iterator[tuple[Path, Index]]:
    for folder in folders:
        try:
            yield folder, cells.read_index(folder)
        except DataError as error:
            problems.append(f"{error}; {remedy(folder)}")


def _without_cells(run_folder: Path, indexes: Collection[Index]) -> Iterator[str]:
    """Yield the models of the run that were not scored, or not on every set of images.

    Such a model is not named in the benchmark, its job is not done, or it failed: the queue knows.
    """
    tests = list(dict.fromkeys(index.test for index in indexes))
    scored = {(index.model, index.test) for index in indexes}
    for model in _models(run_folder):
        missing = [test for test in tests if (model, test) not in scored]
        if missing:
            where = "" if len(missing) == len(tests) else f" on {', '.join(missing)}"
            yield (
                f"{model} was not scored{where}: the benchmark does not name it, or its job is not "
                f"done; see launcher status run:{run_folder.name}"
            )


def _models(run_folder: Path) -> Iterator[str]:
    """Yield the IDs of the models that have a folder in a run, trained or not, sorted."""
    for folder in sorted(path for path in run_folder.iterdir() if path.is_dir()):
        with contextlib.suppress(OSError, UsageError):  # of the run itself, such as `code`
            yield str(parse_model(paths.model_id(folder)))


def manifest_file(run_folder: Path, sha256: str) -> Path:
    """Return where a run keeps the list of a set of images."""
    return run_folder / cells.FOLDER / MANIFESTS / f"{sha256}.json"


def _refuse_other_images(indexes: Iterable[Index]) -> None:
    """Refuse models that were scored on different images of one test."""
    first: dict[str, Index] = {}
    for index in indexes:
        other = first.setdefault(index.test, index)
        if other.manifest != index.manifest:
            raise DataError(
                f"the images of {index.test} changed: {other.model} was scored on "
                f"{other.manifest[: manifest.DIGITS]}, {index.model} on "
                f"{index.manifest[: manifest.DIGITS]}; run the benchmark again"
            )


def _results(
    folder: Path, index: Index, facts: ModelFacts, images: dict[str, Entry]
) -> Sequence[Result]:
    made: list[Result] = []
    clean: Measured | None = None
    for each in index.cells:
        cell, scores = _read_cell(folder, each, images)
        measured, keys = _measured(cell, scores, facts, images)
        measured = replace(measured, marked=_marked(measured.marked, index.shortcuts))
        if cell.condition == CLEAN:
            clean = measured
        elif clean is not None and scores is not None and not cell.condition.is_attack:
            measured = replace(measured, values=(*measured.values, minus_clean(measured, clean)))
        made.append(
            Result(index=index, cell=cell, facts=facts, scores=scores, measured=measured, keys=keys)
        )
    return made


def _read_cell(folder: Path, cell: Cell, images: Collection[str]) -> tuple[Cell, CellScores | None]:
    """Return a cell with its scores; one whose file is damaged as one that was not run."""
    if not cell.file:
        return cell, None
    try:
        scores, reason = cells.read_scores(folder / cell.file), ""
    except DataError as error:
        scores, reason = None, str(error)
    strange = () if scores is None else set(scores.paths).difference(images)
    if strange:
        reason = f"{folder / cell.file} has scores of {min(strange)}, no image of the set"
    if reason:
        return replace(cell, file="", reason=f"{reason}; {remedy(folder)}"), None
    return cell, scores


def _marked(marked: Marked, shortcuts: Iterable[Shortcut]) -> Marked:
    """Mark a cell whose classes a detector could tell apart by the form of their files."""
    decisive = [each.sentence for each in shortcuts if each.accuracy >= DECIDING]
    return marked if marked.mark or not decisive else Marked("confounded", decisive[0])


def _measured(
    cell: Cell,
    scores: CellScores | None,
    facts: ModelFacts,
    images: dict[str, Entry],
) -> tuple[Measured, tuple[str, ...]]:
    if scores is None:
        return Measured(values=(), marked=Marked("not run", cell.reason)), ()
    entries = [images[path] for path in scores.paths]
    keys = tuple(entry.key for entry in entries)
    if cell.condition.is_attack:
        return measure_attack(scores), keys
    sources = [entry.source for entry in entries]
    return measure_scores(scores, facts, keys, sources), keys
