"""The state of an optimizer by the names of the parameters, and its file.

The state contains the moments of past gradients. Learning rate and weight decay are not part of it:
a fine-tuning has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from trueface.runtime import tensor_files
from trueface.runtime.errors import CheckpointError

SCHEMA = 1  # version of an optimizer's state
MOMENTS = ("exp_avg", "exp_avg_sq")  # moments of Adam and AdamW alike: the shape of the parameter
STEP = "step"
MOMENTUM = "momentum_buffer"  # moment of SGD, of that shape, too
OptimizerState = Mapping[str, Mapping[str, Tensor]]  # parameter → moment → values


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerCheckpoint:
    """The state of an optimizer as stored on disk."""

    epoch: int  # after which it was taken
    state: OptimizerState


def optimizer_state_dict(model: nn.Module, optimizer: Optimizer) -> OptimizerState:
    """Return a copy of the state of every parameter that `optimizer` has moved."""
    return {
        name: {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in optimizer.state[parameter].items()
            if key in (*MOMENTS, STEP, MOMENTUM) and value is not None
        }
        for name, parameter in network_of(model).named_parameters()
        if optimizer.state.get(parameter)
    }


def load_optimizer_state_dict(model: nn.Module, optimizer: Optimizer, state: OptimizerState) -> int:
    """Load `state` into `optimizer` and return the number of matching parameters.

    Other parameters start with an empty state: those that were not trained before, those of another
    shape, and all if the state is of another kind of optimizer.
    """
    count, shaped = 0, (MOMENTUM,) if isinstance(optimizer, SGD) else MOMENTS
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in network_of(model).named_parameters():
        kept = state.get(name, {})
        fits = all(key in kept and kept[key].shape == parameter.shape for key in shaped)
        fits = fits and (STEP in kept or shaped != MOMENTS)
        if not fits or id(parameter) not in trained:
            continue
        # like the parameter, so that device and memory format are those of its gradients
        own = {key: torch.empty_like(parameter).copy_(kept[key]) for key in shaped}
        if shaped == MOMENTS:
            own[STEP] = kept[STEP].to(parameter.device, copy=True)  # a fused optimizer counts there
        optimizer.state[parameter] = own
        count += 1
    return count


def network_of(model: nn.Module) -> nn.Module:
    """Return the part of a model that checkpoints hold: all of it but the preprocessing."""
    return getattr(model, "network", model)


def save_optimizer(path: Path, checkpoint: OptimizerCheckpoint) -> None:
    """Write a state atomically; folders are made as needed."""
    content = {
        "schema": SCHEMA,
        "epoch": checkpoint.epoch,
        "state": {name: dict(values) for name, values in checkpoint.state.items()},
    }
    tensor_files.save(path, content)


def load_optimizer(path: Path) -> OptimizerCheckpoint:
    """Read a state; nothing in the file is executed.

    Raises:
        CheckpointError: absent, cut off, not ours, or holding more than plain values.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"optimizer state {path} does not exist. Train that model with save_optimizer: true."
        ) from error
    except tensor_files.BrokenFileError as error:
        raise CheckpointError(f"optimizer state {path} cannot be read safely: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is not an optimizer state of schema {SCHEMA}")
    if not isinstance(content.get("epoch"), int) or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"{path} is a damaged optimizer state. Train that model again.")
    return OptimizerCheckpoint(epoch=content["epoch"], state=content["state"])
