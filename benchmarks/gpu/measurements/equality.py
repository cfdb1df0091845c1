"""Results of passes that overlap loading, copying and computing, and of CUDA graphs, compared with plain loops.

A GPU does not sum in a fixed order. So two modes agree if they differ no more than two eager kernels for the same
operation: those for the memory formats channels_last and contiguous.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.measurements.networks import (
    ACCELERATE,
    GRAPH,
    OFF,
    Case,
    Repeated,
    exact_float32,
    modes,
)
from benchmarks.gpu.measurements.training import images_of
from trueface.data.index import Image
from trueface.evaluation.inference import evaluate

LOGIT = 1e-5  # largest difference between an overlapped pass and a plain loop
IMAGES = 512
STEPS = 10
LAST = 3  # images of the last batch, which is smaller than a graph's


def measure(bench: Bench) -> None:
    """Compare a test with a plain loop, and trainings with each other."""
    case = Case(bench=bench, side=bench.size(96, 16), precision="fp32")
    with exact_float32():
        _test(case, images_of(case)[: bench.size(IMAGES, 10) - 1])
        _trainings(case)


def _test(case: Case, pictures: Sequence[Image]) -> None:
    model, feed = case.network().eval(), case.testing(pictures)
    scored = evaluate(model, feed(0), total=len(feed), watch=case.watch())
    plain = []
    with torch.no_grad():
        for batch in case.testing(pictures)(0):
            plain += model(batch.inputs.to(case.bench.device)).cpu().flatten().tolist()
    margin = torch.from_numpy(scored.margin).flatten()
    far = float((margin - torch.tensor(plain)).abs().max())
    case.bench.row(
        "a test and a plain loop: largest difference of a logit", far, holds=far <= LOGIT
    )


def _trainings(case: Case) -> None:
    bench, (eager, again) = case.bench, (_trained(case), _trained(case))
    other = _trained(case, channels_last=False)
    kernels = max(_difference(eager, other), _difference(eager, again))
    bench.row("two eager trainings with one seed: largest difference", _difference(eager, again))
    bench.row("two eager kernels: largest difference", kernels)
    if GRAPH not in modes(bench):
        why = (
            "a rehearsal has no graphs" if bench.rehearsal else f"there is no setting {ACCELERATE}"
        )
        bench.row("trainings as CUDA graphs", None, note=f"not measured: {why}")
        return
    graphs = [_trained(case, accelerate=GRAPH) for _ in range(2)]
    apart, far = _difference(*graphs), _difference(eager, graphs[0])
    bench.row(
        "two graph trainings with one seed: largest difference", apart,
        holds=apart <= kernels, two_eager_kernels=kernels,
    )  # fmt: skip
    bench.row(
        "graph and eager: largest difference", far, holds=far <= kernels, two_eager_kernels=kernels
    )


def _trained(case: Case, *, accelerate: str = OFF, channels_last: bool = True) -> Tensor:
    """Return the logits of a batch after some steps, the last one with fewer images."""
    own = Case(bench=case.bench, side=case.side, precision=case.precision, accelerate=accelerate)
    batch = own.batch()
    loop = own.loop(Repeated(batch, STEPS, LAST), channels_last=channels_last)
    loop.run(0, None, every=0, pause=lambda _: None)
    model = loop.model.eval()
    with torch.no_grad():
        logits: Tensor = model(batch.inputs).cpu()
    return logits


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
