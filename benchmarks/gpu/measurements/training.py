"""Images per second: our training and testing, the original's loop, the loader alone, the GPU alone.

`ours`           `Loop.run` with loading processes, device feed and steps. Validation is not counted.
`original`       Pillow and torchvision's transforms in as many processes. Contiguous float32, blocking copies,
                 the loss read back after each step.
`loader alone`   Our loading processes. The batches are not used.
`card alone`     Our steps on a batch that is already on the GPU.
"""

import time
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measurements.images import images
from benchmarks.gpu.measurements.networks import Case, Repeated, cases
from benchmarks.lab_training import NETWORKS, Photographs
from trueface.data.batch import Batch
from trueface.data.index import Image
from trueface.evaluation.inference import evaluate
from trueface.runtime.timer import now
from trueface.training.objectives.protocol import Logs, Objective

IMAGES = {224: 1280, 96: 5120}  # a pass: some seconds
LOADED = 8192  # images of a pass of the loader alone
AHEAD = 2  # batches that each process has ready: those of a short pass would all be ready
WARM = 4  # steps
STEPS = 20
LEAST_S = 15.0  # with less time left no further case is begun


def measure(bench: Bench) -> None:
    """Measure each case; where time is short, the last ones are left out."""
    original: dict[int, float] = {}
    for case in cases(bench):
        if bench.left_s < LEAST_S:
            bench.row(case.name, None, note="not measured: no time was left")
            continue
        try:
            _case(case, original)
        except torch.OutOfMemoryError as error:  # a smaller card goes on with smaller images
            bench.row(case.name, None, note=f"not measured: {str(error).partition('. ')[0]}")
            torch.cuda.empty_cache()


def _case(case: Case, original: dict[int, float]) -> None:
    """Measure one case; the original's loop has one precision, and is measured once for a size."""
    bench, pictures = case.bench, images_of(case)
    loader, card = loader_alone(case), card_alone(case)
    if case.side not in original:
        original[case.side] = original_loop(case, pictures)
    bench.row(
        f"{case.name}: training", ours(case, pictures), "images/s",
        original=original[case.side], loader_alone=loader, card_alone=card,
    )  # fmt: skip
    bench.row(
        f"{case.name}: testing", testing(case, pictures), "images/s", card_alone=card_testing(case)
    )


class Timed(Objective):
    """An objective that notes when the first steps are over, and counts images from then on.

    Args:
        objective: what is minimized.
        first: how many steps are not counted.
    """

    def __init__(self, objective: Objective, first: int) -> None:
        self._objective, self._left = objective, first
        self._began, self._count = 0.0, 0

    def training_step(self, model: nn.Module, batch: Batch) -> tuple[Tensor, Logs]:
        """Return what the objective returns."""
        if self._left == 0:
            self._began = now()
        self._left -= 1
        self._count += len(batch.labels) if self._left < 0 else 0
        return self._objective.training_step(model, batch)

    def speed(self) -> float:
        """Return images per second until now."""
        return self._count / (now() - self._began)


def images_of(case: Case) -> list[Image]:
    """Return the images of a case; they are made once."""
    count = case.bench.size(IMAGES.get(case.side, 0), 12)
    if (kept := _made.get(case.side)) is None:
        kept = _made[case.side] = images(case.bench, count) if not _made else _again(count)
    return kept


_made: dict[int, list[Image]] = {}


def _again(count: int) -> list[Image]:
    """Return as many images of the files that were made already."""
    known = next(iter(_made.values()))
    names = [known[number % len(known)] for number in range(count)]
    return [image._replace(key=f"FFHQ/{number}") for number, image in enumerate(names)]


def ours(case: Case, pictures: Sequence[Image]) -> float:
    """Return the speed of an epoch after its first steps, in which processes and kernels warm up."""
    loop = case.loop(case.training(pictures))
    timed = Timed(loop.objective, min(WARM, len(pictures) // case.batch_size - 1))
    loop.objective = timed
    loop.run(0, None, every=0, pause=lambda _: None)
    return timed.speed()


def loader_alone(case: Case) -> float:
    """Return the speed of a pass with which nothing is done, when its processes are in full swing."""
    pictures = _again(case.bench.size(LOADED, 12))
    first = min(AHEAD * case.workers + WARM, len(pictures) // case.batch_size - 1)
    began, count = time.monotonic(), 0
    for number, batch in enumerate(case.training(pictures)(1)):
        if number == first:
            began, count = time.monotonic(), 0
        count += len(batch.labels)
    return count / (time.monotonic() - began)


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
