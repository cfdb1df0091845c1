"""Predictions of a diffuser (noise and v, guided, invalid requests), and its networks."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trueface.generators.diffusion.closed_forms import SIDE, drawn, gaussian, small
from trueface.generators.diffusion.diffuser import (
    ddim_invert,
    ddim_sample,
    ddim_step,
    ddpm_reverse,
    load_diffuser,
    read_diffuser,
    save_diffuser,
    timesteps,
)
from trueface.generators.diffusion.networks import EpsNetwork, NetworkShape, build_network
from trueface.generators.diffusion.schedule import ScheduleName, make_schedule
from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError, JobError, UnknownName

SPREAD = 0.5


@pytest.mark.parametrize(
    ("name", "first_beta", "tenth"),
    [("linear", 1e-4, 0.9981052048), ("seed", 1.199e-4, 0.9978076660)],
)
def test_each_step_convention_has_its_noise_at_step_ten(
    name: ScheduleName, first_beta: float, tenth: float
) -> None:
    schedule = make_schedule(name)
    assert float(schedule.betas[1]) == pytest.approx(first_beta, abs=1e-15)
    assert float(schedule.betas[1000]) == pytest.approx(0.02, abs=1e-15)
    assert float(schedule.alpha_bar[10]) == pytest.approx(tenth, abs=5e-10)
    assert float(schedule.alpha_bar[0]) == 1
    assert schedule.alpha_bar.dtype == torch.float64
    assert len(schedule.alpha_bar) == len(schedule.betas) == 1001


def test_seed_convention_includes_beta_of_step_zero() -> None:
    schedule = make_schedule("seed")
    expected = (1 - 1e-4) * (1 - 1.199e-4) * (1 - 1.398e-4)
    assert float(schedule.alpha_bar[2]) == pytest.approx(expected, abs=1e-15)


def test_square_roots_of_scaled_schedule_are_evenly_spaced() -> None:
    schedule = make_schedule("scaled", 1000, 0.00085, 0.012)
    roots = schedule.betas[1:].sqrt()
    assert float(roots[0]) == pytest.approx(0.00085**0.5, abs=1e-12)
    assert torch.allclose(roots.diff(), roots.diff()[0].expand(999), atol=1e-12)
    assert float(schedule.alpha_bar[1000]) == pytest.approx(0.004660098, abs=1e-8)


def test_step_of_a_perturbation_has_noise_of_equal_size() -> None:
    levels = (0.02, 0.03, 0.04, 0.05, 0.08, 0.1)
    steps = {
        name: [make_schedule(name).nearest_t(level) for level in levels]
        for name in ("linear", "seed")
    }
    assert steps["seed"] == [2, 5, 8, 11, 20, 27]
    assert steps["linear"] == [3, 6, 9, 12, 21, 28]
    assert make_schedule("seed").nearest_t(0.0) == 1
    assert make_schedule("seed").nearest_t(9.0) == 1000


def test_clean_image_is_recovered_from_noisy_image_and_noise() -> None:
    schedule, clean, noise = make_schedule("seed"), drawn(3, 1, 4, 4), drawn(3, 1, 4, 4, seed=1)
    t = torch.tensor([1, 300, 900])
    noisy = schedule.add_noise(clean, t, noise)
    assert torch.allclose(schedule.x0(noisy, t, noise), clean, atol=1e-4)
    assert torch.equal(noisy[1:2], schedule.add_noise(clean[1:2], 300, noise[1:2]))


@pytest.mark.parametrize("options", [{"steps": 0}, {"beta_start": 0.1}, {"beta_end": 1.0}])
def test_invalid_schedule_is_rejected(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="not a schedule"):
        make_schedule("linear", **options)  # type: ignore[arg-type]  # of both types


def test_v_prediction_is_converted_to_noise() -> None:
    diffuser, clean, noise = small(prediction="v"), drawn(3, 1, 4, 4), drawn(3, 1, 4, 4, seed=1)
    schedule, t = diffuser.schedule, torch.tensor([5, 400, 990])
    noisy = schedule.add_noise(clean, t, noise)
    v = schedule.signal(t, clean) * noise - schedule.sigma(t, clean) * clean
    assert torch.allclose(diffuser.output_to_eps(v, noisy, t), noise, atol=1e-6)
    assert torch.equal(small().output_to_eps(v, noisy, t), v)


def test_guidance_extrapolates_from_null_through_the_class() -> None:
    diffuser, x, t = small(), drawn(2, 1, SIDE, SIDE), torch.tensor([7, 500])
    named = diffuser.embed(torch.tensor([0, 2]))
    null, cross = diffuser.eps(x, t), diffuser.eps(x, t, named)
    assert torch.allclose(
        diffuser.guided_eps(x, t, named, 3.0), null + 3 * (cross - null), atol=1e-5
    )
    assert torch.equal(diffuser.guided_eps(x, t, named, 1.0), cross)
    assert torch.allclose(diffuser.guided_eps(x, t, named, 0.0), null, atol=1e-6)
    assert not torch.allclose(null, cross)


def test_teacher_without_null_predicts_classes_but_cannot_be_guided() -> None:
    diffuser, x = small(has_null=False), drawn(1, 1, SIDE, SIDE)
    named = diffuser.embed(torch.tensor([1]))
    assert diffuser.guided_eps(x, 5, named, 1.0).shape == x.shape
    refusals: tuple[Callable[[], torch.Tensor], ...] = (
        lambda: diffuser.guided_eps(x, 5, named, 2.0),
        lambda: diffuser.eps(x, 5),
        lambda: diffuser.null(1),
        lambda: diffuser.embed(torch.tensor([3])),
    )
    for refused in refusals:
        with pytest.raises(JobError, match=r"need a null token.*trained with drop 0\..*drop: 0\.1"):
            refused()


def test_untrained_step_raises_error_with_both_numbers() -> None:
    diffuser, x = gaussian(1.0, t_max=300), drawn(2, 1, SIDE, SIDE)
    assert diffuser.eps(x, 300).shape == x.shape
    with pytest.raises(JobError, match=r"noise step 301 .*trained up to step 300"):
        diffuser.eps(x, 301)
    with pytest.raises(JobError, match="step 900"):
        diffuser.eps(x, torch.tensor([3, 900]))


def test_concept_is_found_by_name_and_misspelling_suggests_the_nearest() -> None:
    assert small().label("disc") == 1
    with pytest.raises(UnknownName, match="Did you mean 'cross'"):
        small().label("cros")
    with pytest.raises(JobError, match="trained without classes"):
        gaussian(1.0).embed(torch.tensor([0]))


def test_trained_steps_beyond_the_schedule_are_rejected() -> None:
    with pytest.raises(ValueError, match="t_max 1001"):
        gaussian(1.0, t_max=1001)


def test_diffuser_round_trips_bit_identically(tmp_path: Path) -> None:
    diffuser, path = small(prediction="v"), tmp_path / "a/best.pt"
    diffuser.t_max = 400
    save_diffuser(path, diffuser, {"seed": 3})
    kept = read_diffuser(path)
    back = kept.diffuser
    assert kept.provenance == {"seed": 3}
    assert (back.prediction, back.t_max, back.size, back.channels) == ("v", 400, SIDE, 1)
    assert (back.class_names, back.has_null) == (diffuser.class_names, True)
    assert torch.equal(back.schedule.alpha_bar, diffuser.schedule.alpha_bar)
    x, t = drawn(2, 1, SIDE, SIDE), torch.tensor([3, 400])
    named = torch.tensor([0, 3])
    assert torch.equal(back.eps(x, t, back.embed(named)), diffuser.eps(x, t, diffuser.embed(named)))
    assert not any(weight.requires_grad for weight in back.network.parameters())


def test_files_without_diffuser_raise_a_clear_error(tmp_path: Path) -> None:
    path = tmp_path / "best.pt"
    with pytest.raises(CheckpointError, match=r"diffuser .* does not exist\. Train it first"):
        load_diffuser(path)
    path.write_bytes(b"PK")
    with pytest.raises(CheckpointError, match="cannot be read safely"):
        load_diffuser(path)
    tensor_files.save(path, {"schema": 1, "arch": "resnet18"})
    with pytest.raises(
        CheckpointError, match="is not a diffuser, but the model of another job type"
    ):
        load_diffuser(path)


@pytest.mark.parametrize(
    ("key", "value", "match"),
    [
        ("schema", 9, "of schema 9"),
        ("t_max", "all", "its 't_max' is missing or wrong"),
        ("t_max", 2000, "t_max 2000"),
        ("state", {}, "weights do not fit"),
        ("network", {"network": "mlp"}, "damaged diffuser"),
        ("schedule", {"name": "cosine"}, "unknown schedule 'cosine'"),
    ],
)
def test_wrong_part_is_named(tmp_path: Path, key: str, value: object, match: str) -> None:
    path = tmp_path / "best.pt"
    save_diffuser(path, small(), {})
    tensor_files.save(path, {**tensor_files.load(path), key: value})
    with pytest.raises(CheckpointError, match=match):
        load_diffuser(path)


@pytest.mark.parametrize("t", [1, 10, 300, 900])
def test_clean_image_estimate_is_posterior_mean_of_gaussian_images(t: int) -> None:
    diffuser, x = gaussian(SPREAD), drawn(5, 1, SIDE, SIDE)
    alpha_bar = float(diffuser.schedule.alpha_bar[t])
    variance = alpha_bar * SPREAD**2 + 1 - alpha_bar
    mean = alpha_bar**0.5 * SPREAD**2 / variance * x
    assert torch.allclose(diffuser.schedule.x0(x, t, diffuser.eps(x, t)), mean, atol=1e-5)


def test_reverse_chain_of_gaussian_images_has_closed_form_mean_and_variance() -> None:
    schedule = make_schedule("seed")
    diffuser, start = gaussian(SPREAD, schedule), 10
    x = torch.full((4000, 1, SIDE, SIDE), 0.7)
    rng = torch.Generator().manual_seed(3)
    result = ddpm_reverse(diffuser, x, start, lambda _: torch.randn(x.shape, generator=rng))
    mean, variance = 0.7, 0.0
    for t in range(start, 0, -1):
        beta, alpha_bar = float(schedule.betas[t]), float(schedule.alpha_bar[t])
        factor = (1 - beta / (alpha_bar * SPREAD**2 + 1 - alpha_bar)) / (1 - beta) ** 0.5
        mean, variance = factor * mean, factor**2 * variance + (beta if t > 1 else 0)
    error = (variance / result.numel()) ** 0.5
    assert float(result.mean()) == pytest.approx(mean, abs=5 * error)
    assert float(result.var()) == pytest.approx(variance, rel=0.05)
    still = ddpm_reverse(diffuser, x[:1], start, None)
    assert torch.allclose(still, torch.full_like(still, mean), atol=1e-6)


def test_reverse_chain_ends_on_stop() -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(JobError, match="stopped before step 10 of 10"):
        ddpm_reverse(gaussian(1.0), drawn(1, 1, SIDE, SIDE), 10, None, stop=stop)


def test_sampling_steps_are_evenly_spaced_from_the_last_one() -> None:
    schedule = make_schedule("linear")
    assert timesteps(schedule, 4) == (1000, 750, 500, 250)
    assert timesteps(schedule, 3, 300) == (300, 200, 100)
    assert timesteps(schedule, 1000) == tuple(range(1000, 0, -1))
    with pytest.raises(JobError, match="301 sampling steps"):
        timesteps(schedule, 301, 300)


def test_ddim_step_with_true_noise_gives_exact_image() -> None:
    schedule, clean, noise = make_schedule("linear"), drawn(2, 1, 4, 4), drawn(2, 1, 4, 4, seed=1)
    at = {t: schedule.add_noise(clean, t, noise) for t in (200, 700)}
    assert torch.allclose(ddim_step(schedule, at[700], noise, 700, 200), at[200], atol=1e-5)
    assert torch.allclose(ddim_step(schedule, at[200], noise, 200, 700), at[700], atol=1e-5)
    assert torch.allclose(ddim_step(schedule, at[200], noise, 200, 0), clean, atol=1e-5)


def test_ddim_samples_have_variance_of_gaussian_images() -> None:
    noise = drawn(2000, 1, SIDE, SIDE)
    made = ddim_sample(gaussian(SPREAD), noise, None, steps=100)
    assert float(made.std()) == pytest.approx(SPREAD, rel=0.05)


@pytest.mark.parametrize("conditional", [False, True])
def test_inversion_round_trip_error_falls_with_more_steps(*, conditional: bool) -> None:
    diffuser = small(size=SIDE) if conditional else gaussian(SPREAD)
    embedding = diffuser.embed(torch.tensor([0, 1])) if conditional else None
    images = drawn(2, 1, SIDE, SIDE).clamp(-1, 1) * SPREAD
    errors = []
    with torch.no_grad():
        for steps in (5, 20, 80):
            noise = ddim_invert(diffuser, images, embedding, steps=steps)
            back = ddim_sample(diffuser, noise, embedding, steps=steps)
            errors.append(float((back - images).square().mean().sqrt()))
    assert errors[0] > errors[1] > errors[2]


def test_trajectory_contains_images_before_each_step() -> None:
    noise, seen = drawn(2, 1, SIDE, SIDE), dict[int, Tensor]()
    ddim_sample(gaussian(SPREAD, t_max=300), noise, None, steps=3, step_hook=seen.__setitem__)
    assert list(seen) == [300, 200, 100]
    assert torch.equal(seen[300], noise)


def test_guidance_without_class_raises_an_error() -> None:
    with pytest.raises(JobError, match="Give the class to sample"):
        ddim_sample(small(), drawn(1, 1, SIDE, SIDE), None, steps=2, guidance=2)


UNET = NetworkShape(
    network="unet", size=16, channels=3, classes=2, embedding=8, widths=(8, 16), unshuffle=2
)


MLP = NetworkShape(network="mlp", size=6, channels=1, classes=2, embedding=8, widths=(16, 16))


SHAPES = [
    UNET,
    MLP,
    replace(UNET, classes=0),
    replace(MLP, classes=0),
    replace(UNET, unshuffle=1, widths=(8,), attention=False),
]


def randomize_zero_weights(shape: NetworkShape) -> EpsNetwork:
    """Return a network in which what begins at zero is random."""
    network = build_network(shape, seed=1)
    with torch.no_grad():
        for place, weight in enumerate(network.parameters()):
            if not weight.any():
                weight.copy_(drawn(*weight.shape, seed=place) / 10)
    return network


@pytest.mark.parametrize("shape", SHAPES)
def test_prediction_has_the_shape_of_the_images(shape: NetworkShape) -> None:
    network = randomize_zero_weights(shape)
    x = drawn(3, shape.channels, shape.size, shape.size)
    embedding = drawn(3, shape.embedding) if shape.classes else None
    answer = network(x, torch.tensor([1, 500, 1000]), embedding)
    assert answer.shape == x.shape
    # each image is by itself
    alone = network(x[1:2], torch.tensor([500]), None if embedding is None else embedding[1:2])
    assert torch.allclose(answer[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("shape", [UNET, MLP])
def test_class_acts_only_through_the_condition_maps(
    shape: NetworkShape,
) -> None:
    network = randomize_zero_weights(shape)
    x, t = drawn(1, shape.channels, shape.size, shape.size), torch.tensor([300])
    first, second = drawn(1, 8, seed=1), drawn(1, 8, seed=2)
    assert not torch.allclose(network(x, t, first), network(x, t, second), atol=1e-4)
    maps = network.condition_maps()
    assert all(one.in_features == 8 and one.bias is None for one in maps)
    with torch.no_grad():
        for one in maps:
            one.weight.zero_()
    assert torch.equal(network(x, t, first), network(x, t, second))


@pytest.mark.parametrize("shape", [UNET, MLP])
def test_conditional_network_requires_an_embedding(shape: NetworkShape) -> None:
    network = build_network(shape)
    assert network.table is not None
    assert network.table.weight.shape == (3, 8)
    with pytest.raises(ValueError, match="needs an embedding"):
        network(drawn(1, shape.channels, shape.size, shape.size), torch.tensor([1]), None)


def test_unconditional_network_has_no_embedding_table() -> None:
    for shape in (UNET, MLP):
        network = build_network(replace(shape, classes=0))
        assert network.table is None
        assert network.condition_maps() == ()


def test_weights_depend_on_the_seed() -> None:
    def first(seed: int) -> torch.Tensor:
        return next(build_network(MLP, seed=seed).parameters())

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


def test_unsuitable_sizes_and_widths_are_rejected() -> None:
    with pytest.raises(ValueError, match="not a multiple of 4"):
        build_network(replace(UNET, size=18))
    with pytest.raises(ValueError, match="have the same width"):
        build_network(replace(MLP, widths=(8, 16)))
    with pytest.raises(ValueError, match="the network takes 6 pixels"):
        build_network(MLP)(drawn(1, 1, 5, 5), torch.tensor([1]), drawn(1, 8))
