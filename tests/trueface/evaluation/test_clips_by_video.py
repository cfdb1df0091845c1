"""Tables and comparisons of detectors that score different clips of the same videos."""

from pathlib import Path

import numpy as np
import pytest

from trueface.evaluation.comparison import ComparisonInput, compare
from trueface.evaluation.result_rows import by_video, common_videos, video_report
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
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


def test_videos_of_the_same_frames_in_another_order_have_equal_scores() -> None:
    logits = np.random.default_rng(0).normal(0, 3, 32)
    table = table_of({"V/0": logits.tolist(), "W/0": logits[::-1].tolist()})
    assert len(set(by_video(table).margin.tolist())) == 1
