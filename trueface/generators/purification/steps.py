"""Inputs of a purifier's function besides images: models, noise, noise level of an image, diffusion step."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from trueface.generators.diffusion.diffuser import Diffuser, ddpm_reverse
from trueface.generators.made_folders import PerImageRNG
from trueface.generators.purification.denoiser import Denoiser

LEAST_SIDE = 3  # pixels: of the operator
# J. Immerkær, Fast Noise Variance Estimation, CVIU 64(2), 1996, equation 1: the difference of two
# Laplacians, which answers neither to constant nor to linear nor to quadratic brightness
_OPERATOR = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
_GAIN = 6.0  # root of the sum of its squares: white noise of RMS s leaves it with 6 s
_MEDIAN = 0.6744897501960817  # median of |z|, z standard normal


def estimate_noise_rms(images: Tensor) -> Tensor:
    """Return the root mean square of the noise in each image, (N,), in units of the images' range.

    White noise of RMS s on a smooth image gives s, whatever the noise's distribution: each answer of
    the operator is a sum over nine pixels. Noise of neighbouring pixels that agrees counts too
    little, and texture counts as noise.

    Immerkær takes the mean of the answers' magnitudes (equation 3), which edges raise. Ours is
    their median, as of wavelet coefficients (D. Donoho and I. Johnstone, Biometrika 81(3), 1994,
    section 4.2), over the pixels and channels of an image.

    Args:
        images: N×C×H×W, at least 3×3 pixels.

    Raises:
        ValueError: they are smaller.
    """
    if min(images.shape[-2:]) < LEAST_SIDE:
        raise ValueError(
            f"images have the shape {tuple(images.shape)}, but the noise estimate needs at least "
            f"{LEAST_SIDE}x{LEAST_SIDE} pixels"
        )
    channels = images.shape[1]
    plain = images.detach().float()
    kernel = torch.tensor(_OPERATOR, device=images.device).expand(channels, 1, 3, 3)
    responses = functional.conv2d(plain, kernel, groups=channels).abs().flatten(1)
    # the mean of the two in the middle: torch's median takes the lower one
    ordered = responses.sort(dim=1).values
    count = ordered.shape[1]
    middle = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return middle / (_GAIN * _MEDIAN)


@dataclass(slots=True, kw_only=True)
class Tools:
    """The models and the noise of one step of a purifier, for one batch; counts the networks' calls.

    Attributes:
        diffuser: present if the purifier's declaration names it, otherwise None.
        denoiser: present under the same condition.
        noise: of the batch's images.
        stream: random stream of this step of a composition, so that no two steps draw the same numbers.
        stop: ends a chain between two of its steps.
        calls: of networks, an image and call each.
    """

    diffuser: Diffuser | None
    denoiser: Denoiser | None
    noise: PerImageRNG
    stream: str = ""
    stop: threading.Event | None = None
    calls: int = 0

    def timestep_for(self, images: Tensor, value: float | None) -> Tensor:
        """Return the step of the diffusion for each image, (N,) integers.

        Without a value it is the step whose noise is nearest to that in the image, at most the
        last trained step. It is 0, which means no step, if the image has less noise than step 1
        adds.
        """
        if value is not None:
            return torch.full((len(images),), round(value))
        diffuser = self._diffuser
        first = float((1 - diffuser.schedule.alpha_bar[1]).sqrt())
        steps = [
            0 if noise < first else min(diffuser.schedule.nearest_t(noise), diffuser.t_max)
            for noise in estimate_noise_rms(images).tolist()
        ]
        return torch.tensor(steps)

    def predict_x0(self, images: Tensor, t: Tensor) -> Tensor:
        """Return E[x_0 | x_t = image] by one call of the network; images of step 0 as they are.

        Args:
            images: N×C×H×W; they are taken for images of their steps as they are, not scaled by
                sqrt(abar_t) before.
            t: (N,) integers.
        """
        rows = t.nonzero()[:, 0]
        if not len(rows):
            return images
        chosen, steps = (images, t) if len(rows) == len(t) else (images[rows], t[rows])
        self.calls += len(chosen)
        clean = self._diffuser.schedule.x0(chosen, steps, self._diffuser.eps(chosen, steps))
        return clean if len(rows) == len(t) else images.index_put((rows.to(images.device),), clean)

    def add_noise(self, images: Tensor, t: Tensor, stream: str) -> Tensor:
        """Return images with the forward noise of their steps; of step 0 as they are."""
        drawn = self.noise.normal(f"{self.stream}{stream}", images)
        return self._diffuser.schedule.add_noise(images, t, drawn)

    def reverse_steps(self, images: Tensor, t: Tensor, *, draws: bool) -> Tensor:
        """Return images after the reverse steps t … 1; of step 0 as they are.

        Args:
            images: N×C×H×W.
            t: (N,) integers.
            draws: whether each step except the last adds noise.

        Raises:
            JobError: stopped.
        """
        diffuser, out = self._diffuser, images.clone()
        for start in sorted(set(t.tolist())):
            if start == 0:
                continue
            rows = (t == start).nonzero()[:, 0]
            part = images[rows.to(images.device)]
            self.calls += len(rows) * start
            drawn = self._noise_of(rows, part) if draws else None
            out[rows.to(images.device)] = ddpm_reverse(diffuser, part, start, drawn, stop=self.stop)
        return out

    def denoise(self, images: Tensor) -> Tensor:
        """Return images after the denoiser has removed the estimated noise."""
        assert self.denoiser is not None  # `make_purifier` saw to it
        self.calls += len(images)
        clean: Tensor = self.denoiser(images)
        return clean

    @property
    def t_max(self) -> int:
        """The largest step that the diffuser was trained for."""
        return self._diffuser.t_max

    @property
    def _diffuser(self) -> Diffuser:
        assert self.diffuser is not None  # `make_purifier` saw to it
        return self.diffuser

    def _noise_of(self, rows: Tensor, template: Tensor) -> Callable[[int], Tensor]:
        noise = self.noise.of_rows(rows.tolist())
        return lambda t: noise.normal(f"{self.stream}z{t}", template)


# Maps images N×C×H×W in [-1, 1], the purifier's number and its tools to images of the same shape.
# The number is None if it is estimated or not used. The caller clips the result to [-1, 1].
Method = Callable[[Tensor, float | None, Tools], Tensor]
