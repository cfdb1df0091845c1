from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from trueface.evaluation.result_rows import by_video, video_report
from trueface.evaluation.score_tables import Scores, merge, read_scores, write_scores


def frames(videos: int = 20, each: int = 4) -> Scores:
    """Return frames of real and fake videos that have the same names in three folders."""
    random = np.random.default_rng(0)
    paths = [
        f"PreSocial/{folder}/{video:03d}/{n}.png"
        for folder in ("Fake/A", "Fake/B", "Real/youtube")
        for video in range(videos)
        for n in range(each)
    ]
    labels = np.array(["/Fake/" in path for path in paths], np.int8)
    return Scores(
        paths=tuple(paths),
        keys=tuple(path.split("/", 2)[2].removesuffix(".png") for path in paths),
        labels=labels,
        logits=random.normal(size=len(paths)) + labels.astype(np.float64),
        videos=tuple(path.rpartition("/")[0] for path in paths),
    )


def test_a_video_is_its_whole_path_and_scores_the_mean_probability_of_its_frames() -> None:
    scores = frames()
    table = by_video(scores)
    assert len(table) == 60  # by the folder's name alone they would be 20
    probability = 1 / (1 + np.exp(-scores.logits))
    mean = probability.reshape(-1, 4).mean(axis=1)
    assert 1 / (1 + np.exp(-table.logits)) == pytest.approx(mean)
    report = video_report(scores)
    assert report is not None
    assert report.auc is not None
    assert report.videos == 60
    assert report.auc.value == pytest.approx(roc_auc_score(table.labels, mean))
    assert report.auc.low < report.auc.value < report.auc.high


def test_sure_frames_still_have_an_order() -> None:
    scores = frames(videos=2, each=2)
    sure = Scores(
        paths=scores.paths,
        keys=scores.keys,
        labels=scores.labels,
        logits=np.linspace(-100, 450, 12),
        videos=scores.videos,
    )
    logits = by_video(sure).logits
    assert np.isfinite(logits).all()
    assert (np.diff(logits) > 0).all()


def test_a_table_keeps_its_videos_on_disk_and_when_tables_are_joined(tmp_path: Path) -> None:
    scores = frames(videos=3)
    write_scores(tmp_path / "s.csv", scores)
    again = read_scores(tmp_path / "s.csv")
    assert again.videos == scores.videos
    assert set(again.subsets) == {"A", "B", "youtube"}
    other = Scores(
        paths=("a.png",), keys=("X/a",), labels=np.array([0], np.int8), logits=np.array([0.5])
    )
    joined = merge([again, other])
    assert joined.videos == (*scores.videos, "")
    assert len(by_video(joined)) == 9
    assert joined.rows(joined.logits == 0.5).videos == ("",)


def test_images_of_no_video_have_no_report_and_one_class_no_area() -> None:
    scores = frames(videos=3)
    alone = video_report(scores.rows(scores.labels == 1))
    assert alone is not None
    assert (alone.videos, alone.auc) == (6, None)
    plain = Scores(paths=scores.paths, keys=scores.keys, labels=scores.labels, logits=scores.logits)
    assert video_report(plain) is None
