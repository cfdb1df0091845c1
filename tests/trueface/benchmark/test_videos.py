"""A benchmark whose models read different clips: values by video, worked out here by hand."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import expit, logit

from launcher.api import Words
from tests.trueface.commands import Command
from trueface.benchmark import cells
from trueface.benchmark.cells import Cell, CellScores, Entry, Index, ModelFacts
from trueface.benchmark.clip_lengths import describe_input, incomparable
from trueface.benchmark.conditions import FOLDER, Condition, Setting
from trueface.benchmark.leaderboard import Leaderboard, leaderboard
from trueface.benchmark.results import AT_THRESHOLD, CellResult
from trueface.benchmark.videos import FEW_VIDEOS, Benchmark, read_benchmark
from trueface.cli.benchmark import document, text
from trueface.data.clips import Clips
from trueface.data.image_headers import Shortcut
from trueface.evaluation.result_rows import video_report
from trueface.predictions.predictions import Predictions
from trueface.report.benchmark_page import benchmark_page
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import DataError
from trueface.runtime.ids import model_folder_name

TEST = "fakes:pre&reals:pre"
Scores = Mapping[
    str, Sequence[float]
]  # video → probabilities of its frames or clips, in their order
Given = Mapping[str, tuple[int, Scores]]  # network → frames of a clip, 1 for single frames; scores
FACTS = ModelFacts(
    checkpoint_sha256="0", threshold=0.0, temperature=2.0, in_logits=False, source="validation",
    parameters=1, ms_image=1.0, device="cpu", threads=1,
)  # fmt: skip
# the mean of each video: a 0.2, b 0.7, c 0.6, d 0.9
FRAMES = {
    "V/a": [0.1, 0.3, 0.1, 0.3], "V/b": [0.6, 0.8, 0.6, 0.8],
    "W/c": [0.5, 0.7, 0.5, 0.7], "W/d": [0.9, 0.9, 0.9, 0.9],
}  # fmt: skip
PAIRS = {"V/a": [0.3], "V/b": [0.2], "W/c": [0.25], "W/d": [0.9]}


def entries_of(scores: Scores, frames: int) -> list[Entry]:
    """Return the images of videos: frames, or clips of some frames one after another."""
    entries = []
    for video, values in scores.items():
        side = "Fake" if video.startswith("W") else "Real"
        for place in range(0, len(values) * frames, frames):
            digests = [f"{video} {number}" for number in range(place, place + frames)]
            entries.append(
                Entry(
                    path=f"PreSocial/{side}/{video}/{place:03}.png",
                    key=f"{video}/{place:03}" + f"-{place + frames - 1:03}" * (frames > 1),
                    sha256=digests[0] if frames == 1 else sha256_hex(*digests),
                    label=int(side == "Fake"),
                    source=video.partition("/")[0],
                    modifier="pre",
                )
            )
    return entries


def name_of(network: str) -> str:
    return f"gan1:pre@model={network}"


def write_model(
    run: Path,
    network: str,
    frames: int,
    scores: Scores,
    conditions: Sequence[Condition] = (Condition(),),
    test: str = TEST,
    entries: Sequence[Entry] = (),
) -> None:
    """Write the files of a benchmark job."""
    model = name_of(network)
    folder = run / model_folder_name(model)
    where = folder / FOLDER / test
    images = cells.manifest_of(entries or entries_of(scores, frames))
    at = {entry.path: place for place, entry in enumerate(entries_of(scores, frames))}
    logits = logit(np.concatenate([[*values] for values in scores.values()]))
    names = tuple(at)
    labels = np.array(["Fake" in name for name in names], np.int8)
    table = Predictions.from_margin(logits, labels, ids=names)
    for condition in conditions:
        cells.write_scores(where / condition.file, CellScores(predictions=table), "")
    cells.write_manifest(cells.manifest_file(run, images.sha256), images)
    cells.write_facts(folder, FACTS)
    clips = None if frames == 1 else {"frames": frames, "stride": 1, "per_video": 0}
    rows = tuple(
        Cell(
            corrupt=each.corrupt, attack=each.attack, access=each.access, setting=Setting.WHITE, why="",
            file=each.file,
        )
        for each in conditions
    )  # fmt: skip
    index = Index(
        model=model, test=test, architecture=network, train="gan1:pre", seed=None,
        manifest=images.sha256, checkpoint_sha256="0", code="", root=str(run), words=Words(),
        settings={"clips": clips, "data_root": "data"}, cells=rows,
    )  # fmt: skip
    cells.write_index(where, index)


def write_run(folder: Path, models: Given) -> Path:
    run = folder / "runs/r"
    for network, (frames, scores) in models.items():
        write_model(run, network, frames, scores)
    return run


def result_of(bench: Benchmark, network: str) -> CellResult:
    (result,) = (each for each in bench.results.results if each.index.architecture == network)
    return result


def board_of(run: Path) -> Leaderboard:
    bench = read_benchmark(run)
    return leaderboard(bench.results, unit=bench.unit)


def test_scores_and_auc_are_those_of_videos(tmp_path: Path) -> None:
    bench = read_benchmark(write_run(tmp_path, {"images": (1, FRAMES), "clips": (2, PAIRS)}))
    assert bench.unit is not None
    assert (bench.unit.count, bench.unit.notes) == (4, ())
    frames, clips = (result_of(bench, name) for name in ("images", "clips"))
    assert frames.scores is not None
    assert clips.scores is not None
    assert frames.keys == clips.keys == ("W/c", "W/d", "V/a", "V/b")
    assert frames.scores.predictions.ids == clips.scores.predictions.ids
    assert expit(frames.scores.predictions.margin) == pytest.approx([0.6, 0.9, 0.2, 0.7])
    # d is above both reals, c only above a. By frame it would be 13 of 16 pairs
    assert frames.measured.value("auc") == pytest.approx(3 / 4)
    # d is above both reals, c only above b
    assert clips.measured.value("auc") == pytest.approx(3 / 4)
    assert frames.measured.counts == (2, 2)
    assert frames.measured.value("tpr:W") == 1
    assert frames.measured.value("tnr:V") == 1 / 2
    assert frames.measured.marked.mark == FEW_VIDEOS
    assert frames.measured.marked.reason == "only 2 videos of a class, and 20 are needed"
    threshold = frames.measured[AT_THRESHOLD]
    assert threshold is not None
    assert threshold.value is None
    assert "not for videos" in threshold.reason


def test_temperature_divides_the_logits_of_frames_before_their_mean(tmp_path: Path) -> None:
    bench = read_benchmark(write_run(tmp_path, {"images": (1, FRAMES), "clips": (2, PAIRS)}))
    assert bench.unit is not None
    scaled = bench.unit.change_logits(result_of(bench, "images"), lambda logits: logits / 2)
    means = [
        np.mean(expit(logit(np.array(FRAMES[video])) / 2)) for video in ("W/c", "W/d", "V/a", "V/b")
    ]
    assert expit(scaled) == pytest.approx(means)
    # the four means are in different bins of the expected calibration error
    gaps = [1 - means[0], 1 - means[1], means[2], means[3]]
    value = result_of(bench, "images").measured.value("ece_scaled")
    assert value == pytest.approx(sum(gaps) / 4)


def test_only_videos_that_all_models_scored_count_and_the_others_are_named(tmp_path: Path) -> None:
    longer = {"V/a": [0.1], "V/b": [0.4], "W/c": [0.8]}
    models: Given = {"images": (1, FRAMES), "clips": (2, PAIRS), "longer": (3, longer)}
    run = write_run(tmp_path, models)
    bench = read_benchmark(run)
    assert bench.unit is not None
    assert bench.unit.notes == (
        f"{TEST}: 1 of 4 videos are left out ({name_of('longer')} has no score of 1)",
    )
    areas = {name: result_of(bench, name).measured.value("auc") for name in models}
    assert areas == {"images": 1 / 2, "clips": 1 / 2, "longer": 1}
    said = text(board_of(run))
    assert "(3 videos)" in said
    assert "unit: the video." in said
    assert bench.unit.notes[0] in said
    board = document(board_of(run))
    assert board["unit"] == {
        "name": "videos", "videos": {TEST: 3}, "left_out": list(bench.unit.notes),
    }  # fmt: skip
    assert {line["architecture"]: line["frames"] for line in board["models"]} == {
        "images": "1", "clips": "2", "longer": "3",
    }  # fmt: skip
    page = benchmark_page(board_of(run)).html
    assert "1 of 4 videos are left out" in page
    assert "frames per clip" in page
    assert "clip or frame" in page


def many(seed: int, each: int) -> dict[str, list[float]]:
    """Return 24 videos of each class with scores that overlap."""
    rng = np.random.default_rng(seed)
    return {
        f"{source}/{at:02}": [*expit(rng.normal(2 * label, 1, each) + rng.normal())]
        for label, source in enumerate("VW")
        for at in range(24)
    }


def test_ranks_and_differences_are_paired_over_videos(tmp_path: Path) -> None:
    own = many(1, 4)
    means = {video: [float(np.mean(values))] for video, values in own.items()}
    other = many(2, 1)
    models: Given = {"images": (1, own), "alike": (4, means), "other": (2, other)}
    run = write_run(tmp_path, models)
    board = board_of(run)
    lines = {line.architecture: line.columns[Setting.WHITE] for line in board.lines}
    for network, (_, scores) in models.items():
        table = [(float(np.mean(scores[video])), video[0] == "W") for video in scores]
        won = [
            (fake > real) + (fake == real) / 2
            for fake, is_fake in table if is_fake
            for real, also_fake in table if not also_fake
        ]  # fmt: skip
        assert lines[network].mean.value == pytest.approx(np.mean(won))
    # the interval is that of `launcher results`
    entries = entries_of(own, 1)
    labels = np.array([entry.label for entry in entries], np.int8)
    frames = Predictions.from_margin(
        logit(np.concatenate([[*values] for values in own.values()])),
        labels,
        ids=tuple(entry.path for entry in entries),
        keys=tuple(entry.key for entry in entries),
        videos=tuple(entry.path.rpartition("/")[0] for entry in entries),
    )
    report = video_report(frames)
    assert report is not None
    assert report.auc is not None
    assert lines["images"].mean.interval == pytest.approx(report.auc.interval)
    assert [lines[name].ranked is not None for name in models] == [True] * 3
    pairs = {
        frozenset((board.names[pair.first], board.names[pair.second])): pair
        for pair in board.pairs[Setting.WHITE]
    }
    same = pairs[frozenset(("images", "alike"))]
    assert same.difference.value == pytest.approx(0, abs=1e-12)
    assert same.p == 1
    different = pairs[frozenset(("images", "other"))]
    gap = lines["images"].mean.value - lines["other"].mean.value
    assert abs(different.difference.value) == pytest.approx(abs(gap))
    assert different.p_delong is not None


def test_videos_of_confounded_files_have_no_rank(tmp_path: Path) -> None:
    # by frame the scores of this model are chance, by video they are not
    values = {"V": [0.2, 0.2, 0.2, 0.2], "W": [0.9, 0.9, 0.1, 0.1]}
    scores = {f"{source}/{at:02}": values[source] for source in values for at in range(24)}
    run = write_run(tmp_path, {"images": (1, scores), "clips": (2, many(2, 1))})
    where = run / model_folder_name(name_of("images")) / FOLDER / TEST
    tells = Shortcut("the file format", 1.0, "30 × JPEG", "30 × PNG")
    cells.write_index(where, replace(cells.read_index(where), shortcuts=(tells,)))
    measured = result_of(read_benchmark(run), "images").measured
    assert measured.value("auc") == 1
    assert measured.marked.mark == "confounded"


def test_conditions_that_differ_between_clips_are_left_out_and_named(tmp_path: Path) -> None:
    run = tmp_path / "runs/r"
    conditions = [
        Condition(),
        Condition(corrupt="jpeg50"),
        Condition(corrupt="share"),
        Condition(attack="pgd1"),
    ]
    for network, frames, scores in (("images", 1, FRAMES), ("clips", 2, PAIRS)):
        write_model(run, network, frames, scores, conditions)
    bench = read_benchmark(run)
    assert bench.unit is not None
    assert {result.cell.condition.name for result in bench.results.results} == {"none", "jpeg50"}
    assert [note.partition(":")[0] for note in bench.unit.notes] == [
        "share is left out", "attack-pgd1 is left out",
    ]  # fmt: skip
    for corrupt, same in (
        ("none", True), ("jpeg50+noise4", True), ("blur1", True), ("jpeg30-50", False),
        ("h264-23", False), ("jpeg50+screenshot", False),
    ):  # fmt: skip
        assert (incomparable(Condition(corrupt=corrupt)) == "") == same


def test_images_of_no_video_are_left_out_and_named(tmp_path: Path) -> None:
    run = write_run(tmp_path, {"images": (1, FRAMES), "clips": (2, PAIRS)})
    write_model(run, "images", 1, FRAMES, test="photos:pre")
    bench = read_benchmark(run)
    assert bench.unit is not None
    assert {result.index.test for result in bench.results.results} == {TEST}
    assert "photos:pre is left out, because its images are not frames of videos" in " ".join(
        bench.unit.notes
    )
    (run / "data").mkdir()
    (run / "data/videos.json").write_text('{"schema": 1, "sources": ["V", "W"]}')
    assert {result.index.test for result in read_benchmark(run).results.results} == {
        TEST, "photos:pre",
    }  # fmt: skip


def test_models_without_a_common_video_or_with_other_frames_are_refused(tmp_path: Path) -> None:
    other = {"V/x": [0.2], "W/y": [0.7]}
    with pytest.raises(
        DataError, match=r"no video of .* has a score of all models, so they cannot"
    ):
        read_benchmark(write_run(tmp_path / "a", {"clips": (2, PAIRS), "longer": (3, other)}))
    run = write_run(tmp_path / "b", {"images": (1, FRAMES)})
    changed = [replaced._replace(sha256="changed") for replaced in entries_of(PAIRS, 2)]
    write_model(run, "clips", 2, PAIRS, entries=changed)
    with pytest.raises(DataError, match=r"the frames of PreSocial/\w+/\w/\w changed between two"):
        read_benchmark(run)
    run = write_run(tmp_path / "c", {"images": (1, FRAMES), "clips": (2, PAIRS)})
    fewer = dict(FRAMES)
    del fewer["V/a"]
    write_model(run, "again", 1, fewer)
    with pytest.raises(DataError, match="changed between two models"):
        read_benchmark(run)


def test_models_of_the_same_clips_keep_their_unit(tmp_path: Path) -> None:
    bench = read_benchmark(write_run(tmp_path, {"a": (2, PAIRS), "b": (2, PAIRS)}))
    assert bench.unit is None
    assert result_of(bench, "a").scores is not None
    assert "unit" not in document(leaderboard(bench.results))
    assert "frames" not in document(leaderboard(bench.results))["models"][0]
    assert not bench.results.problems, "each video has one clip"
    for frames, word in ((2, "clips"), (1, "frames")):
        run = write_run(tmp_path / word, {"a": (frames, FRAMES), "b": (frames, FRAMES)})
        (run / "data").mkdir()
        (run / "data/videos.json").write_text('{"schema": 1, "sources": ["V", "W"]}')
        assert read_benchmark(run).results.problems == (
            f"{TEST}: 16 {word} of 4 videos count as independent images, so intervals are too narrow",
        )


def test_command_writes_a_table_with_the_frames_of_each_model(
    tmp_path: Path, command: Command
) -> None:
    run = write_run(tmp_path, {"images": (1, FRAMES), "clips": (2, PAIRS)})
    rows = [*csv.DictReader(io.StringIO(command("benchmark", run, "--csv").out))]
    assert {(row["architecture"], row["frames"]) for row in rows} == {
        ("images", "1"),
        ("clips", "2"),
    }
    assert {row["n_real"] for row in rows} == {"2"}
    assert (run / "benchmark/benchmark.csv").read_text().startswith("manifest,")
    assert command("benchmark", run, "--json").json["unit"]["name"] == "videos"
    refused = command("benchmark", run, "--csv", "--join", run / "benchmark/benchmark.csv", code=2)
    assert "this table counts the videos that all its models have" in refused.err


def test_input_of_a_model_is_named() -> None:
    assert describe_input(None) == "single frames"
    assert describe_input(Clips(frames=8)) == "clips of 8 frames"
    assert describe_input(Clips(frames=16, stride=2, per_video=4)) == (
        "clips of 16 frames (stride 2, 4 clips per video)"
    )
