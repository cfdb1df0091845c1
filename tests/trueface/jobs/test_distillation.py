"""Trainings that compare rows of a batch: with a teacher (add), and with two augmentations (core)."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import Kind, TaskFileError, write_json
from tests.trueface.jobs.build import a_draft, a_job, write_lists, write_sample
from tests.trueface.jobs.test_features import run
from tests.trueface.jobs.test_shared_features import a_plan
from trueface.jobs.kinds import TRAIN
from trueface.jobs.published.kind import CHECKPOINT
from trueface.runtime import paths
from trueface.runtime.files import Json, file_sha256, read_json

torch.set_num_threads(1)

SETTINGS: dict[str, Any] = {
    "model": "slim18", "weights": "none", "resize_size": 32, "batch_size": 8, "num_epochs": 1, "freeze": False,
    "test": {"resize_size": 32, "batch_size": 8},
}  # fmt: skip
STUDY = """
train:
  - {model: null, data: "gan2:pre"}
  - {model: null, data: "sdXL:pre", qualities: [raw, jpeg30, half], objective: add, teacher: "gan2:pre",
     add_spectra_layers: "layer3=1", add_view_layers: "layer4=1"}
  - {model: null, data: "gan3:pre", objective: core, flip_prob: 0.5}
"""
PLACE = {"data_root": "data", "split_path": "splits", "weights": "none"}
DATA = "gan2:pre&real:pre"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """A folder in which all jobs of the study are done, and their results."""
    folder = tmp_path_factory.mktemp("lab")
    write_sample(folder, train=16, val=8, test=8)
    (folder / "splits").symlink_to("data/splits")
    planned = a_plan(STUDY, folder, **SETTINGS).jobs
    return folder, {each.name: run(folder, each) for each in planned}


def provenance(folder: Path, model: str) -> dict[str, Json]:
    record = read_json(paths.provenance(a_job(folder, "train").model_folder(model)))
    assert record is not None
    return dict(record)


@pytest.mark.parametrize(("name", "rows"), [("sdXL:pre", 3), ("gan3:pre", 2)])
def test_each_image_is_in_a_batch_once_per_quality_or_view(
    lab: tuple[Path, dict[str, Any]], name: str, rows: int
) -> None:
    result = lab[1][f"train/{name}"]
    assert result["samples_read"] == rows * result["images"]


def test_student_records_the_digest_and_the_flips_of_its_teacher(
    lab: tuple[Path, dict[str, Any]],
) -> None:
    folder, _ = lab
    teacher = paths.checkpoint(a_job(folder, "train").model_folder("gan2:pre"))
    assert provenance(folder, "sdXL:pre")["teacher_sha256"] == file_sha256(teacher)
    assert provenance(folder, "sdXL:pre")["teacher_poison"] == 0.0
    assert not {"teacher_sha256", "teacher_poison"} & {*provenance(folder, "gan2:pre")}


def test_student_waits_for_a_teacher_that_the_plan_trains(tmp_path: Path) -> None:
    plan = a_plan(STUDY, tmp_path, **SETTINGS)
    student = next(job for job in plan.jobs if job.name == "train/sdXL:pre")
    assert "train/gan2:pre" in student.needs


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"objective": "add", "qualities": "raw,half"}, "needs a teacher"),
        ({"objective": "add", "teacher": "best.pt"}, "in two qualities, the first for the teacher"),
        (
            {"objective": "add", "teacher": "T", "qualities": "raw,half", "quality_batch": "mixed"},
            "in two qualities",
        ),
        ({"objective": "add", "teacher": DATA, "qualities": "raw,half"}, "is the model that is"),
        ({"objective": "core", "qualities": "raw,half"}, "cannot be used with qualities"),
        ({"objective": "core", "sbi": 0.5}, "cannot be used with sbi"),
        ({"objective": "core", "freeze": True}, "Leave out freeze"),
        ({"objective": "core", "model": "capsule"}, "ends in one linear layer"),
        ({"objective": "capsule", "model": "slim18"}, "needs the parts of model capsule"),
        ({"model": "mcx", "freeze": True}, "ends in one linear layer"),
        (
            {"model": "mcx", "objective": "mcx", "batch_size": 1},
            "needs at least 2 of them, got batch_size: 1",
        ),
        ({"objective": "caddm", "model": "caddm"}, "needs the real image that each fake was made"),
        (
            {
                "objective": "caddm",
                "model": "caddm",
                "qualities": "raw,source",
                "quality_list": "own.json",
            },
            "each fake is its own real image in source of",
        ),
        ({"model": "ict", "resize_size": 112}, "model ict is only tested here: its authors"),
        ({"model": "lgrad", "weights": "none"}, "needs a file of StyleGAN's discriminator"),
        ({"objective": "triplet", "batch_size": 2}, "Set batch_size: 3 or more"),
    ],
    ids=str,
)
def test_plan_refuses_what_an_objective_cannot_use(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    lists = {"raw": ["r/1.png", "f/2.png"], "source": ["r/1.png", "f/2.png"], "labels": [0, 1]}
    (tmp_path / "own.json").write_text(json.dumps({"train": lists}))
    draft = a_draft(TRAIN, tmp_path, PLACE | {"model": "slim18"} | settings, model=DATA, data=DATA)
    assert any(reason in each for each in TRAIN.refusals(draft, ()))


DISTILLED = {"objective": "add", "teacher": "t:pre", "qualities": "raw,half", "model": "slim18"}
LAB = PLACE | {"model": "slim18"}
PUBLISHED: dict[str, Any] = {"architecture": "tv/resnet18", "weights": "theirs.pth"}


@pytest.mark.parametrize("is_planned", [True, False], ids=["same file", "earlier run"])
@pytest.mark.parametrize(
    ("kind", "settings", "student", "words"),
    [
        (TRAIN, {"resize_size": 64}, {"resize_size": 64}, ()),
        (TRAIN, {"resize_size": 64}, {"resize_size": 32}, ("resize_size: 64", "resize_size: 32")),
        (TRAIN, {"patch_size": 16}, {}, ("patch_size: 16", "patch_size: 0")),
        (TRAIN, {"normalization": "half"}, {}, ("normalization: half", "normalization: model")),
        (TRAIN, {"decode": "fitted"}, {}, ("refused", "decode: fitted", "decode: exact")),
        (CHECKPOINT, {"crop": 224}, {"resize_size": 48}, ("crop: 224", "resize_size: 48")),
        (
            CHECKPOINT,
            {"crop": 224, "mean": "0.5,0.5,0.5", "std": "0.5,0.5,0.5"},
            {"resize_size": 224},
            ("normalization: 0.5,0.5,0.5/0.5,0.5,0.5", "normalization: model"),
        ),
        (CHECKPOINT, {"resize": 256}, {"resize_size": 224}, ("refused", "resized to 256 pixels")),
    ],
    ids=["alike", "size", "patches", "normalization", "decoding", "crop", "numbers", "resizing"],
)
@pytest.mark.parametrize("role", ["teacher", "base"])
def test_plan_names_what_differs_between_a_training_and_its_base_or_teacher(
    tmp_path: Path,
    kind: Kind,
    settings: dict[str, Any],
    student: dict[str, Any],
    words: tuple[str, ...],
    role: str,
    is_planned: bool,
) -> None:
    made = a_draft(
        kind,
        tmp_path,
        (LAB if kind is TRAIN else PUBLISHED) | settings,
        model="t:pre",
        data="t:pre",
    )
    given = LAB | (DISTILLED if role == "teacher" else {}) | student
    facts: dict[str, Any] = {"base": "t:pre"} if role == "base" else {}
    makers = {"t:pre": (made,)} if is_planned else {}
    draft = a_draft(TRAIN, tmp_path, given, model=DATA, data=DATA, plan_makers=makers, **facts)
    if not is_planned:
        record: dict[str, Any] = {"settings": made.settings, "model": "t:pre"}
        keys = ("resize", "crop") if kind is CHECKPOINT else ()
        preprocessing = {"preprocessing": {key: made.settings[key] for key in keys}} if keys else {}
        path = paths.provenance(draft.model_folder("t:pre"))
        path.parent.mkdir(parents=True)
        write_json(path, {**record, **preprocessing})
    refusals = TRAIN.refusals(draft, (made,) if role == "base" and is_planned else ())
    warnings = [text for text in TRAIN.warnings(draft) if "was trained with" in text]
    if role == "base" and kind is CHECKPOINT and "refused" in words:
        return  # see the tests of published models
    said = refusals if "refused" in words else warnings
    assert [all(word in text for word in words if word != "refused") for text in said] == (
        [True] if words and not (role == "base" and "normalization: model" in words) else []
    )


def test_plan_counts_a_teacher_that_is_trained_later_in_the_file(tmp_path: Path) -> None:
    for name, keys in (("splits", ["FFHQ/1"]), ("swapped", ["FFHQ/2"])):
        write_lists(tmp_path / name, train=keys, val=[], test=["FFHQ/2"])
    study = """
train:
  - {model: null, data: "sdXL:pre", qualities: [raw, half], objective: add, teacher: "gan2:pre%40"}
  - {model: null, data: "gan2:pre", poison: 40, split_path: swapped, resize_size: 64}
test: [{model: "sdXL:pre", data: "real:pre"}]
"""
    with pytest.raises(TaskFileError, match="training images of gan2:pre%40, the teacher of sdXL"):
        a_plan(study, tmp_path, **SETTINGS)
    warned = [
        problem.message
        for problem in a_plan(study.partition("test:")[0], tmp_path, **SETTINGS).warnings
    ]
    for words in (("flipped labels", "teacher_poison"), ("resize_size: 64", "resize_size: 32")):
        assert any(all(word in text for word in words) for text in warned)


def test_plan_accepts_the_objective_of_a_network_with_other_colours(tmp_path: Path) -> None:
    settings = PLACE | {"model": "mcx_hsv", "objective": "mcx"}
    draft = a_draft(TRAIN, tmp_path, settings, model=DATA, data=DATA)
    assert not [each for each in TRAIN.refusals(draft, ()) if "needs the parts" in each]
