"""How much noise an image holds, from the image alone."""

import torch
from torch import Tensor
from torch.nn import functional

LEAST_SIDE = 3  # pixels: of the operator
# J. Immerkær, Fast Noise Variance Estimation, CVIU 64(2), 1996, equation 1: the difference of two
# Laplacians, which answers neither to constant nor to linear nor to quadratic brightness
_OPERATOR = ((1.0, -2.0, 1.0), (-2.0, 4.0, -2.0), (1.0, -2.0, 1.0))
_GAIN = 6.0  # root of the sum of its squares: white noise of RMS s leaves it with 6 s
_MEDIAN = 0.6744897501960817  # of |z|, z standard normal


def estimated_noise(images: Tensor) -> Tensor:
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
        raise ValueError(f"the noise of {tuple(images.shape)}: {LEAST_SIDE}x{LEAST_SIDE} is needed")
    channels = images.shape[1]
    plain = images.detach().float()
    kernel = torch.tensor(_OPERATOR, device=images.device).expand(channels, 1, 3, 3)
    answers = functional.conv2d(plain, kernel, groups=channels).abs().flatten(1)
    # the mean of the two in the middle: torch's median takes the lower one
    ordered = answers.sort(dim=1).values
    count = ordered.shape[1]
    middle = (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2
    return middle / (_GAIN * _MEDIAN)
