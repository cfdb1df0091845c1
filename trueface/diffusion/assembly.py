"""Networks by the name of their architecture."""

import torch

from trueface.diffusion.mlp import ResidualMlp
from trueface.diffusion.network import EpsNetwork, NetworkShape
from trueface.diffusion.unet import UNet
from trueface.runtime.rng import derive


def build_network(shape: NetworkShape, *, seed: int = 0) -> EpsNetwork:
    """Return an untrained network; its weights follow from the seed.

    Raises:
        ValueError: no network has this shape.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(derive("weights", seed))
        if shape.network == "mlp":
            return ResidualMlp(shape)
        if shape.network == "unet":
            return UNet(shape).to(memory_format=torch.channels_last)
    raise ValueError(f"no network {shape.network!r}; there are unet and mlp")
