"""The job that inverts and resamples real images: names, measures and rejections."""

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from launcher.api import JobError, read_json
from tests.trueface.generators.jobs.forgetting.small_lab import (
    CLASSIFIER,
    EDITED,
    SIDE,
    TEACHER,
    job_maker,
    make_lab,
)
from trueface.generators.jobs.diffusion_kinds import REVISE
from trueface.generators.jobs.erasure_measurement import revise
from trueface.generators.made_folders import image_names, load_image_batch

FEW: dict[str, Any] = {
    "source": "data/test/cross", "diffuser": EDITED, "drawn_as": "cross", "steps": 3,
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_lab(tmp_path_factory.mktemp("lab"))


job = job_maker(REVISE, FEW)


def test_images_keep_their_names_and_folder_records_measures(lab: Path) -> None:
    numbers: Any = revise(job(lab, "whole", teacher=TEACHER, classifier=CLASSIFIER, guidance=2))
    folder = lab / "runs" / "r" / "made" / "whole"
    assert image_names(folder) == image_names(lab / "data" / "test" / "cross")
    assert numbers["images"] == 4
    assert numbers["rms"] > 0
    assert numbers["rms_round_trip"] > 0
    assert {"rate_before", "rate_after", "rate_round_trip"} <= set(numbers)
    assert numbers["rate_before"]["n"] == 4
    made: Any = read_json(folder / "made.json")
    assert made["kind"] == "revise"
    assert made["rms"] == numbers["rms"]
    assert made["source"] == "data/test/cross"


def test_batch_size_changes_no_image(lab: Path) -> None:
    images = []
    for name, size in (("one", 1), ("all", 4)):
        numbers = revise(job(lab, name, batch_size=size))
        assert "rms_round_trip" not in numbers
        folder = lab / "runs" / "r" / "made" / name
        images.append(load_image_batch(folder, image_names(folder), size=SIDE, channels=1))
    torch.testing.assert_close(images[0], images[1], atol=2 / 255 + 1e-6, rtol=0)


def test_inverting_model_determines_the_result(lab: Path) -> None:
    own: Any = revise(job(lab, "own", inverted_as="cross"))
    other: Any = revise(
        job(lab, "teacher", inverted_as="cross", inverted_by="teacher", teacher=TEACHER)
    )
    assert own["rms"] != other["rms"]


def test_stopped_job_leaves_no_folder(lab: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped after 0 of 4 images"):
        revise(job(lab, "stopped", stop=stop))
    assert not (lab / "runs" / "r" / "made" / "stopped").exists()
