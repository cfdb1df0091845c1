"""Training steps that are replayed as a CUDA graph. Not measured on a GPU.

The first steps run eagerly. Then the launches of one step are recorded, from the forward pass to the optimizer,
and later steps replay them with one call. A batch of another shape runs eagerly. All steps use the same kernels
and the same learning rate, a tensor on the device, so their results do not depend on when the recording was made.
Loss, norm and logged values of a step are read from the device together.

Recording executes nothing: if it fails, the training continues eagerly from the same state.

Start reading at `GraphedSteps`.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor
from torch.optim import SGD

from trueface.runtime.field_types import Accelerate
from trueface.runtime.files import Json
from trueface.runtime.gradient_step import GradientStep
from trueface.runtime.launch_mode import MODE, OFF, REASON

# eager steps of one shape before its recording: libraries and the optimizer allocate in the first ones,
# torch's own functions for graphs take three
WARM_UP = 3
TOO_FEW = f"no batch shape occurred more than {WARM_UP} times"

log = logging.getLogger(__name__)

Inputs = Mapping[str, Tensor]
# function of a batch on the device: the loss, and values to log
LossFunction = Callable[[Inputs], tuple[Tensor, Mapping[str, Tensor | float]]]


class Graph(Protocol):
    """Recorded launches."""

    def replay(self) -> None:
        """Launch them again on the current stream."""

    def release(self) -> None:
        """Free them and their memory. No replay is allowed afterwards."""


class GraphBackend(Protocol):
    """Records the work of a device."""

    def eager(self) -> AbstractContextManager[None]:
        """Return a context for steps that are not replayed, the warm-up among them."""

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record what `work` launches, without executing it.

        Raises:
            RuntimeError: it cannot be recorded. Random states are as before.
        """


class CudaGraphs(GraphBackend):
    """The CUDA graphs of torch. Eager steps run on the stream of the recording, as torch requires of a warm-up."""

    def __init__(self, device: str) -> None:
        self._device = torch.device(device)
        # torch has no types for it
        self._stream = torch.cuda.Stream(self._device)  # type: ignore[no-untyped-call]

    @contextmanager
    def eager(self) -> Iterator[None]:
        """Run on the stream of the recording, between the work before and after."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """Record `work` in a memory pool of its own.

        Other threads, such as those that load images, may use CUDA meanwhile: `thread_local`.
        """
        graph = torch.cuda.CUDAGraph()
        drawn = torch.cuda.get_rng_state(self._device)
        try:
            # the outer context restores the stream if the end of the recording fails
            with (
                torch.cuda.stream(self._stream),
                torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local"),
            ):
                work()
        except RuntimeError:
            graph.reset()
            self._restore_random_state(drawn)
            raise
        return _CudaGraph(graph)

    def _restore_random_state(self, rng_state: Tensor) -> None:
        """Give the device's generator a new state: before torch 2.12, a failed recording does not let go of it."""
        with torch.cuda.device(self._device):
            default = torch.cuda.default_generators[torch.cuda.current_device()]
        fresh = torch.Generator(self._device)
        fresh.set_state(rng_state)
        default.graphsafe_set_state(fresh)


class _CudaGraph(Graph):
    def __init__(self, graph: torch.cuda.CUDAGraph) -> None:
        self._graph = graph

    def replay(self) -> None:
        self._graph.replay()

    def release(self) -> None:
        self._graph.reset()
        torch.cuda.empty_cache()


# by type of device
BACKENDS: dict[str, Callable[[str], GraphBackend]] = {"cuda": CudaGraphs}


def reason_of_device(device: str) -> str:
    """Return why steps on a device cannot be recorded; "" if they can."""
    if device.partition(":")[0] in BACKENDS:
        return ""
    return f"the device is {device}, and only a GPU has CUDA graphs"


class GraphedSteps:
    """The steps of a training whose launches are recorded once and replayed.

    Args:
        gradient_step: takes the steps. Its optimizer is fused.
        loss_of: forward pass and loss. Between steps, it depends only on tensors that
            stay at their place, and it reads nothing from the device.
        device: of the training; see `reason_of_device`.

    Attributes:
        reason: why the steps are not replayed; "" if they are.
    """

    def __init__(self, gradient_step: GradientStep, loss_of: LossFunction, *, device: str) -> None:
        self._gradient_step, self._loss_of = gradient_step, loss_of
        self._device = torch.device(device)
        self._backend = BACKENDS[self._device.type](device)
        self._may_record = True  # once
        self._graph: Graph | None = None
        self._buffers: dict[str, Tensor] = {}  # the batch that the graph reads
        self._numbers = torch.empty(0)  # numbers that the graph writes
        self._names: tuple[str, ...] = ()  # names of the logged values among them
        self._seen: Counter[object] = Counter()  # eager steps by shape
        self._shape: object = None  # shape of the recorded step
        self._constants: object = None  # constants of the optimizer, in the recorded step
        self.reason = TOO_FEW
        groups = gradient_step.optimizer.param_groups
        # the kernels of a GPU read a float32 rate from the device; those of a CPU read any
        dtype = torch.float64 if self._device.type == "cpu" else torch.float32
        self._rates = [torch.zeros((), dtype=dtype, device=self._device) for _ in groups]
        self._rates_set: list[float] = [0.0 for _ in groups]

    @property
    def ran(self) -> dict[str, Json]:
        """How the steps were launched, for the record of a result. Empty with `accelerate: off`."""
        if self.reason:
            return {MODE: OFF, REASON: self.reason}
        return {MODE: "graph"}

    def __call__(self, inputs: Inputs) -> tuple[float, dict[str, float]]:
        """Take the step of a batch; return its loss and the logged values.

        Args:
            inputs: on any device.

        Raises:
            Exception: that of the gradient step if loss or gradients are not finite.
        """
        self._set_rates()
        shape, constants = _shape_of(inputs), self._optimizer_constants()
        if self._graph is not None and constants != self._constants:
            self.release()  # the recording has the old ones
            self._give_up("the optimizer's settings changed after the recording")
        if self._may_record and self._seen[shape] >= WARM_UP:
            self._record(inputs, shape)
            self._constants = constants
        if self._graph is None or shape != self._shape:
            self._seen[shape] += 1
            return self._read(self._step_eagerly(inputs))
        for name, buffer in self._buffers.items():
            buffer.copy_(inputs[name], non_blocking=True)
        self._graph.replay()
        return self._read(self._numbers)

    def release(self) -> None:
        """Free the graph. Later steps run eagerly."""
        self._may_record = False
        if self._graph is not None:
            self._gradient_step.discard()  # the gradients are in the graph's memory
            self._graph.release()
            self._graph = None
            self._buffers.clear()

    def _step_eagerly(self, inputs: Inputs) -> Tensor:
        moved = {name: each.to(self._device, non_blocking=True) for name, each in inputs.items()}
        rng_state = torch.get_rng_state()
        with self._backend.eager():
            numbers = self._enqueue(moved)
        if self._device.type != "cpu" and not torch.equal(rng_state, torch.get_rng_state()):
            # a recording would replay the numbers that were drawn meanwhile
            self._give_up("the steps draw random numbers on the CPU")
        return numbers

    def _enqueue(self, inputs: Inputs) -> Tensor:
        """Launch a step; return loss, norm and scale of it, and the logged values, (3 + n,) float64."""
        with self._rates_on_device():
            loss, logged = self._loss_of(inputs)
            numbers = self._gradient_step.enqueue(loss)
        self._names = tuple(logged)
        values = [
            value.detach().double() if isinstance(value, Tensor) else numbers.new_full((), value)
            for value in logged.values()
        ]
        return torch.cat([numbers, torch.stack(values)]) if values else numbers

    def _record(self, inputs: Inputs, shape: object) -> None:
        self._may_record = False
        # those of the last step are freed outside of the recording
        self._gradient_step.optimizer.zero_grad(set_to_none=True)

        def step() -> None:
            self._numbers.copy_(self._enqueue(self._buffers))

        try:
            self._buffers = {
                name: torch.empty_like(each, device=self._device) for name, each in inputs.items()
            }
            self._numbers = torch.zeros(
                3 + len(self._names), dtype=torch.float64, device=self._device
            )
            self._graph = self._backend.capture(step)
        except RuntimeError as error:  # out of memory among them
            reason = f"the recording failed: {_cause(error)}"
        else:
            self._shape, self.reason = shape, ""
            log.info("mode=graph steps_before=%d", self._seen[shape])
            return
        self._buffers.clear()
        self._gradient_step.discard()
        self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        if reason != self.reason:
            self._may_record, self.reason = False, reason
            log.warning("mode=eager reason=%s", reason)

    def _read(self, numbers: Tensor) -> tuple[float, dict[str, float]]:
        loss, norm, scale, *logged = numbers.tolist()
        self._gradient_step.accept(loss, norm, scale)
        return loss, dict(zip(self._names, logged, strict=True))

    def _optimizer_constants(self) -> list[dict[str, object]]:
        """Return what a recording contains as plain numbers, such as momentum and decay."""
        return [
            {key: value for key, value in group.items() if key not in {"params", "lr"}}
            for group in self._gradient_step.optimizer.param_groups
        ]

    def _set_rates(self) -> None:
        groups = self._gradient_step.optimizer.param_groups
        for position, (group, rate) in enumerate(zip(groups, self._rates, strict=True)):
            if group["lr"] != self._rates_set[position]:
                self._rates_set[position] = group["lr"]
                rate.fill_(group["lr"])

    @contextmanager
    def _rates_on_device(self) -> Iterator[None]:
        """Let the optimizer read its learning rates from the device; schedules and states see plain numbers."""
        groups = self._gradient_step.optimizer.param_groups
        kept = [dict(group) for group in groups]
        for group, rate in zip(groups, self._rates, strict=True):
            group["lr"] = rate
            if "capturable" in group:
                group["capturable"] = True
        try:
            yield
        finally:
            for group, plain in zip(groups, kept, strict=True):
                group.update(plain)


class EagerSteps:
    """The steps of a training that are launched one by one.

    Args:
        gradient_step: takes the steps.
        loss_of: forward pass and loss of a batch on the device.
        ran: as for `GraphedSteps`.
    """

    def __init__(
        self, gradient_step: GradientStep, loss_of: LossFunction, *, ran: dict[str, Json]
    ) -> None:
        self._gradient_step, self._loss_of, self.ran = gradient_step, loss_of, ran

    def __call__(self, inputs: Inputs) -> tuple[float, Mapping[str, Tensor | float]]:
        """Take the step of a batch on the device; return its loss and the logged values."""
        loss, logged = self._loss_of(inputs)
        return self._gradient_step(loss), logged

    def release(self) -> None:
        """Drop the training, which refers to its steps and would otherwise stay in memory. No step may follow."""
        del self._loss_of


def make_steps(
    gradient_step: GradientStep,
    loss_of: LossFunction,
    *,
    device: str,
    accelerate: Accelerate,
    reason: str,
) -> GraphedSteps | EagerSteps:
    """Return the steps of a training, replayed or eager.

    Args:
        gradient_step: as for `GraphedSteps`, like the next two.
        loss_of: of a batch on the device.
        device: of the training.
        accelerate: the setting.
        reason: why they are eager in spite of it, which is logged; "" if they can be replayed.
    """
    if accelerate == OFF:
        return EagerSteps(gradient_step, loss_of, ran={})
    if reason:
        log.warning("mode=eager reason=%s", reason)
        return EagerSteps(gradient_step, loss_of, ran={MODE: OFF, REASON: reason})
    return GraphedSteps(gradient_step, loss_of, device=device)


def allocate_momentum(optimizer: SGD) -> None:
    """Give SGD its momentum before its first step, which fp16 may skip and would then leave undefined."""
    for group in optimizer.param_groups:
        if group["momentum"]:
            for parameter in group["params"]:
                state = optimizer.state[parameter]
                if state.get("momentum_buffer") is None:
                    state["momentum_buffer"] = torch.zeros_like(parameter)


def _cause(error: BaseException) -> str:
    """Return the first line of the first error of a chain: the end of a failed recording fails as well."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return str(error).partition("\n")[0]


def _shape_of(inputs: Inputs) -> object:
    return tuple((name, each.shape, each.dtype) for name, each in inputs.items())
