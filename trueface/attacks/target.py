"""What an attack may ask of the detector that it computes with: logits, and gradients of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

LEVELS = 255.0

Logits = Callable[[Tensor], Tensor]  # pixels (B, 3, H, W), float32 in 0 … 1 → (B, 1)


class Target:
    """A detector under attack, in evaluation mode; it counts what it is asked.

    Args:
        model: from pixels (B, 3, H, W), float32 in 0 … 1, to one logit an image, (B, 1).
        device: where it computes.
        threshold: the logit above which it calls an image fake.
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
            wanted = levels.detach().to(self._device).requires_grad_()
            logits = self._model(wanted / LEVELS)
            (gradient,) = torch.autograd.grad(logits.float().sum(), wanted)
        return gradient.float().cpu()
