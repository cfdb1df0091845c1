"""Steps of a training without a loop: nothing is loaded, and nothing is read back.

As a CUDA graph, they are the fastest training that the card allows.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.gpu.measurements.networks import Case, rate
from trueface.models.detectors import build_detector
from trueface.runtime.precision import autocast

WARM_UP = 3  # steps before the capture, as torch requires


def network_and_optimizer(
    case: Case, *, channels_last: bool = True, capturable: bool = False
) -> tuple[Any, Any]:
    """Return a network in training and its optimizer."""
    model = build_detector(case.model, weights="none", seed=1, channels_last=channels_last)
    model.to(case.bench.device).train()
    options: dict[str, Any] = {"capturable": True} if capturable else {}
    return model, torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, **options)


def steps(case: Case, model: Any, optimizer: Any, precision: str) -> Callable[[], int]:
    """Return a function that takes a step and returns its number of images, without waiting for it."""
    batch = case.batch()

    def step() -> int:
        with autocast(case.bench.device, precision):
            outputs = model(batch.inputs).float()
            loss = functional.binary_cross_entropy_with_logits(outputs, batch.labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch
        optimizer.step()
        return len(batch.labels)

    return step


def graph_alone(case: Case, seconds: float) -> float:
    """Return the images per second of a whole step that is replayed as a CUDA graph.

    A rehearsal, which has no graphs, takes the step itself.

    Raises:
        RuntimeError: the step cannot be captured.
    """
    on_card = not case.bench.rehearsal
    model, optimizer = network_and_optimizer(case, capturable=on_card)
    step = steps(case, model, optimizer, case.precision)
    if not on_card:
        return rate(step, seconds)
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # torch wants the warm-up on another stream
        for _ in range(WARM_UP):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()

    def replay() -> int:
        graph.replay()
        return case.batch_size

    return rate(replay, seconds)
