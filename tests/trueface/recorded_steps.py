"""A stand-in for CUDA graphs on the CPU: it records a function, and calls it at each replay."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
from torch import Tensor

from trueface.runtime import graph_step
from trueface.runtime.graph_step import Graph, GraphBackend, GraphedSteps


class RecordedSteps(GraphBackend):
    """Records steps. Like a graph, it is only right while all tensors stay where they were.

    Attributes:
        fails_with: error of each recording; None: it works.
        runs_until_error: whether a failing recording executes the work first.
    """

    def __init__(self) -> None:
        self.fails_with: Exception | None = None
        self.runs_until_error = False
        self.recordings = self.replays = self.eager_steps = self.released = 0

    @contextmanager
    def eager(self) -> Iterator[None]:
        self.eager_steps += 1
        with nullcontext():
            yield

    def capture(self, work: Callable[[], None]) -> Graph:
        self.recordings += 1
        if self.fails_with is not None:
            if self.runs_until_error:
                work()
            raise self.fails_with
        return _Recording(self, work)


class _Recording(Graph):
    def __init__(self, backend: RecordedSteps, work: Callable[[], None]) -> None:
        self._backend, self._work = backend, work
        self._steps = inspect.getclosurevars(work).nonlocals["self"]
        self._places = places(self._steps)

    def replay(self) -> None:
        assert places(self._steps) == self._places
        self._backend.replays += 1
        self._work()

    def release(self) -> None:
        self._backend.released += 1


def places(steps: GraphedSteps) -> list[int]:
    """Return the addresses that a recorded step reads and writes."""
    optimizer = steps._gradient_step.optimizer
    state = (value for each in optimizer.state.values() for value in each.values())
    parameters = (each for group in optimizer.param_groups for each in group["params"])
    tensors = (*parameters, *state, *steps._buffers.values(), *steps._rates, steps._numbers)
    return [each.data_ptr() for each in tensors if isinstance(each, Tensor)]


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> RecordedSteps:
    """Let the steps on the CPU be recorded; return what does so."""
    backend = RecordedSteps()
    monkeypatch.setitem(graph_step.BACKENDS, "cpu", lambda _: backend)
    return backend
