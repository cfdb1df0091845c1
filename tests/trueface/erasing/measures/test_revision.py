import pytest
import torch

from tests.trueface.diffusion.closed_forms import small
from tests.trueface.erasing.measures.known_models import drawer, prototypes
from trueface.erasing.measures.revision import Revision, revised, rms, round_trip
from trueface.runtime.errors import JobError

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
