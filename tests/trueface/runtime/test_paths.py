from pathlib import Path

import pytest

from launcher.api import UsageError
from trueface.runtime import paths
from trueface.runtime.rng import stream_seed

FOLDER = Path("runs/study/gan2:pre")


def test_file_paths_equal_those_of_the_original() -> None:
    assert paths.checkpoint(FOLDER) == FOLDER / "checkpoints" / "best.pt"
    assert (
        paths.scores(FOLDER, "gan2:pre", "real:pre")
        == FOLDER / "scores" / "gan2:pre_vs_real:pre.csv"
    )
    assert paths.log(FOLDER, "train", None, "gan2:pre") == FOLDER / "train_None_gan2:pre.log"


def test_name_too_long_for_a_file_is_cut_and_marked() -> None:
    one = paths.scores(FOLDER, "g" * 200, "r" * 100)
    other = paths.scores(FOLDER, "g" * 200, "r" * 101)
    assert len(one.name.encode()) < 255
    assert one.suffix == ".csv"
    assert one != other
    images = paths.saved_images(FOLDER, "r" * 300)
    assert (images.parent, len(images.name)) == (FOLDER / "images", 255 - paths.TEMPORARY_BYTES)


NOWHERE = ("", ".", "..", "a/b", "/a", "a\0b", "é" * 128)


@pytest.mark.parametrize("name", [*NOWHERE, "../a", "g" * 256, "a/" * 200])
def test_name_that_leaves_the_folder_is_rejected(name: str) -> None:
    with pytest.raises(UsageError, match="--save_id"):
        paths.folder_name("--save_id", name)
    if name != "g" * 256:  # a model's is shortened
        with pytest.raises(UsageError, match="--save_id"):
            paths.model_folder("--save_id", name)


def test_streams_of_other_names_and_seeds_differ() -> None:
    seeds = {
        stream_seed(name, seed) for name in ("order", "augment", "weights") for seed in range(10)
    }
    assert len(seeds) == 30


@pytest.mark.parametrize("name", ["gan2:pre&real:pre%50~relabel#sd:pre", "...", "g" * 255])
def test_other_names_are_accepted(name: str) -> None:
    assert paths.folder_name("--save_id", name) == name


def test_model_with_long_id_has_shortened_folder_that_records_it(tmp_path: Path) -> None:
    for model in ("gan2:pre", "#".join(["gan2:pre"] * 50)):
        folder = tmp_path / "runs" / paths.model_folder("--save_id", model)
        paths.make_folder(folder, model)
        told = folder / "model_id.txt"
        assert told.exists() is (len(model) > 255)
        assert not told.exists() or told.read_text() == f"{model}\n"
