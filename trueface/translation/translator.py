"""A trained generator with what is needed to use it."""

from dataclasses import dataclass

from torch import Tensor

from trueface.runtime.errors import JobError
from trueface.translation.networks import COLOURS, Generator
from trueface.translation.settings import HALVINGS


@dataclass(frozen=True, slots=True)
class Translator:
    """Gives images other attributes.

    Its weights want no gradients; images do: an attack differentiates through it.
    """

    generator: Generator
    labels: tuple[str, ...]  # names of the attributes
    size: int  # side of the images that it was trained on

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return images with other attributes, N×3×H×W in [-1, 1].

        Args:
            images: likewise; sides are multiples of 4.
            targets: N×K, 0 or 1, in the order of `labels`.

        Raises:
            JobError: images or targets of another shape.
        """
        if images.ndim != 4 or images.shape[1] != COLOURS:
            raise JobError(
                f"a translator takes images of {COLOURS} channels, N×{COLOURS}×H×W, and got "
                f"{'×'.join(map(str, images.shape))}"
            )
        if any(side % (1 << HALVINGS) for side in images.shape[2:]):
            raise JobError(
                f"a translator takes sides that are multiples of {1 << HALVINGS}, and got "
                f"{images.shape[3]}x{images.shape[2]}; resize the images first"
            )
        if targets.shape != (len(images), len(self.labels)):
            raise JobError(
                f"the generator has {len(self.labels)} labels ({', '.join(self.labels)}), and got "
                f"targets {'×'.join(map(str, targets.shape))} for {len(images)} images"
            )
        made: Tensor = self.generator(images, targets)
        return made


def ready(generator: Generator, labels: tuple[str, ...], size: int, device: str) -> Translator:
    """Return a translator on a device, its weights fixed."""
    generator = generator.to(device).eval().requires_grad_(False)
    return Translator(generator, labels, size)
