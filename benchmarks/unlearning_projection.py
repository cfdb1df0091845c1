"""How exactly projected gradient unlearning keeps what it promises, on a network with convolutions."""

import copy
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from trueface.data.examples import Examples, examples
from trueface.runtime.progress import RunContext
from trueface.unlearning.api import run
from trueface.unlearning.hyperparameters import TrainingOptions
from trueface.unlearning.optimization import default_training
from trueface.unlearning.subspaces import (
    CovarianceAccumulator,
    groups_of,
    layers_of,
    principal_subspace,
)

CLASSES, PER_CLASS, SIDE = 3, 32, 32
POSITIONS, RETAINED = 64, 0.95  # the method's defaults
WANTED_LEAK, WANTED_SUM = 1e-4, 1e-5


def projection_lines(seeds: Sequence[int]) -> Iterator[Sequence[str]]:
    """Yield the share of the update of ResNet-18's layers in protected directions, by seed."""
    yield (
        "network", "seed", "layers that moved", "largest |dW U| / |dW|", "(wanted)",
        "C - C_forget against C_retain", "(wanted)",
    )  # fmt: skip
    for seed in seeds:
        torch.manual_seed(seed)
        model = resnet18(num_classes=CLASSES)
        everything = _images(seed)
        options = TrainingOptions(epochs=3, lr=0.05)
        default_training(
            model, everything, "trained", validation=everything, options=options, watch=RunContext()
        )
        forget = everything.subset([r for r, c in enumerate(everything.trained) if c == 0])
        retain = everything.subset([r for r, c in enumerate(everything.trained) if c != 0])
        before = copy.deepcopy(model)
        done = run(
            "pgu",
            model,
            forget=forget,
            retain=retain,
            validation=retain,
            options={"epochs": 10, "lr": 0.5, "lr_end": 0.1},
        )
        whole, gone, kept = (_covariances(before, some) for some in (everything, forget, retain))
        found = {name: whole[name] - gone[name] for name in whole}
        leaks = list(_leaks(before, done.model, kept))
        yield (
            "ResNet-18", f"{seed}", f"{len(leaks)}", f"{max(leaks):.1e}", f"{WANTED_LEAK:.0e}",
            f"{_difference(found, kept):.1e}", f"{WANTED_SUM:.0e}",
        )  # fmt: skip


def _images(seed: int) -> Examples:
    """Return small images whose colour depends on their class."""
    rng = torch.Generator().manual_seed(seed)
    labels = torch.arange(CLASSES).repeat(PER_CLASS)
    colours = torch.rand(CLASSES, 3, generator=rng)
    noise = 0.2 * torch.randn(len(labels), 3, SIDE, SIDE, generator=rng)
    return examples((colours[labels][:, :, None, None] + noise).clamp(0, 1), labels)


def _covariances(model: nn.Module, some: Examples) -> Mapping[str, Tensor]:
    sums = CovarianceAccumulator(layers_of(model), POSITIONS)
    model.eval()
    with torch.no_grad(), sums.accumulate_inputs():
        for batch in some.batches("trained", epoch=None):
            sums.positions = batch.indices
            model(batch.inputs)
    return sums.found


def _leaks(before: nn.Module, after: nn.Module, kept: Mapping[str, Tensor]) -> Iterator[float]:
    """Yield, of each layer that moved, the share of its way that lies where it must not."""
    for name, found in kept.items():
        way = _weights(after, name) - _weights(before, name)
        if way.any():
            # the class rule protects one more
            free = principal_subspace(found, RETAINED, "s", 1).project_out(way)
            yield float((way - free).norm() / way.norm())


def _difference(found: Mapping[str, Tensor], kept: Mapping[str, Tensor]) -> float:
    """Return by how much a difference of covariances misses what it should be, at most, relatively."""
    return max(float((found[name] - kept[name]).norm() / kept[name].norm()) for name in kept)


def _weights(model: nn.Module, name: str) -> Tensor:
    """Return a layer's weights and bias, (G, O, D)."""
    layer = layers_of(model)[name]
    values = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    groups = groups_of(layer)
    return torch.cat([one.detach().reshape(groups, len(one) // groups, -1) for one in values], 2)
