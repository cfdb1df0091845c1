"""Seconds an image of each purifier, and how many times longer DiffPure takes than ten reverse steps.

python -m benchmarks.purification [--size 32] [--images 16] [--widths 48,64,96] [--unshuffle 2]

The networks are new: their answers mean nothing, their calls take what those of trained ones take.
"""

import argparse
import os
import time

import torch

from benchmarks.table import Row, machine, publish
from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.diffusion.networks import NetworkShape, build_network
from trueface.generators.diffusion.schedule import make_schedule
from trueface.generators.made_folders import PerImageRNG, round_to_levels
from trueface.generators.purification.denoiser import DenoiserShape, new_denoiser
from trueface.generators.purification.purifier import Purifier, make_purifier
from trueface.generators.purification.registry import parse_purifier

PURIFIERS = (
    "none", "blur0.6", "jpeg75", "median3", "tv0.03", "dae", "oneshot10", "oneshot20x2",
    "jpeg75+oneshot10", "ensemble20", "spin20", "smooth20", "ddpm10", "diffpure50", "diffpure300",
)  # fmt: skip
SLOW, QUICK = "diffpure300", "ddpm10"
LEAST_RATIO = 20.0
ONE_SHOT, MOST_S = "oneshot10", 0.002  # an image and thread at 32 pixels
ROUNDS = 3  # the quickest counts: a busy machine only makes a round slower


def networks(size: int, widths: tuple[int, ...], unshuffle: int) -> tuple[Purifier, ...]:
    """Return all purifiers with untrained networks."""
    shape = NetworkShape(
        network="unet", size=size, channels=3, classes=0, embedding=64, widths=widths,
        unshuffle=unshuffle,
    )  # fmt: skip
    network = build_network(shape, seed=1).eval().requires_grad_(requires_grad=False)
    diffuser = Diffuser(network=network, schedule=make_schedule("seed"), size=size, channels=3)
    denoiser = new_denoiser(DenoiserShape(channels=3, width=24, depth=4), seed=1)
    return tuple(
        make_purifier(
            parse_purifier(text),
            diffuser=diffuser,
            denoiser=denoiser.eval().requires_grad_(requires_grad=False),
        )
        for text in PURIFIERS
    )


def seconds(purifier: Purifier, images: torch.Tensor) -> float:
    """Return the CPU seconds of an image, by the quickest of some rounds."""
    noise = PerImageRNG([str(number) for number in range(len(images))], seed=1)
    spent = []
    for _ in range(1 if purifier.name.largest_t > 100 else ROUNDS):
        started = time.process_time()
        purifier(images, noise)
        spent.append((time.process_time() - started) / len(images))
    return min(spent)


def main() -> None:
    """Measure each purifier; print a table and the two ratios that are wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=16, help="in one batch")
    parser.add_argument("--widths", default="48,64,96", help="of the U-Net")
    parser.add_argument("--unshuffle", type=int, default=2, help="of the U-Net")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    widths = tuple(map(int, given.widths.split(",")))
    rng = torch.Generator().manual_seed(1)
    images = round_to_levels(
        torch.rand(given.images, 3, given.size, given.size, generator=rng) * 2 - 1
    )
    with torch.no_grad():
        purifiers = networks(given.size, widths, given.unshuffle)
        purifiers[PURIFIERS.index(ONE_SHOT)](images, PerImageRNG([""] * len(images), 1))  # warm
        spent = {purifier.name.text: seconds(purifier, images) for purifier in purifiers}
    rows = [
        Row(
            what=f"{purifier.name.text}, {purifier.net_calls:g} calls, {given.size} pixels, ms an image",
            ours=1000 * spent[purifier.name.text],
            goal=1000 * MOST_S if purifier.name.text == ONE_SHOT else None,
            target=f"at most {1000 * MOST_S:g}" if purifier.name.text == ONE_SHOT else "",
        )
        for purifier in purifiers
    ]
    rows.append(
        Row(
            what=f"{SLOW} / {QUICK}, times",
            ours=spent[SLOW] / spent[QUICK],
            goal=LEAST_RATIO,
            target=f"at least {LEAST_RATIO:g}",
        )
    )
    print(f"{machine()}, one thread", end="\n\n")
    publish(rows, "lab")


if __name__ == "__main__":
    main()
