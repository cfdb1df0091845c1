"""Groups of images in batches and in the records of a model."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Job, JobError
from tests.trueface.jobs.build import SIDE, a_job, write_images, write_lists
from trueface.data.attributes import Attributes
from trueface.data.index import survey
from trueface.data.loading.image_loaders import eval_loader, train_loader
from trueface.data.loading.image_set import ImageLoader
from trueface.jobs import testing
from trueface.jobs import training as training_job
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.ids import parse_data
from trueface.training.parts.groups import attach_group_columns
from trueface.training.settings import TrainSettings

EACH = 6
HEADER = "img_path,label,ismale,iswhite,isblack,intersec_label,spe_label"
ROWS = {0: "1,1,-1,0", 1: "-1,-1,1,4"}  # a white man, a black woman
GROUPS = ("male-white", "nonmale-black")
BOTH = ("demographic", "forgery")
SETTINGS = {
    "data_root": "data", "split_path": "splits", "model": "slim18", "weights": "none",
    "num_epochs": 1, "batch_size": 8, "resize_size": SIDE, "attributes": "faces.csv",
}  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """Fakes and reals of two groups in turn; each list has some of both."""
    keys, rows, lists = write_images(tmp_path, 3 * EACH), [HEADER], dict[str, list[str]]()
    for key in keys:
        label, number = int("GAN" in key), int(key[-5:])
        path = f"PreSocial/{('Real', 'Fake')[label]}/{key}.png"
        rows.append(f"{path},{label},{ROWS[number % 2]},{2 * label}")
        lists.setdefault(("train", "val", "test")[number // EACH], []).append(key)
    (tmp_path / "faces.csv").write_text("\n".join(rows) + "\n")
    write_lists(tmp_path / "splits", **lists)
    return tmp_path


Feeds = Callable[..., tuple[ImageLoader, ImageLoader]]


@pytest.fixture
def feeds(lab: Path) -> Feeds:
    """Return a function that makes a training and a validation pass with columns."""
    images = survey(lab / "data", parse_data("gan2:pre&real:pre")).images
    known = Attributes([lab / "faces.csv"], lab / "data")

    def make(needed: tuple[str, ...] = BOTH, **settings: Any) -> tuple[ImageLoader, ImageLoader]:
        chosen = TrainSettings.model_validate({**SETTINGS, **settings})
        made = train_loader(images[: 4 * EACH], chosen), eval_loader(images[4 * EACH :], chosen)
        image_sets = made[0].dataset, made[1].dataset
        attach_group_columns(known, chosen, lab / "data", *image_sets, needed)
        return made

    return make


def test_batches_of_both_passes_contain_groups_and_forgeries(feeds: Feeds) -> None:
    for feed in feeds():
        names = feed.dataset.column_names
        assert names["demographic"] == GROUPS
        assert names["forgery"] == ("0", "1", "2")
        for batch in feed(0):
            for at, position in enumerate(batch.indices.tolist()):
                image = feed.dataset.images[position]
                group = GROUPS[int(batch.column("demographic")[at])]
                assert group == GROUPS[int(image.key[-1]) % 2]
                assert int(batch.column("forgery")[at]) == 2 * image.label
            assert batch.column("demographic").dtype == torch.int64


def test_plain_training_gets_groups_if_available_and_no_forgeries(feeds: Feeds) -> None:
    training, validation = feeds(())
    assert set(training.dataset.columns) == set(validation.dataset.columns) == {"demographic"}
    training, _ = feeds((), groups_by="race")
    assert training.dataset.column_names["demographic"] == ("black", "white")


def test_images_without_table_row_belong_to_last_group(lab: Path, feeds: Feeds) -> None:
    del feeds
    file = lab / "faces.csv"
    lines = file.read_text().splitlines()
    file.write_text("\n".join(line for line in lines if "psi-1/00001" not in line))
    settings = TrainSettings.model_validate({**SETTINGS, "missing_attributes": "skip"})
    images = survey(lab / "data", parse_data("gan2:pre")).images
    known = Attributes([file], lab / "data")
    sets = eval_loader(images, settings).dataset, eval_loader(images, settings).dataset
    facts = attach_group_columns(known, settings, lab / "data", *sets, BOTH)
    assert sets[0].column_names["demographic"] == (*GROUPS, "unknown")
    assert sets[0].columns["demographic"][:4].tolist() == [0, 2, 0, 1]
    assert sets[0].column_names["forgery"] == ("0", "1", "2", "unknown")
    assert sets[0].columns["forgery"][:4].tolist() == [2, 3, 2, 2]
    assert facts["train_groups"] == {GROUPS[0]: [0, 9], GROUPS[1]: [0, 8], "unknown": [0, 1]}
    stops = settings.model_copy(update={"missing_attributes": "stop"})
    with pytest.raises(DataError, match=r"1 of 18 images have no row in .*faces\.csv"):
        attach_group_columns(known, stops, lab / "data", *sets, BOTH)


def test_objective_that_needs_groups_fails_without_attribute_table(feeds: Feeds) -> None:
    training, validation = feeds(())
    settings = TrainSettings.model_validate({**SETTINGS, "attributes": ""})
    image_sets = training.dataset, validation.dataset
    assert attach_group_columns(None, settings, Path("data"), *image_sets, ()) == {}
    with pytest.raises(JobError, match="needs the demographic and forgery of each image"):
        attach_group_columns(None, settings, Path("data"), *image_sets, BOTH)


def test_jobs_record_attribute_tables_and_reject_faulty_ones_before_scoring(
    lab: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = "gan2:pre&real:pre"

    def job(kind: str, **settings: Any) -> Job:
        return a_job(lab, kind, model, run="r", data=model, settings=settings)

    with caplog.at_level(logging.INFO):
        training_job.train(job("train", **SETTINGS))
    assert "groups_by=intersec groups=male-white:3+3 nonmale-black:3+3" in caplog.text
    folder = lab / "runs/r" / model
    wrote = json.loads(paths.provenance(folder).read_text())
    (digest,) = wrote["attributes_sha256"]
    assert wrote["train_groups"] == {name: [3, 3] for name in GROUPS}
    places = {name: SETTINGS[name] for name in ("data_root", "split_path", "resize_size")}
    testing.test(job("test", **places, attributes="faces.csv"))
    metrics = json.loads(paths.metrics(folder, model).read_text())
    assert (metrics["attributes_sha256"], metrics["settings"]["attributes"]) == (
        [digest],
        "faces.csv",
    )
    (lab / "few.csv").write_text("img_path,skin\nPreSocial/Real/FFHQ/00012.png,3\n")
    with pytest.raises(DataError, match=r"11 of 12 images have no row in .*few\.csv"):
        testing.test(job("test", **places, attributes="few.csv"))
