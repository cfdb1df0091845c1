import threading

import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.build import drawer, prototypes, recogniser
from trueface.erasing.samples import (
    OTHER_STREAM,
    Revision,
    Sampling,
    drawable,
    drawn_classes,
    noise_of,
    revised,
    rms,
    round_trip,
)
from trueface.runtime.errors import JobError


def test_a_sample_begins_from_the_same_noise_whatever_else_is_drawn() -> None:
    model = small()
    many = drawn_classes(model, (0, 1, 2), 5, Sampling(steps=3, seed=4))
    few = drawn_classes(model, (2,), 2, Sampling(steps=3, seed=4, batch_size=1))
    torch.testing.assert_close(many[2, :2], few[0])


def test_noise_follows_the_classs_name_the_seed_and_the_stream() -> None:
    model = small()
    noise = noise_of(model, "cross", 2, 1)
    assert torch.equal(noise, noise_of(model, "cross", 4, 1)[:2])
    for other in (
        noise_of(model, "disc", 2, 1),
        noise_of(model, "cross", 2, 2),
        noise_of(model, "cross", 2, 1, OTHER_STREAM),
    ):
        assert not torch.isclose(noise, other).any()


def test_what_is_drawn_is_cut_to_the_range_of_images_and_recognised() -> None:
    images = drawn_classes(drawer(prototypes() * 2), (0, 1, 2), 2, Sampling(steps=4, guidance=1))
    assert float(images.abs().max()) == 1
    answers = recogniser().answers(images.flatten(0, 1)).reshape(3, 2)
    assert answers.tolist() == [[0, 0], [1, 1], [2, 2]]


def test_guidance_without_a_null_token_is_refused() -> None:
    with pytest.raises(JobError, match="drop"):
        drawn_classes(drawer(has_null=False), (0,), 1, Sampling(guidance=2))


def test_pixels_that_are_no_numbers_end_the_sampling() -> None:
    model = drawer(prototypes() * float("nan"))
    with pytest.raises(JobError, match="pixels that are no numbers"):
        drawn_classes(model, (0,), 2, Sampling(steps=2, guidance=1))


def test_a_stopped_sampling_says_how_far_it_came() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped after 0 of 2 samples"):
        drawn_classes(drawer(), (0,), 2, Sampling(stop=stop))


def test_samples_of_a_model_that_diverges_are_counted_and_shown_as_grey() -> None:
    images = prototypes()
    images[1, 0, 2, 3] = float("nan")
    whole, share = drawable(images)
    assert share == pytest.approx(1 / 3)
    assert not whole[1].any()
    assert torch.equal(whole[[0, 2]], images[[0, 2]])


IMAGES = torch.linspace(-0.8, 0.8, 32).reshape(2, 1, 4, 4)


def test_the_round_trip_of_an_unedited_model_comes_nearer_with_more_steps() -> None:
    model = small(prediction="v")
    errors = [
        float(rms(IMAGES, round_trip(IMAGES, model, 0, steps)).mean()) for steps in (10, 50, 200)
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0] / 5


def test_an_edited_model_draws_what_it_has_in_the_place_of_the_concept() -> None:
    pictures = prototypes()
    pictures[0] = pictures[1]
    teacher, edited = drawer(), drawer(pictures)
    crosses = prototypes()[:1]
    plan = Revision(inverted_as=0, drawn_as=0, steps=10)
    assert float(rms(crosses, revised(crosses, teacher, teacher, plan))) < 1e-3
    drawn = revised(crosses, edited, teacher, plan)
    assert float(rms(prototypes()[1:2], drawn)) < 1e-3


def test_inversion_under_null_needs_a_null_token() -> None:
    with pytest.raises(JobError, match="null"):
        revised(IMAGES, drawer(), drawer(has_null=False), Revision(inverted_as=None, drawn_as=0))


def test_the_distance_of_images_is_root_mean_square_in_their_own_units() -> None:
    assert rms(torch.zeros(2, 1, 2, 2), torch.full((2, 1, 2, 2), 0.5)).tolist() == [0.5, 0.5]
