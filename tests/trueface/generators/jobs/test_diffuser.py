"""The kind `diffuser`: refusals while planning, and a training from images to files."""

import json
import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
import torch

from launcher.api import Draft, Job, JobError, UnknownName, UsageError, parse_data
from tests.trueface.jobs import build
from trueface.generators.diffusion.diffuser import load_diffuser
from trueface.generators.jobs.diffuser import train_diffuser
from trueface.generators.jobs.diffusion_kinds import DIFFUSER
from trueface.runtime import paths

TOY = {
    "size": 8, "channels": 1, "network": "mlp", "widths": [16, 16], "num_steps": 6, "batch_size": 4,
}  # fmt: skip


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    for part in ("train", "test"):
        for level, name in enumerate(("cross", "disc", "ring")):
            folder = tmp_path / "shapes" / part / name
            folder.mkdir(parents=True)
            grey = np.full((8, 8), 80 * level, dtype=np.uint8)
            PIL.Image.fromarray(grey).save(folder / "0.png")
    return tmp_path


def a_draft(folder: Path, data: str = "classes:all", **given: Any) -> Draft:
    settings = {"data_root": "shapes", **TOY, **given}
    return build.a_draft(DIFFUSER, folder, settings, model=data, data=data)


def a_job(draft: Draft, **more: Any) -> Job:
    return build.job_of(draft, DIFFUSER, **more)


def test_training_writes_exactly_the_files_of_a_model(shapes: Path) -> None:
    draft = a_draft(shapes)
    result = train_diffuser(a_job(draft))
    folder = draft.model_folder("classes:all")
    assert all(path.exists() for path in DIFFUSER.outputs(draft))
    assert not paths.resume(folder).exists()
    diffuser = load_diffuser(paths.checkpoint(folder))
    assert diffuser.class_names == ("cross", "disc", "ring")
    assert diffuser.has_null
    assert result["images"] == 3
    assert result["classes"] == 3
    assert json.loads(paths.summary(folder).read_text()) == {"schema": 1, **result}
    assert json.loads(paths.provenance(folder).read_text())["train_images"] == 3
    assert paths.history(folder).read_text().count("\n") == 7


def test_stopped_job_resumes_to_the_same_file(shapes: Path) -> None:
    draft = a_draft(shapes, "images:all")
    folder = draft.model_folder("images:all")
    train_diffuser(a_job(draft))
    whole = load_diffuser(paths.checkpoint(folder)).network.state_dict()
    paths.checkpoint(folder).unlink()
    stop = threading.Event()
    with pytest.raises(JobError, match=r"stopped after step 1 of 6"):
        train_diffuser(a_job(draft, stop=stop, progress=lambda **_: stop.set()))
    assert not paths.checkpoint(folder).exists()
    train_diffuser(a_job(draft))
    again = load_diffuser(paths.checkpoint(folder)).network.state_dict()
    assert all(torch.equal(whole[name], again[name]) for name in whole)


@pytest.mark.parametrize(
    ("data", "given", "reason"),
    [
        ("images:all", {"drop": 0.1}, "drop needs classes, and images:all has none"),
        ("images:all", {"without": "disc"}, "without needs classes"),
        ("classes:all", {"without": "disk"}, "Did you mean 'disc'"),
        ("classes:disc", {}, "disc has no class folder"),
    ],
)
def test_settings_that_do_not_fit_the_images_are_rejected_at_planning(
    shapes: Path, data: str, given: dict[str, Any], reason: str
) -> None:
    if data == "classes:disc":
        (shapes / "shapes/disc").mkdir()
    (said,) = DIFFUSER.refusals(a_draft(shapes, data, **given), ())
    assert reason in said


def test_base_wrong_labels_and_single_class_are_rejected(shapes: Path) -> None:
    (said,) = DIFFUSER.refusals(replace(a_draft(shapes), base="images:A"), ())
    assert "does not start from another model. Write model: null" in said
    (said,) = DIFFUSER.refusals(replace(a_draft(shapes), model="classes:all%50"), ())
    assert "does not support flipped labels" in said
    shutil.rmtree(shapes / "shapes/train/ring")
    (said,) = DIFFUSER.refusals(a_draft(shapes, without="disc"), ())
    assert "one class is left without disc" in said


def test_data_that_does_not_exist_yet_is_accepted(tmp_path: Path) -> None:
    draft = a_draft(tmp_path, without="disc")
    assert DIFFUSER.refusals(draft, ()) == ()
    assert [one.path for one in DIFFUSER.inputs(draft)] == [tmp_path / "shapes"]
    settings = {**a_draft(tmp_path).settings, "weights": "sd", "prompts": "words.txt"}
    read = DIFFUSER.inputs(replace(draft, settings=settings))
    assert [one.path for one in read] == [tmp_path / "sd", tmp_path / "words.txt"]


def test_training_accepts_only_one_dataset_with_or_without_classes() -> None:
    assert str(DIFFUSER.images(parse_data("images:A"))) == "images:A"
    with pytest.raises(UnknownName, match="Did you mean 'images'"):
        DIFFUSER.images(parse_data("image:A"))
    with pytest.raises(UsageError, match="one set"):
        DIFFUSER.images(parse_data("images:A&images:B"))


def test_folder_without_images_fails_and_is_named(tmp_path: Path) -> None:
    (tmp_path / "shapes").mkdir()
    with pytest.raises(UsageError, match="shapes contains no images"):
        train_diffuser(a_job(a_draft(tmp_path, "images:all")))
