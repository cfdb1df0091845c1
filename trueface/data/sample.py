"""A synthetic image set in the layout of TrueFace, with its splits: the embedded default.

Nothing is downloaded. Real images are procedural scenes with sensor noise; each fake method leaves
a fingerprint of its own; three networks share all of them. Figures on these images say nothing about
real photographs. The same seed gives the same files, whatever the number of processes.

<root>/PreSocial/Real/FFHQ/00000.png                         as made, without loss
<root>/Telegram/Fake/StyleGAN2/conf-f-psi-1/00000.jpg        as shared
<root>/splits/train.json, val.json, test.json                keys of the images
<root>/sample.json                                           the mark, written last

One chain leads from a scene to pixels, for real and fake images. Whatever a single number could reveal is drawn from one law for both and then enforced: exposure,
contrast, the residual's energy and colour, the fraction of the scene's own detail in it. Only the
residual differs: sensor noise in a real image, the patterns of a fingerprint in a fake one.

A social network makes an image that is shared on it smaller and compresses it again. Each has its own way, and takes the same way for real and for fake images.

The fingerprint of a generator is a set of regular patterns in the spectrum, one set per method. A generator has
less of the noise with which a camera fills the fine residual; in its place stand the patterns of its up-sampling,
with the same energy in every band of the spectrum. A detector has to find the pattern.
"""

import contextlib
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from trueface.data.scenes import Plane, paint_scene
from trueface.data.splits import write_splits
from trueface.runtime import paths
from trueface.runtime.artifact import Artifact
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, write_json
from trueface.runtime.process_pool import work_through
from trueface.runtime.rng import stream

Spectrum = npt.NDArray[np.complexfloating[Any, Any]]  # complex64, (H, W // 2 + 1, channels)
Line = tuple[int, int]  # cycles per CELL pixels, downwards and to the right

CELL = 16  # the longest period of a pattern, in pixels
CORNER = 0.5  # cycles per pixel; a square grid of pixels holds up to 0.71 in its corners
LEAST_NOISE = 0.05  # of a camera's power, in any band: even a generator's images have some
LAG_PX = 1.5  # neighbours nearer than this are as alike in a fake as in a real image
WANDER = 0.3  # random part of each line of a pattern, relative to its fixed part


Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
Channels = TypeVar("Channels", Plane, Spectrum)
MIDDLE = 0.30  # linear light that becomes mid-grey
BLACK, WHITE = 12.0, 243.0  # levels that the tone curve tends to: hardly anything is clipped
DETAIL = (0.2, 3.0)  # bounds of sharpening: no scene is wiped clean, none without detail blown up
COLOUR_AT_HALF_SIZE = 2  # pillow's number for 4:2:0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """What a method leaves in its images.

    A pattern is a set of lines in the spectrum with fixed phases. The fine one is as strong as the
    noise it replaces; the coarse one lies lower, where it outlives some resizing and compression.
    """

    name: str  # fixes the phases of its lines
    fine: tuple[Line, ...]
    coarse: tuple[Line, ...]
    share: tuple[float, float]  # of the fine pattern in the noise's amplitude, lowest and highest
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


# Up-convolution leaves a checkerboard of its stride (Odena, Dumoulin & Olah 2016), up-sampling
# copies the spectrum at multiples of the old sampling rate (Frank et al. 2020, arXiv 2003.08685);
# StyleGAN3 filters both away and leaves other, drifting lines and a cut spectrum; a latent
# decoder works in tiles of 8 x 8 pixels (Corvi et al. 2023, arXiv 2211.00680). Shares and levels
# were chosen by measurement: a small network learns them, a single number does not reveal them.
FINGERPRINTS: Mapping[str, Fingerprint] = {
    fingerprint.name: fingerprint
    for fingerprint in (
        Fingerprint(
            name="StyleGAN2",
            fine=lattice(4),
            coarse=((4, 0), (0, 4), (4, 4), (-4, 4)),
            share=(0.48, 0.62),
        ),
        Fingerprint(
            name="StyleGAN3",
            fine=((4, 0), (0, 4), (5, 0), (0, 5), (4, 3), (-4, 3), (3, 4), (-3, 4)),
            coarse=((3, 0), (0, 3), (2, 2), (-2, 2)),
            share=(0.60, 0.72),
            cut=0.05,
            drifts=True,
        ),
        Fingerprint(
            name="StableDiffusionXL",
            fine=((6, 0), (0, 6), (4, 4), (-4, 4), (4, 2), (-4, 2), (2, 4), (-2, 4)),
            coarse=((4, 0), (0, 4), (2, 2), (-2, 2)),
            share=(0.57, 0.69),
        ),
    )
}


def add_fingerprint(
    noise: Spectrum, rng: np.random.Generator, fingerprint: Fingerprint, rms: float, weight: Plane
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
    fingerprint, phases = FINGERPRINTS[name], np.random.default_rng(list(name.encode()))
    fine = _pattern(fingerprint.fine, size_px, phases)
    return fine, _pattern(fingerprint.coarse, size_px, phases)


def _pattern(lines: tuple[Line, ...], size_px: int, phases: np.random.Generator) -> Pattern:
    place = np.arange(size_px) * (2.0 * np.pi / CELL)
    turns = np.array((-1.0, 0.0, 1.0)) * (2.0 * np.pi / 3.0)  # three waves that cancel out
    field = np.zeros((size_px, size_px, 4))
    for down, right in lines:
        wave = (down * place[:, None] + right * place[None, :])[..., None]
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """How one image is taken and finished; drawn from one law, whatever made the image."""

    exposure: float  # mean linear light
    contrast: float  # exponent before the tone curve
    blur: float  # weight of each neighbour in a row of three pixels
    residual: float  # levels: root mean square of the image minus its 3 x 3 mean
    noise: float  # fraction of noise in the residual's energy
    softness_px: float  # of the noise: standard deviation of the blur of demosaicing
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
    scene: Plane, rng: np.random.Generator, fingerprint: Fingerprint | None = None
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
    picture = _blurred(np.float32(WHITE - BLACK) * tone + np.float32(BLACK), finish.blur)
    detail = picture - _blurred(picture, 1.0 / 3.0)
    rms = float(np.sqrt(np.mean(np.square(_grey(detail)))))
    sharpening = np.float32(np.clip(finish.detail_rms / max(rms, 1e-3), *DETAIL) - 1.0)
    noise = _residual(rng, finish, scene.shape[0], fingerprint)
    noise *= _gain(_grey(tone), finish.slope)[..., None]
    return np.clip(np.rint(picture + sharpening * detail + noise), 0, 255).astype(np.uint8)


def _residual(
    rng: np.random.Generator, finish: Finish, size_px: int, fingerprint: Fingerprint | None
) -> Plane:
    """Return noise and pattern, (H, W, 3), noise_rms levels once the 3 x 3 mean is taken off."""
    shape = (size_px, size_px // 2 + 1, 4, 2)
    noise = rng.standard_normal(shape, dtype=np.float32).view(np.complex64)[..., 0]
    noise[..., 1:] -= _grey(noise[..., 1:])[..., None]
    soft = _softness(size_px, round(finish.softness_px, 2))
    weight = np.square(soft * _residual_response(size_px))
    noise *= np.float32(finish.noise_rms / energy(noise[..., 0], weight) ** 0.5)
    if fingerprint is not None:
        noise = add_fingerprint(noise, rng, fingerprint, finish.noise_rms, weight)
    # four planes become three channels: what they share, and what each has for itself
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


def _grey(channels: Channels) -> Channels:
    """Return the mean of three channels; NumPy's own takes its time over so short an axis."""
    mean: Channels = (channels[..., 0] + channels[..., 1] + channels[..., 2]) * np.float32(1 / 3)
    return mean


def _blurred(picture: Plane, weight: float) -> Plane:
    """Return the picture after a row and a column filter (weight, 1 - 2 weight, weight)."""
    side, centre = np.float32(weight), np.float32(1.0 - 2.0 * weight)
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)), mode="edge")
    rows = (padded[:-2] + padded[2:]) * side + padded[1:-1] * centre
    blurred: Plane = (rows[:, :-2] + rows[:, 2:]) * side + rows[:, 1:-1] * centre
    return blurred


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """One network's treatment."""

    scale: float  # of width and height
    resampling: Image.Resampling
    quality: tuple[int, int]  # of JPEG, lowest and highest


# By the name of the folder. The fingerprints fill small images, so the qualities lie above those of the
# networks themselves (70 … 85, 85 … 92, 80 … 88), under which hardly anything would be left.
NETWORKS: Mapping[str, Network] = {
    "Facebook": Network(scale=0.80, resampling=Image.Resampling.BICUBIC, quality=(78, 88)),
    "Telegram": Network(scale=1.00, resampling=Image.Resampling.BICUBIC, quality=(88, 95)),
    "Twitter": Network(scale=0.90, resampling=Image.Resampling.LANCZOS, quality=(84, 92)),
}


def share(pixels: Pixels, network: Network, rng: np.random.Generator) -> bytes:
    """Return the JPEG file that a network makes of an image.

    Args:
        pixels: (H, W, 3).
        network: how it treats images.
        rng: decides the quality.
    """
    image = Image.fromarray(pixels)
    if network.scale != 1.0:
        size = (round(image.width * network.scale), round(image.height * network.scale))
        image = image.resize(size, network.resampling)
    quality = int(rng.integers(*network.quality, endpoint=True))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=COLOUR_AT_HALF_SIZE)
    return file.getvalue()


SCHEMA = 1
RECIPE = 1  # to be raised whenever the same spec would give other images
UNSHARED = "PreSocial"
REAL = ("Real/FFHQ", "Real/FORLAB")
FAKE = (  # two folders of each method
    "Fake/StyleGAN2/conf-f-psi-0.5",
    "Fake/StyleGAN2/conf-f-psi-1",
    "Fake/StyleGAN3/conf-t-psi-0.5",
    "Fake/StyleGAN3/conf-t-psi-0.7",
    "Fake/StableDiffusionXL/animals",
    "Fake/StableDiffusionXL/faces",
)
UNFINISHED = ".sample-unfinished.json"
CHUNK = 16  # images that a process makes before it reports: a fifth of a second
PNG_LEVEL = 1  # of 9: noise hardly gets smaller at a higher one, only slower


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSpec:
    """What decides every byte of a sample; in each list are as many fakes as real images."""

    seed: int = 42
    size_px: int = 128
    train: int = 600  # real images of the training list
    val: int = 120
    test: int = 300

    @property
    def lists(self) -> dict[str, int]:
        """How many real images each list has."""
        return {"train": self.train, "val": self.val, "test": self.test}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One image to make, and its shared copies."""

    folder: str  # below a modifier's folder: "Real/FFHQ", "Fake/StyleGAN2/conf-f-psi-1"
    stem: str  # five digits
    split: str

    @property
    def key(self) -> str:
        """Its name in a split."""
        return f"{self.folder.partition('/')[2]}/{self.stem}"

    @property
    def method(self) -> str | None:
        """The fake method that makes it; None for a real image."""
        kind, method, *_ = self.folder.split("/")
        return None if kind == "Real" else method

    @property
    def files(self) -> tuple[str, ...]:
        """Its files below the root, the unshared one first, then one for each network."""
        shared = (f"{network}/{self.folder}/{self.stem}.jpg" for network in NETWORKS)
        return (f"{UNSHARED}/{self.folder}/{self.stem}.png", *shared)


def make_sample(
    root: Path,
    spec: SampleSpec,
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Json]:
    """Make a sample, or what is missing of it; return what its mark says.

    Args:
        root: absent, empty, or holding a sample of the same spec, whole or not.
        spec: what to make.
        workers: processes; None: one for each core that we may use.
        progress: called with the number of images made and their total. While another process writes the
            folder, both are 0. An exception of it ends the work, and the next call continues.

    Raises:
        DataError: the folder holds something else, or cannot be written.
        MachineError: a process was killed.
    """
    pictures = list_pictures(spec)
    mark: dict[str, Json] = {"schema": SCHEMA, "recipe": RECIPE, "spec": asdict(spec)}
    done = {**mark, **_counts(spec, pictures)}
    artifact = Artifact("sample", root, paths.SAMPLE_MARK, mark)
    with artifact.locked(progress):
        finished = _is_finished(artifact)
        missing = _missing(root, pictures)
        if finished and not missing:
            return done
        try:
            _begin(root, mark)
            make, doing = partial(_make_chunk, root, spec), f"made images in {root}"
            work_through(
                make, missing, CHUNK, workers, doing=doing, total=len(pictures), progress=progress
            )
            write_splits(root / "splits", _lists(pictures))
            write_json(root / paths.SAMPLE_MARK, done)
            (root / UNFINISHED).unlink()
        except OSError as error:
            raise DataError(f"cannot write the sample to {root}: {error}") from error
    return done


def list_pictures(spec: SampleSpec) -> list[Picture]:
    """Return every image of a sample: the lists share the folders evenly."""
    counts = dict.fromkeys((*REAL, *FAKE), 0)
    pictures = []
    for split, number in spec.lists.items():
        for folders in (REAL, FAKE):
            for index in range(number):
                folder = folders[index % len(folders)]
                stem = f"{counts[folder]:05d}"
                counts[folder] += 1
                pictures.append(Picture(folder=folder, stem=stem, split=split))
    return pictures


def _counts(spec: SampleSpec, pictures: Sequence[Picture]) -> dict[str, Json]:
    return {
        "synthetic": True,
        "about": "procedural scenes; figures on them say nothing about real photographs",
        "images": len(pictures) * (1 + len(NETWORKS)),
        "keys": {name: 2 * count for name, count in spec.lists.items()},
    }


def _lists(pictures: Sequence[Picture]) -> dict[str, list[str]]:
    return {
        name: sorted(picture.key for picture in pictures if picture.split == name)
        for name in ("train", "val", "test")
    }


def _is_finished(artifact: Artifact) -> bool:
    """Return whether a folder holds a finished sample of this mark; refuse a foreign folder."""
    for name in (paths.SAMPLE_MARK, UNFINISHED):
        if (stored := artifact.stored(name)) is not None:
            artifact.refuse_other(stored, _other)
            return name == paths.SAMPLE_MARK
    artifact.refuse_foreign()
    return False


def _other(_key: str, stored: Mapping[str, Json]) -> str:
    spec = json.dumps(stored.get("spec"))
    return f"a sample with other settings ({spec}, recipe {stored.get('recipe')})"


def _missing(root: Path, pictures: Sequence[Picture]) -> list[Picture]:
    """Return the pictures of which a file is not there, or is empty after a power cut."""
    there: set[str] = set()
    for folder in {f"{file.rpartition('/')[0]}" for picture in pictures for file in picture.files}:
        with contextlib.suppress(OSError), os.scandir(root / folder) as entries:
            there.update(f"{folder}/{entry.name}" for entry in entries if entry.stat().st_size > 0)
    return [picture for picture in pictures if not there.issuperset(picture.files)]


def _begin(root: Path, mark: dict[str, Json]) -> None:
    for folder in (*REAL, *FAKE):
        for modifier in (UNSHARED, *NETWORKS):
            (root / modifier / folder).mkdir(parents=True, exist_ok=True)
    write_json(root / UNFINISHED, mark)
    (root / paths.SAMPLE_MARK).unlink(missing_ok=True)


def _make_chunk(root: Path, spec: SampleSpec, pictures: Sequence[Picture]) -> None:
    for picture in pictures:
        scene = paint_scene(_stream(spec, picture, "scene"), spec.size_px)
        fingerprint = None if picture.method is None else FINGERPRINTS[picture.method]
        pixels = develop(scene, _stream(spec, picture, "camera"), fingerprint)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=PNG_LEVEL)
        copies = (
            share(pixels, network, _stream(spec, picture, name))
            for name, network in NETWORKS.items()
        )
        for path, content in zip(picture.files, (file.getvalue(), *copies), strict=True):
            _write(root / path, content)


def _stream(spec: SampleSpec, picture: Picture, purpose: str) -> np.random.Generator:
    """Return dice that depend on the seed, the key and the purpose, not on the order of work."""
    return stream("sample", spec.seed, picture.key, purpose)


def _write(path: Path, content: bytes) -> None:
    # whole or absent; not synced one by one, which would take minutes
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_bytes(content)
    temporary.replace(path)
