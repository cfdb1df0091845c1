"""Tables and comparisons of detectors that score different clips of the same videos."""

import json
from pathlib import Path

import numpy as np
import pytest

from trueface.evaluation.comparison import ComparisonInput, compare, score_files
from trueface.evaluation.estimate import Over
from trueface.evaluation.fairness import fairness_rows, find_validation_threshold
from trueface.evaluation.result_rows import by_video, common_videos, video_report
from trueface.models import model_file
from trueface.models.model_file import Checkpoint
from trueface.prediction.reference import Reference
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.report.fairness_page import fairness_page
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.ids import model_folder_name


def table_of(clips: dict[str, list[float]]) -> Predictions:
    """Return scores of clips from the logits of each video. Fakes are W/0, W/1, …"""
    rows = [
        (video, at, logit) for video, logits in clips.items() for at, logit in enumerate(logits)
    ]
    return Predictions.from_margin(
        np.array([logit for _, _, logit in rows]),
        np.array([video[0] == "W" for video, _, _ in rows], np.int8),
        ids=tuple(f"p/{video}/{len(clips[video])}{at}.png" for video, at, _ in rows),
        keys=tuple(f"{video}/{len(clips[video])}{at}" for video, at, _ in rows),
        videos=tuple(f"p/{video}" for video, _, _ in rows),
    )


def test_detectors_of_different_clips_are_compared_by_the_videos_that_both_scored() -> None:
    first = table_of({"V/0": [-1.0, -3.0], "V/1": [0.5, 1.5], "W/0": [2.0, 2.0], "W/1": [1.0, 4.0]})
    second = table_of(
        {"V/0": [-1.0], "V/1": [-1.0], "W/0": [3.0]}
    )  # too short for longer clips: W/1
    inputs = [ComparisonInput(name, (), table, ()) for name, table in (("a", first), ("b", second))]
    compared = compare(*inputs)
    assert compared.paired is not None
    assert len(compared.paired.pairs) == 3
    assert compared.before.scores.ids == ("p/V/0", "p/V/1", "p/W/0")
    assert compared.before.scores.margin[2] == pytest.approx(2)
    note = "compared by 3 videos, because both were scored on other clips or frames of them"
    assert compared.before.notes == compared.after.notes == (note,)


def test_rows_of_a_table_are_of_the_videos_that_all_models_scored(tmp_path: Path) -> None:
    short = {"V/0": [-1.0], "V/1": [-1.0], "W/0": [3.0], "W/1": [-5.0]}
    tables = {
        "a": ("d:pre@clips=frames-4-stride-1-per_video-0", short),
        "b": (
            "d:pre@clips=frames-8-stride-1-per_video-0",
            {k: short[k] for k in ("V/0", "V/1", "W/0")},
        ),
        "c": ("d:pre@corrupt=jpeg50", short),
    }
    for model, (test, clips) in tables.items():
        path = paths.scores(tmp_path / model_folder_name(model), model, test)
        path.parent.mkdir(parents=True)
        write_csv(path, table_of(clips))
    tests = [(model, test) for model, (test, _) in tables.items()]
    common = common_videos(tmp_path, tests)
    three = frozenset({"p/V/0", "p/V/1", "p/W/0"})
    assert common == {tables["a"][0]: three, tables["b"][0]: three}
    report = video_report(table_of(short), three)
    assert report is not None
    assert report.videos == 3
    assert report.auc is not None
    assert report.auc.value == 1  # without W/1, which another model did not score


def test_folder_of_a_model_of_clips_has_the_scores_of_its_clips(tmp_path: Path) -> None:
    clips, other = (f"d:pre@clips=frames-{frames}-stride-1-per_video-0" for frames in (4, 8))
    folder = tmp_path / "runs/study" / model_folder_name("a")
    for test in (clips, f"{clips},corrupt=jpeg50"):
        write_scores(folder.parent, "a", test, {"V/0": [-1.0], "W/0": [3.0]})
    assert score_files(folder) == (paths.scores(folder, "a", clips),)
    write_scores(folder.parent, "a", other, {"V/0": [-1.0], "W/0": [3.0]})
    with pytest.raises(DataError, match=r"only scores of tests under conditions\. Name one"):
        score_files(folder)


def test_videos_of_the_same_frames_in_another_order_have_equal_scores() -> None:
    logits = np.random.default_rng(0).normal(0, 3, 32)
    table = table_of({"V/0": logits.tolist(), "W/0": logits[::-1].tolist()})
    assert len(set(by_video(table).margin.tolist())) == 1


def write_scores(run: Path, model: str, test: str, clips: dict[str, list[float]]) -> None:
    folder = run / model_folder_name(model)
    write_csv(paths.scores(folder, model, test), table_of(clips))
    paths.metrics(folder, test).parent.mkdir(parents=True, exist_ok=True)
    settings = {"data_root": "data", "attributes": "faces.csv"}
    paths.metrics(folder, test).write_text(json.dumps({"schema": 1, "settings": settings}))


def test_fairness_of_detectors_of_clips_counts_videos(tmp_path: Path) -> None:
    run = tmp_path / "runs/study"
    videos = [f"{source}/{number:02}" for source in "VW" for number in range(12)]
    # a detector that calls all videos of men fake; one clip of each video says otherwise
    answers = {
        name: 3.0 if int(name[2:]) % 2 else (1.0 if name[0] == "W" else -3.0) for name in videos
    }
    write_scores(run, "a", "d:pre@clips=frames-4-stride-1-per_video-0",
                 {name: [logit, logit, -0.1 * logit] for name, logit in answers.items()})  # fmt: skip
    write_scores(run, "b", "d:pre@clips=frames-8-stride-1-per_video-0",
                 {name: [logit] for name, logit in answers.items() if name != "W/11"})  # fmt: skip
    write_scores(run, "c", "d:pre", {name: [logit] * 32 for name, logit in answers.items()})
    frames = [
        f"p/{name}/{clips}{at}.png"
        for name in videos
        for clips in (1, 3, 32)
        for at in range(clips)
    ]
    gender = ("female", "male")
    rows = [f"{frame},{gender[int(frame.split('/')[2]) % 2]}" for frame in frames]
    (tmp_path / "faces.csv").write_text("\n".join(["img_path,who", *rows]) + "\n")
    tests = [("a", "d:pre@clips=frames-4-stride-1-per_video-0"),
             ("b", "d:pre@clips=frames-8-stride-1-per_video-0"), ("c", "d:pre")]  # fmt: skip
    found = fairness_rows(run, tests)
    # one table of the 23 videos that all three scored
    assert {(row.data, row.by, row.unit) for row in found} == {("d:pre", "who", Over.VIDEOS)}
    for row in found:
        assert (row.table.overall.reals, row.table.overall.fakes) == (12, 11)
        assert row.table.measures["fpr_gap"] == 100
        assert row.auc is not None
        assert row.auc.value == pytest.approx((6 * 0.5 + 5 * 0.75) / 11)
        assert row.json_record["unit"] == "videos"
    assert "mean probability of its clips or frames" in found[0].note
    page = fairness_page(found, "study").html
    assert "95 % intervals over videos" in page
    # without a test on clips, frames count alone
    (row,) = fairness_rows(run, tests[2:])
    assert (row.unit, row.table.overall.reals, row.note) == (Over.IMAGES, 12 * 32, "")


def test_threshold_of_fairness_by_video_is_that_of_validation_videos(tmp_path: Path) -> None:
    """Of 20 real videos, two are fake at the threshold. Their clips alone would give another threshold."""
    labels = np.array([0] * 60 + [1] * 60, np.int8)
    logits = np.concatenate(
        [np.tile([8.0, -9.0, -9.0], 10), np.tile([-2.0, -2.0, -2.0], 10), np.ones(60)]
    )
    logits[:6] = 9
    names = [f"{row // 3:02}" for row in range(120)]
    for videos, threshold in ((names, -0.6931), ((), None)):
        reference = Reference.from_predictions(labels, logits, None, videos)
        kept = Checkpoint(
            kind="detector", arch="slim18", state={}, provenance={},
                arguments={"normalization": "model", "nodown": False, "side": None},
            reference=reference.tensors,
        )  # fmt: skip
        model_file.save(paths.checkpoint(tmp_path), kept)
        found = find_validation_threshold(tmp_path, unit=Over.VIDEOS)
        assert found.threshold == (threshold and pytest.approx(threshold, abs=2e-3))
        assert ("validation scores of single images" in found.reason) is (threshold is None)
