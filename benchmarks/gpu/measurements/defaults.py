"""The configuration of the TrueFace project with the default settings of a training.

It trains all weights of `nodown` in fp32, with batches of 16 and patches of 96 px out of JPEG files of 1024 px. Resize,
blur and JPEG each have the probability 0.2. There are as many loading processes as free cores. Two things limit the
speed: the loader alone, and a CUDA graph that gets no new images.
"""

from collections.abc import Sequence

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measurements.images import files, images_of_files
from benchmarks.gpu.measurements.networks import OFF, Case, TimedFeed, modes
from benchmarks.gpu.measurements.training import loader_alone, measured_graph
from trueface.data.index import Image

BATCH, SIDE, SOURCE = 16, 96, 1024
FILES = 24  # one takes a fifth of a second to make
IMAGES = 2560  # images of a pass


def trueface_case(bench: Bench, accelerate: str = OFF) -> Case:
    """Return the configuration."""
    return Case(
        bench=bench, side=bench.size(SIDE, 16), precision="fp32", accelerate=accelerate,
        full_batch=BATCH, automatic=True,
    )  # fmt: skip


def pictures_of(bench: Bench) -> list[Image]:
    """Return the images of a pass."""
    paths = files(bench.path, bench.size(SOURCE, 64), bench.size(FILES, 2))
    return images_of_files(paths, bench.size(IMAGES, 24))


def measure(bench: Bench) -> None:
    """Measure the training in each mode, and what limits it."""
    pictures = pictures_of(bench)
    case = trueface_case(bench)
    # the first pass starts the loading processes
    feed = case.training(pictures)
    for _ in feed(0):
        pass
    loader, graph = loader_alone(feed, case), measured_graph(case)
    bench.row(f"{case.name}: loader alone", loader, "images/s")
    for mode in modes(bench):
        own = trueface_case(bench, mode)
        speed = _speed(own, pictures)
        bench.row(f"{own.name}: training", speed, "images/s")
        limit = loader if graph is None else min(loader, graph)
        bench.row(f"{own.name}: training, share of loader or CUDA graph", speed / limit)


def _speed(case: Case, pictures: Sequence[Image]) -> float:
    """Return the images per second of the second pass of a training."""
    feed = case.training(pictures)
    loop = case.loop(feed, epochs=2)
    loop.run(0, None, every=0, pause=lambda _: None)
    loop.training = timed = TimedFeed(feed, case.first)
    loop.run(1, None, every=0, pause=lambda _: None)
    return timed.speed()
