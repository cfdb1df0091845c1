"""Attacked images: within their budget, in whole grey levels, a function of image, attack and detector.

Everything is in grey levels 0 … 255. What is drawn for an image follows from its name, so that
neither the other images of its batch nor the order of loading changes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from trueface.attacks.registry import SPECS, Attack
from trueface.runtime.errors import JobError
from trueface.runtime.rng import torch_rng

TOWARDS_REAL, TOWARDS_FAKE = -1.0, 1.0
LEVELS = 255.0
IMAGES, CLIPS = 4, 6  # dimensions of a batch
QUERIES = 500  # queries of an attack by scores for each image


class Target:
    """A detector under attack, in evaluation mode; it counts what it is asked.

    Args:
        model: from pixels (B, 3, H, W), float32 in 0 … 1, to one logit an image, (B, 1).
        device: where it computes.
        threshold: an image with a higher logit is classified as fake.
    """

    def __init__(self, model: nn.Module, device: str, threshold: float = 0.0) -> None:
        self._model, self._device, self._threshold = model.eval(), device, threshold
        self.queries = 0  # images that were scored or differentiated

    def logits(self, levels: Tensor) -> Tensor:
        """Return how far logits lie above the threshold, (B,), of images (B, 3, H, W) in 0 … 255."""
        self.queries += len(levels)
        with torch.no_grad():
            logits: Tensor = self._model(levels.to(self._device) / LEVELS)
        return logits.float().squeeze(1).cpu() - self._threshold

    def gradient(self, levels: Tensor) -> Tensor:
        """Return the gradient of each image's logit by its levels, (B, 3, H, W) float32."""
        self.queries += len(levels)
        with torch.enable_grad():
            levels_with_gradient = levels.detach().to(self._device).requires_grad_()
            logits = self._model(levels_with_gradient / LEVELS)
            (gradient,) = torch.autograd.grad(logits.float().sum(), levels_with_gradient)
        return gradient.float().cpu()


@dataclass(frozen=True, slots=True, kw_only=True)
class AttackInput:
    """The input of an attack."""

    images: Tensor  # (B, 3, H, W) or clips (B, crops, T, 3, H, W), float32, whole levels
    directions: Tensor  # (B,) float32: 1 raises the logit, -1 lowers it
    budget: float  # levels
    target: Target
    generators: Sequence[torch.Generator]  # one an image
    queries: int = QUERIES  # an image, for attacks by scores

    def per_image(self, values: Tensor) -> Tensor:
        """Return values of each image, (B,), in a shape that multiplies images."""
        return values.view(-1, *[1] * (self.images.ndim - 1))

    def project_to_budget(self, images: Tensor) -> Tensor:
        """Return images brought back to the budget and to 0 … 255."""
        low, high = self.images - self.budget, self.images + self.budget
        return images.maximum(low).minimum(high).clamp(0, LEVELS)

    def draw_per_image(self, draw: Callable[[torch.Generator], Tensor]) -> Tensor:
        """Return what is drawn for each image, stacked."""
        return torch.stack([draw(generator) for generator in self.generators])


AttackFunction = Callable[[AttackInput], Tensor]  # → (B, 3, H, W) float32, levels


def apply_attack(
    pixels: Tensor,
    names: Sequence[str],
    attack: Attack,
    target: Target,
    *,
    directions: Tensor,
    queries: int = QUERIES,
    of_clips: bool = False,
) -> Tensor:
    """Return attacked images, rounded: (B, 3, H, W) uint8, no level further away than the budget.

    Args:
        pixels: (B, 3, H, W) uint8, or clips (B, crops, T, 3, H, W).
        names: of the images.
        attack: kind and budget; a budget of 0 returns the images as they are.
        target: what the attack computes with: of `transfer` the surrogate.
        directions: (B,), `TOWARDS_REAL` or `TOWARDS_FAKE`.
        queries: of each image, for attacks by scores.
        of_clips: pixels are clips, and the target scores clips.

    Raises:
        JobError: a kind returned something else than such images, or went beyond the budget; clips in place of
            images, or the reverse.
    """
    dimensions = CLIPS if of_clips else IMAGES
    if pixels.ndim != dimensions:
        raise JobError(
            f"attack {attack} got pixels of {pixels.ndim} dimensions in place of {dimensions}"
        )
    if attack.budget == 0 or not len(pixels):
        return pixels
    images = pixels.float()
    request = AttackInput(
        images=images,
        directions=directions.float(),
        budget=float(attack.budget),
        target=target,
        generators=[_generator(attack, name) for name in names],
        queries=queries,
    )
    attacked: Tensor = SPECS.load(attack.name)(request)
    if attacked.shape != images.shape or not attacked.isfinite().all():
        raise JobError(f"attack {attack} did not return finite images of the same shape")
    rounded = attacked.round()
    furthest = (rounded - images).abs().max().item()
    if furthest > attack.budget or rounded.min() < 0 or rounded.max() > LEVELS:
        raise JobError(
            f"attack {attack} changed a grey level by {furthest:g}, beyond its budget or outside 0 to 255"
        )
    return rounded.to(torch.uint8)


def _generator(attack: Attack, name: str) -> torch.Generator:
    # the budget is left out: a larger one begins as a smaller one does
    return torch_rng(f"attack/{attack.name}/{name}")
