"""The benchmark of a run, read from the files of its jobs: every cell with its scores and measures.

Every measure has an interval over images of the same sources, or a reason why it has none. Rates of one class have
Wilson's interval, in which copies of an image count as far as they differ. Tables of the same images have the same resamples, so that differences between cells and between
models are paired.
"""

import contextlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.benchmark import cells
from trueface.benchmark.cells import Cell, CellScores, Entry, Index, Manifest, ModelFacts
from trueface.benchmark.conditions import INDEX
from trueface.benchmark.trainings import read_training, trainings_text
from trueface.corruptions.registry import NONE
from trueface.data.image_headers import DECIDING
from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import Labels
from trueface.evaluation.estimate import Estimate, Interval
from trueface.evaluation.estimates import (
    Sampled,
    SourcedScores,
    difference_of,
    estimates_over_images,
    sample_metric,
    share_of,
)
from trueface.evaluation.measurement import METRICS
from trueface.evaluation.over_seeds import strip_seed
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.ids import parse_model

LEAST = 20  # images per class; with fewer there is no interval, and a cell has no rank
BALANCED, CALIBRATION, AREA = "balanced_accuracy", "ece", "auc"
PLAIN = (AREA, "ap", BALANCED, "tpr_at_1fpr", "eer", CALIBRATION)  # at threshold 0
AT_THRESHOLD = "balanced_accuracy_at_threshold"
UNSCALED, SCALED = "ece_unscaled", "ece_scaled"  # before and after temperature scaling
DELTA = "auc_minus_clean"
KINDS = ("real", "fake")
# settings on which the rates of attacks depend, with the access of the attacks that use them; "": all attacks do
OF_ATTACKS: Mapping[str, str] = {
    "attack_images": "",
    "attack_save": "",
    "queries": "score",
    "surrogate": "transfer",
}

CellKey = tuple[str, str]  # test, condition


class RankMark(NamedTuple):
    """The reason why a cell is not ranked."""

    # "chance", "constant", "few images", "one class", "confounded", "attack" or "not run"; "" if ranked
    mark: str
    reason: str


RANKED = RankMark("", "")


class MeasureValue(NamedTuple):
    """One measure of a cell, or the reason if there is none or if it has no interval."""

    name: str
    value: float | None = None
    interval: Interval | None = None
    threshold: float | None = None  # threshold of the logit, if the measure has one
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellMeasures:
    """The measures of a cell."""

    values: tuple[MeasureValue, ...] = ()
    marked: RankMark = RANKED
    area: Sampled | None = None  # AUC under each resample
    counts: tuple[int, int] = (0, 0)  # number of real images, of fakes

    def __getitem__(self, name: str) -> MeasureValue | None:
        return next((value for value in self.values if value.name == name), None)

    def value(self, name: str) -> float | None:
        """Return the value of a measure, or None if there is none."""
        return None if (found := self[name]) is None else found.value


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One cell of a run."""

    index: Index
    cell: Cell
    facts: ModelFacts
    scores: CellScores | None
    measured: CellMeasures
    keys: tuple[str, ...]  # keys of the images

    @property
    def group(self) -> str:
        """The model ID without the seed. Models of the same group are repetitions."""
        return strip_seed(self.index.model)

    @property
    def cell_key(self) -> CellKey:
        """The key of the cell among those of its model."""
        return self.index.test, self.cell.condition.name


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResults:
    """All cells of a run, sorted by model, test and the order of conditions."""

    name: str
    manifest: Manifest
    results: tuple[CellResult, ...]
    problems: tuple[str, ...]  # files that were left out, with the reasons
    training: str = ""  # the extent of the models' trainings, in words

    def not_run(self, names: Mapping[str, str] | None = None) -> Iterator[str]:
        """Yield the cells that were not run with the reasons, grouped by reason.

        Args:
            names: names of the models by ID. None: the IDs.
        """
        reasons: dict[tuple[str, str], dict[str, None]] = {}
        for result in self.results:
            if not result.cell.file:
                key = (result.cell.condition.name, result.cell.reason)
                name = names[result.group] if names else result.group
                reasons.setdefault(key, {})[name] = None
        for (condition, reason), models in reasons.items():
            yield f"{condition}: {reason} ({', '.join(models)})"

    @property
    def without_area(self) -> Iterator[str]:
        """Yield the sets of images without an AUC, with the reason: of one class there are only rates."""
        yield from dict.fromkeys(
            f"{result.index.test}: {result.measured.marked.reason}, so only rates are shown and no AUC"
            for result in self.results
            if result.measured.marked.mark == "one class"
        )

    @property
    def confounds(self) -> Iterator[str]:
        """Yield the header fields that predict the class, for each dataset."""
        yield from dict.fromkeys(
            f"{result.index.test}: {each.sentence} (real: {each.real}; fake: {each.fake})"
            for result in self.results
            for each in result.index.shortcuts
        )

    @property
    def settings(self) -> Iterator[str]:
        """Yield the reason for the setting of each model on each set of images."""
        yield from dict.fromkeys(
            f"{result.group} on {result.index.test}"
            f"{'' if cell.corrupt == NONE else f' ({cell.corrupt})'}: {cell.setting}, {cell.why}"
            for result in self.results
            for cell in (result.cell,)
        )


def read_run(run_folder: Path) -> RunResults:
    """Return the benchmark of a run. Unreadable files are left out and listed in `problems`.

    Raises:
        DataError: the run has no benchmark, no file of it can be read, or models were scored on different images.
    """
    folders = cells.find_indexes(run_folder)
    if not folders:
        raise DataError(
            f"{run_folder} contains no benchmark. Add a section `benchmark:` to its task file and run it."
        )
    results: list[CellResult] = []
    problems: list[str] = []
    lists: dict[str, Manifest] = {}
    trained: dict[Path, None] = {}  # folders of models
    indexes = dict(_indexes(folders, problems))
    _refuse_other_images(indexes.values())
    for folder, index in indexes.items():
        try:
            facts = cells.read_facts(folder.parent.parent)
            if index.manifest not in lists:
                path = cells.manifest_file(run_folder, index.manifest)
                lists[index.manifest] = cells.read_manifest(path)
        except DataError as error:
            problems.append(f"{error}. {remedy(folder)}")
            continue
        if facts.checkpoint_sha256 != index.checkpoint_sha256:
            problems.append(
                f"{index.model} on {index.test}: the model was trained again since. Run the task file again."
            )
            continue
        trained[folder.parent.parent] = None
        results += _results(folder, index, facts, lists[index.manifest])
    if not results:
        raise DataError(" ".join(problems))
    problems += _without_cells(run_folder, indexes.values())
    problems += _note_different_attacks(indexes.values())
    return RunResults(
        name=run_folder.name,
        manifest=cells.manifest_of(
            (entry for each in lists.values() for entry in each.entries),
            next(iter(lists.values())).versions,
        ),
        results=tuple(
            sorted(results, key=lambda one: (one.group, one.index.model, one.index.test))
        ),
        problems=tuple(problems),
        training=trainings_text([*map(read_training, trained)]),
    )


def remedy(folder: Path) -> str:
    """Return the advice for an unreadable file in a folder of cells, or of its model."""
    return f"Remove {folder / INDEX} and run the task file again. Undamaged results are kept."


def _indexes(folders: Iterable[Path], problems: list[str]) -> Iterator[tuple[Path, Index]]:
    for folder in folders:
        try:
            yield folder, cells.read_index(folder)
        except DataError as error:
            problems.append(f"{error}. {remedy(folder)}")


def _without_cells(run_folder: Path, indexes: Collection[Index]) -> Iterator[str]:
    """Yield the models of the run that were not scored, or not on every set of images.

    The benchmark does not include such a model, or its job is not finished or failed. The queue has its state.
    """
    tests = list(dict.fromkeys(index.test for index in indexes))
    scored = {(index.model, index.test) for index in indexes}
    for folder in sorted(path for path in run_folder.iterdir() if path.is_dir()):
        with contextlib.suppress(OSError, UsageError):  # other folders of the run, such as `code`
            model = str(parse_model(paths.model_id(folder)))
            missing = [test for test in tests if (model, test) not in scored]
            if missing:
                where = "" if len(missing) == len(tests) else f" on {', '.join(missing)}"
                yield (
                    f"{model} was not scored{where}. It is not in the benchmark, or its job is not done. "
                    f"Show the jobs: launcher status run:{run_folder.name}"
                )


def _note_different_attacks(indexes: Iterable[Index]) -> Iterator[str]:
    """Yield for each test the settings of its attacks that differ between models, as their rates are then of others."""
    values: dict[tuple[str, str], dict[str, None]] = {}
    for index in indexes:
        accesses = {cell.access for cell in index.cells if cell.condition.is_attack}
        for name, access in OF_ATTACKS.items():
            if accesses and (not access or access in accesses):
                found = values.setdefault((index.test, name), {})
                found[str(index.settings.get(name))] = None
    for (test, name), differing in values.items():
        if len(differing) > 1:
            yield (
                f"{test}: models were attacked with different values of {name} ({', '.join(differing)}), so the rates of "
                "attacks are not comparable. Score all models in one entry of `benchmark`."
            )


def _refuse_other_images(indexes: Iterable[Index]) -> None:
    """Refuse models that were scored on different images in one test."""
    first: dict[str, Index] = {}
    for index in indexes:
        other = first.setdefault(index.test, index)
        if other.manifest != index.manifest:
            raise DataError(
                f"the images of {index.test} changed between two models ({other.model}: manifest "
                f"{other.manifest[: cells.DIGITS]}, {index.model}: {index.manifest[: cells.DIGITS]}). "
                "Run the benchmark again."
            )


def _results(
    folder: Path, index: Index, facts: ModelFacts, manifest: Manifest
) -> Iterator[CellResult]:
    images = {entry.path: entry for entry in manifest.entries}
    shortcuts = sorted(index.shortcuts, key=lambda each: not each.shapes_pixels)
    decisive = [each.sentence for each in shortcuts if each.accuracy >= DECIDING]
    clean: CellMeasures | None = None
    for each in index.cells:
        cell, scores = _read_cell(folder, each, images)
        measured = CellMeasures(marked=RankMark("not run", cell.reason))
        entries: list[Entry] = []
        if scores is not None:
            entries = [images[path] for path in scores.predictions.ids]
            measured = evaluate_cell(cell, scores, facts, entries, clean)
        if decisive and not measured.marked.mark:  # the file format alone predicts the class
            measured = replace(measured, marked=RankMark("confounded", decisive[0]))
        if cell.condition.is_clean:
            clean = measured
        yield CellResult(
            index=index,
            cell=cell,
            facts=facts,
            scores=scores,
            measured=measured,
            keys=tuple(entry.key for entry in entries),
        )


def evaluate_index(
    folder: Path, index: Index, facts: ModelFacts, manifest: Manifest
) -> Sequence[CellResult]:
    """Return the cells of one model on one set of images with their measures.

    Args:
        folder: of the index.
        index: its content.
        facts: of the model.
        manifest: the images.
    """
    return tuple(_results(folder, index, facts, manifest))


def describe_missing(run_folder: Path, indexes: Collection[Index]) -> Sequence[str]:
    """Return sentences about the models of a run that have no index, or not of every set of images."""
    return tuple(_without_cells(run_folder, indexes))


def _read_cell(folder: Path, cell: Cell, images: Collection[str]) -> tuple[Cell, CellScores | None]:
    """Return a cell with its scores. If its file is damaged, the cell is returned as not run."""
    if not cell.file:
        return cell, None
    try:
        scores = cells.read_scores(folder / cell.file)
        strange = set(scores.predictions.ids).difference(images)
        if not strange:
            return cell, scores
        reason = (
            f"{folder / cell.file} contains scores of {min(strange)}, which is not in the image set"
        )
    except DataError as error:
        reason = str(error)
    return replace(cell, file="", reason=f"{reason}. {remedy(folder)}"), None


def evaluate_cell(
    cell: Cell,
    scores: CellScores,
    facts: ModelFacts,
    entries: Sequence[Entry],
    clean: CellMeasures | None = None,
) -> CellMeasures:
    """Return the measures of the scores of a cell.

    Args:
        cell: the cell.
        scores: scores of N images.
        facts: threshold and temperature of the model.
        entries: the images, (N,).
        clean: measures of the clean images, which the AUC of a corruption is compared with.
    """
    keys, sources = [entry.key for entry in entries], [entry.source for entry in entries]
    if cell.condition.is_attack:
        return evaluate_attacked(scores, keys)
    measured = evaluate_unattacked(scores, facts, keys, sources)
    if clean is None or cell.condition.is_clean:
        return measured
    return replace(measured, values=(*measured.values, auc_change(measured, clean)))


def evaluate_unattacked(
    scores: CellScores, facts: ModelFacts, keys: Sequence[str], sources: Sequence[str]
) -> CellMeasures:
    """Return the measures of a cell that was not attacked.

    Args:
        scores: scores of N images.
        facts: threshold and temperature of the model.
        keys: key of each image, (N,). Rows with the same key are resampled together.
        sources: folder of each image in Real/ or Fake/, (N,).
    """
    labels, logits = scores.predictions.labels, scores.predictions.margin
    counts = _counts(labels)
    shares = tuple(_shares(labels, logits > 0, keys, sources))
    if 0 in counts:
        reason = f"all images are {KINDS[int(counts[0] == 0)]}"
        empty = (
            MeasureValue(name, reason=reason) for name in (*PLAIN, AT_THRESHOLD, UNSCALED, SCALED)
        )
        return CellMeasures(
            values=(*empty, *shares), marked=RankMark("one class", reason), counts=counts
        )
    thresholds = {BALANCED: 0.0, AT_THRESHOLD: facts.threshold}
    values: dict[str, MeasureValue] = {}

    def table(logits: Floats) -> SourcedScores:
        return SourcedScores(labels=labels, logits=logits, keys=keys)

    plain = table(logits)
    for changed, metrics in (
        (plain, {name: METRICS[name] for name in PLAIN}),
        (table(logits - facts.threshold), {AT_THRESHOLD: METRICS[BALANCED]}),
        (table(facts.calibration.undo_temperature(logits)), {UNSCALED: METRICS[CALIBRATION]}),
        (table(facts.calibration.apply_temperature(logits)), {SCALED: METRICS[CALIBRATION]}),
    ):
        measures = estimates_over_images(list(metrics.values()), changed)
        for name, metric in metrics.items():
            values[name] = _value(name, measures[metric.name], thresholds.get(name))
    marked = _rank_mark(logits, counts, values[AREA])
    if min(counts) < LEAST:
        reason = f"fewer than {LEAST} images of a class, so there is no interval"
        values = {
            name: value._replace(interval=None, reason=reason) for name, value in values.items()
        }
    return CellMeasures(
        values=(*values.values(), *shares),
        marked=marked,
        area=sample_metric(METRICS[AREA], plain),
        counts=counts,
    )


def auc_change(cell: CellMeasures, clean: CellMeasures) -> MeasureValue:
    """Return the change of the AUC from clean images to the images of a cell, paired by resamples."""
    here, there = cell.value(AREA), clean.value(AREA)
    if cell.area is None or clean.area is None:
        return MeasureValue(DELTA, reason="the AUC is undefined")
    if here is None or there is None or cell.counts != clean.counts:
        return MeasureValue(DELTA, reason="the images differ")
    change = difference_of(cell.area, clean.area)
    return MeasureValue(
        DELTA,
        change.value,
        change.interval,
        reason=f"no interval: {change.why}" if change.why else "",
    )


def evaluate_attacked(scores: CellScores, keys: Sequence[str]) -> CellMeasures:
    """Return the effect of an attack on fakes that were called fake and reals that were called real.

    A logit above the threshold in the scores is called fake. Arguments as of `evaluate_unattacked`.

    Only images that were classified correctly before the attack count. Otherwise a detector that always predicts
    real could not be attacked, and one that always predicts fake would be safe.
    """
    labels, logits, at = scores.predictions.labels, scores.predictions.margin, scores.threshold
    before = scores.before if scores.before is not None else logits
    was, after, names = before > at, logits > at, np.array(keys)
    successes, shares = [], []
    for label, goal in ((1, "evasion"), (0, "defamation")):
        chosen, kind = labels == label, KINDS[label]
        right = chosen & (was == (label == 1))
        turned = after[right] != (label == 1)
        successes.append(_share(f"attack_success_{goal}", turned, names[right], at))
        shares += [
            _share(f"called_fake_before:{kind}", was[chosen], names[chosen], at),
            _share(f"called_fake:{kind}", after[chosen], names[chosen], at),
            _median(f"logit_shift:{kind}", (logits - before)[right]),
        ]
    if scores.psnr is not None:
        shares.append(_median("psnr", scores.psnr[np.isfinite(scores.psnr)]))
    marked = RankMark("attack", "attacks are compared with the random control, not ranked")
    return CellMeasures(values=(*successes, *shares), marked=marked, counts=_counts(labels))


def _shares(
    labels: Labels, predicted_fake: NDArray[np.bool_], keys: Sequence[str], sources: Sequence[str]
) -> Iterator[MeasureValue]:
    """Yield the TPR of each generator and the TNR of each set of real images, at threshold 0."""
    names, images = np.array(sources), np.array(keys)
    for label, word in ((1, "tpr"), (0, "tnr")):
        for source in sorted(set(names[labels == label].tolist())):
            chosen = (labels == label) & (names == source)
            right = predicted_fake[chosen] == (label == 1)
            yield _share(f"{word}:{source}", right, images[chosen], 0.0)


def _share(
    name: str, holds: NDArray[np.bool_], keys: NDArray[np.str_], threshold: float
) -> MeasureValue:
    if not len(holds):
        return MeasureValue(name, reason="no such image")
    return _value(name, share_of(holds, keys.tolist()), threshold)


def _median(name: str, values: Floats) -> MeasureValue:
    if not len(values):
        return MeasureValue(name, reason="no such image")
    return MeasureValue(name, float(np.median(values)))


def _value(name: str, measure: Estimate, threshold: float | None = None) -> MeasureValue:
    reason = f"no interval: {measure.why}" if measure.why else ""
    return MeasureValue(name, measure.value, measure.interval, threshold, reason)


def _rank_mark(logits: Floats, counts: tuple[int, int], area: MeasureValue) -> RankMark:
    if np.ptp(logits) < 1e-9:
        return RankMark("constant", "every image has the same score")
    if min(counts) < LEAST:
        return RankMark(
            "few images", f"only {min(counts)} images of a class, and {LEAST} are needed"
        )
    if area.interval is not None and area.interval.low <= 0.5 <= area.interval.high:
        return RankMark("chance", "the interval of the AUC contains 0.5")
    return RANKED


def _counts(labels: Labels) -> tuple[int, int]:
    return int(np.sum(labels == 0)), int(np.sum(labels == 1))
