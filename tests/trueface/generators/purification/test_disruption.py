"""Perturbations against a generator that is one convolution. Its weights determine the expected results."""

from pathlib import Path
from threading import Event

import numpy as np
import PIL.Image
import pytest
import torch
import torch.nn.functional as F  # noqa: N812  # its usual name
from pydantic import ValidationError
from torch import Tensor

from trueface.generators.image_measures import fraction_above
from trueface.generators.jobs.restoration import COLUMNS, effect, grid
from trueface.generators.made_folders import PerImageRNG, round_to_levels, save_picture, to_uint8
from trueface.generators.purification.disruption import (
    NO_PERTURBATION,
    disrupt_images,
    disruption_labels,
    perturbation_norms,
)
from trueface.generators.purification.disruption_settings import (
    DisruptSettings,
    eps_to_levels,
    largest_stored_change,
)
from trueface.generators.translation.disruption import generate_outputs
from trueface.runtime.errors import JobError

NAMES = tuple(f"a/{number}.png" for number in range(6))
KERNEL = torch.rand((3, 3, 5, 5), generator=torch.Generator().manual_seed(5)) / 10


def generator(images: Tensor, labels: Tensor) -> Tensor:
    """Return a blur of images, brighter with the first label: what moves all pixels alike moves it most."""
    shift = labels[:, 0].float().reshape(-1, 1, 1, 1) * 0.2
    return torch.tanh(F.conv2d(images, KERNEL, padding=2) + shift)


def pictures(n: int = 6) -> Tensor:
    drawn = torch.Generator().manual_seed(2)
    return round_to_levels(torch.rand((n, 3, 12, 12), generator=drawn) * 1.8 - 0.9)


def labels(n: int = 6) -> Tensor:
    return (torch.arange(n) % 2)[:, None].repeat(1, 2)[None]


def disrupted(images: Tensor, names: tuple[str, ...] = NAMES, **given: object) -> Tensor:
    settings = DisruptSettings.model_validate({"source": "x", "translator": "y", **given})
    own = labels()[:, [NAMES.index(name) for name in names]]
    return disrupt_images(generator, images, own, settings, PerImageRNG(names, settings.seed))


def damage(images: Tensor, others: Tensor) -> Tensor:
    made = [generate_outputs(generator, each, labels(len(images))) for each in (images, others)]
    return effect(*made)["mse"]


def test_fgsm_changes_nearly_all_pixels_by_eps() -> None:
    images = pictures()
    made = disrupted(images, attack="fgsm")
    size = perturbation_norms(made, images, eps_to_levels(0.05))
    assert size.at_bound / size.pixels > 0.9
    assert size.linf == pytest.approx(6 / 127.5)
    assert size.rms == pytest.approx(size.linf, rel=0.05)


def test_each_attack_is_stronger_than_random_signs() -> None:
    images = pictures()
    control = damage(images, disrupted(images, attack="random")).mean()
    for attack in ("fgsm", "bim", "pgd"):
        assert damage(images, disrupted(images, attack=attack, target="away")).mean() > 5 * control


@pytest.mark.parametrize(("target", "wanted"), [("grey", 0.0), ("black", -1.0)])
def test_outputs_are_driven_to_the_colour(target: str, wanted: float) -> None:
    images = pictures()
    before, after = (
        (generate_outputs(generator, each, labels()) - wanted).square().mean()
        for each in (images, disrupted(images, target=target))
    )
    assert after < 0.95 * before


@pytest.mark.parametrize("attack", ["random", "bim", "pgd"])
def test_disruption_is_independent_of_the_batch(attack: str) -> None:
    images = pictures()
    together = disrupted(images, attack=attack, target="away")
    alone = torch.cat(
        [
            disrupted(images[at : at + 1], NAMES[at : at + 1], attack=attack, target="away")
            for at in range(len(images))
        ]
    )
    assert torch.equal(to_uint8(together), to_uint8(alone))
    threshold = float(damage(images, together).median())
    shares = [fraction_above(damage(images, each), threshold) for each in (together, alone)]
    assert shares[0] == shares[1]


def test_random_numbers_depend_on_seed_and_name() -> None:
    images = pictures()[:1].repeat(2, 1, 1, 1)
    made = disrupted(images, NAMES[:2], attack="random")
    assert not torch.equal(made[0], made[1])
    assert torch.equal(made, disrupted(images, NAMES[:2], attack="random"))
    assert not torch.equal(made, disrupted(images, NAMES[:2], attack="random", seed=2))


def test_control_changes_each_pixel_by_eps() -> None:
    images = pictures()
    size = perturbation_norms(disrupted(images, attack="random"), images, eps_to_levels(0.05))
    assert size.at_bound == size.pixels
    assert (size + NO_PERTURBATION).rms == pytest.approx(6 / 127.5)


def test_label_sets_are_own_or_flipped_or_all() -> None:
    own = torch.tensor([[1, 0], [0, 0]])
    flipped = torch.stack([torch.tensor([[0, 0], [1, 0]]), torch.tensor([[1, 1], [0, 1]])])
    assert disruption_labels(own, flipped, "own").tolist() == [own.tolist()]
    assert torch.equal(disruption_labels(own, flipped, "flipped"), flipped)
    assert disruption_labels(own, flipped, "all").shape == (3, 2, 2)


class Halved:
    """A purifier that halves contrasts."""

    is_random = False

    def __init__(self, *, identity: bool) -> None:
        self.identity = identity

    def __call__(self, images: Tensor, noise: PerImageRNG) -> Tensor:
        del noise
        halved = images / 2
        return images + (halved - images).detach() if self.identity else halved


def through(purifier: Halved, **given: object) -> Tensor:
    settings = DisruptSettings.model_validate({"source": "x", "translator": "y", **given})
    noise = PerImageRNG(NAMES, settings.seed)
    return disrupt_images(generator, pictures(), labels(), settings, noise, purifier=purifier)


def test_adaptive_attack_differentiates_through_the_purifier() -> None:
    """Its signs are those of the gradient at half the contrast, with the identity's gradient as with its own."""
    images = pictures()
    made = [through(Halved(identity=value), attack="fgsm") for value in (False, True)]
    asked = (images / 2).requires_grad_()
    loss = -generator(asked, labels()[0]).square().flatten(1).mean(1).sum()
    (gradient,) = torch.autograd.grad(loss, asked)
    bound = largest_stored_change(0.05)
    expected = (images + bound * gradient.sign()).clamp(-1, 1)
    for each in made:
        assert torch.equal(to_uint8(each), to_uint8(expected))


def test_nonfinite_gradient_raises_error_with_image_and_step() -> None:
    def broken(images: Tensor, labels: Tensor) -> Tensor:
        return images * torch.where(labels[:, 0] == 1, torch.nan, 1.0).reshape(-1, 1, 1, 1)

    settings = DisruptSettings(source="x", translator="y")
    with pytest.raises(JobError, match=r"a/1\.png is not finite in step 1"):
        disrupt_images(broken, pictures(), labels(), settings, PerImageRNG(NAMES, 1))


def test_stop_ends_a_batch() -> None:
    stop = Event()
    stop.set()
    settings = DisruptSettings(source="x", translator="y")
    with pytest.raises(JobError, match="stopped in step 1"):
        disrupt_images(generator, pictures(), labels(), settings, PerImageRNG(NAMES, 1), stop=stop)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"eps": 0}, "not above 0 and at most 1"),
        ({"eps": 8}, r"8/255 of \[0, 1\] is 0\.063"),
        ({"eps": 0.005}, "less than one grey level"),
        ({"steps": 0}, "greater than or equal to 1"),
        ({"target": "white"}, "'grey', 'black' or 'away'"),
    ],
)
def test_settings_out_of_range_are_rejected_with_the_range(
    given: dict[str, object], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        DisruptSettings.model_validate({"source": "x", "translator": "y", **given})


def test_eps_is_rounded_down_to_whole_levels() -> None:
    assert [eps_to_levels(eps) for eps in (0.05, 8 / 127.5, 0.063, 1.0)] == [6, 8, 8, 127]
    assert largest_stored_change(0.05) == pytest.approx(0.04706, abs=1e-5)


def test_settings_without_effect_are_listed() -> None:
    idle = DisruptSettings.without_effect({"attack": "random"})
    assert {"target", "steps", "purifier"} <= idle.keys()
    assert DisruptSettings.without_effect({"attack": "pgd", "purifier": "jpeg75"}) == {}


def test_tiles_have_the_order_of_columns(tmp_path: Path) -> None:
    def flat(value: float) -> torch.Tensor:
        return torch.full((2, 3, 4, 4), value)

    picture = grid((flat(0.0), flat(0.05), flat(0.02)), (flat(-1.0), flat(1.0), flat(-0.5)))
    assert picture.shape == (3, 2 * 4, len(COLUMNS) * 4)
    values = [round(float(picture[0, 0, 4 * at]), 3) for at in range(len(COLUMNS))]
    assert values == [0.0, -1.0, 0.05, 0.5, 1.0, 0.02, -0.5]
    save_picture(tmp_path / "grid.png", picture)
    with PIL.Image.open(tmp_path / "grid.png") as file:
        assert np.asarray(file).shape == (8, 28, 3)
