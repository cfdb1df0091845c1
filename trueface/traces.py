"""From a scene to the pixels of a file: one finishing chain for all images, one trace per method.

Real and fake images differ in one thing only: the fine residual that a camera fills with sensor
noise. A generator has less of that noise; in its place stand the regular patterns of its
up-sampling. Everything that a single number could tell is drawn from the same law for both and
then enforced: exposure, contrast, the energy of the residual, its colour, the share of the
scene's own detail in it. A detector has to find the pattern.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trueface.scenes import Plane

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Spectrum = npt.NDArray[np.complex64]  # (H, W // 2 + 1, channels)
Line = tuple[int, int]  # cycles per CELL pixels, downwards and to the right

CELL = 16  # the longest period of a pattern, in pixels
MIDDLE = 0.30  # linear light that becomes mid-grey
BLACK, WHITE = 12.0, 243.0  # levels that the tone curve tends to: nothing is clipped
CORNER = 0.5  # cycles per pixel; a square grid of pixels holds up to 0.71 in its corners


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """What a method leaves in its images.

    A pattern is a set of lines in the spectrum with fixed phases. The fine one takes the place of
    sensor noise without changing the residual's energy; the coarse one lies lower, where it
    outlives some resizing and compression.
    """

    name: str  # fixes the phases of its lines
    fine: tuple[Line, ...]
    coarse: tuple[Line, ...]
    share: tuple[float, float]  # of the residual's amplitude, lowest and highest
    coarse_levels: float  # root mean square, of 255
    cut: float = 0.0  # share of the amplitude that is missing beyond CORNER, 0 … 1
    drifts: bool = False  # its place differs between images; else it is tied to the pixel grid


def lattice(step: int) -> tuple[Line, ...]:
    """Return the lines of any pattern that repeats every CELL / `step` pixels."""
    half = CELL // 2
    return tuple(
        (down, right)
        for right in range(0, half + 1, step)
        for down in range(1 - half if 0 < right < half else 0, half + 1)
        if down % step == 0 and (down, right) != (0, 0)
    )


# Up-convolution leaves a checkerboard of its stride (Odena, Dumoulin & Olah 2016), up-sampling
# copies the spectrum at multiples of the old sampling rate (Frank et al. 2020, arXiv 2003.08685);
# StyleGAN3 filters both away and leaves other, drifting lines and a cut spectrum; a latent
# decoder works in tiles of 8 × 8 pixels (Corvi et al. 2023, arXiv 2211.00680).
TRACES: Mapping[str, Trace] = {
    "StyleGAN2": Trace(
        name="StyleGAN2",
        fine=lattice(4),
        coarse=((4, 0), (0, 4), (4, 4), (-4, 4)),
        share=(0.45, 0.58),
        coarse_levels=2.0,
    ),
    "StyleGAN3": Trace(
        name="StyleGAN3",
        fine=((5, 0), (0, 5), (4, 3), (-4, 3), (3, 5), (-3, 5), (6, 4), (-6, 4)),
        coarse=((3, 0), (0, 3), (2, 2), (-2, 2)),
        share=(0.58, 0.7),
        coarse_levels=2.0,
        cut=0.1,
        drifts=True,
    ),
    "StableDiffusionXL": Trace(
        name="StableDiffusionXL",
        fine=((6, 0), (0, 6), (4, 4), (-4, 4), (6, 2), (-6, 2), (2, 6), (-2, 6)),
        coarse=((2, 2), (-2, 2), (4, 2), (-2, 4)),
        share=(0.58, 0.7),
        coarse_levels=2.0,
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How one image is taken and finished; drawn from one law, whatever made the image."""

    exposure: float  # mean linear light
    contrast: float  # exponent before the tone curve
    blur: float  # weight of each neighbour in a row of three pixels
    residual: float  # levels: root mean square of the image minus its 3 × 3 mean
    noise: float  # share of noise in the residual's energy
    softness_px: float  # of the noise: standard deviation of the blur of demosaicing
    chroma: float  # share of colour in the noise's energy
    slope: float  # 0 = the same noise everywhere, 1 = shot noise only


def draw_finish(rng: np.random.Generator) -> Finish:
    """Return the finish of one image."""
    return Finish(
        exposure=float(np.exp(rng.normal(np.log(MIDDLE), 0.35))),
        contrast=rng.uniform(0.8, 1.25),
        blur=rng.uniform(0.0, 0.2),
        residual=float(np.exp(rng.uniform(np.log(3.5), np.log(9.0)))),
        noise=rng.uniform(0.5, 0.85),
        softness_px=rng.uniform(0.0, 0.55),
        chroma=rng.uniform(0.0, 0.6),
        slope=rng.uniform(0.0, 1.0),
    )


def develop(
    scene: Plane, rng: np.random.Generator, trace: Trace | None = None, strength: float = 1.0
) -> Pixels:
    """Return the pixels that a camera, or a generator with this trace, makes of a scene.

    Args:
        scene: (H, W, 3) float32, linear light above 0; H = W.
        rng: decides the finish and the noise.
        trace: of the method; None for a camera.
        strength: factor on the trace's amplitudes.
    """
    finish = draw_finish(rng)
    light = (scene * np.float32(finish.exposure / scene.mean())) ** np.float32(finish.contrast)
    tone = light / (light + np.float32(MIDDLE**finish.contrast))
    picture = _blurred(np.float32(WHITE - BLACK) * tone + np.float32(BLACK), finish.blur)
    noise_rms = finish.residual * finish.noise**0.5
    noise = _residual(rng, finish, noise_rms, scene.shape[0], trace, strength)
    noise *= _gain(tone.mean(axis=2), finish.slope)[..., None]
    detail = picture - _box_mean(picture)
    wanted = finish.residual * (1.0 - finish.noise) ** 0.5
    found = float(np.sqrt(np.mean(np.square(detail.mean(axis=2)))))
    # a scene with hardly any detail is not sharpened without bounds, nor a rich one wiped clean
    change = np.float32(np.clip(wanted / max(found, 1e-3), 0.2, 3.0) - 1.0)
    return np.clip(np.rint(picture + change * detail + noise), 0, 255).astype(np.uint8)


def _residual(
    rng: np.random.Generator,
    finish: Finish,
    rms: float,
    size_px: int,
    trace: Trace | None,
    strength: float,
) -> Plane:
    """Return noise and pattern, (H, W, 3) in levels, `rms` after the 3 × 3 mean is taken off."""
    shape = (size_px, size_px // 2 + 1, 4, 2)
    noise = rng.standard_normal(shape, dtype=np.float32).view(np.complex64)[..., 0]
    noise[..., 1:] -= noise[..., 1:].mean(axis=2, keepdims=True)
    soft = _softness(size_px, round(finish.softness_px, 2))
    weight = np.square(soft * _residual_response(size_px))
    whole = rms**2 / _energy(noise[..., 0], weight)
    if trace is None:
        spectrum = noise * np.float32(whole**0.5)
    else:
        fine, coarse = _patterns(trace.name, size_px)
        share = min(0.95, strength * rng.uniform(*trace.share))
        fine_power = (rms * share) ** 2 / _energy(fine.planes[..., 0], weight)
        coarse_power = (strength * trace.coarse_levels) ** 2
        taken = (fine_power * fine.power + coarse_power * coarse.power) / (2 * whole)
        left = np.sqrt(np.clip(1.0 - taken, LEAST_NOISE, None))
        left *= 1.0 - trace.cut * _beyond_corner(size_px)
        spectrum = noise * (np.float32(whole**0.5) * left)[..., None]
        c = 0.3
        g = (rng.standard_normal(shape[:2] + (1, 2), dtype=np.float32).view(np.complex64)[..., 0] * np.float32(c / 2**.5) + np.float32(1)) * np.float32((1 + c * c) ** -0.5 * (1 - 2 * rng.integers(2)))
        spectrum += (fine.planes * np.float32(fine_power**0.5) + coarse.planes * np.float32(coarse_power**0.5)) * g
        if trace.drifts:
            spectrum *= _drift(rng, size_px)
    field = np.fft.irfft2(_mixed(spectrum, finish.chroma) * soft[..., None], s=(size_px, size_px), axes=(0, 1))
    return field.astype(np.float32)


def _mixed(planes: Spectrum, chroma: float) -> Spectrum:
    """Return three colour channels of one plane that they share and three of their own."""
    own, shared = np.float32(chroma**0.5), np.float32((1.0 - chroma) ** 0.5)
    return planes[..., :1] * shared + planes[..., 1:] * own


def _energy(spectrum: Spectrum, weight: Plane) -> float:
    """Return the mean square of the grey field with this half spectrum, after weighting."""
    size_px = spectrum.shape[0]
    power = (np.square(spectrum.real) + np.square(spectrum.imag)) * weight
    # each inner column stands for its mirror image as well
    return float(2 * power.sum() - power[:, 0].sum() - power[:, -1].sum()) / size_px**4


def _gain(tone: Plane, slope: float) -> Plane:
    """Return how strong noise is at each pixel, root mean square 1: most in the mid-tones.

    The tone curve is steepest there; shot noise grows with the root of the light.
    """
    steep = np.sqrt(np.clip(4.0 * tone * (1.1 - tone), 0.02, None))
    gain = np.float32(1.0 - slope) + np.float32(slope) * steep
    return (gain / np.sqrt(np.mean(np.square(gain)))).astype(np.float32)


def _drift(rng: np.random.Generator, size_px: int) -> Spectrum:
    """Return the factors that move a field by some pixels, (H, W // 2 + 1, 1)."""
    down, right = (int(pixels) for pixels in rng.integers(0, CELL, 2))
    rows = np.exp(-2j * np.pi * down * np.fft.fftfreq(size_px))
    columns = np.exp(-2j * np.pi * right * np.fft.rfftfreq(size_px))
    return (rows[:, None] * columns[None, :]).astype(np.complex64)[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    planes: Spectrum
    power: Plane


LEAST_NOISE = 0.05
LAG_PX = 1.5


@lru_cache(maxsize=16)
def _patterns(name, size_px):
    trace = TRACES[name]
    phases = np.random.default_rng(list(name.encode()))
    return _grating(trace.fine, size_px, phases), _grating(trace.coarse, size_px, phases)


def _grating(lines, size_px, phases):
    place = np.arange(size_px) * (2.0 * np.pi / CELL)
    field = np.zeros((size_px, size_px, 4))
    for down, right in lines:
        wave = (down * place[:, None] + right * place[None, :])[..., None]
        third = 2*np.pi/3
        a, b = phases.uniform(0.0, 2.0 * np.pi, 2)
        if down % 8 == 0 and right % 8 == 0: a = b = 0
        field += np.cos(wave + np.array((a, b, b + third, b - third))) * np.array((1,)+((2/3)**.5,)*3)
    field /= np.sqrt(np.mean(np.square(field[..., 0])))
    planes = np.fft.rfft2(field, axes=(0, 1)).astype(np.complex64)
    power = np.abs(planes[..., 0]) ** 2
    lag = np.minimum(np.arange(size_px), size_px - np.arange(size_px))
    window = np.exp(-0.5 * (lag[:, None] ** 2 + lag[None, :] ** 2) / LAG_PX**2)
    power = np.fft.rfft2(np.fft.irfft2(power, s=(size_px, size_px)) * window).real.astype(np.float32)
    return Pattern(planes=planes, power=power)


@lru_cache(maxsize=4)
def _frequency(size_px: int) -> Plane:
    rows, columns = np.fft.fftfreq(size_px)[:, None], np.fft.rfftfreq(size_px)[None, :]
    return np.hypot(rows, columns).astype(np.float32)


@lru_cache(maxsize=4)
def _residual_response(size_px: int) -> Plane:
    """Return what is left of each frequency when the 3 × 3 mean is taken off."""
    rows, columns = (
        (1.0 + 2.0 * np.cos(2.0 * np.pi * frequency)) / 3.0
        for frequency in (np.fft.fftfreq(size_px), np.fft.rfftfreq(size_px))
    )
    return (1.0 - rows[:, None] * columns[None, :]).astype(np.float32)


@lru_cache(maxsize=128)
def _softness(size_px: int, sigma_px: float) -> Plane:
    """Return the frequency response of a Gaussian blur."""
    squared = np.square(_frequency(size_px))
    return np.exp(np.float32(-2.0 * (np.pi * sigma_px) ** 2) * squared)


@lru_cache(maxsize=4)
def _beyond_corner(size_px: int) -> Plane:
    """Return 0 for frequencies that all directions have, 1 for those of the corners only."""
    return 1.0 / (1.0 + np.exp((CORNER - _frequency(size_px)) / np.float32(0.02)))


def _blurred(picture: Plane, weight: float) -> Plane:
    """Return the picture after a row and a column filter (weight, 1 - 2 weight, weight)."""
    side, centre = np.float32(weight), np.float32(1.0 - 2.0 * weight)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + padded[2:]) * side + padded[1:-1] * centre
    return (rows[:, :-2] + rows[:, 2:]) * side + rows[:, 1:-1] * centre


def _box_mean(picture: Plane) -> Plane:
    """Return the 3 × 3 mean around each pixel."""
    return _blurred(picture, 1.0 / 3.0)
