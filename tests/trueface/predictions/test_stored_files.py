"""Prediction files that programs wrote load, and are written again with the same bytes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.source_tree import ROOT
from trueface.benchmark import cells
from trueface.evaluation.measurement import evaluate_scores
from trueface.predictions.csv_tables import write_csv
from trueface.predictions.npz_tables import read_npz, write_npz
from trueface.predictions.predictions import merge
from trueface.predictions.tables import load

DATA = ROOT / "tests/data/predictions"
LOGITS = {
    "scores_0_2.csv": [
        8.83096123, 8.81854534, 6.74742508, 6.90761328,
        -6.214746, -7.16840649, -4.91278028, -6.75037813,
    ],
    "scores.csv": [
        8.41594028, 8.44846821, 6.38721275, 6.59340811,
        -6.00016594, -6.93349409, -4.77135706, -6.53602266,
    ],
    "original.pkl": [-1.5, 2.25, 0.125, -3.0, 4.5, -0.75, 1.0, -2.0],
}  # fmt: skip
LABELS = {"original.pkl": [0, 1, 0, 0, 1, 0, 1, 1]}


def members(path: Path) -> dict[str, bytes]:
    """Return the content of each member, whatever the version of zlib made of it."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("name", LOGITS)
def test_stored_score_table_loads_with_its_values(name: str) -> None:
    table = load(DATA / name)
    assert table.margin.tolist() == LOGITS[name]
    assert table.margin.dtype == np.float64
    assert table.labels.tolist() == LABELS.get(name, [1] * 4 + [0] * 4)
    assert table.videos == ()
    if name == "original.pkl":
        assert table.ids == table.keys == tuple(f"#{row}" for row in range(8))
    else:
        assert table.ids[0] == "PreSocial/Fake/StyleGAN2/conf-f-psi-1/00016.png"
        assert table.keys[0] == "StyleGAN2/conf-f-psi-1/00016"
        assert table.ids[-1] == "PreSocial/Real/FFHQ/00019.png"
        assert table.modifiers == ("pre",) * 8


@pytest.mark.parametrize("name", ["scores_0_2.csv", "scores.csv"])
def test_stored_score_table_is_written_again_with_the_same_bytes(name: str, tmp_path: Path) -> None:
    write_csv(tmp_path / name, load(DATA / name))
    assert (tmp_path / name).read_bytes() == (DATA / name).read_bytes()


@pytest.mark.parametrize("name", ["answers_0_2.npz", "answers.npz"])
def test_stored_answers_of_a_detector_load_with_their_values(name: str) -> None:
    parts = read_npz(DATA / name)
    assert {part: len(found) for part, found in parts.items()} == {
        "forget": 12, "retain": 12, "validation": 8, "test": 8,
    }  # fmt: skip
    forget = parts["forget"]
    assert forget.logits.dtype == np.float32
    assert forget.logits[[0, -1]].tolist() == [[0, 0.10856001079082489], [0, 0.042559925466775894]]
    assert forget.labels.tolist() == [0] * 6 + [1] * 6
    assert forget.true_labels.tolist() == [1] * 6 + [0] * 6
    assert forget.ids[0] == "pre:StyleGAN2/conf-f-psi-1/00000"
    assert [part.accuracy("true") for part in parts.values()] == [0.5] * 4


def test_stored_answers_of_three_classes_load_with_their_values() -> None:
    parts = read_npz(DATA / "classes.npz")
    assert {part: len(found) for part, found in parts.items()} == {
        "train": 54, "validation": 6, "test": 18,
    }  # fmt: skip
    test = parts["test"]
    assert test.logits[0].tolist() == [42.656517028808594, -2.5979232788085938, -37.75954055786133]
    assert test.labels.tolist() == test.true_labels.tolist() == [0] * 6 + [1] * 6 + [2] * 6
    assert test.ids[0] == "test/blue/000.png"
    assert test.balanced_accuracy("true") == 1.0


@pytest.mark.parametrize("name", ["answers_0_2.npz", "answers.npz", "classes.npz"])
def test_stored_answers_are_written_again_with_the_same_arrays(name: str, tmp_path: Path) -> None:
    write_npz(tmp_path / name, read_npz(DATA / name))
    assert members(tmp_path / name) == members(DATA / name)


def test_stored_cell_loads_and_is_written_again_with_the_same_arrays(tmp_path: Path) -> None:
    cell = cells.read_scores(DATA / "cell.npz")
    assert cell.predictions.ids[0] == "PreSocial/Fake/StyleGAN2/conf-f-psi-1/00016.png"
    assert cell.predictions.labels.tolist() == [1] * 4 + [0] * 4
    assert cell.before is not None
    assert cell.before.tolist() == LOGITS["scores.csv"]
    assert cell.predictions.margin.tolist() == [logit - 1 for logit in LOGITS["scores.csv"]]
    assert cell.psnr is not None
    assert cell.psnr[:4].tolist() == [30.5, 31.25, 40.0, np.inf]
    assert cell.threshold == 0.5
    cells.write_scores(tmp_path / "cell.npz", cell, "0" * 64)
    assert members(tmp_path / "cell.npz") == members(DATA / "cell.npz")


def test_measures_of_joined_tables_of_two_versions_are_exact() -> None:
    table = merge([load(DATA / "original.pkl"), load(DATA / "scores_0_2.csv")])
    report = evaluate_scores(table.labels, table.margin, keys=table.keys)
    assert report.n == 16
    assert report.confusion == ((7, 1), (1, 7))
    assert report.metrics["auc"].value == 61 / 64
    assert report.metrics["accuracy"].value == 14 / 16
