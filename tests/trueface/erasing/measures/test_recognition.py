from pathlib import Path

import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.measures.known_models import prototypes, recogniser
from tests.trueface.jobs.generation.forgetting.small_lab import CLASSIFIER, NAMES, make_lab
from trueface.data.made.folders import rounded
from trueface.diffusion.checkpoint import save_diffuser
from trueface.erasing.measures.recognition import load_recogniser
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, JobError


def test_it_sees_what_a_png_would_hold() -> None:
    images = rounded(prototypes())
    moved = images + 0.4 / 127.5  # less than half a grey level
    assert torch.equal(recogniser().seen(moved)[1], recogniser().seen(images)[1])


def test_a_trained_classifier_takes_images_of_any_size_grey_or_in_colour(tmp_path: Path) -> None:
    place = paths.checkpoint(make_lab(tmp_path) / "runs" / "r" / CLASSIFIER)
    recogniser = load_recogniser(place, text="it")
    assert recogniser.names == NAMES
    for shape in ((2, 1, 8, 8), (2, 3, 20, 20)):
        answers, features = recogniser.seen(torch.zeros(shape))
        assert answers.shape == (2,)
        assert len(features) == 2


def test_a_class_that_it_does_not_know_is_named() -> None:
    with pytest.raises(
        JobError, match=r"does not know the class 'star'; it knows cross, disc, square"
    ):
        recogniser().number("star")


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    save_diffuser(tmp_path / "d.pt", small(), {})
    with pytest.raises(CheckpointError):
        load_recogniser(tmp_path / "d.pt", text="it")
