"""Detectors give the margins of their authors' code, for a state and images that follow from formulas.

The authors' code is not part of the project. It was run once on the same state and images, on a CPU. The
sides are small, but the padding of EfficientNet for its nominal side differs from that for the images. Authors of
networks of clips fix the side, so that `make test` compares one clip, and `make night` the others.
"""

import re
from collections.abc import Mapping
from hashlib import sha256
from math import prod
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.nn.functional import normalize

from tests.trueface.models.build import no_draws
from trueface.models.architectures.ict import Ict, IctWithReferences
from trueface.models.assembly import load_state
from trueface.models.blocks.caddm import Caddm
from trueface.models.detectors import Detector
from trueface.models.head import head_of
from trueface.models.registry import load_model_maker, spec_of

torch.set_num_threads(1)
PRIME = 999_983  # 3 does not divide 999,982, so the cubes of all residues are all residues
TOLERANCE = 1e-3  # in deviations of the margins: about 30 times the rounding of float32
# last words of names: tensors that the network sets
UNCHANGED = ("num_batches_tracked", "mask", "base", "_DCT_all", "_DCT_all_T")
SMALL = 0.1  # deviation of biases and means, and that of scales and variances around 1


class Authors(NamedTuple):
    """Input and results of the authors' code."""

    side: int  # width and height of the images, in pixels
    gain: float  # deviation of the weights of a layer, times the root of its inputs
    last: dict[str, float]  # factor of the tensors of the last layers, by name
    rows: int  # rows of the last layer; with two, a margin is their difference
    digest: str  # SHA-256 of the images, or of the first clip
    margins: tuple[float, ...]
    frames: int | None = None  # frames of a clip; None: margins are those of images
    # factor of the weights of other layers, by name
    scale: Mapping[str, float] = MappingProxyType({})
    rounding: float = TOLERANCE  # tolerance in float32


# StyleGAN scales its weights when it uses them
STYLEGAN = {"input0": 3, "layer0": 576, "layer1": 576, "layer2": 1152, "layer3": 1152, "layer4": 2304, "layer5": 2304,
            **{f"layer{number}": 4608 for number in range(6, 12)}, "layer12": 4617, "layer13": 8192, "layer14": 512}  # fmt: skip
AUTHORS = {
    "sbi": Authors(
        side=100,
        gain=1.45,
        last={"_fc": 1.63},
        rows=2,
        digest="3e78152e24f0ad1a4199f9d944b01dbacc4b500b94e9f977eb89c1e1a94ac734",
        margins=(-0.8514118, 1.44169, -0.5748122, 1.405869, 0.3298322, 1.042851),
    ),
    "effb4att": Authors(
        side=100,
        gain=1.45,
        last={"classifier": 33},
        rows=1,
        digest="3e78152e24f0ad1a4199f9d944b01dbacc4b500b94e9f977eb89c1e1a94ac734",
        margins=(-14.84065, -15.01853, -16.26581, -17.22039, -16.56298, -16.96462),
    ),
    "mat": Authors(
        side=100,
        gain=1.45,
        last={"ensemble_classifier_fc.2": 61.1},
        rows=2,
        digest="3e78152e24f0ad1a4199f9d944b01dbacc4b500b94e9f977eb89c1e1a94ac734",
        margins=(17.00372, 17.03543, 17.59864, 18.9975, 18.33481, 19.35005),
    ),
    "capsule": Authors(
        side=64,
        gain=1.7,
        last={"routing_stats": 181},
        rows=1,
        digest="278bf0b0ee783d7317650f1300df97c457edd4d7ee5db56a0ec187cbc0fb8d02",
        margins=(0.08760595, 0.305706, 0.088081, 0.3112111, 0.3096622, 0.3051524),
    ),
    "ccvit": Authors(
        side=224,
        gain=1.0,
        last={"sm_mlp_head.1": 1.47, "lg_mlp_head.1": 1.47},
        rows=1,
        digest="680ad844eab5e34e12ab6a9125fe29f6c272dfc633d24c77eb024f56348e141e",
        margins=(-1.380027, 0.04232192, 0.5446544),
    ),
    "recce": Authors(
        side=96,
        gain=1.15,
        last={"fc": 1.2},
        rows=1,
        digest="15105b955f2f4c4e0f4007f82253ac4134c6f783138f3d2f03f9a45f0997a42e",
        margins=(-2.242814, -1.011673, -1.198866, 0.3033935, 0.4389808, -0.8219423),
    ),
    "core": Authors(
        side=96,
        gain=1.1,
        last={"fc": 3.87},
        rows=2,
        digest="15105b955f2f4c4e0f4007f82253ac4134c6f783138f3d2f03f9a45f0997a42e",
        margins=(7.510173, 9.00983, 6.806359, 8.689881, 7.114909, 9.026423),
    ),
    "mcx": Authors(
        side=423,
        gain=1.0,
        last={"fc": 8},
        rows=1,
        digest="25d3bcf72dade26ac17d82e47b19b94d14be0313e749e3b8c3df59bfb55d6167",
        margins=(24.18551, 22.79598),
    ),
    "deepfakebench/f3net": Authors(
        side=256,
        gain=1.1,
        last={"backbone.last_linear.1": 15},
        rows=2,
        digest="d8d155c5426115738a936edaccdc478b86a48a9ea02cce41d78ae1e6ceb7990e",
        margins=(-38.96901, -40.25397, -41.05376),
    ),
    "deepfakebench/spsl": Authors(
        side=96,
        gain=1.1,
        last={"backbone.last_linear": 3},
        rows=2,
        digest="15105b955f2f4c4e0f4007f82253ac4134c6f783138f3d2f03f9a45f0997a42e",
        margins=(-0.685828, 0.324743, 2.067018, 0.7362275, -0.1574742, -0.2470812),
    ),
    "lipforensics": Authors(
        side=88,
        gain=1.0,
        last={},
        rows=1,
        digest="f8b526c5aeb3018ba5d519a07091eab6fd454bb7c145343cdb2e9ccb0520655d",
        margins=(10.33371, 10.03221, 18.09124),
        frames=25,
    ),
    "altfreezing": Authors(
        side=224,
        gain=1.2,
        last={},
        rows=1,
        digest="c85217e6749b636194d0587c65d5fd6f4594afbd450c9ca2116dec550883cb87",
        margins=(17.39246, 19.47322, 21.16894),
        frames=32,
    ),
    "ftcn": Authors(
        side=224,
        gain=1.0,
        last={},
        rows=1,
        digest="c85217e6749b636194d0587c65d5fd6f4594afbd450c9ca2116dec550883cb87",
        margins=(1.945153, 1.965659, 1.940016),
        frames=32,
    ),
    "caddm": Authors(
        side=224,
        gain=1.0,
        last={"fc": 1.0},
        rows=2,
        digest="e76608e0315dc6f832ff57423bfa869ac0941765f41f0a26d962fa10166c80d4",
        margins=(-7.599827, -9.071795, -9.63069, -10.11958, -10.12839, -9.999001),
        scale={"base_model.conv1": 0.01},
    ),
    "caddm_b3": Authors(
        side=224,
        gain=1.35,
        last={"fc": 17.0},
        rows=2,
        digest="680ad844eab5e34e12ab6a9125fe29f6c272dfc633d24c77eb024f56348e141e",
        margins=(10.89446, 12.77891, 11.29451),
        scale={"base_model._conv_stem": 0.01},
    ),
    "caddm_b4": Authors(
        side=224,
        gain=1.3,
        last={"fc": 30.0},
        rows=2,
        digest="680ad844eab5e34e12ab6a9125fe29f6c272dfc633d24c77eb024f56348e141e",
        margins=(53.54858, 52.99547, 54.85591),
        scale={"base_model._conv_stem": 0.01},
    ),
    "lgrad": Authors(
        side=256,
        gain=1.1,
        last={"fc": 16.0},
        rows=1,
        digest="2454e01b4bad3e10cace74d7e5ea07338dcf092b856de22476a23d28222e2308",
        margins=(-2.729702, -1.868367),
        scale={f"discriminator.{name}": inputs**0.5 for name, inputs in STYLEGAN.items()},
        rounding=0.03,  # the sign of a number close to 0 changes the gradient
    ),
    "ict": Authors(
        side=112,
        gain=1.4,
        last={},
        rows=1,
        digest="63d83fdd214053acbfe44378e1e587bffe58a5f9a14a844535d943ecb6f4ed3c",
        margins=(-0.6476369, -0.612941, -0.5885956, -0.5992167, -0.6093194, -0.6302897),
    ),
}
NIGHT = ("caddm_b3", "caddm_b4")
NAMES = [
    pytest.param(each, marks=pytest.mark.night, id=each.partition("_")[2])
    if each in NIGHT
    else each
    for each in AUTHORS
]
OF_CLIPS = [name for name, authors in AUTHORS.items() if authors.frames is not None]


def _numbers() -> Tensor:
    """Return numbers of mean 0 and deviation 1, evenly spread: cubes modulo a prime."""
    places = torch.arange(PRIME)
    cubes = places * places % PRIME * places % PRIME
    return ((cubes * 2 - PRIME + 1).double() / PRIME * 3**0.5).float()


NUMBERS = _numbers()


def numbers_of(name: str, shape: tuple[int, ...]) -> Tensor:
    """Return the numbers of a tensor: a piece of all numbers, which begins at a place that its name determines."""
    letters = enumerate(name.encode(), 1)
    start = sum(place**2 * letter for place, letter in letters) * 7919 % PRIME
    count = prod(shape)
    turns = -(-(start + count) // PRIME)
    numbers = NUMBERS if turns == 1 else NUMBERS.repeat(turns)
    return numbers[start : start + count].reshape(shape)


def tensor_of(name: str, shape: tuple[int, ...], gain: float) -> Tensor:
    """Return a tensor of a state by its name, which ends as torch's layers name it."""
    numbers = numbers_of(name, shape)
    match name.rpartition(".")[2]:
        case "bias" | "running_mean":
            return numbers * SMALL
        case "running_var":
            return 1 + numbers * SMALL
        case "weight" if len(shape) == 1:
            return 1 + numbers * SMALL
        case "weight":
            scaled: Tensor = numbers * (gain / prod(shape[1:]) ** 0.5)
            return scaled
    return numbers


def state_of(own: dict[str, Tensor], authors: Authors) -> dict[str, Tensor]:
    """Return a state of a network's names and shapes."""
    state = {}
    for name, tensor in own.items():
        layer, _, word = name.rpartition(".")
        if word in UNCHANGED:
            state[name] = tensor
            continue
        rows = authors.rows if layer in authors.last else 1
        shape = (rows * tensor.shape[0], *tensor.shape[1:])
        made = tensor_of(name, shape, authors.gain) * authors.last.get(layer, 1.0)
        if word == "weight":
            made *= authors.scale.get(layer, 1.0)
        state[name] = made[1:] - made[:1] if rows == 2 else made
    return state


def images_of(count: int, side: int) -> Tensor:
    """Return uint8 images (count, 3, side, side): waves and grain."""
    image, colour, row, column = torch.meshgrid(
        *(torch.arange(each) for each in (count, 3, side, side)), indexing="ij"
    )
    across, down = column * (3 + 2 * image), row * (5 + image)
    mixed = row * column * (image + 1) // (7 + 4 * colour)
    wave = ((across + down + mixed + 83 * colour * image) % 512 - 256).abs().clamp(max=255)
    grain = (column**2 * (11 + image) + row**2 * 13 + row * column * 29 * (colour + 1)) % 61
    return ((3 * wave + 4 * grain) // 4).clamp(max=255).to(torch.uint8)


def clips_of(count: int, frames: int, side: int) -> Tensor:
    """Return uint8 clips (count, 1, frames, 3, side, side): a window that moves over each image."""
    images = images_of(count, side + frames)
    windows = [images[:, :, at : at + side, at : at + side] for at in range(frames)]
    return torch.stack(windows, 1)[:, None]


def detector_of(name: str) -> Detector:
    """Return a detector with the state that follows from the formulas."""
    with no_draws():
        network = load_model_maker(name)()
    network.load_state_dict(state_of(network.state_dict(), AUTHORS[name]))
    return Detector(spec_of(name), network).eval()


def check_margins(name: str, pixels: Tensor, chosen: slice) -> None:
    """Compare some of a detector's margins with those of its authors' code."""
    authors = AUTHORS[name]
    with torch.no_grad():
        margins = detector_of(name)(pixels[chosen])[:, 0]
    every = torch.tensor(authors.margins)
    tolerance = authors.rounding * float(every.std())
    torch.testing.assert_close(margins, every[chosen], rtol=0, atol=tolerance)


@pytest.mark.parametrize("name", NAMES)
def test_a_detector_gives_the_margins_of_its_authors_code(name: str) -> None:
    authors = AUTHORS[name]
    if authors.frames is None:
        pixels = images_of(len(authors.margins), authors.side)
    else:
        pixels = clips_of(1, authors.frames, authors.side)
    assert sha256(pixels.numpy().tobytes()).hexdigest() == authors.digest
    check_margins(name, pixels, slice(len(pixels)))


@pytest.mark.night
@pytest.mark.parametrize("name", OF_CLIPS)
def test_a_detector_gives_the_margins_of_further_clips(name: str) -> None:
    authors = AUTHORS[name]
    assert authors.frames is not None
    pixels = clips_of(len(authors.margins), authors.frames, authors.side)
    check_margins(name, pixels, slice(1, None))


LRNET_MARGINS = (-4.078162, 1.330386, -14.6156, 2.08391, 10.85095, -0.002925173)
LRNET_DIGEST = "68997620c28a29bfc6db57ccec4875488a3db2a45ce1938179e584d8979221ba"


def test_lrnet_gives_the_margins_of_its_authors_code() -> None:
    landmarks = (numbers_of("landmarks", (6, 30, 68, 2)) * 100).round() / 200
    assert sha256(landmarks.numpy().tobytes()).hexdigest() == LRNET_DIGEST
    with no_draws():
        network = load_model_maker("lrnet")()
    state = {
        name: tensor_of(name, tuple(own.shape), 1.6) * (3 if ".dense.3." in name else 1)
        for name, own in network.state_dict().items()
    }
    network.load_state_dict(state)
    with torch.no_grad():
        margins = Detector(spec_of("lrnet"), network).eval()(landmarks)[:, 0]
    expected = torch.tensor(LRNET_MARGINS)
    torch.testing.assert_close(margins, expected, rtol=0, atol=TOLERANCE * float(expected.std()))


@pytest.mark.night
def test_lgrad_gives_the_margins_of_its_authors_code_in_float64() -> None:
    authors = AUTHORS["lgrad"]
    images = images_of(len(authors.margins), authors.side)
    with torch.no_grad():
        margins = detector_of("lgrad").double()(images)[:, 0]
    expected = torch.tensor(authors.margins).double()
    torch.testing.assert_close(margins, expected, rtol=0, atol=TOLERANCE * float(expected.std()))


@pytest.mark.night
def test_compiled_lgrad_gives_the_same_margins() -> None:
    detector, images = detector_of("lgrad"), images_of(1, AUTHORS["lgrad"].side)
    with torch.no_grad():
        margins = detector(images)
        detector.network.compile(backend="eager")
        torch.testing.assert_close(detector(images), margins, rtol=0, atol=0)


# --- the table of comparisons


def test_table_of_comparisons_has_the_number_of_parameters_of_each_detector() -> None:
    text = (Path(__file__).parents[3] / "docs/comparisons.yaml").read_text(encoding="utf-8")
    for row in yaml.safe_load(text)["rows"]:
        for name in re.findall("`(.+?)`", row["detector"]):
            with torch.device("meta"):
                network, head = load_model_maker(name)(), spec_of(name).head
                if head is not None:
                    features = head_of(network, head).in_features
                    network.set_submodule(head, nn.Linear(features, 1))
            count = sum(each.numel() for each in network.parameters())
            assert f"{count / 1e6:.1f} M" == row["parameters"], name


# --- outputs beside the logit


def project(outputs: Tensor) -> list[float]:
    """Return the weighted sum of the numbers of an image. The place of a number determines its weight."""
    weights = numbers_of("outputs", tuple(outputs.shape[1:]))
    return [float((each * weights).sum()) for each in outputs]


@pytest.mark.parametrize(
    ("part", "expected"),
    [("places", [21.22465, 18.36634]), ("classes", [24.48371, 20.88132])],
)
def test_anchors_of_caddm_are_those_of_its_authors_code(part: str, expected: list[float]) -> None:
    detector, images = detector_of("caddm"), images_of(2, AUTHORS["caddm"].side)
    assert isinstance(detector.network, Caddm)
    with torch.no_grad():
        outputs = detector.network.forward_parts(detector.normalize_pixels(images))
    assert project(getattr(outputs, part)) == pytest.approx(expected, rel=TOLERANCE)


def test_ict_with_references_gives_the_weighted_distances_of_its_authors_code() -> None:
    detector, images = detector_of("ict"), images_of(6, AUTHORS["ict"].side)
    assert isinstance(detector.network, Ict)
    network, pixels = IctWithReferences(), detector.normalize_pixels(images)
    with torch.no_grad():
        parts = zip(("inner", "outer"), detector.network.embed(pixels), strict=True)
        references = {
            name: normalize(each[:4] + 0.05 * numbers_of(name, (4, each.shape[1])), dim=1)
            for name, each in parts
        }
        load_state(network, {**detector.network.state_dict(), **references}, "references")
        margins = network.eval()(pixels)[:, 0]
    expected = torch.tensor([-1.129714, -1.093846, -1.080091, -1.079494, -1.06445, -1.072646])
    assert float((margins - expected).abs().max()) <= TOLERANCE * float(expected.std())
