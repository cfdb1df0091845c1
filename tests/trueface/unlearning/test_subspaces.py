import math

import pytest
import torch
from torch import Tensor, nn

from launcher.api import JobError
from trueface.unlearning.subspaces import (
    CovarianceAccumulator,
    Energy,
    Layer,
    draw_stratified_places,
    full_precision_matmul,
    layers_of,
    patches,
    principal_subspace,
    splitmix64,
    unfold_inputs,
)

CONVOLUTIONS = {
    "plain": nn.Conv2d(4, 6, 3, bias=False),
    "padded": nn.Conv2d(4, 6, 3, padding=1),
    "strided": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "dilated": nn.Conv2d(4, 6, 3, dilation=2, padding=2),
    "odd": nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    "one by one": nn.Conv2d(4, 6, 1, bias=False),
    "one by one, strided": nn.Conv2d(4, 6, 1, stride=2),
    "grouped": nn.Conv2d(4, 6, 3, groups=2, stride=2, padding=1),
    "depthwise": nn.Conv2d(4, 4, 3, groups=4, padding=1, bias=False),
    "as large": nn.Conv2d(4, 6, (3, 4), padding="same"),
    "not padded": nn.Conv2d(4, 6, 3, padding="valid"),
    "mirrored": nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"),
}


def accumulate(model: nn.Module, inputs: Tensor, *, most: int = 1000) -> dict[str, Tensor]:
    found = CovarianceAccumulator(layers_of(model), most)
    with torch.no_grad(), found.accumulate_inputs():
        found.positions = torch.arange(len(inputs))
        model(inputs)
    return found.found


def all_patches(layer: Layer, view: Tensor) -> Tensor:
    taken = torch.arange(view.shape[1:4].numel()).expand(len(view), -1)
    return torch.cat(list(patches(layer, view, taken)), 1)


def relative_distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


def test_splitmix64_gives_the_published_numbers() -> None:
    """The first numbers after the seed 0; sums in caches belong to samples that are drawn by them."""
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
    assert [number % (1 << 64) for number in splitmix64(torch.arange(1, 5)).tolist()] == published


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_patches_reproduce_the_output_of_the_convolution(name: str) -> None:
    layer = CONVOLUTIONS[name]
    inputs = torch.randn(3, 4, 9, 8, generator=torch.Generator().manual_seed(0))
    found = all_patches(layer, unfold_inputs(layer, inputs, 3))  # (G, N, D)

    weights = layer.weight.reshape(layer.groups, -1, layer.weight[0].numel())
    if layer.bias is not None:
        weights = torch.cat([weights, layer.bias.reshape(layer.groups, -1, 1)], 2)
    said = layer(inputs)
    again = (found @ weights.mT).permute(1, 0, 2).reshape(3, *said.shape[2:], -1)
    assert torch.allclose(again.permute(0, 3, 1, 2), said, atol=1e-5)


def test_large_inputs_are_unfolded_in_parts_of_an_equal_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = nn.Conv2d(4, 4, 3, padding=1, bias=False)
    inputs = torch.randn(9, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    view, taken = unfold_inputs(layer, inputs, 9), torch.arange(64).expand(9, -1)
    (whole,) = patches(layer, view, taken)
    monkeypatch.setattr("trueface.unlearning.subspaces.MOST_NUMBERS", 64 * 36 * 6 + 1)
    pieces = list(patches(layer, view, taken))
    assert [piece.shape[1] // 64 for piece in pieces] == [6, 3]
    assert torch.equal(torch.cat(pieces, 1), whole)


def test_crops_and_tokens_count_as_positions_of_their_sample() -> None:
    convolution, linear = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(5, 2)
    maps = torch.randn(8, 3, 6, 6)
    assert unfold_inputs(convolution, maps, 4).shape[1:4] == (2, 6, 6)
    assert all_patches(convolution, unfold_inputs(convolution, maps, 4)).shape == (1, 8 * 36, 28)
    assert unfold_inputs(linear, torch.randn(4, 7, 5), 4).shape[1:4] == (7, 1, 1)
    assert torch.equal(
        all_patches(convolution, unfold_inputs(convolution, maps, 4)),
        all_patches(convolution, unfold_inputs(convolution, maps, 8)),
    )


def test_input_without_a_sample_dimension_is_used_whole() -> None:
    linear = nn.Linear(5, 2, bias=False)
    inputs = torch.randn(7, 5)
    found = CovarianceAccumulator({"one": linear}, most=2)
    found.positions = torch.arange(3)
    with found.accumulate_inputs():
        linear(inputs)
    assert relative_distance(found.found["one"][0], (inputs.T @ inputs).double()) < 1e-6


def test_drawn_positions_depend_only_on_the_sample() -> None:
    positions = torch.tensor([5, 900_000_000_000, 3, 0])
    found = draw_stratified_places(positions, 100, 16, "layer")
    assert torch.equal(found[[2]], draw_stratified_places(torch.tensor([3]), 100, 16, "layer"))
    assert not torch.equal(found, draw_stratified_places(positions, 100, 16, "another"))
    assert len({tuple(row) for row in found.tolist()}) == 4
    assert int(found.min()) >= 0
    assert int(found.max()) < 100


def test_sum_over_drawn_positions_approximates_the_sum_over_all() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))
    inputs = torch.rand(200, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    whole, part = accumulate(model, inputs)["0"], accumulate(model, inputs, most=16)["0"]
    assert relative_distance(part, whole) < 0.02


def test_sums_are_exact_in_half_precision() -> None:
    model = nn.Sequential(nn.Linear(6, 3))
    inputs = torch.rand(50, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = accumulate(model, inputs)["0"]
    assert torch.equal(half, accumulate(model, inputs)["0"])


def test_frozen_or_unused_layer_has_no_covariance() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2))
    model[0].requires_grad_(False)
    never = nn.Identity()
    never.add_module("inner", nn.Linear(3, 3))
    model.append(never)
    assert set(accumulate(model, torch.rand(4, 3))) == {"1"}


@pytest.mark.parametrize("energy", ["s", "s2"])
@pytest.mark.parametrize("retained", [0.3, 0.9, 0.999])
def test_subspace_equals_the_singular_vectors_of_the_inputs(
    energy: Energy, retained: float
) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(200, 8, generator=rng).double() * torch.linspace(3, 0.1, 8)
    _, values, right = torch.linalg.svd(inputs, full_matrices=False)
    spectrum = values if energy == "s" else values.square()
    count = int((spectrum.cumsum(0) / spectrum.sum() <= retained).sum())

    found = principal_subspace((inputs.T @ inputs)[None], retained, energy)
    assert found.protected == (count,)
    assert found.share == pytest.approx(1 - count / 8)
    gradient = torch.randn(1, 5, 8, generator=rng)
    core = right[:count].float()
    assert torch.allclose(
        found.project_out(gradient), gradient - gradient @ core.T @ core, atol=1e-5
    )
    assert principal_subspace((inputs.T @ inputs)[None], retained, energy, more=1).protected == (
        count + 1,
    )


def gram_schmidt(columns: Tensor) -> Tensor:
    """Return an orthonormal basis (D, k) of columns (D, k) by classical Gram-Schmidt."""
    basis = columns[:, :0]
    for column in columns.T:
        rest = column - basis @ (basis.T @ column)
        basis = torch.cat([basis, (rest / rest.norm())[:, None]], 1)
    return basis


@pytest.mark.parametrize("energy", ["s", "s2"])
@pytest.mark.parametrize("images", [16, 60])  # fewer and more than there are inputs of a layer
@pytest.mark.parametrize(
    "layer", [nn.Linear(24, 3, bias=False), nn.Conv2d(3, 4, 3, padding=1, bias=False)]
)
def test_subspace_equals_gram_schmidt_of_the_singular_vectors_of_stored_activations(
    layer: Layer, images: int, energy: Energy
) -> None:
    rng = torch.Generator().manual_seed(0)
    shape = (images, 24) if isinstance(layer, nn.Linear) else (images, 3, 5, 5)
    inputs = (torch.randn(shape, generator=rng) * 0.7 + 0.5).relu()  # as after a layer before
    activations = all_patches(layer, unfold_inputs(layer, inputs, images))[0].double()  # (N, D)
    _, values, right = torch.linalg.svd(activations, full_matrices=False)
    spectrum = values if energy == "s" else values.square()
    count = int((spectrum.cumsum(0) / spectrum.sum() <= 0.95).sum())
    assert 0 < count < activations.shape[1]
    basis = gram_schmidt(right[:count].T)
    mixed = gram_schmidt(right[:count].T @ torch.randn(count, count, generator=rng).double())

    (covariance,) = accumulate(nn.Sequential(layer), inputs).values()
    found = principal_subspace(covariance, 0.95, energy)
    width = activations.shape[1]
    ours = torch.eye(width) - found.project_out(torch.eye(width)[None])[0]
    assert found.protected == (count,)
    # the order and the choice of the vectors do not matter; the largest difference was 1.8e-6
    for columns in (basis, mixed):
        assert float((ours.double() - columns @ columns.T).abs().max()) < 1e-5
    assert float((basis - right[:count].T).abs().max()) < 1e-12  # they are orthonormal already


def test_smaller_basis_is_stored() -> None:
    spectrum = torch.diag(torch.tensor([9.0, 4, 1, 1, 1, 1, 1, 1]).double())[None]
    few, many = principal_subspace(spectrum, 0.5, "s"), principal_subspace(spectrum, 0.95, "s")
    assert (few.free, few.basis.shape) == (False, (1, 8, 2))
    assert (many.free, many.basis.shape) == (True, (1, 8, 1))


@pytest.mark.parametrize("retained", [0.3, 0.7, 0.97])
def test_each_group_has_separate_directions(retained: float) -> None:
    rng = torch.Generator().manual_seed(0)
    inputs = torch.randn(3, 90, 9, generator=rng).double()
    inputs[0] *= torch.linspace(1, 0.01, 9)
    inputs[2, :, 4:] = 0
    whole = inputs.mT @ inputs
    gradient = torch.randn(3, 2, 9, generator=rng)
    together = principal_subspace(whole, retained, "s")
    assert len(set(together.protected)) > 1
    for group in range(3):
        alone = principal_subspace(whole[group][None], retained, "s")
        assert alone.protected == (together.protected[group],)
        spared = alone.project_out(gradient[group][None])[0]
        assert torch.allclose(together.project_out(gradient)[group], spared, atol=1e-5)


def test_layer_without_input_is_not_protected() -> None:
    found = principal_subspace(torch.zeros(1, 4, 4).double(), 0.95, "s", more=1)
    gradient = torch.randn(1, 2, 4)
    assert found.protected == (0,)
    assert torch.equal(found.project_out(gradient), gradient)


def test_negative_difference_counts_as_zero() -> None:
    found = principal_subspace(torch.diag(torch.tensor([4.0, 1, -1e-3]).double())[None], 0.99, "s")
    assert found.protected == (1,)


def test_non_finite_numbers_are_rejected() -> None:
    with pytest.raises(JobError, match="not finite"):
        principal_subspace(torch.full((1, 2, 2), math.nan).double(), 0.9, "s")


def test_matmul_precision_setting_is_restored() -> None:
    before = torch.backends.cuda.matmul.allow_tf32
    try:
        torch.backends.cuda.matmul.allow_tf32 = True
        with full_precision_matmul(torch.device("cpu")):
            assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.backends.cuda.matmul.allow_tf32
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gpu_sums_and_divides_like_the_cpu() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2))
    inputs = torch.rand(60, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    wanted = accumulate(model, inputs, most=10)
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        found = accumulate(model.cuda(), inputs.cuda(), most=10)
        for name, one in wanted.items():
            assert (
                relative_distance(found[name].cpu(), one) < 1e-3
            )  # the convolution before may use TF32
            assert principal_subspace(found[name], 0.9, "s").basis.device.type == "cuda"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
