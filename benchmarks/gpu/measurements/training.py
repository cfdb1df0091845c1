"""Images per second of trainings and tests, and their share of what loader and GPU allow.

`ours`           `Loop.run` with loading processes, device feed and steps. Validation is not counted.
`original`       Pillow and torchvision's transforms in as many processes. Contiguous float32, blocking copies,
                 the loss read back after each step.
`loader alone`   Our loading processes. The batches are not used.
`card alone`     Our steps on a batch that is already on the GPU.
`CUDA graph alone`  A step without a loop, replayed as a CUDA graph.

Shares are measured in the middle of a pass, when all loading processes have batches ready.
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.child import first_line
from benchmarks.gpu.measurements.bare_steps import graph_alone
from benchmarks.gpu.measurements.images import images
from benchmarks.gpu.measurements.networks import (
    PRECISIONS,
    WARM,
    Case,
    Repeated,
    TimedFeed,
    cases,
    modes,
)
from benchmarks.lab_training import NETWORKS, Photographs
from trueface.data.batch import BatchLoader
from trueface.data.index import Image
from trueface.evaluation.inference import evaluate
from trueface.runtime.timer import now

IMAGES = {224: 1280, 96: 5120}  # a pass: some seconds
LOADED = 8192  # images of a pass of the loader alone, or of a test
STEPS = 20
SECONDS = 1.5  # for a CUDA graph alone
LEAST_S = 15.0  # with less time left no further case is begun


def measure(bench: Bench) -> None:
    """Measure each case; where time is short, the last ones are left out."""
    beside = _Beside()
    for case in cases(bench):
        if bench.left_s < LEAST_S:
            bench.row(case.name, None, note="not measured: no time was left")
            continue
        try:
            _case(case, beside)
        except torch.OutOfMemoryError as error:  # a smaller card goes on with smaller images
            bench.row(case.name, None, note=f"not measured: {str(error).partition('. ')[0]}")
            torch.cuda.empty_cache()


class _Beside:
    """What does not depend on the precision, by the side of the patches: the original, the loader."""

    def __init__(self) -> None:
        self.original: dict[int, float] = {}
        self.loader: dict[int, float] = {}


def _case(case: Case, beside: _Beside) -> None:
    bench, pictures, side = case.bench, images_of(case), case.side
    if side not in beside.loader:
        beside.loader[side] = loader_alone(case.training(_again(_loaded(case))), case)
        beside.original[side] = original_loop(case, pictures)
    speed = ours(case, pictures)
    # the original's loop has no mixed precision
    original = None if case.precision == "bf16" else beside.original[side]
    bench.row(
        f"{case.name}: training", speed, "images/s",
        original=original, loader_alone=beside.loader[side], card_alone=card_alone(case),
    )  # fmt: skip
    if bench.rehearsal or case.precision == PRECISIONS[0]:
        _shares_of_graph(case, speed, pictures)
        _share_of_test(case)
    bench.row(
        f"{case.name}: testing", testing(case, pictures), "images/s", card_alone=card_testing(case)
    )


def _shares_of_graph(case: Case, speed: float, pictures: Sequence[Image]) -> None:
    """Compare trainings in each mode with a CUDA graph that has no loader."""
    bench = case.bench
    graph = measured_graph(case)
    for mode in modes(bench):
        own = replace(case, accelerate=mode)
        if own != case:
            speed = ours(own, pictures)
            bench.row(f"{own.name}: training", speed, "images/s")
        if graph is not None:
            bench.row(f"{own.name}: training, share of the CUDA graph", speed / graph)


def measured_graph(case: Case) -> float | None:
    """Measure a step as a CUDA graph; None if it cannot be captured, which is a finding, too."""
    name, bench = f"{case.name}: CUDA graph alone", case.bench
    try:
        graph = graph_alone(case, 0.05 if bench.rehearsal else SECONDS)
    except RuntimeError as error:
        bench.row(name, None, note=f"cannot be captured: {first_line(error)}")
        return None
    bench.row(name, graph, "images/s")
    return graph


def _share_of_test(case: Case) -> None:
    """Compare a test with its loader and with its network, without the start of the loading processes."""
    bench, feed = case.bench, case.testing(_again(_loaded(case)))
    loader, card = loader_alone(feed, case), card_testing(case)
    timed = TimedFeed(feed, case.first)
    evaluate(case.network(), timed(0), total=len(timed), watch=case.watch())
    speed = timed.speed()
    bench.row(f"{case.name}: long test", speed, "images/s")
    bench.row(f"{case.name}: loader of a test alone", loader, "images/s")
    bench.row(f"{case.name}: card alone in a test", card, "images/s")
    bench.row(f"{case.name}: long test, share of loader or card", speed / min(loader, card))


def _loaded(case: Case) -> int:
    return case.bench.size(LOADED, 12)


def images_of(case: Case) -> list[Image]:
    """Return the images of a case; they are made once."""
    count = case.bench.size(IMAGES.get(case.side, 0), 12)
    if (kept := _made.get(case.side)) is None:
        kept = _made[case.side] = images(case.bench, count) if not _made else _again(count)
    return kept


_made: dict[int, list[Image]] = {}


def _again(count: int) -> list[Image]:
    """Return as many images of the files that were made already."""
    return renamed(next(iter(_made.values())), count)


def renamed(known: Sequence[Image], count: int, first: int = 0) -> list[Image]:
    """Return as many images of the same files, with names that are numbers from `first` on."""
    return [
        known[number % len(known)]._replace(key=f"FFHQ/{first + number}") for number in range(count)
    ]


def ours(case: Case, pictures: Sequence[Image]) -> float:
    """Return the speed of an epoch after its first steps, in which processes and kernels warm up."""
    feed = case.training(pictures)
    loop, timed = case.loop(feed), TimedFeed(feed, WARM)
    loop.training = timed
    loop.run(0, None, every=0, pause=lambda _: None)
    return timed.speed()


def loader_alone(feed: BatchLoader, case: Case) -> float:
    """Return the speed of a pass with which nothing is done, when its processes are in full swing."""
    timed = TimedFeed(feed, case.first)
    for _ in timed(1):
        pass
    return timed.speed()


def card_alone(case: Case) -> float:
    """Return the speed of our steps where no image has to be loaded or copied."""
    loop = case.loop(Repeated(case.batch(), WARM), epochs=2)
    loop.run(0, None, every=0, pause=lambda _: None)
    loop.training = Repeated(case.batch(), case.bench.size(STEPS, 2))
    began = now()
    sums = loop.run(1, None, every=0, pause=lambda _: None)
    return sums.images / (now() - began)


def testing(case: Case, pictures: Sequence[Image]) -> float:
    """Return the speed of a test."""
    model, feed = case.network(), case.testing(pictures)
    began = now()
    evaluate(model, feed(0), total=len(feed), watch=case.watch())
    return len(feed) / (now() - began)


def card_testing(case: Case) -> float:
    """Return the speed of the network in a test, on a batch that is on the card."""
    model, batch = case.network().eval(), case.batch()

    def passes(count: int) -> float:
        began = now()
        with (
            torch.inference_mode(),
            torch.autocast(
                torch.device(case.bench.device).type,
                torch.bfloat16,
                enabled=case.precision == "bf16",
            ),
        ):
            for _ in range(count):
                model(batch.inputs)
        return count * len(batch.labels) / (now() - began)

    passes(WARM)
    return passes(case.bench.size(STEPS, 2))


def original_loop(case: Case, pictures: Sequence[Image]) -> float:
    """Return the speed of a loop that works as the original's did, after some steps to warm up."""
    settings, device = case.settings(), case.bench.device
    network = NETWORKS["nodown18" if case.bench.rehearsal else case.model]()
    network.conv1 = nn.Conv2d(3, 64, 7, stride=1, padding=3, bias=False)
    network.fc = nn.Linear(network.fc.in_features, 1)
    network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), lr=settings.lr)
    loader = DataLoader(
        Photographs(pictures, settings), batch_size=settings.batch_size, shuffle=True,
        num_workers=case.workers,
    )  # fmt: skip
    began, count = now(), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torchvision's, of the coder that the original used
        for step, (pixels, labels) in enumerate(loader):
            if step == min(WARM, len(loader) - 1):
                began, count = now(), 0
            logits = network(pixels.to(device))
            loss = functional.binary_cross_entropy_with_logits(logits, labels.to(device))
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch
            optimizer.step()
            loss.item()
            count += len(labels)
    return count / (now() - began)
