import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.diffusion.closed_forms import small
from tests.trueface.generators.erasing.build import drawer, prototypes, recogniser
from tests.trueface.generators.jobs.forgetting.small_lab import CLASSIFIER, NAMES, make_lab
from tests.trueface.intervals import interval_of
from trueface.generators.diffusion.diffuser import Diffuser, save_diffuser
from trueface.generators.erasing.recognition import (
    load_concept_classifier,
    rates,
    refuse_weak_teacher,
)
from trueface.generators.erasing.recovery import (
    Curve,
    RecoveryAttack,
    initial_embeddings,
    invert_embeddings,
    recovery,
)
from trueface.generators.erasing.samples import (
    OTHER_STREAM,
    Revision,
    Sampling,
    noise_of,
    replace_nan_images,
    revise_images,
    rms,
    sample_classes,
)
from trueface.generators.erasing.study import read_points
from trueface.generators.made_folders import round_to_levels
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError, JobError

STOPPED = threading.Event()
STOPPED.set()
ATTACK = RecoveryAttack(
    images=(1, 3),
    steps=(1, 5, 80),
    lr=0.1,
    batch=4,
    samples=3,
    sampling=Sampling(steps=3, guidance=1),
)


def test_classifier_input_equals_png_content() -> None:
    images = round_to_levels(prototypes())
    moved = images + 0.4 / 127.5  # less than half a grey level
    assert torch.equal(
        recogniser().predict_with_features(moved)[1], recogniser().predict_with_features(images)[1]
    )


def test_trained_classifier_accepts_grey_and_colour_images_of_any_size(tmp_path: Path) -> None:
    place = paths.checkpoint(make_lab(tmp_path) / "runs" / "r" / CLASSIFIER)
    recogniser = load_concept_classifier(place, text="it")
    assert recogniser.names == NAMES
    for shape in ((2, 1, 8, 8), (2, 3, 20, 20)):
        answers, features = recogniser.predict_with_features(torch.zeros(shape))
        assert answers.shape == (2,)
        assert len(features) == 2


def test_unknown_class_is_named() -> None:
    with pytest.raises(JobError, match=r"has no class 'star', only cross, disc, square"):
        recogniser().number("star")


def test_model_of_another_kind_is_rejected(tmp_path: Path) -> None:
    save_diffuser(tmp_path / "d.pt", small(), {})
    with pytest.raises(CheckpointError):
        load_concept_classifier(tmp_path / "d.pt", text="it")


DRAWN = ("cross", "disc", "square")
KNOWN = ("bar", "cross", "disc", "square")  # the classifier's, in an order of its own


def test_rates_are_matched_by_name_and_retained_rates_exclude_the_concept() -> None:
    answers = torch.tensor([[1, 2, 2, 0], [2, 2, 2, 2], [3, 3, 2, 3]])
    measured = rates(answers, DRAWN, KNOWN, "cross", "disc")
    assert measured.erased.value == 0.25
    assert measured.anchor is not None
    assert measured.anchor.value == 0.5
    assert measured.others.value == 7 / 8
    assert measured.others.n == 8
    assert measured.right["disc"].value == 1
    assert measured.called["cross"] == {"bar": 0.25, "cross": 0.25, "disc": 0.5, "square": 0}


def test_rate_has_wilson_interval_that_is_not_empty_without_variance() -> None:
    half = torch.arange(64)[None] % 2 + 1
    measured = rates(torch.cat([half, torch.full((1, 64), 2)]), DRAWN[:2], KNOWN, "cross")
    assert interval_of(measured.erased.measure).low == pytest.approx(0.3810, abs=1e-4)
    assert interval_of(measured.erased.measure).high == pytest.approx(0.6190, abs=1e-4)
    assert interval_of(measured.others.measure).low == pytest.approx(0.025 ** (1 / 64))
    assert measured.anchor is None


def test_classes_that_teacher_cannot_generate_raise_an_error_that_names_them() -> None:
    answers = torch.tensor([[1] * 62 + [0] * 38, [2] * 100, [3] * 80 + [0] * 20])
    teacher = rates(answers, DRAWN, KNOWN, "cross")
    with pytest.raises(
        JobError,
        match=r"too few samples of the teacher: cross \(0.62\), square \(0.80\)\. Train the teacher "
        "longer",
    ):
        refuse_weak_teacher(teacher, 0.9)
    refuse_weak_teacher(teacher, 0.6)


def test_single_class_has_no_retained_rate() -> None:
    with pytest.raises(JobError, match="the only class"):
        rates(torch.zeros(1, 4), ("cross",), KNOWN, "cross")


def test_noise_depends_on_class_name_seed_and_stream() -> None:
    model = small()
    noise = noise_of(model, "cross", 2, 1)
    assert torch.equal(noise, noise_of(model, "cross", 4, 1)[:2])
    for other in (
        noise_of(model, "disc", 2, 1),
        noise_of(model, "cross", 2, 2),
        noise_of(model, "cross", 2, 1, OTHER_STREAM),
    ):
        assert not torch.isclose(noise, other).any()


def test_samples_are_clipped_to_image_range_and_classified() -> None:
    images = sample_classes(drawer(prototypes() * 2), (0, 1, 2), 2, Sampling(steps=4, guidance=1))
    assert float(images.abs().max()) == 1
    answers = recogniser().predict_classes(images.flatten(0, 1)).reshape(3, 2)
    assert answers.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_diverged_samples_are_counted_and_shown_in_grey() -> None:
    images = prototypes()
    images[1, 0, 2, 3] = float("nan")
    whole, share = replace_nan_images(images)
    assert share == pytest.approx(1 / 3)
    assert not whole[1].any()
    assert torch.equal(whole[[0, 2]], images[[0, 2]])


IMAGES = torch.linspace(-0.8, 0.8, 32).reshape(2, 1, 4, 4)


def test_edited_model_generates_its_replacement_of_the_concept() -> None:
    pictures = prototypes()
    pictures[0] = pictures[1]
    teacher, edited = drawer(), drawer(pictures)
    crosses = prototypes()[:1]
    plan = Revision(inverted_as=0, drawn_as=0, steps=10)
    assert float(rms(crosses, revise_images(crosses, teacher, teacher, plan))) < 1e-3
    drawn = revise_images(crosses, edited, teacher, plan)
    assert float(rms(prototypes()[1:2], drawn)) < 1e-3


def test_inversion_without_class_needs_a_null_token() -> None:
    with pytest.raises(JobError, match="null"):
        revise_images(
            IMAGES, drawer(), drawer(has_null=False), Revision(inverted_as=None, drawn_as=0)
        )


def test_image_distance_is_root_mean_square_in_image_units() -> None:
    assert rms(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)).tolist() == [0.5, 0.5]


def crosses() -> Tensor:
    return prototypes()[:1].repeat(3, 1, 1, 1)


def is_cross(images: Tensor) -> Tensor:
    return recogniser().predict_classes(images) == 0


def curve_of(diffuser: Diffuser, attack: RecoveryAttack = ATTACK) -> Curve:
    return recovery(diffuser, "cross", crosses(), is_cross, attack)


def test_model_that_ignores_its_embedding_recovers_nothing() -> None:
    curve = curve_of(drawer(deaf=True))
    assert [point.rate for point in curve] == [0] * 6


def test_concept_hidden_behind_its_name_is_recovered() -> None:
    pictures = prototypes()
    pictures[0] = pictures[1]  # under "cross" it draws the disc
    curve = curve_of(drawer(pictures))
    assert curve[0].rate == 0
    assert curve[-1].rate == 1
    assert curve[0].starts.keys() == {"own", "random"}


def test_recovery_attack_is_seeded_and_more_steps_keep_earlier_points() -> None:
    model = small()
    starts = torch.stack(list(initial_embeddings(model, "cross", 1).values()))
    attack = RecoveryAttack(images=(1, 2), steps=(2, 3), batch=4)
    path = invert_embeddings(model, starts, crosses(), attack)
    assert torch.equal(path, invert_embeddings(model, starts, crosses(), attack))
    longer = RecoveryAttack(images=(1, 2), steps=(2, 3, 5), batch=4)
    assert torch.equal(path, invert_embeddings(model, starts, crosses(), longer)[:, :, :2])
    other = RecoveryAttack(images=(1, 2), steps=(2, 3), batch=4, sampling=Sampling(seed=2))
    assert not torch.equal(path, invert_embeddings(model, starts, crosses(), other))
    assert all(not weight.grad for weight in model.network.parameters())


def test_model_without_the_class_is_attacked_from_random_start() -> None:
    assert list(initial_embeddings(drawer(), "star", 1)) == ["random"]


def test_curve_points_contain_both_starts_and_the_better_one() -> None:
    (point,) = read_points(
        [{"images": 1, "steps": 9, "rate": 0.3, "from_own": 0.1, "from_random": 0.3}]
    )
    assert tuple(point) == (1, 9, 0.3, {"own": 0.1, "random": 0.3})
    assert read_points([point.json_record]) == (point,)


def test_stopped_attack_reports_its_progress() -> None:
    with pytest.raises(JobError, match="stopped at step 1 "):
        curve_of(drawer(), RecoveryAttack(images=(1,), sampling=Sampling(stop=STOPPED)))


def test_too_few_images_and_nonfinite_loss_fail_the_attack() -> None:
    with pytest.raises(JobError, match=r"needs 5 real images of cross, but there are 3"):
        curve_of(drawer(), RecoveryAttack(images=(1, 5)))
    with pytest.raises(JobError, match=r"not finite at step 1\. Use a smaller recover_lr"):
        recovery(
            drawer(),
            "cross",
            crosses() * float("inf"),
            is_cross,
            RecoveryAttack(images=(1,), steps=(5,)),
        )


@pytest.mark.parametrize(
    ("model", "sampling", "match"),
    [
        (drawer(has_null=False), Sampling(guidance=2), "drop"),
        (
            drawer(prototypes() * float("nan")),
            Sampling(steps=2, guidance=1),
            "pixels that are not numbers",
        ),
        (drawer(), Sampling(stop=STOPPED), "stopped after 0 of 2 samples"),
    ],
)
def test_impossible_sampling_fails(model: Diffuser, sampling: Sampling, match: str) -> None:
    with pytest.raises(JobError, match=match):
        sample_classes(model, (0,), 2, sampling)
