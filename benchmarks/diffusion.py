"""How long diffusers take: a step of a training, a call of the network, one-shot, a sampling.

    python -m benchmarks.diffusion [UNET_BATCH [REPEATS [THREADS [DEVICE]]]]

The U-Net is that of the CPU study of purification (32 pixels, 48, 64 and 96 channels, packed 2 by 2). The MLP
is that of concept erasing (10 pixels, grey, six classes). Float32, noise for images. Medians of wall
seconds, and of CPU seconds, which other programs on the machine change less.
"""

import statistics
import sys
import time
from collections.abc import Callable

import torch

from benchmarks.measured import record
from benchmarks.table import machine, number
from launcher.system.text_table import columns
from trueface.generators.diffusion.diffuser import Diffuser, ddim_sample, ddpm_reverse
from trueface.generators.diffusion.networks import NetworkShape, build_network
from trueface.generators.diffusion.schedule import make_schedule
from trueface.generators.diffusion.settings import DiffuserSettings
from trueface.generators.diffusion.training import fit
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now

USUAL = ("32", "7", "1", "cpu")
TARGET_MS = 2.0  # one-shot, an image and thread
UNET = NetworkShape(
    network="unet", size=32, channels=3, classes=0, embedding=64, widths=(48, 64, 96), unshuffle=2
)
MLP = NetworkShape(
    network="mlp", size=10, channels=1, classes=6, embedding=16, widths=(192, 192, 192, 192)
)
STEPS = 10  # steps of a training that is timed


def median_ms(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the medians of wall and CPU milliseconds of some calls, after two for nothing."""
    walls, spent = list[float](), list[float]()
    for turn in range(repeats + 2):
        started, used = now(), time.process_time()
        work()
        if turn >= 2:
            walls.append(1000 * (now() - started))
            spent.append(1000 * (time.process_time() - used))
    return statistics.median(walls), statistics.median(spent)


def a_diffuser(shape: NetworkShape, device: str) -> Diffuser:
    """Return an untrained diffuser."""
    network = build_network(shape).eval().requires_grad_(requires_grad=False)
    return Diffuser(
        network=network,
        schedule=make_schedule("linear"),
        size=shape.size,
        channels=shape.channels,
        class_names=tuple(map(str, range(shape.classes))),
        has_null=shape.classes > 0,
    ).to(device)


def a_training(shape: NetworkShape, batch: int, device: str) -> Callable[[], object]:
    """Return a training of a few steps."""
    size = (4 * batch, shape.channels, shape.size, shape.size)
    images = torch.randint(0, 256, size, dtype=torch.uint8)
    labels = torch.arange(len(images)) % shape.classes if shape.classes else None
    settings = DiffuserSettings.model_validate(
        {
            "data_root": "", "network": shape.network, "size": shape.size, "widths": shape.widths,
            "channels": shape.channels, "batch_size": batch, "num_steps": STEPS,
        }
    )  # fmt: skip
    names = tuple(map(str, range(shape.classes)))
    return lambda: fit(images, labels, settings, class_names=names, watch=RunContext(device=device))


def main() -> None:
    """Measure and print a table."""
    given = sys.argv[1:]
    batch, repeats, threads, device = (*given, *USUAL[len(given) :])
    torch.set_num_threads(int(threads))
    count, turns = int(batch), int(repeats)
    rows = [["", "wall ms", "CPU ms", "images", "wall ms an image", ""]]

    def measured(what: str, work: Callable[[], object], images: int, parts: int = 1) -> None:
        with torch.inference_mode(mode=parts == 1):
            wall, spent = (value / parts for value in median_ms(work, turns))
        target = f"at most {TARGET_MS}" if "one-shot" in what else ""
        row = [number(wall), number(spent), str(images), number(wall / images), target]
        rows.append([what, *row])

    unet, mlp = a_diffuser(UNET, device), a_diffuser(MLP, device)
    x = torch.randn(count, 3, 32, 32, device=device)
    measured("U-Net, a call", lambda: unet.eps(x, 10), count)
    measured("U-Net, one-shot at t = 10", lambda: unet.schedule.x0(x, 10, unet.eps(x, 10)), count)
    measured(
        "U-Net, reverse chain of 10",
        lambda: ddpm_reverse(unet, x, 10, lambda _: torch.randn_like(x)),
        count,
    )
    measured("U-Net, a step of training", a_training(UNET, count, device), count, STEPS)
    noise = torch.randn(128, 1, 10, 10, device=device)
    named = mlp.embed(torch.arange(128) % 6)
    measured("MLP, a call", lambda: mlp.eps(noise, 10, named), 128)
    measured(
        "MLP, 25 DDIM steps, guided",
        lambda: ddim_sample(mlp, noise, named, steps=25, guidance=2),
        128,
    )
    measured("MLP, a step of training", a_training(MLP, 128, device), 128, STEPS)
    print("\n".join(columns(rows, right=frozenset(range(1, 5)))))
    an_image = {f"{what}, wall ms an image": ms for what, *_, ms, _ in rows[1:]}
    record("lab", {what: (ms, "") for what, ms in an_image.items()})
    print(f"\n{machine()}, {threads} threads, {device}")


if __name__ == "__main__":
    main()
