"""AltFreezing: Z. Wang et al., "AltFreezing for more general video face forgery detection", CVPR 2023, section 3.2.

arXiv 2307.08317. Spatial kernels (1 × k × k) and temporal ones (k × 1 × 1) are frozen in turn, so that a detector cannot
rely on one kind of trace. All other weights always learn: kernels over both, kernels of one position (1 × 1 × 1), batch
norms and the last layer. The loss is binary cross-entropy.

Groups are those of the published program (github.com/ZhendongWang6/AltFreezing, slowfast/models/optimizer.py). It
contains no loop, and its settings name turns of 20 and of 10 steps. Differences and choices:

1. Spatial kernels are frozen first.
2. The program has an optimizer for each group, so that weights of both groups have two momenta. Here is one optimizer.
3. Frozen weights have no gradient, so that neither momentum nor weight decay moves them.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trueface.data.batch import Batch
from trueface.runtime.errors import JobError
from trueface.training.config import ObjectiveOptions
from trueface.training.objectives.protocol import (
    Logs,
    Objective,
    TrainingFacts,
    per_sample_bce,
)
from trueface.training.objectives.registry import register_objective

STEPS = "altfreezing_steps"  # key in the state of an interrupted training


class FrozenInTurn(NamedTuple):
    """The weights that are frozen in turn, by the names of their parameters."""

    spatial: frozenset[str]  # kernels 1 × k × k
    temporal: frozenset[str]  # kernels k × 1 × 1


@register_objective(
    "altfreezing",
    summary="cross-entropy with spatial and temporal kernels frozen in turn, of model altfreezing",
    binary=True,
    mean=True,
    options=("altfreezing_steps",),
    network="altfreezing",
)
class AltFreezing(Objective):
    """Binary cross-entropy of clips, with two groups of weights that are frozen in turn."""

    def prepare(self, facts: TrainingFacts, options: ObjectiveOptions) -> None:
        """Read the length of a turn."""
        del facts
        self._turn, self._steps = options.altfreezing_steps, 0

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return the loss and the number of correct clips."""
        losses, logs = per_sample_bce(model, batch)
        return losses.mean(), logs

    def before_step(self, model: nn.Module) -> None:
        """Delete the gradients of the frozen weights.

        Raises:
            JobError: the network lacks the kernels of a group.
        """
        groups = group_weights(model)
        frozen = groups.temporal if self._steps // self._turn % 2 else groups.spatial
        for name, parameter in model.named_parameters():
            if name in frozen:
                parameter.grad = None

    def stepped(self) -> None:
        """Count the step."""
        self._steps += 1

    def state(self) -> dict[str, Tensor]:
        """Return the number of steps."""
        return {STEPS: torch.tensor(self._steps)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Restore the number of steps."""
        self._steps = int(state[STEPS])


def group_weights(model: nn.Module) -> FrozenInTurn:
    """Return the names of a model's weights that are frozen in turn.

    Raises:
        JobError: it has no spatial kernels, or no temporal ones.
    """
    kernels = {
        name: (module.kernel_size[0], max(module.kernel_size[1:]))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv3d)
    }
    spatial = [name for name, (frames, side) in kernels.items() if frames == 1 < side]
    temporal = [name for name, (frames, side) in kernels.items() if side == 1 < frames]
    if not spatial or not temporal:
        raise JobError(
            "objective: altfreezing needs a network with kernels of 1 × k × k and of k × 1 × 1. Set model: "
            "altfreezing, or choose another objective."
        )
    named = {name for name, _ in model.named_parameters()}
    return FrozenInTurn(_parameters(spatial, named), _parameters(temporal, named))


def _parameters(layers: list[str], names: set[str]) -> frozenset[str]:
    """Return the names of the weights and biases of layers."""
    every = {f"{layer}.{word}" for layer in layers for word in ("weight", "bias")}
    return frozenset(every & names)
