"""Purifiers against closed forms, and their names."""

import re
import threading

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.purification.build import a_gaussian_diffuser, normal, smooth_images
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.schedule import ScheduleName
from trueface.generators.made_folders import PerImageRNG, round_to_levels
from trueface.generators.purification.denoiser import DenoiserShape, new_denoiser
from trueface.generators.purification.methods.filters import _divergence, _gradient
from trueface.generators.purification.purifier import Purifier, make_purifier
from trueface.generators.purification.registry import (
    SPECS,
    canonical,
    describe_choices,
    parse_purifier,
    plugin_modules,
    refuse_untrained,
    register_purifier,
)
from trueface.generators.purification.steps import estimate_noise_rms
from trueface.runtime.errors import JobError

DEVIATION = 0.3
NAMES = [f"{number}.png" for number in range(8)]
EXAMPLES = {
    "none": "none", "ddpm": "ddpm10", "ddpmmean": "ddpmmean10", "oneshot": "oneshot10",
    "ensemble": "ensemble10", "smooth": "smooth10", "spin": "spin10", "diffpure": "diffpure12",
    "dae": "dae", "blur": "blur1.5", "jpeg": "jpeg75", "median": "median3", "tv": "tv0.03",
}  # fmt: skip
METHODS = {
    "none", "ddpm", "ddpmmean", "oneshot", "ensemble", "smooth", "spin", "diffpure", "dae", "blur",
    "jpeg", "median", "tv",
}  # fmt: skip


def a_purifier(text: str, diffuser: Diffuser | None = None) -> Purifier:
    denoiser = new_denoiser(DenoiserShape(channels=3, width=4, depth=2), seed=1)
    return make_purifier(
        parse_purifier(text),
        diffuser=diffuser or a_gaussian_diffuser(DEVIATION),
        denoiser=denoiser.eval().requires_grad_(requires_grad=False),
    )


def noise_of(images: Tensor) -> PerImageRNG:
    return PerImageRNG(NAMES[: len(images)], seed=5)


def some_images(count: int = 8, side: int = 8) -> Tensor:
    return (DEVIATION * normal(torch.Size((count, 3, side, side)))).clamp(-1, 1)


def posterior_mean(images: Tensor, t: int, schedule: ScheduleName = "linear") -> Tensor:
    """E[x_0 | x_t] of Gaussian pixels."""
    signal = float(a_gaussian_diffuser(schedule=schedule).schedule.alpha_bar[t])
    variance = DEVIATION**2
    factor: float = signal**0.5 * variance / (signal * variance + 1 - signal)
    return factor * images


@pytest.mark.parametrize("t", [1, 10, 20, 300])
@pytest.mark.parametrize("schedule", ["linear", "seed"])
def test_one_shot_estimate_is_posterior_mean_of_gaussian_images(
    t: int, schedule: ScheduleName
) -> None:
    images = some_images()
    purifier = a_purifier(f"oneshot{t}", a_gaussian_diffuser(DEVIATION, schedule=schedule))
    wanted = posterior_mean(images, t, schedule).clamp(-1, 1)
    assert torch.allclose(purifier(images, noise_of(images)), wanted, atol=1e-5)


def test_chain_without_noise_is_a_product_of_factors() -> None:
    diffuser, images = a_gaussian_diffuser(DEVIATION), some_images()
    factor = 1.0
    for t in range(10, 0, -1):
        beta, signal = (
            float(part[t]) for part in (diffuser.schedule.betas, diffuser.schedule.alpha_bar)
        )
        variance = signal * DEVIATION**2 + 1 - signal
        factor *= (1 - beta / variance) / (1 - beta) ** 0.5
    purified = a_purifier("ddpmmean10", diffuser)(images, noise_of(images))
    assert torch.allclose(purified, (factor * images).clamp(-1, 1), atol=1e-5)


def test_mean_of_random_chains_equals_chain_without_noise() -> None:
    images = some_images(1).expand(400, -1, -1, -1)
    noise = PerImageRNG([str(number) for number in range(400)], seed=1)
    drawn = a_purifier("ddpm10")(images, noise)
    still = a_purifier("ddpmmean10")(images[:1], noise.of_rows([0]))
    assert float((drawn.mean(0) - still[0]).abs().max()) < 0.02  # 4 deviations of the mean
    assert float(drawn.std(0).mean()) == pytest.approx(0.034, abs=0.01)


def test_composition_applies_steps_in_order_and_x2_repeats() -> None:
    images = some_images()
    noise = noise_of(images)
    blurred = a_purifier("blur1")(images, noise)
    both = a_purifier("blur1+oneshot20")(images, noise)
    assert torch.equal(both, a_purifier("oneshot20")(blurred, noise))
    once = a_purifier("oneshot20")(images, noise)
    twice = a_purifier("oneshot20x2")
    assert torch.equal(twice(images, noise), a_purifier("oneshot20")(once, noise))
    assert twice.net_calls == 2


def test_steps_of_a_composition_use_different_noise() -> None:
    images = torch.zeros(1, 3, 8, 8)
    noise = noise_of(images)
    once = a_purifier("ddpm10")(images, noise)
    again = a_purifier("ddpm10")(once, noise)
    assert not torch.equal(a_purifier("ddpm10x2")(images, noise), again)


@pytest.mark.parametrize("text", EXAMPLES.values(), ids=EXAMPLES.keys())
def test_purification_is_independent_of_the_batch(text: str) -> None:
    images = some_images(3)
    together = a_purifier(text)(images, noise_of(images))
    alone = [
        a_purifier(text)(images[[row]], noise_of(images).of_rows([row]))
        for row in range(len(images))
    ]
    assert torch.allclose(together, torch.cat(alone), atol=1e-6)
    assert together.shape == images.shape
    assert float(together.abs().max()) <= 1


def test_each_method_is_among_the_examples() -> None:
    assert set(EXAMPLES) == set(SPECS)


def test_step_depends_on_noise_of_each_image() -> None:
    diffuser = a_gaussian_diffuser(DEVIATION)
    clean = smooth_images(3, side=32)
    noisy = clean + torch.tensor([0.001, 0.03, 0.08])[:, None, None, None] * normal(clean.shape)
    purifier = a_purifier("ddpm", diffuser)
    purified = purifier(noisy, noise_of(noisy))
    assert torch.equal(purified[0], noisy[0])
    # 0 steps for the first, and those of these deviations for the others
    wanted = sum(diffuser.schedule.nearest_t(sigma) for sigma in (0.03, 0.08)) / 3
    assert purifier.net_calls == pytest.approx(wanted, abs=1.5)
    limited = a_purifier("ddpm", a_gaussian_diffuser(t_max=2))
    limited(noisy, noise_of(noisy))
    assert limited.net_calls == pytest.approx(4 / 3)


@pytest.mark.parametrize(
    "method", ["oneshot", "ensemble", "smooth", "spin", "diffpure", "ddpmmean"]
)
def test_images_without_noise_are_unchanged(method: str) -> None:
    images = smooth_images(2)
    assert torch.allclose(a_purifier(method)(images, noise_of(images)), images, atol=1e-6)


def test_exact_gradient_is_that_of_the_purifier() -> None:
    images = some_images(1, side=8).double().requires_grad_()
    for text in ("oneshot20", "spin10", "ensemble10", "smooth10", "blur1", "tv0.1"):
        purifier = a_purifier(text)
        assert purifier.gradient == "exact"
        direction = 1e-4 * normal(images.shape).double()
        (slope,) = torch.autograd.grad(purifier(images, noise_of(images)).sum(), images)
        with torch.no_grad():
            ahead, behind = (
                purifier(images + sign * direction, noise_of(images)).sum() for sign in (1, -1)
            )
        assert float((slope * direction).sum()) == pytest.approx(
            float(ahead - behind) / 2, rel=1e-3
        )


def test_other_gradients_are_straight_through() -> None:
    images = some_images(2).requires_grad_()
    weights = normal(images.shape, seed=9)
    for text in ("jpeg75", "median3", "ddpm10", "diffpure5", "ddpmmean10"):
        purifier = a_purifier(text)
        assert purifier.gradient == "identity"
        purified = purifier(images, noise_of(images))
        (slope,) = torch.autograd.grad((weights * purified).sum(), images)
        assert torch.equal(slope, weights), text
        with torch.no_grad():
            assert torch.equal(purified, purifier(images, noise_of(images)))


def test_each_step_of_a_composition_has_its_own_gradient() -> None:
    images = some_images(1).requires_grad_()
    purifier = a_purifier("jpeg75+oneshot20")
    assert purifier.gradient == "identity"
    (slope,) = torch.autograd.grad(purifier(images, noise_of(images)).sum(), images)
    factor = float(posterior_mean(torch.ones(1), 20))
    assert torch.allclose(slope, torch.full_like(slope, factor), atol=1e-5)


def test_values_are_clipped_to_the_range() -> None:
    diffuser = a_gaussian_diffuser(5.0)  # its estimates stretch the images
    images = torch.full((1, 3, 8, 8), 0.99)
    assert float(a_purifier("oneshot300", diffuser)(images, noise_of(images)).max()) == 1


def test_total_variation_method_lowers_its_objective() -> None:
    clean = smooth_images(2)
    noisy = (clean + 0.1 * normal(clean.shape)).clamp(-1, 1)

    def objective(images: Tensor) -> float:
        across, down = _gradient(images)
        length = (across**2 + down**2).sqrt().sum()
        return float((images - noisy).pow(2).sum() / 2 + 0.1 * length)

    purified = a_purifier("tv0.1")(noisy, noise_of(noisy))
    for other in (noisy, clean, purified + 0.01 * normal(clean.shape, 7), 0.9 * purified):
        assert objective(purified) < objective(other)
    flat = torch.full((1, 3, 8, 8), 0.4)
    assert torch.allclose(a_purifier("tv0.1")(flat, noise_of(flat)), flat, atol=1e-6)


def test_divergence_is_negative_adjoint_of_gradient() -> None:
    images, across, down = (normal(torch.Size((1, 1, 6, 7)), seed) for seed in (1, 2, 3))
    slopes = _gradient(images)
    left = (slopes[0] * across).sum() + (slopes[1] * down).sum()
    assert float(left) == pytest.approx(
        -float((images * _divergence(across, down)).sum()), rel=1e-5
    )


def test_high_quality_jpeg_hardly_changes_smooth_images_and_keeps_grey() -> None:
    images = smooth_images(2)
    purified = a_purifier("jpeg95")(images, noise_of(images))
    assert float((purified - images).abs().mean()) < 0.02
    assert torch.equal(purified, round_to_levels(purified))
    grey = make_purifier(parse_purifier("jpeg75"))(images[:, :1], noise_of(images))
    assert grey.shape == (2, 1, 32, 32)


def test_median_removes_single_pixels_and_keeps_edges() -> None:
    image = torch.full((1, 3, 9, 9), -0.5)
    image[..., 5:] = 0.5
    dotted = image.clone()
    dotted[..., 2, 2] = 1
    assert torch.equal(a_purifier("median3")(dotted, noise_of(dotted)), image)
    with pytest.raises(JobError, match="median11 is too large for images of 5x5 pixels"):
        a_purifier("median11")(torch.zeros(1, 3, 5, 5), noise_of(image))


def test_blur_kernel_is_a_gaussian_of_11_pixels() -> None:
    image = torch.zeros(1, 3, 31, 31)
    image[..., 15, 15] = 1
    row = a_purifier("blur1.5")(image, noise_of(image))[0, 0, 15]
    assert row.nonzero()[:, 0].tolist() == list(range(10, 21))  # 11 pixels
    assert float(row[16] / row[15]) == pytest.approx(2.718281828 ** (-1 / (2 * 1.5**2)), rel=1e-3)


def test_new_denoiser_is_the_identity() -> None:
    images = some_images()
    assert torch.equal(a_purifier("dae")(images, noise_of(images)), images)


def test_purifier_without_model_raises_an_error() -> None:
    for text, model in (("oneshot10", "diffuser"), ("jpeg75+dae", "denoiser")):
        with pytest.raises(JobError, match=f"needs a {model}"):
            make_purifier(parse_purifier(text))


def test_untrained_step_raises_an_error() -> None:
    with pytest.raises(JobError, match="t 300 is too large: the diffuser was trained up to t 200"):
        a_purifier("diffpure300", a_gaussian_diffuser(t_max=200))


def test_stop_ends_a_chain_between_two_steps() -> None:
    images, stop = some_images(), threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped before step 300 of 300"):
        a_purifier("diffpure300")(images, noise_of(images), stop=stop)


@pytest.mark.parametrize(
    ("text", "stored", "label", "needs"),
    [
        ("none", "none", "none", ()),
        ("ddpm010", "ddpm10", "ddpm@10", ("diffuser",)),
        ("ddpm", "ddpm", "ddpm", ("diffuser",)),
        ("blur1.50", "blur1.5", "blur@1.5", ()),
        ("oneshot20x2", "oneshot20x2", "oneshot@20x2", ("diffuser",)),
        ("oneshotx1", "oneshot", "oneshot", ("diffuser",)),
        ("jpeg75+oneshot10", "jpeg75+oneshot10", "jpeg@75+oneshot@10", ("diffuser",)),
        ("dae+oneshot5", "dae+oneshot5", "dae+oneshot@5", ("denoiser", "diffuser")),
        ("daex2", "daex2", "daex2", ("denoiser",)),
    ],
)
def test_purifier_has_one_canonical_form(
    text: str, stored: str, label: str, needs: tuple[str, ...]
) -> None:
    name = parse_purifier(text)
    assert (name.text, name.label(), name.needs) == (stored, label, needs)
    assert canonical(stored) == stored


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("jepg75", "Did you mean 'jpeg'?"),
        ("jpeg0", "jpeg0: expected quality from 1 to 100"),
        ("jpeg101", "jpeg101: expected quality from 1 to 100"),
        ("jpeg75.5", "jpeg75.5: expected a whole number for quality"),
        ("jpeg", "jpeg: the quality is missing. Write jpeg<1…100>"),
        ("ddpm0", "ddpm0: expected step t from 1 to 1000"),
        ("ddpm-5", "ddpm-5: expected step t from 1 to 1000"),
        ("ddpm10.5", "ddpm10.5: expected a whole number for step t"),
        ("median4", "median4: expected an odd number for side in pixels"),
        ("dae5", "dae5: dae does not take a number"),
        ("none+jpeg75", "none+jpeg75: none cannot be combined with other purifiers"),
        ("nonex2", "nonex2: none cannot be repeated"),
        ("jpeg75+", "'jpeg75+': a purifier is missing"),
        ("", "'': a purifier is missing"),
        ("jpeg75x0", "jpeg75x0: expected 1 to 9 repetitions"),
        ("jpeg75 50", "'jpeg75 50' is not a purifier. Write jpeg<1…100>"),
        ("+".join(["jpeg75"] * 5), "has 5 purifiers, but at most 4 are allowed"),
    ],
)
def test_unreadable_purifier_is_rejected_with_a_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_purifier(text)


def test_methods_are_found_by_their_files() -> None:
    assert set(SPECS) == METHODS
    assert describe_choices().startswith("none, blur<0.1…20>, dae, ddpm, ddpm<1…1000>")
    assert plugin_modules("jpeg75+oneshot10x2+jpeg50") == (
        "trueface.generators.purification.methods.filters",
        "trueface.generators.purification.methods.estimates",
    )


def test_purifier_declares_gradient_and_randomness() -> None:
    assert parse_purifier("oneshot10+tv0.03+blur1+dae").is_exact
    assert not parse_purifier("oneshot10+jpeg75").is_exact
    assert parse_purifier("oneshot10+smooth10").draws
    assert not parse_purifier("oneshot10+ddpmmean10+jpeg75").draws


def test_untrained_steps_are_rejected_with_both_numbers() -> None:
    reason = refuse_untrained(parse_purifier("jpeg75+diffpure300"), 200, "images:A")
    assert reason.startswith(
        "jpeg75+diffpure300: t 300 is too large: images:A was trained up to t 200"
    )
    assert "t 30 is too large" in refuse_untrained(parse_purifier("ensemble20"), 29, "images:A")
    for text, t_max in (("ddpm10", 10), ("ddpm", 5), ("jpeg75", 5)):
        assert refuse_untrained(parse_purifier(text), t_max, "images:A") == ""


@pytest.mark.parametrize("name", ["jpeg2", "JPEG", "j-peg", ""])
def test_method_names_are_lower_case(name: str) -> None:
    with pytest.raises(ValueError, match="must consist of lower-case letters"):
        register_purifier(name, summary="")


def test_range_requires_a_number() -> None:
    with pytest.raises(ValueError, match="1 to 2 is not a valid range"):
        register_purifier("soap", summary="", low=1, high=2)


def test_noise_estimate_of_random_signs_is_correct() -> None:
    clean = smooth_images(6)
    noisy = clean + 0.05 * normal(clean.shape).sign()
    assert estimate_noise_rms(noisy) == pytest.approx(torch.full((6,), 0.05), rel=0.15)


def test_noise_estimate_of_rounded_smooth_images_is_small() -> None:
    assert float(estimate_noise_rms(smooth_images(6)).max()) < 0.001
    assert float(estimate_noise_rms(round_to_levels(smooth_images(6))).max()) < 0.005


def test_edge_does_not_count_as_noise() -> None:
    image = torch.zeros(1, 3, 32, 32)
    image[..., 16:] = 1
    image[..., 10:20, :] -= 0.5
    assert float(estimate_noise_rms(image)) == 0


def test_noise_estimate_is_per_image_and_independent_of_batch() -> None:
    clean = smooth_images(3)
    noisy = clean + torch.tensor([0.0, 0.03, 0.1])[:, None, None, None] * normal(clean.shape)
    together = estimate_noise_rms(noisy)
    assert torch.equal(together, torch.cat([estimate_noise_rms(row[None]) for row in noisy]))
    assert together[0] < together[1] < together[2]


def test_image_of_two_pixels_is_rejected() -> None:
    with pytest.raises(ValueError, match="needs at least 3x3 pixels"):
        estimate_noise_rms(torch.zeros(1, 3, 2, 9))
