"""A recorded step does what an eager one does, with the batch, the learning rate and the state of its time."""

import copy
import logging
import math
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import SGD, Adam, AdamW, Optimizer

from tests.trueface.recorded_steps import RecordedSteps, recorded
from trueface.runtime import graph_step
from trueface.runtime.gradient_step import GradientStep, Quantity
from trueface.runtime.graph_step import (
    WARM_UP,
    GraphedSteps,
    Inputs,
    allocate_momentum,
)
from trueface.runtime.moving_average import ExponentialMovingAverage

__all__ = ["recorded"]
FULL, SMALL = 6, 2  # rows of a batch
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
Make = Callable[[nn.Module], Optimizer]


class Refused(Exception):
    """The error of a training."""


def refused(quantity: Quantity, value: float) -> Refused:
    return Refused(f"{quantity} {value}")


def network(device: str = "cpu", dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(1)
    layers = nn.Linear(4, 8), nn.ReLU(), nn.Dropout(dropout), nn.Linear(8, 1)
    return nn.Sequential(*layers).to(device)


def batches(*sizes: int) -> Iterator[dict[str, Tensor]]:
    rng = torch.Generator().manual_seed(2)
    for size in sizes:
        yield {
            "inputs": torch.rand(size, 4, generator=rng),
            "labels": torch.rand(size, 1, generator=rng),
        }


def forward(model: nn.Module, inputs: Inputs) -> tuple[Tensor, dict[str, Tensor]]:
    outputs = model(inputs["inputs"])
    loss = (outputs - inputs["labels"]).square().mean()
    return loss, {"right": (outputs > 0.5).sum()}


def adam(model: nn.Module) -> Optimizer:
    return Adam(model.parameters(), lr=0.1, fused=True)


def adamw(model: nn.Module) -> Optimizer:
    return AdamW(model.parameters(), lr=0.1, weight_decay=0.1, fused=True)


def sgd(model: nn.Module) -> Optimizer:
    return SGD(model.parameters(), lr=0.1, momentum=0.9, fused=True)


def graphed(model: nn.Module, step: GradientStep, device: str = "cpu") -> GraphedSteps:
    return GraphedSteps(step, lambda inputs: forward(model, inputs), device=device)


def eager_losses(
    model: nn.Module, step: GradientStep, sizes: Sequence[int], rates: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the losses and counts of the same steps without any recording."""
    found = []
    for batch, rate in zip(batches(*sizes), rates, strict=True):
        step.optimizer.param_groups[0]["lr"] = rate
        loss, logged = forward(model, batch)
        found.append((step(loss), float(logged["right"])))
    return found


def graphed_losses(
    steps: GraphedSteps, optimizer: Optimizer, sizes: Sequence[int], rates: Sequence[float]
) -> list[tuple[float, float]]:
    found = []
    for batch, rate in zip(batches(*sizes), rates, strict=True):
        optimizer.param_groups[0]["lr"] = rate
        loss, logged = steps(batch)
        found.append((loss, logged["right"]))
        assert optimizer.param_groups[0]["lr"] == rate  # a plain number for schedules and states
        assert not isinstance(optimizer.param_groups[0]["lr"], Tensor)
    return found


def same(one: nn.Module, other: nn.Module) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


SIZES = (FULL, FULL, SMALL, FULL, FULL, FULL, SMALL, FULL)  # the fourth full batch is recorded
RATES = (0.1, 0.1, 0.1, 0.05, 0.05, 0.02, 0.02, 0.01)


def test_recording_is_logged_once(
    recorded: RecordedSteps, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    model = network()
    step = GradientStep(adam(model))
    graphed_losses(graphed(model, step), step.optimizer, SIZES, RATES)
    assert [each.getMessage() for each in caplog.records] == ["mode=graph steps_before=3"]
    assert recorded.replays == 3


def test_too_few_steps_are_not_recorded(recorded: RecordedSteps) -> None:
    model = network()
    steps = graphed(model, GradientStep(adam(model)))
    for batch in batches(FULL, SMALL, FULL, SMALL, FULL, SMALL):
        steps(batch)
    assert recorded.recordings == 0
    assert steps.ran == {"accelerate": "off", "accelerate_reason": graph_step.TOO_FEW}


@pytest.mark.parametrize("runs_until_error", [False, True])
@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory.\nmore"), RuntimeError("not permitted")]
)
def test_failed_recording_continues_eagerly_with_the_same_bits(
    recorded: RecordedSteps,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    error: RuntimeError,
    runs_until_error: bool,
) -> None:
    recorded.fails_with, recorded.runs_until_error = error, runs_until_error
    model, other = network(), network()
    scaler = GradScaler("cpu", init_scale=4.0)
    step = GradientStep(adam(model), nonfinite=refused, scaler=scaler)
    steps = graphed(model, step)
    plain_capture = recorded.capture

    def capture(work: Callable[[], None]) -> graph_step.Graph:
        def stop() -> None:  # the optimizer's kernels are not executed while they are recorded
            raise error

        try:
            with monkeypatch.context() as patch:
                patch.setattr(step.optimizer, "step", stop)
                return plain_capture(work)
        except RuntimeError:
            raise RuntimeError("the end of a failed recording fails as well")  # noqa: B904

    monkeypatch.setattr(recorded, "capture", capture)
    found = graphed_losses(steps, step.optimizer, SIZES, RATES)
    plain = GradientStep(adam(other), nonfinite=refused, scaler=GradScaler("cpu", init_scale=4.0))
    assert found == eager_losses(other, plain, SIZES, RATES)
    assert same(model, other)
    assert recorded.recordings == 1  # it is not tried again
    reason = f"the recording failed: {str(error).splitlines()[0]}"
    assert [each.getMessage() for each in caplog.records] == [f"mode=eager reason={reason}"]
    assert steps.ran == {"accelerate": "off", "accelerate_reason": reason}


@pytest.mark.parametrize("make", [adam, sgd])
def test_fp16_scaler_is_part_of_the_recording(recorded: RecordedSteps, make: Make) -> None:
    model, other = network(), network()
    steps, scalers = [], []
    for each in (model, other):
        scaler = GradScaler("cpu", init_scale=2.0**10, growth_interval=2)
        step = GradientStep(make(each), nonfinite=refused, scaler=scaler)
        if isinstance(step.optimizer, SGD):
            allocate_momentum(step.optimizer)
        steps.append(step)
        scalers.append(scaler)
    found = graphed_losses(graphed(model, steps[0]), steps[0].optimizer, SIZES, RATES)
    assert found == eager_losses(other, steps[1], SIZES, RATES)
    assert scalers[0].state_dict() == scalers[1].state_dict()
    assert scalers[0].get_scale() == 2.0**14
    assert same(model, other)
    assert recorded.replays == 3


def test_first_step_that_fp16_leaves_out_leaves_no_undefined_momentum() -> None:
    model = network()
    scaler = GradScaler("cpu", init_scale=2.0**10)
    step = GradientStep(sgd(model), scaler=scaler)
    assert isinstance(step.optimizer, SGD)
    allocate_momentum(step.optimizer)
    before = copy.deepcopy(model)
    (batch,) = batches(FULL)
    loss, _ = forward(model, batch)
    step(loss * math.inf)
    assert same(model, before)
    states = step.optimizer.state.values()
    assert all(not state["momentum_buffer"].any() for state in states)
    assert len(states) == len([*model.parameters()])


def test_refused_step_is_an_error_and_not_averaged(recorded: RecordedSteps) -> None:
    model = network()
    average = ExponentialMovingAverage(model, 0.5)
    steps = graphed(model, GradientStep(adam(model), nonfinite=refused, average=average))
    for batch in batches(*[FULL] * 5):
        steps(batch)
    assert (recorded.replays, average.steps) == (2, 5)
    before = copy.deepcopy(average.network)
    (batch,) = batches(FULL)
    batch["labels"][0] = math.nan
    with pytest.raises(Refused, match=r"^loss nan$"):
        steps(batch)
    assert recorded.replays == 3
    assert same(average.network, before)


def test_infinite_gradient_of_a_replay_is_refused(recorded: RecordedSteps) -> None:
    weight = nn.Parameter(torch.ones(4))
    step = GradientStep(Adam([weight], fused=True), nonfinite=refused)
    steps = GraphedSteps(
        step,
        lambda inputs: (((weight - weight.detach()) * inputs["slope"]).sum(), {}),
        device="cpu",
    )
    for _ in range(WARM_UP + 1):
        steps({"slope": torch.ones(4)})
    assert recorded.replays == 1
    with pytest.raises(Refused, match=r"^norm inf$"):
        steps({"slope": torch.full((4,), 3e38)})


def test_changed_momentum_ends_the_replays(
    recorded: RecordedSteps, caplog: pytest.LogCaptureFixture
) -> None:
    model, other = network(), network()
    optimizers = [sgd(model), sgd(other)]
    steps, plain = graphed(model, GradientStep(optimizers[0])), GradientStep(optimizers[1])
    for number, batch in enumerate(batches(*[FULL] * 8)):
        for optimizer in optimizers:
            optimizer.param_groups[0]["momentum"] = 0.9 if number < 5 else 0.8
        assert steps(batch)[0] == plain(forward(other, batch)[0])
    assert same(model, other)
    assert (recorded.replays, recorded.released) == (2, 1)
    assert steps.reason == "the optimizer's settings changed after the recording"
    assert [each.getMessage() for each in caplog.records] == [f"mode=eager reason={steps.reason}"]


def test_graph_and_its_gradients_are_released(recorded: RecordedSteps) -> None:
    model = network()
    steps = graphed(model, GradientStep(adam(model)))
    for batch in batches(*[FULL] * 5):
        steps(batch)
    steps.release()
    steps.release()
    assert recorded.released == 1
    assert all(each.grad is None for each in model.parameters())
    assert steps.ran == {"accelerate": "graph"}
    (batch,) = batches(FULL)
    steps(batch)  # an eager step
    assert recorded.replays == 2


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("make", [adam, adamw, sgd])
@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16])
def test_gpu_replays_agree_with_eager_steps_and_with_each_other(
    make: Make, half: torch.dtype | None
) -> None:
    sizes, rates = (FULL,) * 8 + (SMALL, FULL, FULL), (0.02,) * 6 + (0.01,) * 5
    ends = []
    for replayed in (True, True, False):
        model = network("cuda", dropout=0.5)
        torch.manual_seed(5)
        scaler = GradScaler("cuda", enabled=half is torch.float16)
        step = GradientStep(make(model), clip=1.0, nonfinite=refused, scaler=scaler)
        if isinstance(step.optimizer, SGD) and scaler.is_enabled():
            allocate_momentum(step.optimizer)

        def loss_of(inputs: Inputs, model: nn.Module = model) -> tuple[Tensor, dict[str, Tensor]]:
            with torch.autocast("cuda", half or torch.bfloat16, enabled=half is not None):
                return forward(model, inputs)

        steps = GraphedSteps(step, loss_of, device="cuda")
        if not replayed:
            steps._may_record = False
        losses = graphed_losses(steps, step.optimizer, sizes, rates)
        assert steps.ran["accelerate"] == ("graph" if replayed else "off")
        steps.release()
        ends.append((losses, model.cpu()))
    assert ends[0][0] == ends[1][0]
    assert same(ends[0][1], ends[1][1])
    for one, other in zip(ends[0][1].parameters(), ends[2][1].parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@GPU
def test_gpu_step_that_cannot_be_recorded_continues_eagerly() -> None:
    ends, reasons = [], []
    for reads in (False, True):
        model = network("cuda", dropout=0.5)
        torch.manual_seed(5)
        step = GradientStep(adam(model), nonfinite=refused)

        def loss_of(
            inputs: Inputs, model: nn.Module = model, reads: bool = reads
        ) -> tuple[Tensor, dict[str, Tensor]]:
            loss, logged = forward(model, inputs)
            if reads:
                loss.item()  # waits for the device
            return loss, logged

        steps = GraphedSteps(step, loss_of, device="cuda")
        if not reads:
            steps._may_record = False
        for batch in batches(*[FULL] * 8):
            steps(batch)
        ends.append(model.cpu())
        reasons.append(steps.reason)
    assert "the recording failed" in reasons[-1]
    assert same(*ends)
