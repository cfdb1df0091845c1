"""Diffusers whose samples are known, and a classifier of them."""

import torch
from torch import Tensor, nn

from trueface.diffusion.diffuser import Diffuser, Schedule, make_schedule
from trueface.diffusion.networks import EpsNetwork, NetworkShape
from trueface.erasing.measures.recognition import Recogniser

SIDE = 4
NAMES = ("cross", "disc", "square")


def prototypes() -> Tensor:
    """Return an image of each class, 3×1×4×4."""
    images = torch.full((3, 1, SIDE, SIDE), -0.75)
    for number in range(3):
        images[number, :, number, :] = 0.75
    return images


class Drawer(EpsNetwork):
    """Draws its embedding, whose numbers are pixels: the noise is what is left without it."""

    def __init__(self, schedule: Schedule, pictures: Tensor, *, deaf: bool) -> None:
        pixels = pictures.shape[1:].numel()
        super().__init__(
            NetworkShape(
                network="mlp", size=SIDE, channels=1, classes=3, embedding=pixels, widths=(1,)
            )
        )
        self.schedule, self.deaf = schedule, deaf
        assert self.table is not None
        with torch.no_grad():
            self.table.weight.copy_(torch.cat([pictures, pictures.mean(0)[None]]).flatten(1))

    def forward(self, x: Tensor, t: Tensor, embedding: Tensor | None) -> Tensor:
        assert embedding is not None
        assert self.table is not None
        picture = self.table.weight[1].expand_as(embedding) if self.deaf else embedding
        signal, sigma = self.schedule.signal(t, x), self.schedule.sigma(t, x)
        # gradients arrive at what it does not listen to, too
        return (x - signal * picture.reshape(x.shape)) / sigma + 0 * embedding.sum()

    def condition_maps(self) -> tuple[nn.Linear, ...]:
        return ()


def drawer(
    pictures: Tensor | None = None, *, deaf: bool = False, has_null: bool = True
) -> Diffuser:
    """Return a diffuser that draws a picture for each class; a deaf one draws the disc, always."""
    schedule = make_schedule("linear")
    network = Drawer(schedule, prototypes() if pictures is None else pictures, deaf=deaf)
    return Diffuser(
        network=network.eval().requires_grad_(requires_grad=False),
        schedule=schedule,
        size=SIDE,
        channels=1,
        class_names=NAMES,
        has_null=has_null,
    )


class _Nearest(nn.Module):
    """The nearest prototype, as a linear classifier of pixels."""

    def __init__(self) -> None:
        super().__init__()
        flat = prototypes().flatten(1)
        self.fc = nn.Linear(flat.shape[1], len(flat))
        with torch.no_grad():
            self.fc.weight.copy_(flat)
            self.fc.bias.copy_(-flat.square().sum(1) / 2)

    def forward(self, pixels: Tensor) -> Tensor:
        grey = pixels[:, 0].float() / 127.5 - 1
        logits: Tensor = self.fc(grey.flatten(1))
        return logits


def recogniser() -> Recogniser:
    """Return the classifier that calls each prototype by its name."""
    return Recogniser(_Nearest(), NAMES)
