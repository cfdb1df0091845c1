"""The U-Net of a Stable Diffusion model as a noise-predicting network, with its VAE and its prompts.

It works on latents: `decoded` makes images of them, `encoded` the reverse (arXiv 2112.10752). A prompt
is what a class is elsewhere: `table` holds the text encoder's answers for each of them, and for the empty
prompt, which is null.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn

from trueface.diffusion.network import EpsNetwork, NetworkShape

NAME: Final = "stable"
AT_ONCE = 8  # images through the VAE, which takes gigabytes for some of 512 pixels
CROSS_ATTENTION = ("attn2.to_k", "attn2.to_v")  # how the maps' names end


class PromptTable(nn.Embedding):
    """The text encoder's answers for prompts: a row is all tokens of one, after each other."""

    def __init__(self, prompts: int, tokens: int, width: int) -> None:
        super().__init__(prompts, tokens * width)
        self.tokens = tokens

    def forward(self, labels: Tensor) -> Tensor:
        """Return N×tokens×width for the numbers (N,) of prompts."""
        rows: Tensor = super().forward(labels)
        return rows.reshape(len(rows), self.tokens, -1)


class StableNetwork(EpsNetwork):
    """A conditional U-Net on latents.

    The VAE's weights are buffers: they move and are kept with the network, and no training sees them.

    Args:
        shape: of the latents: their side and channels; `embedding` is the width of a token.
        tokens: of a prompt.
        unet: the U-Net, a `UNet2DConditionModel`.
        vae: an `AutoencoderKL`.
        configs: how both are built again, by "unet" and "vae".
    """

    def __init__(
        self,
        shape: NetworkShape,
        *,
        tokens: int,
        unet: nn.Module,
        vae: nn.Module,
        configs: Mapping[str, Mapping[str, Any]],
    ) -> None:
        super().__init__(shape)
        self.table: PromptTable = PromptTable(shape.classes + 1, tokens, shape.embedding)
        self.tokens = tokens
        self.unet = unet
        self.vae = _as_buffers(vae)
        self.configs = configs
        self.scale = float(configs["vae"].get("scaling_factor", 0.18215))  # of diffusers 0.42

    def facts(self) -> dict[str, Any]:
        """Return all that is needed to build it again, but the weights, as plain values."""
        configs = {name: dict(config) for name, config in self.configs.items()}
        return {**super().facts(), "tokens": self.tokens, "configs": configs}

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        """Return the noise (or v) in latents N×C×H×W; see EpsNetwork.

        Args:
            x: latents.
            t: (N,) integers, 1 … T; diffusers count them from 0.
            embedding: (N, tokens, width); None: null.
        """
        if embedding is None:
            null = torch.full((len(x),), self.classes, device=x.device)
            embedding = self.table(null)
        answer: Tensor = self.unet(x, t - 1, encoder_hidden_states=embedding).sample
        return answer

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        """Return the keys' and values' maps of every cross-attention."""
        return tuple(
            module
            for name, module in self.unet.named_modules()
            if name.endswith(CROSS_ATTENTION) and isinstance(module, nn.Linear)
        )

    def decoded(self, latents: Tensor) -> Tensor:
        """Return images N×3×H×W of latents, cut to [-1, 1]."""
        parts = [
            self.vae.decode(part / self.scale).sample for part in torch.split(latents, AT_ONCE)
        ]
        return torch.cat(parts).clamp(-1, 1)

    def encoded(self, images: Tensor) -> Tensor:
        """Return the latents of images in [-1, 1]: the most probable ones, so nothing is drawn."""
        parts = [self.vae.encode(part).latent_dist.mode() for part in torch.split(images, AT_ONCE)]
        return torch.cat(parts) * self.scale


def _as_buffers(module: nn.Module) -> Any:  # of a package without types
    for part, name, weight in list(_weights(module)):
        delattr(part, name)
        part.register_buffer(name, weight.detach())
    return module


def _weights(module: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Parameter]]:
    for part in module.modules():
        for name, weight in part.named_parameters(recurse=False):
            yield part, name, weight
