from pathlib import Path

import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.build import prototypes, recogniser
from tests.trueface.jobs.generation.forgetting.small_lab import CLASSIFIER, NAMES, make_lab
from trueface.data.made_folders import rounded
from trueface.diffusion.diffuser import save_diffuser
from trueface.erasing.recognition import load_recogniser, rates, refuse_weak_teacher
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


DRAWN = ("cross", "disc", "square")
KNOWN = ("bar", "cross", "disc", "square")  # the classifier's, in an order of its own


def test_rates_are_matched_by_name_and_others_leave_the_concept_out() -> None:
    answers = torch.tensor([[1, 2, 2, 0], [2, 2, 2, 2], [3, 3, 2, 3]])
    measured = rates(answers, DRAWN, KNOWN, "cross", "disc")
    assert measured.erased.value == 0.25
    assert measured.anchor is not None
    assert measured.anchor.value == 0.5
    assert measured.others.value == 7 / 8
    assert measured.others.n == 8
    assert measured.right["disc"].value == 1
    assert measured.called["cross"] == {"bar": 0.25, "cross": 0.25, "disc": 0.5, "square": 0}


def test_the_interval_of_a_rate_is_wilsons_and_open_where_nothing_varied() -> None:
    half = torch.arange(64)[None] % 2 + 1
    measured = rates(torch.cat([half, torch.full((1, 64), 2)]), DRAWN[:2], KNOWN, "cross")
    assert measured.erased.low == pytest.approx(0.3810, abs=1e-4)
    assert measured.erased.high == pytest.approx(0.6190, abs=1e-4)
    assert measured.others.low == pytest.approx(0.025 ** (1 / 64))
    assert measured.anchor is None


def test_a_teacher_that_cannot_draw_a_class_ends_the_study_and_each_is_named() -> None:
    answers = torch.tensor([[1] * 62 + [0] * 38, [2] * 100, [3] * 80 + [0] * 20])
    teacher = rates(answers, DRAWN, KNOWN, "cross")
    with pytest.raises(
        JobError,
        match=r"cannot draw cross \(0.62 of its samples are recognised\), square \(0.80\): nothing to "
        "erase; train it longer",
    ):
        refuse_weak_teacher(teacher, 0.9)
    refuse_weak_teacher(teacher, 0.6)


def test_a_single_class_leaves_nothing_to_be_kept() -> None:
    with pytest.raises(JobError, match="the only class"):
        rates(torch.zeros(1, 4), ("cross",), KNOWN, "cross")
