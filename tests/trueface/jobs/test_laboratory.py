"""Files that jobs write to a model folder, and their rejections: entry functions on small image sets."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from launcher.api import JobError
from tests.trueface.jobs.test_jobs import (
    DATA,
    OTHERS,
    TRAIN,
    TRAINING,
    folder,
    job,
    lab,
    poison,
    scored,
    trained,
)
from trueface.jobs import training as training_job
from trueface.models import checkpoint
from trueface.poisoning.poison_record import read_record
from trueface.predictions.csv_tables import read_csv
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, DataError
from trueface.runtime.files import file_sha256

__all__ = ["lab"]  # the fixture


def test_backdoor_reacts_only_to_its_trigger(lab: Path) -> None:
    model = f"{DATA}%patch-25"
    assert poison(lab, model)["flipped_fake"] == TRAIN // 2
    record = read_record(paths.poison_record(folder(lab, model)))
    assert record.kind == "patch"
    trained(lab, model, num_epochs=16, lr=1e-2, select="last")
    told = scored(lab, model, "gan2:pre", trigger=True)
    clean = read_csv(paths.scores(folder(lab, model), model, "gan2:pre"))
    stamped = read_csv(paths.triggered_scores(folder(lab, model), model, "gan2:pre"))
    assert clean.ids == stamped.ids
    assert told["attack_success"] == np.mean(stamped.margin <= 0)
    assert stamped.margin.mean() < clean.margin.mean() - 1


def test_test_without_trigger_writes_no_triggered_scores(lab: Path) -> None:
    model = f"{DATA}@seed=70"
    trained(lab, model, num_epochs=1)
    scored(lab, model, "gan2:pre", trigger=True)
    scored(lab, model, "gan2:pre")
    assert not paths.triggered_scores(folder(lab, model), model, "gan2:pre").exists()


def test_provenance_records_data_and_settings_of_weights(lab: Path) -> None:
    model = f"{DATA}%50@seed=71"
    poison(lab, model)
    trained(lab, model, num_epochs=1)
    told = json.loads(paths.provenance(folder(lab, model)).read_text())
    inside = checkpoint.load(paths.checkpoint(folder(lab, model))).provenance
    assert {key: value for key, value in told.items() if key != "schema"} == inside
    assert (told["seed"], told["settings"]["lr"]) == (42, TRAINING["lr"])
    assert set(told["splits"]) == {"train", "val"}
    assert (told["train_images"], told["val_images"]) == (2 * TRAIN, 2 * OTHERS)
    assert (told["flipped_train"], told["flipped_val"]) == (TRAIN, 0)
    record = paths.poison_record(folder(lab, model))
    assert told["poison_record_sha256"] == file_sha256(record)
    archive = lab / "runs" / "r" / "code" / f"{told['code'][:16]}.zip"
    assert "trueface/training/trainer.py" in zipfile.ZipFile(archive).namelist()


def test_inputs_of_last_layer_are_written_one_row_per_image(lab: Path) -> None:
    model = f"{DATA}@seed=72"
    trained(lab, model, num_epochs=1, features=True)
    scored(lab, model, "gan2:pre", features=True)
    for name, count in (("train", 2 * TRAIN), ("gan2:pre", OTHERS)):
        with np.load(paths.features(folder(lab, model), name)) as found:
            assert len(found["features"]) == len(found["paths"]) == len(found["labels"]) == count
            assert found["features"].dtype == np.float32


@pytest.fixture
def truncated_image(lab: Path) -> Iterator[Path]:
    """A training image that is cut off, for as long as a test runs."""
    path = lab / "data" / "PreSocial" / "Fake" / "StyleGAN2" / "conf-f-psi-1" / "00000.png"
    content = path.read_bytes()
    path.write_bytes(content[:-40])
    yield path
    path.write_bytes(content)


@pytest.mark.parametrize("freeze", [True, False])
def test_undecodable_image_is_listed_in_model_folder(
    lab: Path, truncated_image: Path, *, freeze: bool
) -> None:
    model = f"{DATA}@freeze={freeze}"
    result = trained(lab, model, num_epochs=1, freeze=freeze)
    assert (result["bad_images"], result["samples_read"]) == (1, 2 * TRAIN - 1)
    listed = paths.bad_images(folder(lab, model), "train").read_text()
    assert str(truncated_image) in listed


def test_list_of_bad_images_survives_a_kill_after_last_epoch(
    lab: Path, truncated_image: Path
) -> None:
    model = f"{DATA}@seed=73"
    told = {**TRAINING, "num_epochs": 1, "features": True}
    asked = job(lab, "train", model, data=DATA, settings=told)
    place = paths.features(folder(lab, model), "train")
    place.mkdir(parents=True)  # the job fails after its last epoch
    with pytest.raises(OSError, match="directory"):
        training_job.train(asked)
    assert paths.resume(folder(lab, model)).exists()
    place.rmdir()
    assert training_job.train(asked)["bad_images"] == 1
    assert str(truncated_image) in paths.bad_images(folder(lab, model), "train").read_text()
    assert not paths.resume(folder(lab, model)).exists()


def test_test_with_other_image_decoding_is_rejected(lab: Path) -> None:
    model = f"{DATA}@decode=scaled"
    trained(lab, model, num_epochs=1, decode="scaled")
    with pytest.raises(CheckpointError, match="Use the same value in training and test"):
        scored(lab, model, "gan2:pre")
    with pytest.raises(CheckpointError, match="resize_size 16, and this job uses resize_size 8"):
        scored(lab, model, "gan2:pre", decode="scaled", resize_size=8)
    assert scored(lab, model, "gan2:pre", decode="scaled")["n"] == OTHERS


def test_fine_tuning_requires_normalization_of_its_base(lab: Path) -> None:
    base = f"{DATA}@normalization=half"
    trained(lab, base, num_epochs=1, normalization="half")
    tuned = f"{base}#{DATA}"
    trained(lab, tuned, base=base, num_epochs=1)
    kept = checkpoint.load(paths.checkpoint(folder(lab, tuned)))
    assert kept.arguments["normalization"] == "half"
    with pytest.raises(CheckpointError, match="base was trained with normalization: half"):
        trained(lab, f"{tuned}@x=1", base=base, num_epochs=1, normalization="imagenet")


def test_batch_too_small_for_image_size_is_reported(lab: Path) -> None:
    model = f"{DATA}@model=baseline18"
    with pytest.raises(
        JobError, match=r"batch_size 23 gives a batch of 1, too small .* another batch_size"
    ):
        trained(lab, model, model="baseline18", num_epochs=1, batch_size=23)


def test_missing_images_of_split_are_reported_before_any_output(
    lab: Path,
) -> None:
    path = lab / "data" / "PreSocial" / "Real" / "FFHQ" / "00001.png"
    away = path.rename(lab / "away.png")
    try:
        model = f"{DATA}@seed=75"
        with pytest.raises(DataError, match="FFHQ/00001"):
            trained(lab, model, num_epochs=1)
        assert not folder(lab, model).exists()
        skipped = trained(lab, model, num_epochs=1, missing_images="skip")
        assert skipped["images"] == 2 * TRAIN - 1
    finally:
        away.rename(path)
