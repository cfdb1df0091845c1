"""Steps on a batch that is on the card: memory formats, precisions, compilation.

Nothing is loaded and nothing is read back, so only the speed of the arithmetic differs. `our loop` is the
laboratory's own, which reads the loss and the gradients' norm back after each step.
"""

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.child import first_line
from benchmarks.gpu.measurements.bare_steps import network_and_optimizer, steps
from benchmarks.gpu.measurements.networks import SIDES, Case, exact_float32, rate
from benchmarks.gpu.measurements.training import card_alone

SECONDS = 1.5  # for each figure
COMPILE_S = 75.0  # a compilation needs at most this time


def measure(bench: Bench) -> None:
    """Measure the plain variants of both sizes, then what has to be compiled."""
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
        _compiled(Case(bench=bench, side=side, precision="bf16"), seconds)


def _name(case: Case) -> str:
    return f"{case.model}, {case.side} px"


def _speed(case: Case, precision: str, seconds: float, *, channels_last: bool = True) -> float:
    model, optimizer = network_and_optimizer(case, channels_last=channels_last)
    return rate(steps(case, model, optimizer, precision), seconds)


def _compiled(case: Case, seconds: float) -> None:
    """Let torch compile the network."""
    name = f"{_name(case)}, bf16, torch.compile"
    if case.bench.left_s < COMPILE_S:
        case.bench.row(name, None, note="not measured: no time was left to compile")
        return
    try:
        model, optimizer = network_and_optimizer(case)
        model.network.compile()
        case.bench.row(name, rate(steps(case, model, optimizer, "bf16"), seconds), "images/s")
    except Exception as error:  # noqa: BLE001  # torch.compile raises errors of many modules
        case.bench.row(name, None, note=f"cannot be compiled: {first_line(error)}")
