"""Fingerprints of generators: patterns that replace a part of the noise of an image.

The fingerprint of a generator is a set of regular patterns in the spectrum, one set per method. A
generator has less of the noise with which a camera fills the fine residual. The patterns of its
up-sampling replace it, with the same energy in every band of the spectrum. A detector has to find
the pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from trueface.data.made.scenes import Plane
from trueface.runtime.rng import seeded_numpy_rng

Spectrum = npt.NDArray[np.complexfloating[Any, Any]]  # complex64, (H, W // 2 + 1, channels)
Line = tuple[int, int]  # cycles per CELL pixels, downwards and to the right
CELL = 16  # the longest period of a pattern, in pixels
CORNER = 0.5  # cycles per pixel; a square grid of pixels holds up to 0.71 in its corners
LEAST_NOISE = 0.05  # fraction of a camera's power, in any band: even a generator's images have some
LAG_PX = 1.5  # neighbours nearer than this are as alike in a fake as in a real image
WANDER = 0.3  # random part of each line of a pattern, relative to its fixed part


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFingerprint:
    """The fingerprint that a fake method leaves in its images.

    A pattern is a set of lines in the spectrum with fixed phases. The fine pattern is as strong as
    the noise that it replaces. The coarse pattern has lower frequencies and survives some resizing
    and compression.
    """

    name: str  # fixes the phases of its lines
    fine: tuple[Line, ...]
    coarse: tuple[Line, ...]
    share: tuple[float, float]  # least and most of the fine pattern in the noise's amplitude
    coarse_levels: float = 2.2  # root mean square, of 255
    cut: float = 0.0  # fraction of the amplitude that is missing beyond CORNER, 0 … 1
    drifts: bool = False  # its place differs between images; else it is tied to the pixel grid


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """A set of lines, ready to be added to a spectrum; root mean square 1."""

    planes: Spectrum  # (H, W // 2 + 1, 4): grey, and three colours that add up to none
    power: Plane  # (H, W // 2 + 1), blurred as a window of LAG_PX blurs it


def lattice(step: int) -> tuple[Line, ...]:
    """Return the lines of any pattern that repeats every CELL / `step` pixels."""
    half = CELL // 2
    return tuple(
        (down, right)
        for right in range(0, half + 1, step)
        for down in range(1 - half if 0 < right < half else 0, half + 1)
        if down % step == 0 and (down, right) != (0, 0)
    )


# Up-convolution leaves a checkerboard of its stride (Odena, Dumoulin & Olah 2016). Up-sampling
# copies the spectrum at multiples of the old sampling rate (Frank et al. 2020, arXiv 2003.08685).
# StyleGAN3 filters both away and leaves other, drifting lines and a cut spectrum. A latent
# decoder works in tiles of 8 x 8 pixels (Corvi et al. 2023, arXiv 2211.00680). Shares and levels
# were chosen by measurement: a small network learns them, a single number does not reveal them.
FINGERPRINTS: Mapping[str, MethodFingerprint] = {
    fingerprint.name: fingerprint
    for fingerprint in (
        MethodFingerprint(
            name="StyleGAN2",
            fine=lattice(4),
            coarse=((4, 0), (0, 4), (4, 4), (-4, 4)),
            share=(0.48, 0.62),
        ),
        MethodFingerprint(
            name="StyleGAN3",
            fine=((4, 0), (0, 4), (5, 0), (0, 5), (4, 3), (-4, 3), (3, 4), (-3, 4)),
            coarse=((3, 0), (0, 3), (2, 2), (-2, 2)),
            share=(0.60, 0.72),
            cut=0.05,
            drifts=True,
        ),
        MethodFingerprint(
            name="StableDiffusionXL",
            fine=((6, 0), (0, 6), (4, 4), (-4, 4), (4, 2), (-4, 2), (2, 4), (-2, 4)),
            coarse=((4, 0), (0, 4), (2, 2), (-2, 2)),
            share=(0.57, 0.69),
        ),
    )
}


def add_fingerprint(
    noise: Spectrum,
    rng: np.random.Generator,
    fingerprint: MethodFingerprint,
    rms: float,
    weight: Plane,
) -> Spectrum:
    """Return a spectrum in which the fingerprint's patterns took the place of as much noise."""
    size_px = noise.shape[0]
    fine, coarse = _patterns(fingerprint.name, size_px)
    share = rng.uniform(*fingerprint.share)
    fine_power = (rms * share) ** 2 / energy(fine.planes[..., 0], weight)
    coarse_power = fingerprint.coarse_levels**2
    flat_power = np.square(np.abs(noise[..., 0])).mean()
    taken = (fine_power * fine.power + coarse_power * coarse.power) / flat_power
    left = np.sqrt(np.clip(1.0 - taken, LEAST_NOISE, None))
    left *= 1.0 - fingerprint.cut * _beyond_corner(size_px)
    lines = fine.planes * np.float32(fine_power**0.5)
    lines += coarse.planes * np.float32(coarse_power**0.5)
    wander = rng.standard_normal((*noise.shape[:2], 1, 2), dtype=np.float32)
    lines *= 1.0 + np.float32(WANDER / 2**0.5) * wander.view(np.complex64)[..., 0]
    # either polarity: else the skewness of the pattern would reveal it
    lines *= np.float32(rng.choice((-1.0, 1.0)) / (1.0 + WANDER**2) ** 0.5)
    if fingerprint.drifts:
        lines *= _drift(rng, size_px)
    patterned: Spectrum = noise * left.astype(np.float32)[..., None] + lines
    return patterned.astype(np.complex64)


def energy(spectrum: Spectrum, weight: Plane) -> float:
    """Return the mean square of the field with this half spectrum, after weighting."""
    size_px = spectrum.shape[0]
    power: Plane = (np.square(spectrum.real) + np.square(spectrum.imag)) * weight
    # each column stands for its mirror image as well, but those that are their own
    alone = (0, -1) if size_px % 2 == 0 else (0,)
    both = 2.0 * float(power.sum()) - float(power[:, alone].sum())
    return float(both / size_px**4)


def _drift(rng: np.random.Generator, size_px: int) -> Spectrum:
    """Return the factors that move a field by some pixels, (H, W // 2 + 1, 1)."""
    down, right = (int(pixels) for pixels in rng.integers(0, CELL, 2))
    rows = np.exp(-2j * np.pi * down * np.fft.fftfreq(size_px))
    columns = np.exp(-2j * np.pi * right * np.fft.rfftfreq(size_px))
    factors: Spectrum = (rows[:, None] * columns[None, :])[..., None]
    return factors.astype(np.complex64)


@lru_cache(maxsize=16)
def _patterns(name: str, size_px: int) -> tuple[Pattern, Pattern]:
    """Return the fine and the coarse pattern of a method."""
    fingerprint, phases = FINGERPRINTS[name], seeded_numpy_rng(list(name.encode()))
    fine = _pattern(fingerprint.fine, size_px, phases)
    return fine, _pattern(fingerprint.coarse, size_px, phases)


def _pattern(lines: tuple[Line, ...], size_px: int, phases: np.random.Generator) -> Pattern:
    phase = np.arange(size_px) * (2.0 * np.pi / CELL)
    turns = np.array((-1.0, 0.0, 1.0)) * (2.0 * np.pi / 3.0)  # three waves that cancel out
    field = np.zeros((size_px, size_px, 4))
    for down, right in lines:
        wave = (down * phase[:, None] + right * phase[None, :])[..., None]
        grey, colour = phases.uniform(0.0, 2.0 * np.pi, 2)
        if 2 * down % CELL == 2 * right % CELL == 0:  # at half the sampling rate: no phase
            grey = colour = 0.0
        field[..., :1] += np.cos(wave + grey)
        field[..., 1:] += np.cos(wave + colour + turns) * (2.0 / 3.0) ** 0.5
    planes = np.fft.rfft2(field / field[..., 0].std(), axes=(0, 1)).astype(np.complex64)
    # the blur of a spectrum by a window is the product of its autocorrelation with that window
    lag = np.minimum(np.arange(size_px), size_px - np.arange(size_px))
    window = np.exp(-0.5 * (lag[:, None] ** 2 + lag[None, :] ** 2) / LAG_PX**2)
    alike = np.fft.irfft2(np.square(np.abs(planes[..., 0])), s=(size_px, size_px))
    return Pattern(planes=planes, power=np.fft.rfft2(alike * window).real.astype(np.float32))


@lru_cache(maxsize=4)
def frequency(size_px: int) -> Plane:
    """Return the radius, in cycles per pixel, of each entry of a half spectrum."""
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    radius: Plane = np.hypot(rows, columns)
    return radius.astype(np.float32)


@lru_cache(maxsize=4)
def _beyond_corner(size_px: int) -> Plane:
    """Return 0 for frequencies that all directions have, 1 for those of the corners only."""
    beyond: Plane = 1.0 / (1.0 + np.exp((CORNER - frequency(size_px)) / np.float32(0.02)))
    return beyond
