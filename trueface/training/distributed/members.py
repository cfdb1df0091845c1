"""The layers that look at a whole batch, while several ranks have a part of it each."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from trueface.training.distributed.batch_norm import synchronized
from trueface.training.distributed.dropout import Rows, SharedDropout


@contextmanager
def joined(model: nn.Module, rows: Rows) -> Iterator[None]:
    """Let batch norm and dropout of `model` see the batch of all ranks while the block runs.

    Parameters and buffers stay the same objects under the same names.

    Args:
        model: on its device; a batch norm in it that is given to several parents stays one.
        rows: where this rank's images stand in the batch of the step.
    """
    before = [
        (parent, name, child)
        for parent in list(model.modules())
        for name, child in parent.named_children()
        if isinstance(child, _BatchNorm | nn.Dropout)
    ]
    shared: dict[nn.Module, nn.Module] = {}
    for parent, name, child in before:
        if child not in shared:
            shared[child] = _shared(child, rows)
        setattr(parent, name, shared[child])
    try:
        yield
    finally:
        for parent, name, child in before:
            child.train(shared[child].training)
            setattr(parent, name, child)


def _shared(layer: nn.Module, rows: Rows) -> nn.Module:
    if isinstance(layer, _BatchNorm):
        return synchronized(layer)
    assert isinstance(layer, nn.Dropout)
    return SharedDropout(layer, rows)
