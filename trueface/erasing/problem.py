"""What a method of erasing is given, and which parameters of the student it may change."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.options import Options, Scope
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch
from trueface.runtime.rng import derive

STOPPED = "stopped after {step} of {total} steps; nothing was written, the next attempt begins anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasingProblem:
    """A concept to erase from a teacher."""

    erase: int  # label of the concept
    anchor: int | None  # label of what is drawn instead; None: nothing in particular
    options: Options
    seed: int = 42
    watch: Watch = field(default_factory=Watch)
    images: Tensor | None = None  # N×C×H×W, uint8, the teacher's training images: for `retrain`
    labels: Tensor | None = None  # N
    training: Mapping[str, Any] = field(default_factory=dict)  # the teacher's settings, likewise
    folder: Path | None = None  # where a training that is interrupted is kept, likewise
    history: list[tuple[int, float]] = field(default_factory=list)  # a method's: step and loss

    def generator(self, name: str) -> torch.Generator:
        """Return a fresh random stream on the CPU: the same numbers on every device."""
        return torch.Generator().manual_seed(derive(f"erasing/{name}", self.seed))

    def refuse_stop(self, done: int) -> None:
        """Leave an erasing that shall stop: nothing of it is kept, they are short.

        Raises:
            JobError: stopped.
        """
        if self.watch.stop.is_set():
            raise JobError(STOPPED.format(step=done, total=self.options.num_steps))


def rows(diffuser: Diffuser, label: int | None, count: int) -> Tensor:
    """Return the embedding of a class `count` times, N×E (N×77×E of a text); None: the null token's."""
    if label is None:
        return diffuser.null(count)
    return diffuser.embed(torch.full((count,), label))


def both(
    diffuser: Diffuser, noisy: Tensor, t: Tensor, first: Tensor, second: Tensor
) -> tuple[Tensor, Tensor]:
    """Return eps under two embeddings, of one forward pass of twice the batch.

    Args:
        diffuser: whose.
        noisy: z_t, N×C×H×W.
        t: N.
        first: an embedding, N×E.
        second: another.
    """
    eps = diffuser.eps(torch.cat((noisy, noisy)), torch.cat((t, t)), torch.cat((first, second)))
    half, other = eps.chunk(2)
    return half, other


def student_of(teacher: Diffuser, scope: Scope) -> tuple[Diffuser, list[nn.Parameter]]:
    """Return a copy of a teacher, and which of its parameters a method trains; the others are frozen.

    The table of embeddings is never among them: it stands for the text encoder, which none of the
    papers trains.

    Raises:
        JobError: the network has no such parameters.
    """
    student = teacher.copy()
    network = student.network.eval()
    maps = {id(each) for linear in network.condition_maps() for each in linear.parameters()}
    fixed = set() if network.table is None else {id(network.table.weight)}
    chosen = []
    for parameter in network.parameters():
        trains = id(parameter) not in fixed and (
            scope == "all" or (id(parameter) in maps) == (scope == "maps")
        )
        parameter.requires_grad_(trains)
        if trains:
            chosen.append(parameter)
    if not chosen:
        raise JobError(f"the network has no parameters of scope {scope}")
    return student, chosen


def released(student: Diffuser) -> Diffuser:
    """Return a finished student as a model that is used: no parameter has a gradient."""
    for parameter in student.network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return student
