import json
from pathlib import Path

import numpy as np
import pytest

from launcher.api import model_folder_name
from launcher.cli.result_tables import draw
from trueface.evaluation.measurement import METRICS, measure
from trueface.evaluation.result_rows import compare, method_of
from trueface.evaluation.score_tables import Scores, write_scores
from trueface.runtime import paths

MODEL = "all:pre"
TESTS = (("gan2:pre", "StyleGAN2", 1), ("gan3:pre", "StyleGAN3", 1), ("real:pre", "FFHQ", 0))


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for data, subset, label in TESTS:
        names = [f"{subset}/{n}" for n in range(30)]
        table = Scores(
            paths=tuple(f"PreSocial/{label}/{name}.png" for name in names),
            keys=tuple(names),
            labels=np.full(30, label, np.int8),
            logits=np.random.default_rng(len(subset)).normal(size=30) + 2 * label - 1,
        )
        folder = tmp_path / model_folder_name(MODEL)
        write_scores(paths.scores(folder, MODEL, data), table)
    return tmp_path


def test_a_row_holds_every_measure_or_the_reason_why_not(run: Path) -> None:
    rows = compare(run, [(MODEL, data) for data, _, _ in TESTS])
    assert [row["data"] for row in rows] == ["gan2:pre", "gan3:pre", "gan2:pre&gan3:pre&real:pre"]
    for row in rows:
        assert set(METRICS) <= set(row)
        assert row["reasons"] == {}
    (alone,) = compare(run, [(MODEL, "gan2:pre")])
    assert alone["precision"] is alone["eer"] is None
    assert isinstance(alone["reasons"], dict)
    assert alone["reasons"]["eer"] == "all images are fake"
    assert alone["recall"] == alone["accuracy"]


@pytest.mark.parametrize(
    ("model", "method"),
    [
        ("gan2:pre%50@lr=0.1", "train"),
        ("gan2:pre%50~pgu@strength=0", "pgu"),
        ("gan2:pre~ng~pgu", "ng~pgu"),
        ("gan2:pre~ng#sd:pre", "ng"),
    ],
)
def test_a_row_says_by_which_method_its_model_was_made(model: str, method: str) -> None:
    assert method_of(model) == method


def test_every_row_of_a_test_has_a_method(run: Path) -> None:
    assert {row["method"] for row in compare(run, [(MODEL, "gan2:pre")])} == {"train"}


def test_a_row_s_measures_are_those_of_its_images(run: Path) -> None:
    (*_, pooled) = compare(run, [(MODEL, data) for data, _, _ in TESTS])
    tables = [np.random.default_rng(len(s)).normal(size=30) + 2 * y - 1 for _, s, y in TESTS]
    logits = np.array([float(f"{logit:.9g}") for logit in np.concatenate(tables)])
    labels = np.repeat(np.array([label for _, _, label in TESTS], np.int8), 30)
    report = measure(labels, logits, keys=[f"{s}/{n}" for _, s, _ in TESTS for n in range(30)])
    assert report.metrics.get("ap") is not None
    assert pooled["ap"] == {
        "value": report.metrics["ap"].value,
        "low": report.metrics["ap"].low,
        "high": report.metrics["ap"].high,
    }


def test_the_launcher_draws_the_rows_and_writes_them_as_json(run: Path) -> None:
    rows = compare(run, [(MODEL, data) for data, _, _ in TESTS])
    assert "all:pre" in draw(rows)
    assert "gan3:pre" in draw(rows, everything=True, width=80)
    assert "NaN" not in json.dumps(rows)


def test_frames_have_the_area_of_their_videos_beside_their_own(tmp_path: Path) -> None:
    folder = tmp_path / model_folder_name(MODEL)
    for data, label in (("gan2:pre", 1), ("real:pre", 0)):
        names = [f"{data[:4]}/{video:02d}/{n}" for video in range(8) for n in range(3)]
        table = Scores(
            paths=tuple(f"PreSocial/{label}/{name}.png" for name in names),
            keys=tuple(names),
            labels=np.full(24, label, np.int8),
            logits=np.random.default_rng(label).normal(size=24) + label,
            videos=tuple(f"PreSocial/{label}/{name.rpartition('/')[0]}" for name in names),
        )
        write_scores(paths.scores(folder, MODEL, data), table)
    (row,) = compare(tmp_path, [(MODEL, "gan2:pre"), (MODEL, "real:pre")])
    assert row["videos"] == 16
    assert isinstance(row["video_auc"], dict)
    assert row["video_auc"] != row["auc"]
    assert "by video: mean probability" in draw([{**row, "seconds": None}], width=140)
    assert f"{row['video_auc']['value']:.3f} [" in draw([row], width=80).splitlines()[-1]
