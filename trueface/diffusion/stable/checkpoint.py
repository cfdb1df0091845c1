"""Networks of Stable Diffusion built again from what a checkpoint says of them."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from trueface.diffusion.network import NetworkShape
from trueface.diffusion.stable.folder import need_packages
from trueface.diffusion.stable.network import NAME, StableNetwork


def rebuild(facts: Mapping[str, Any]) -> StableNetwork:
    """Return a network with untrained weights from `StableNetwork.facts`.

    Raises:
        JobError: the extra `diffusion` is not installed.
        KeyError, TypeError, ValueError: the facts are not of such a network.
    """
    known = {key: facts[key] for key in ("size", "channels", "classes", "embedding")}
    shape = NetworkShape(network=NAME, widths=tuple(facts["widths"]), **known)
    configs = facts["configs"]
    unet, vae = built(configs)
    return StableNetwork(shape, tokens=facts["tokens"], unet=unet, vae=vae, configs=configs)


def built(configs: Mapping[str, Mapping[str, Any]]) -> tuple[nn.Module, nn.Module]:
    """Return an untrained U-Net and an untrained VAE.

    Raises:
        JobError: the extra `diffusion` is not installed.
    """
    need_packages()
    # seconds to import, and an extra: only what works with Stable Diffusion pays for it
    from diffusers import AutoencoderKL, UNet2DConditionModel

    unet: nn.Module = UNet2DConditionModel.from_config(dict(configs["unet"]))
    vae: nn.Module = AutoencoderKL.from_config(dict(configs["vae"]))
    return unet, vae
