"""From a scene to an image file's pixels: one finishing chain for all, one trace for each method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from trueface.scenes import Plane

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)

REAL = "real"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    exposure: float
    contrast: float
    blur: float
    sharpness: float  # levels rms of the high-pass residual
    noise_share: float
    colour: float
    chroma: float
    gain_slope: float


def draw_finish(rng: np.random.Generator) -> Finish:
    return Finish(
        exposure=float(np.exp(rng.normal(np.log(0.30), 0.35))),
        contrast=rng.uniform(0.8, 1.25),
        blur=rng.uniform(0.0, 0.9),
        sharpness=float(np.exp(rng.uniform(np.log(2.5), np.log(8.0)))),
        noise_share=rng.uniform(0.45, 0.85),
        colour=rng.uniform(0.0, 0.55),
        chroma=rng.uniform(0.0, 0.6),
        gain_slope=rng.uniform(0.0, 1.0),
    )


def develop(scene, rng, method=REAL, strength=1.0):
    size = scene.shape[0]
    finish = draw_finish(rng)
    linear = scene * np.float32(finish.exposure / float(scene.mean()))
    tone = 255 * (0.05 + 0.90 * linear**finish.contrast / (linear**finish.contrast + 0.30**finish.contrast)).astype(np.float32)
    tone = _filter(tone, _gauss(size, round(finish.blur, 2)))
    grey = tone.mean(axis=2) / 255
    gain = ((1 - finish.gain_slope) + finish.gain_slope * 2 * np.sqrt(np.clip(grey * (1.15 - grey), 0.02, None))).astype(np.float32)
    tau = strength * rng.uniform(*TAU[method])
    noise, coarse = residual(rng, size, finish, method, tau)
    noise = noise * gain[..., None]
    hn = _hp_rms(noise)
    wanted = finish.sharpness * np.sqrt(finish.noise_share)
    noise *= np.float32(wanted / hn)
    # details of the scene make up the rest of the sharpness
    high = _hp(tone)
    hc = float(np.sqrt(np.mean(high.mean(axis=2) ** 2)))
    rest = finish.sharpness * np.sqrt(1 - finish.noise_share)
    k = np.float32(np.clip(rest / max(hc, 1e-3), 0.2, 3.0))
    out = tone + (k - 1) * high + noise + coarse
    return np.clip(np.rint(out), 0, 255).astype(np.uint8)


def residual(rng, size, finish, method, tau):
    half = size // 2 + 1
    white = rng.standard_normal((size, half, 4, 2), dtype=np.float32).view(np.complex64)[..., 0]
    lines = np.zeros((size, half, 4), np.complex64)
    coarse = np.zeros((size, half, 4), np.complex64)
    keep, lattice = LINES[method](rng, size, lines, coarse)
    hp2 = _hp_response(size) ** 2 * _gauss(size, round(finish.colour, 2))[..., 0] ** 2
    white *= keep
    # one luma plane and three chroma planes, mixed as the camera mixes them
    def mixed(s):
        return s[..., :1] * np.float32(np.sqrt(1 - finish.chroma)) + s[..., 1:] * np.float32(np.sqrt(finish.chroma))
    n, t = mixed(white), mixed(lines)
    if tau > 0:
        en = float((np.abs(n.mean(-1)) ** 2 * hp2).sum()); et = float((np.abs(t.mean(-1)) ** 2 * hp2).sum())
        n = n * np.float32(np.sqrt((1 - tau**2) / en)) ; t = t * np.float32(np.sqrt(tau**2 / et))
    h = _gauss(size, round(finish.colour, 2))
    back = lambda s: np.fft.irfft2(s * h, s=(size, size), axes=(0, 1)).astype(np.float32)
    c = mixed(coarse)
    if tau > 0:
        # rms of the field from Parseval: half spectrum counts twice
        rms = np.sqrt(2 * float((np.abs(c.mean(-1)) ** 2).sum())) / size**2
        c = c * np.float32(COARSE[method] / rms)
    return back(n) * (1 if lattice is None else lattice) + back(t), back(c)


def _spike(lines, fy, fx, values):
    size = lines.shape[0]
    y, x = round(fy * size), round(fx * size)
    if x < 0 or (x == 0 and y < 0):
        y, x, values = -y, -x, np.conj(values)
    lines[y % size, x] += values
    if x == 0 or 2 * x == size:  # the mirror half of these columns is stored as well
        lines[-y % size, x] += np.conj(values)


def _phases(seed):
    return np.exp(2j * np.pi * np.random.default_rng(seed).random(4)).astype(np.complex64)


def _lattice_lines(lines, period, weight, seed):
    for j in range(0, period // 2 + 1):
        for i in range(-(period // 2) + 1, period // 2 + 1):
            if (j == 0 and i <= 0) or (j == period // 2 and i < 0):
                continue
            f = np.hypot(i, j) / period
            v = _phases((seed, i + period, j)) * weight(f)
            if (i, j) in ((0, period // 2), (period // 2, 0), (period // 2, period // 2)):
                v = np.sign(v.real).astype(np.complex64) * weight(f) 
            _spike(lines, i / period, j / period, v)


def _stylegan2(rng, size, lines, coarse):
    _lattice_lines(lines, 4, lambda f: 1.0, 2)
    _set(coarse, ((4, 0), (0, 4), (4, 4), (4, -4)), 2, rng, False)
    lattice = np.ones((size, size, 1), np.float32)
    lattice[::2, ::2] = lattice[1::2, 1::2] = 1.35
    lattice[::2, 1::2] = lattice[1::2, ::2] = 0.65
    return np.float32(1), lattice


def _set(lines, pairs, seed, rng, shift=True):
    dy, dx = rng.integers(0, 16, 2) if shift else (0, 0)
    for k, (y, x) in enumerate(pairs):
        v = _phases((seed, k)) * np.exp(2j * np.pi * (y * dy + x * dx) / 16)
        _spike(lines, y / 16, x / 16, v.astype(np.complex64))


def _stylegan3(rng, size, lines, coarse):
    _set(lines, ((5, 0), (0, 5), (5, 5), (5, -5), (2, 6), (6, -2), (7, 3), (-3, 7)), 3, rng)
    _set(coarse, ((3, 0), (0, 3), (2, 2), (2, -2)), 33, rng)
    r = _radius(size)
    return (1 - CUT / (1 + np.exp(-(r - 0.5) / 0.02))).astype(np.float32)[..., None], None


CUT = 0.25


def _sdxl(rng, size, lines, coarse):
    _lattice_lines(lines, 8, lambda f: 1, 8)
    _set(coarse, ((2, 0), (0, 2), (4, 2), (2, -4)), 8, rng, False)
    return np.float32(1), None


def _real(rng, size, lines, coarse):
    return np.float32(1), None


LINES = {REAL: _real, "StyleGAN2": _stylegan2, "StyleGAN3": _stylegan3, "StableDiffusionXL": _sdxl}
TAU = {REAL: (0, 0), "StyleGAN2": (0.45, 0.6), "StyleGAN3": (0.65, 0.78), "StableDiffusionXL": (0.68, 0.8)}
COARSE = {REAL: 0, "StyleGAN2": 1.0, "StyleGAN3": 1.0, "StableDiffusionXL": 1.0}


@lru_cache
def _radius(size):
    return np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]).astype(np.float32)


@lru_cache
def _hp_response(size):
    box = lambda f: (1 + 2 * np.cos(2 * np.pi * f)) / 3
    return (1 - box(np.fft.fftfreq(size))[:, None] * box(np.fft.rfftfreq(size))[None, :]).astype(np.float32)


@lru_cache(maxsize=256)
def _gauss(size, sigma):
    f2 = np.fft.fftfreq(size)[:, None] ** 2 + np.fft.rfftfreq(size)[None, :] ** 2
    return np.exp(-2 * (np.pi * sigma) ** 2 * f2).astype(np.float32)[..., None]


def _filter(x, h):
    return np.fft.irfft2(np.fft.rfft2(x, axes=(0, 1)) * h, s=x.shape[:2], axes=(0, 1)).astype(np.float32)


def _hp(x):
    p = np.pad(x, ((1, 1), (1, 1), (0, 0)), mode="edge")
    r = p[:-2] + p[1:-1] + p[2:]
    return x - (r[:, :-2] + r[:, 1:-1] + r[:, 2:]) * np.float32(1 / 9)


def _hp_rms(x):
    h = _hp(x).mean(axis=2)
    return float(np.sqrt(np.mean(h * h)))
