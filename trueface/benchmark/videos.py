"""The benchmark of a run whose models read different clips, by video.

A clip of 8 frames, a clip of 32 frames and a single frame are different images, so such models have no image in common.
They have videos in common. The score of a video is the mean probability of its clips or frames, as in
`trueface.evaluation.result_rows`. All models of a table have the same videos: those of which every model has a score.

Jobs score frames and clips. Only this reader counts videos, so jobs do not depend on it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.benchmark import cells
from trueface.benchmark.cells import CellScores, Index, Manifest, ModelFacts
from trueface.benchmark.clip_lengths import describe_frames, incomparable
from trueface.benchmark.results import (
    AT_THRESHOLD,
    CALIBRATION,
    SCALED,
    UNSCALED,
    CellMeasures,
    CellResult,
    MeasureValue,
    RankMark,
    RunResults,
    auc_change,
    describe_missing,
    evaluate_index,
    evaluate_unattacked,
    read_run,
    remedy,
)
from trueface.benchmark.trainings import read_training, trainings_text
from trueface.data.clips import Clips, frame_number, parse_clips
from trueface.data.dataset_file import video_sources
from trueface.data.image_headers import DECIDING
from trueface.evaluation.arrays import Floats
from trueface.evaluation.result_rows import by_video
from trueface.predictions.predictions import Predictions
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError

SHOWN = 3  # models in a sentence
UNIT = (
    "unit: the video. Its score is the mean probability of the clips or frames that a model reads. All models have "
    "the same videos"
)
FEW_VIDEOS = "few videos"  # mark of a cell
NO_THRESHOLD = "validation gives a threshold for single frames or clips, not for videos"

RowsKey = tuple[str, str, str]  # model, test, condition


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoUnit:
    """The videos that a table counts, and the scores of frames and clips behind those of videos."""

    # test → videos that all models scored, as paths below the data root
    common: Mapping[str, frozenset[str]]
    notes: tuple[str, ...]  # sentences about left-out videos, tests and conditions
    frames: Mapping[str, str]  # model ID without the seed → frames that it reads together
    rows: Mapping[RowsKey, Predictions]  # rows of the common videos, with keys and videos
    groups: tuple[RunResults, ...]  # results of models that read the same clips, by clip or frame

    @property
    def count(self) -> int:
        """The number of videos of all tests."""
        return len(frozenset().union(*self.common.values()))

    @property
    def lines(self) -> tuple[str, ...]:
        """The unit and the notes, for the heading of a table."""
        return (UNIT, *self.notes)

    def change_logits(self, result: CellResult, change: Callable[[Floats], Floats]) -> Floats:
        """Return the logits of the videos of a cell after a change of those of its frames or clips."""
        return videos_table(self.rows[_rows_key(result)], change).margin


class Benchmark(NamedTuple):
    """The benchmark of a run."""

    results: RunResults
    unit: VideoUnit | None  # None: the results are of images, or of clips that all models read


def read_benchmark(run_folder: Path) -> Benchmark:
    """Return the benchmark of a run, by video if its models read different clips of a test.

    Raises:
        DataError: see `read_run`, or the models have no video in common.
    """
    indexes = []
    for folder in cells.find_indexes(run_folder):
        try:
            indexes.append(cells.read_index(folder))
        except DataError:  # `read_run` reports it
            continue
    if not reads_different_clips(indexes):
        results = read_run(run_folder)
        alike = _note_dependent_rows(run_folder, indexes)
        return Benchmark(replace(results, problems=(*results.problems, *alike)), None)
    return _read_by_video(run_folder)


def _note_dependent_rows(run_folder: Path, indexes: Iterable[Index]) -> Iterator[str]:
    """Yield for each test with several frames or clips of a video that its intervals are too narrow."""
    for index in {index.test: index for index in indexes}.values():
        clips = clips_of(index)
        try:
            sources = video_sources(data_root_of(index)) if clips is None else None
            entries = cells.read_manifest(cells.manifest_file(run_folder, index.manifest)).entries
        except DataError:  # `read_run` reports the manifest
            continue
        rows = [
            video_of(each.path) for each in entries if sources is None or each.source in sources
        ]
        if len(rows) > len({*rows}):
            yield (
                f"{index.test}: {len(rows)} {'frames' if clips is None else 'clips'} of {len({*rows})} videos count as "
                "independent images, so intervals are too narrow"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredTest:
    """A model on a set of images: its cells by frame or clip, and the images."""

    index: Index
    facts: ModelFacts
    model_folder: Path
    manifest: Manifest
    results: tuple[CellResult, ...]


def _read_by_video(run_folder: Path) -> Benchmark:
    problems: list[str] = []
    tests = [*_read_tests(run_folder, problems)]
    if not tests:
        raise DataError(" ".join(problems))
    indexes = [each.index for each in tests]
    manifests = {each.index.manifest: each.manifest for each in tests}
    refuse_changed_images(indexes)
    refuse_changed_frames(indexes, manifests)
    tests, left_out = _leave_out_incomparable(tests)
    common, notes = find_common_videos(_videos_of_models(tests))
    rows: dict[RowsKey, Predictions] = {}
    results = [result for each in tests for result in _results_by_video(each, common, rows)]
    results.sort(key=lambda one: (one.group, one.index.model, one.index.test))
    problems += describe_missing(run_folder, indexes)
    folders = dict.fromkeys(each.model_folder for each in tests)
    whole = RunResults(
        name=run_folder.name,
        manifest=_join_manifests(manifests.values()),
        results=tuple(results),
        problems=tuple(problems),
        training=trainings_text([*map(read_training, folders)]).replace(
            " images of ", " images or clips of ", 1
        ),
    )
    unit = VideoUnit(
        common=common,
        notes=(*notes, *note_data_roots(indexes), *left_out),
        frames=_frames_of_models(results),
        rows=rows,
        groups=tuple(_group_by_clips(whole.name, tests)),
    )
    return Benchmark(whole, unit)


def _read_tests(run_folder: Path, problems: list[str]) -> Iterator[ScoredTest]:
    """Yield each model on each set of images; what cannot be read is added to `problems`."""
    lists: dict[str, Manifest] = {}
    for folder in cells.find_indexes(run_folder):
        try:
            index, facts = cells.read_index(folder), cells.read_facts(folder.parent.parent)
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
        manifest = lists[index.manifest]
        results = tuple(evaluate_index(folder, index, facts, manifest))
        yield ScoredTest(
            index=index,
            facts=facts,
            model_folder=folder.parent.parent,
            manifest=manifest,
            results=results,
        )


def _leave_out_incomparable(
    tests: Sequence[ScoredTest],
) -> tuple[list[ScoredTest], tuple[str, ...]]:
    """Return the tests of videos with the conditions that all clips share, and notes about the others."""
    chosen: list[ScoredTest] = []
    notes: dict[str, None] = {}
    of_videos = tests_of_videos(tests)
    for each in tests:
        test = each.index.test
        if test not in of_videos:
            notes[
                f"{test} is left out, because its images are not frames of videos. Put it into a run of its own"
            ] = None
            continue
        kept = []
        for result in each.results:
            if reason := incomparable(result.cell.condition):
                notes[f"{result.cell.condition.name} is left out: {reason}"] = None
            else:
                kept.append(result)
        chosen.append(replace(each, results=tuple(kept)))
    return chosen, tuple(notes)


def _videos_of_models(tests: Iterable[ScoredTest]) -> dict[str, dict[str, frozenset[str]]]:
    """Return by test and model the videos of which every cell with scores has a score."""
    by_test: dict[str, dict[str, frozenset[str]]] = {}
    for each in tests:
        videos = [
            frozenset(map(video_of, result.scores.predictions.ids))
            for result in each.results
            if result.scores is not None
        ]
        if videos:
            models = by_test.setdefault(each.index.test, {})
            models[each.index.model] = frozenset.intersection(*videos)
    return by_test


def _results_by_video(
    test: ScoredTest, common: Mapping[str, frozenset[str]], rows: dict[RowsKey, Predictions]
) -> Iterator[CellResult]:
    """Yield the cells of a model by video, and add the rows behind their scores to `rows`."""
    source_of = {video_of(entry.path): entry.source for entry in test.manifest.entries}
    shortcuts = sorted(test.index.shortcuts, key=lambda each: not each.shapes_pixels)
    decisive = [each.sentence for each in shortcuts if each.accuracy >= DECIDING]
    clean: CellMeasures | None = None
    for result in test.results:
        if result.scores is None:
            yield result
            continue
        named = name_videos(result.scores.predictions, result.keys)
        counted = np.array([video in common[test.index.test] for video in named.videos], np.bool_)
        rows[_rows_key(result)] = chosen = named.rows(counted)
        table = videos_table(chosen)
        measured = evaluate_videos(chosen, test.facts, [source_of[video] for video in table.ids])
        if result.cell.condition.is_clean:
            clean = measured
        elif clean is not None:
            values = (*measured.values, auc_change(measured, clean))
            measured = replace(measured, values=values)
        if decisive and not measured.marked.mark:  # the file format alone predicts the class
            measured = replace(measured, marked=RankMark("confounded", decisive[0]))
        yield replace(
            result,
            scores=replace(result.scores, predictions=table),
            measured=measured,
            keys=table.keys,
        )


def evaluate_videos(rows: Predictions, facts: ModelFacts, sources: Sequence[str]) -> CellMeasures:
    """Return the measures of the videos of a cell that was not attacked.

    A temperature divides the logits of frames or clips, before their probabilities are averaged. The value
    at the validation threshold is empty, because that is not a threshold of videos.

    Args:
        rows: frames or clips of N videos, with keys and videos.
        facts: threshold and temperature of the model.
        sources: folder of each video in Real/ or Fake/, (N,) in the order of `videos_table`.
    """

    def measure(change: Callable[[Floats], Floats]) -> CellMeasures:
        table = videos_table(rows, change)
        return evaluate_unattacked(CellScores(predictions=table), facts, table.keys, sources)

    measured = measure(lambda logits: logits)
    others = {AT_THRESHOLD: MeasureValue(AT_THRESHOLD, reason=NO_THRESHOLD)}
    for name, change in (
        (UNSCALED, facts.calibration.undo_temperature),
        (SCALED, facts.calibration.apply_temperature),
    ):
        value = measure(change)[CALIBRATION] or MeasureValue(CALIBRATION)
        others[name] = value._replace(name=name, threshold=None)
    values = (others.get(value.name, value) for value in measured.values)
    return replace(
        measured,
        values=tuple(value._replace(reason=_say_videos(value.reason)) for value in values),
        marked=RankMark(*map(_say_videos, measured.marked)),
    )


def _say_videos(text: str) -> str:
    return text.replace("image", "video")


def _frames_of_models(results: Iterable[CellResult]) -> Mapping[str, str]:
    frames: dict[str, dict[str, None]] = {}
    for result in results:
        frames.setdefault(result.group, {})[describe_frames(clips_of(result.index))] = None
    return {model: " or ".join(each) for model, each in frames.items()}


def _group_by_clips(name: str, tests: Iterable[ScoredTest]) -> Iterator[RunResults]:
    """Yield the results by frame or clip of models that read the same clips, so that one path is one image."""
    groups: dict[str, list[ScoredTest]] = {}
    for each in tests:
        groups.setdefault(describe_frames(clips_of(each.index)), []).append(each)
    for members in groups.values():
        yield RunResults(
            name=name,
            manifest=_join_manifests(each.manifest for each in members),
            results=tuple(result for each in members for result in each.results),
            problems=(),
        )


def _join_manifests(manifests: Iterable[Manifest]) -> Manifest:
    """Return all images of some manifests. A clip and its first frame have one path, and both count."""
    listed = [*manifests]
    entries = {entry for each in listed for entry in each.entries}
    return Manifest(entries=tuple(sorted(entries)), versions=listed[0].versions)


def _rows_key(result: CellResult) -> RowsKey:
    return (result.index.model, *result.cell_key)


def clips_of(index: Index) -> Clips | None:
    """Return the clips that a model read. None: single images.

    Raises:
        DataError: the setting in the index is damaged.
    """
    try:
        clips: Clips | None = parse_clips(index.settings.get("clips"))
    except ValueError as error:
        raise DataError(
            f"the clips of {index.model} on {index.test} are not known: {error}"
        ) from error
    return clips


def reads_different_clips(indexes: Iterable[Index]) -> bool:
    """Return whether models read different clips of one test, or clips and single frames of it."""
    first: dict[str, Clips | None] = {}
    pairs = ((index.test, clips_of(index)) for index in indexes)
    return any(first.setdefault(test, clips) != clips for test, clips in pairs)


def name_videos(predictions: Predictions, keys: tuple[str, ...]) -> Predictions:
    """Return predictions of frames or clips with their keys, and the folder of each as its video."""
    return replace(predictions, keys=keys, videos=tuple(map(video_of, predictions.ids)))


def video_of(path: str) -> str:
    """Return the video of a frame, both as paths below the data root."""
    return path.rpartition("/")[0]


def videos_table(
    rows: Predictions, change: Callable[[Floats], Floats] = lambda logits: logits
) -> Predictions:
    """Return a row for each video, sorted, so that tables of all models have one order.

    Args:
        rows: frames or clips, with keys and videos.
        change: of the logits of the rows.
    """
    table = by_video(rows.with_margin(change(rows.margin)))
    return table.rows(np.array(sorted(range(len(table)), key=table.ids.__getitem__), np.intp))


def find_common_videos(
    videos: Mapping[str, Mapping[str, Collection[str]]],
) -> tuple[Mapping[str, frozenset[str]], tuple[str, ...]]:
    """Return the videos of each test of which all models have a score, and sentences about the others.

    Args:
        videos: test → model → its videos.

    Raises:
        DataError: the models have no video of a test in common.
    """
    common: dict[str, frozenset[str]] = {}
    notes = []
    for test, models in videos.items():
        every = frozenset().union(*models.values())
        common[test] = every.intersection(*models.values())
        lacking = {name: len(every.difference(own)) for name, own in models.items()}
        ranked = sorted(((count, name) for name, count in lacking.items() if count), reverse=True)
        who = ", ".join(f"{name} has no score of {count}" for count, name in ranked[:SHOWN])
        more = len(ranked) - SHOWN
        who += f", and {more} more models lack some" * (more > 0)
        if not common[test]:
            raise DataError(
                f"no video of {test} has a score of all models, so they cannot be compared. Of {len(every)} "
                f"videos, {who}. Put these models into a run of their own."
            )
        if ranked:
            left_out = len(every) - len(common[test])
            notes.append(f"{test}: {left_out} of {len(every)} videos are left out ({who})")
    return common, tuple(notes)


def data_root_of(index: Index) -> Path:
    """Return the data root of a model's images."""
    return Path(index.root) / str(index.settings.get("data_root", ""))


def note_data_roots(indexes: Iterable[Index]) -> Iterator[str]:
    """Yield that models read one test from several data roots."""
    roots: dict[str, dict[str, None]] = {}
    for index in indexes:
        roots.setdefault(index.test, {})[str(index.settings.get("data_root", ""))] = None
    for test, each in roots.items():
        if len(each) > 1:
            yield f"{test}: videos of the data roots {', '.join(each)} are joined by their paths"


def tests_of_videos(tests: Iterable[ScoredTest]) -> frozenset[str]:
    """Return the data IDs whose images are frames of videos.

    Raises:
        DataError: the list of sources with videos of a data root cannot be read.
    """
    found: set[str] = set()
    for each in sorted(tests, key=lambda each: clips_of(each.index) is None):
        if clips_of(each.index) is not None:  # clips were made of nothing else
            found.add(each.index.test)
        elif each.index.test not in found:
            sources = video_sources(data_root_of(each.index))
            if all(entry.source in sources for entry in each.manifest.entries):
                found.add(each.index.test)
    return frozenset(found)


def refuse_changed_images(indexes: Iterable[Index]) -> None:
    """Refuse models that read the same clips of a test, and got other images.

    Raises:
        DataError: names both models.
    """
    first: dict[tuple[str, str, Path], Index] = {}
    for index in indexes:
        key = (index.test, describe_frames(clips_of(index)), data_root_of(index))
        other = first.setdefault(key, index)
        if other.manifest != index.manifest:
            raise DataError(
                f"the images of {index.test} changed between two models ({other.model}, {index.model}). Run the "
                "benchmark again."
            )


def refuse_changed_frames(indexes: Sequence[Index], manifests: Mapping[str, Manifest]) -> None:
    """Refuse clips whose frames are not those that a model of single frames read.

    Args:
        indexes: of the models of a run.
        manifests: images by digest.

    Raises:
        DataError: names a video and both models.
    """
    frames = {
        (index.test, data_root_of(index)): index for index in indexes if clips_of(index) is None
    }
    checked = set()
    for index in indexes:
        clips, other = clips_of(index), frames.get((index.test, data_root_of(index)))
        if clips is None or other is None or (index.manifest, other.manifest) in checked:
            continue
        checked.add((index.manifest, other.manifest))
        video = _find_changed(manifests[other.manifest], manifests[index.manifest], clips)
        if video:
            raise DataError(
                f"the frames of {video} changed between two models ({other.model}, {index.model}). Run the "
                "benchmark again so that all models are scored on the same videos."
            )


def _find_changed(frames: Manifest, of_clips: Manifest, clips: Clips) -> str:
    """Return a video of which a clip has other frames than a list of frames; "" if there is none."""
    digests = {
        (video_of(entry.path), frame_number(Path(entry.path).stem)): entry.sha256
        for entry in frames.entries
    }
    for entry in of_clips.entries:
        video, first = video_of(entry.path), frame_number(Path(entry.path).stem)
        if first is None:
            return video
        numbers = range(first, first + clips.span, clips.stride)
        if sha256_hex(*(digests.get((video, number), "") for number in numbers)) != entry.sha256:
            return video
    return ""
