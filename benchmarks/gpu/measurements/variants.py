"""Steps on a batch that is on the card: memory formats, precisions, compilation, CUDA graphs.

Nothing is loaded and nothing is read back, so only the speed of the arithmetic differs. `our loop` is the
laboratory's own, which reads the loss and the gradients' norm back after each step.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.child import first_line
from benchmarks.gpu.measurements.networks import SIDES, Case, exact_float32, rate
from benchmarks.gpu.measurements.training import card_alone
from trueface.data.batch import Batch
from trueface.models.detectors import build_detector
from trueface.runtime.precision import autocast

SECONDS = 1.5  # for each figure
COMPILE_S = 75.0  # that a compilation needs at most


def measure(bench: Bench) -> None:
    """Measure the plain variants of both sizes, then what has to be compiled or captured."""
    seconds = 0.05 if bench.rehearsal else SECONDS
    for side in SIDES if not bench.rehearsal else (16,):
        case = Case(bench=bench, side=side, precision="bf16")
        bench.row(
            f"{_name(case)}, bf16, channels_last", _speed(case, "bf16", seconds), "images/s",
            contiguous=_speed(case, "bf16", seconds, channels_last=False),
            our_loop=card_alone(case),
        )  # fmt: skip
        with exact_float32():
            exact = _speed(case, "fp32", seconds)
        bench.row(
            f"{_name(case)}, fp32, channels_last", _speed(case, "fp32", seconds), "images/s",
            contiguous=_speed(case, "fp32", seconds, channels_last=False), without_tf32=exact,
        )  # fmt: skip
    if bench.rehearsal:
        return
    for side in reversed(SIDES):
        case = Case(bench=bench, side=side, precision="bf16")
        _captured(case, seconds)
    for side in reversed(SIDES):
        _compiled(Case(bench=bench, side=side, precision="bf16"), seconds)


def _name(case: Case) -> str:
    return f"{case.model}, {case.side} px"


def parts(case: Case, *, channels_last: bool = True, capturable: bool = False) -> tuple[Any, Any]:
    """Return a network in training and its optimizer."""
    model = build_detector(case.model, weights="none", seed=1, channels_last=channels_last)
    model.to(case.bench.device).train()
    options: dict[str, Any] = {"capturable": True} if capturable else {}
    return model, torch.optim.Adam(model.parameters(), lr=1e-4, fused=True, **options)


def _step(model: Any, optimizer: Any, batch: Batch, device: str, precision: str) -> None:
    """Take a step without waiting for it."""
    with autocast(device, precision):
        loss = functional.binary_cross_entropy_with_logits(
            model(batch.inputs).float(), batch.labels
        )
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # torch


def steps(case: Case, model: Any, optimizer: Any, precision: str) -> Callable[[], int]:
    """Return a function that takes a step and returns its number of images."""
    batch = case.batch()

    def step() -> int:
        _step(model, optimizer, batch, case.bench.device, precision)
        optimizer.step()
        return len(batch.labels)

    return step


def _speed(case: Case, precision: str, seconds: float, *, channels_last: bool = True) -> float:
    model, optimizer = parts(case, channels_last=channels_last)
    return rate(steps(case, model, optimizer, precision), seconds)


def _captured(case: Case, seconds: float) -> None:
    """Replay a whole step as a CUDA graph."""
    name = f"{_name(case)}, bf16, as a CUDA graph"
    try:
        model, optimizer = parts(case, capturable=True)
        step = steps(case, model, optimizer, "bf16")
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # torch wants the warm-up on another stream
            for _ in range(3):
                step()
        torch.cuda.current_stream().wait_stream(side)
        graph, count = torch.cuda.CUDAGraph(), case.batch_size
        with torch.cuda.graph(graph):
            step()

        def replay() -> int:
            graph.replay()
            return count

        case.bench.row(name, rate(replay, seconds), "images/s")
    except RuntimeError as error:  # what cannot be captured is a finding, too
        case.bench.row(name, None, note=f"cannot be captured: {first_line(error)}")


def _compiled(case: Case, seconds: float) -> None:
    """Let torch compile the network."""
    name = f"{_name(case)}, bf16, torch.compile"
    if case.bench.left_s < COMPILE_S:
        case.bench.row(name, None, note="not measured: no time was left to compile")
        return
    try:
        model, optimizer = parts(case)
        model.network.compile()
        case.bench.row(name, rate(steps(case, model, optimizer, "bf16"), seconds), "images/s")
    except Exception as error:  # noqa: BLE001  # torch.compile raises errors of many modules
        case.bench.row(name, None, note=f"cannot be compiled: {first_line(error)}")
