"""A camera for painted scenes: light, sharpness and noise, with or without a fingerprint.

Real and fake images pass through the same steps from a scene to pixels. Every property that a
single number could reveal has one distribution for both classes, and is then enforced. These
properties are exposure, contrast, the energy and colour of the residual, and the fraction of the
scene's own detail in it. Only the residual differs: sensor noise in a real image, the patterns of a
fingerprint in a fake one.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from trueface.data.made.fingerprints import (
    MethodFingerprint,
    Spectrum,
    add_fingerprint,
    energy,
    frequency,
)
from trueface.data.made.scenes import Plane

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Channels = TypeVar("Channels", Plane, Spectrum)
MIDDLE = 0.30  # linear light that becomes mid-grey
BLACK, WHITE = 12.0, 243.0  # levels that the tone curve tends to: hardly anything is clipped
DETAIL = (0.2, 3.0)  # bounds of sharpening: no scene is wiped clean, none without detail blown up


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How one image is taken and finished; drawn from one law, whatever made the image."""

    exposure: float  # mean linear light
    contrast: float  # exponent before the tone curve
    blur: float  # weight of each neighbour in a row of three pixels
    residual: float  # levels: root mean square of the image minus its 3 x 3 mean
    noise: float  # fraction of noise in the residual's energy
    softness_px: float  # softness of the noise: standard deviation of the blur of demosaicing
    chroma: float  # fraction of colour in the noise's energy
    slope: float  # 0 = the same noise everywhere, 1 = shot noise only

    @property
    def noise_rms(self) -> float:
        """Return the part of the residual that is noise, or what stands for it, in levels."""
        return float(self.residual * self.noise**0.5)

    @property
    def detail_rms(self) -> float:
        """Return the part of the residual that is the scene's own detail, in levels."""
        return float(self.residual * (1.0 - self.noise) ** 0.5)


def draw_finish(rng: np.random.Generator) -> Finish:
    """Return the finish of one image."""
    return Finish(
        exposure=float(np.exp(rng.normal(np.log(MIDDLE), 0.35))),
        contrast=rng.uniform(0.8, 1.25),
        blur=rng.uniform(0.0, 0.2),
        residual=float(np.exp(rng.uniform(np.log(2.4), np.log(12.0)))),
        noise=rng.uniform(0.5, 0.85),
        softness_px=rng.uniform(0.0, 0.55),
        chroma=rng.uniform(0.0, 0.6),
        slope=rng.uniform(0.0, 1.0),
    )


def develop(
    scene: Plane, rng: np.random.Generator, fingerprint: MethodFingerprint | None = None
) -> Pixels:
    """Return the pixels that a camera, or a generator with this fingerprint, makes of a scene.

    Args:
        scene: (H, W, 3) float32, linear light above 0; H = W, even.
        rng: decides the finish and the noise.
        fingerprint: of the method; None for a camera.
    """
    finish = draw_finish(rng)
    light = (scene * np.float32(finish.exposure / scene.mean())) ** np.float32(finish.contrast)
    tone = light / (light + np.float32(MIDDLE**finish.contrast))
    picture = _blur(np.float32(WHITE - BLACK) * tone + np.float32(BLACK), finish.blur)
    detail = picture - _blur(picture, 1.0 / 3.0)
    rms = float(np.sqrt(np.mean(np.square(_mean_of_channels(detail)))))
    sharpening = np.float32(np.clip(finish.detail_rms / max(rms, 1e-3), *DETAIL) - 1.0)
    noise = _residual(rng, finish, scene.shape[0], fingerprint)
    noise *= _gain(_mean_of_channels(tone), finish.slope)[..., None]
    return np.clip(np.rint(picture + sharpening * detail + noise), 0, 255).astype(np.uint8)


def _residual(
    rng: np.random.Generator, finish: Finish, size_px: int, fingerprint: MethodFingerprint | None
) -> Plane:
    """Return noise and pattern, (H, W, 3), noise_rms levels once the 3 x 3 mean is taken off."""
    shape = (size_px, size_px // 2 + 1, 4, 2)
    noise = rng.standard_normal(shape, dtype=np.float32).view(np.complex64)[..., 0]
    noise[..., 1:] -= _mean_of_channels(noise[..., 1:])[..., None]
    soft = _softness(size_px, round(finish.softness_px, 2))
    weight = np.square(soft * _residual_response(size_px))
    noise *= np.float32(finish.noise_rms / energy(noise[..., 0], weight) ** 0.5)
    if fingerprint is not None:
        noise = add_fingerprint(noise, rng, fingerprint, finish.noise_rms, weight)
    # four planes become three channels: their common part and their differences
    own, shared = np.float32(finish.chroma**0.5), np.float32((1.0 - finish.chroma) ** 0.5)
    channels = (noise[..., :1] * shared + noise[..., 1:] * own) * soft[..., None]
    return np.fft.irfft2(channels, s=(size_px, size_px), axes=(0, 1)).astype(np.float32)


def _gain(tone: Plane, slope: float) -> Plane:
    """Return how strong noise is at each pixel, root mean square 1: most in the mid-tones.

    The tone curve is steepest there; shot noise grows with the root of the light.
    """
    steep = np.sqrt(np.clip(4.0 * tone * (1.1 - tone), 0.02, None))
    gain: Plane = np.float32(1.0 - slope) + np.float32(slope) * steep
    gain = gain / np.sqrt(np.mean(np.square(gain)))
    return gain.astype(np.float32)


@lru_cache(maxsize=4)
def _residual_response(size_px: int) -> Plane:
    """Return what is left of each frequency when the 3 x 3 mean is taken off."""
    rows, columns = (
        (1.0 + 2.0 * np.cos(2.0 * np.pi * cycles)) / 3.0
        for cycles in (np.fft.fftfreq(size_px), np.fft.rfftfreq(size_px))
    )
    response: Plane = 1.0 - rows[:, None] * columns[None, :]
    return response.astype(np.float32)


@lru_cache(maxsize=128)
def _softness(size_px: int, sigma_px: float) -> Plane:
    """Return the frequency response of a Gaussian blur."""
    squared = np.square(frequency(size_px))
    response: Plane = np.exp(np.float32(-2.0 * (np.pi * sigma_px) ** 2) * squared)
    return response


def _mean_of_channels(channels: Channels) -> Channels:
    """Return the mean of three channels; NumPy's own takes its time over so short an axis."""
    mean: Channels = (channels[..., 0] + channels[..., 1] + channels[..., 2]) * np.float32(1 / 3)
    return mean


def _blur(picture: Plane, weight: float) -> Plane:
    """Return the picture after a row and a column filter (weight, 1 - 2 weight, weight)."""
    side, centre = np.float32(weight), np.float32(1.0 - 2.0 * weight)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + padded[2:]) * side + padded[1:-1] * centre
    blurred: Plane = (rows[:, :-2] + rows[:, 2:]) * side + rows[:, 1:-1] * centre
    return blurred
