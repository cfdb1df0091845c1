"""Concept erasing by the name of a method: its inputs, the noisy images it trains on, its steps and its result.

The noisy images z_t are points of sampling trajectories. Sampling is deterministic DDIM (J. Song et al.,
arXiv 2010.02502, equation 12 with sigma = 0), so that a trajectory depends only on its first noise.

Start reading at `run_erasure`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trueface.generators.diffusion.diffuser import Diffuser, ddim_sample
from trueface.generators.erasing.registry import METHODS, SAME, ErasureOptions, Scope
from trueface.runtime.errors import JobError, UnknownName
from trueface.runtime.gradient_step import GradientStep
from trueface.runtime.moving_average import ExponentialMovingAverage
from trueface.runtime.progress import RunContext
from trueface.runtime.rng import torch_rng
from trueface.runtime.stepping import StepTrainer, run_steps

STOPPED = (
    "stopped after {step} of {total} steps. Nothing was written, and the next attempt starts from the "
    "beginning."
)


MOST_AT_ONCE = 256  # images sampled in one batch
MOST_NUMBERS = 1 << 20  # values in one batch, which limits it to 64 latents of Stable Diffusion
NO_NULL = (
    "{method} needs the null token, but this diffuser was trained without one (drop: 0). Train it "
    "with drop above 0."
)


NO_TEXT = "{method} needs a text-to-image model, but this diffuser draws classes. Import one with weights: FOLDER."


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureTask:
    """A concept to erase from a teacher."""

    erase: int  # label of the concept
    anchor: int | None  # label of the class to sample instead; None if the method has no anchor
    options: ErasureOptions
    seed: int = 42
    watch: RunContext = field(default_factory=RunContext)
    images: Tensor | None = None  # the teacher's training images, N×C×H×W, uint8, for `retrain`
    concept_images: Tensor | None = None  # real images of the concept, N×3×H×W in [-1, 1]
    labels: Tensor | None = None  # class of each training image, (N,)
    # the teacher's settings, for `retrain`
    training: Mapping[str, Any] = field(default_factory=dict)
    folder: Path | None = None  # folder of the state of an interrupted retraining
    history: list[tuple[int, float]] = field(default_factory=list)  # step and loss of the method

    def generator(self, name: str) -> torch.Generator:
        """Return a new random stream. It is on the CPU, so that its numbers do not depend on the device."""
        return torch_rng(f"erasing/{name}", self.seed)

    def raise_if_stopped_midway(self, step: int) -> None:
        """Raise if a stop was requested. No state is saved, because erasing is short.

        Raises:
            JobError: a stop was requested.
        """
        if self.watch.stop.is_set():
            raise JobError(STOPPED.format(step=step, total=self.options.num_steps))


def predict_noise(diffuser: Diffuser, noisy: Tensor, t: Tensor, label: int | None) -> Tensor:
    """Return the predicted noise in z_t, N×C×H×W with t (N,), for a class or, if None, the null token."""
    return diffuser.eps(noisy, t, diffuser.repeat_embedding(label, len(noisy)))


def predict_noise_pair(
    diffuser: Diffuser, noisy: Tensor, t: Tensor, first: int | None, second: int | None
) -> tuple[Tensor, Tensor]:
    """Return the predicted noise for two classes, from one forward pass over twice the batch."""
    rows = torch.cat([diffuser.repeat_embedding(label, len(noisy)) for label in (first, second)])
    half, other = diffuser.eps(torch.cat((noisy, noisy)), torch.cat((t, t)), rows).chunk(2)
    return half, other


def make_student(teacher: Diffuser, scope: Scope) -> tuple[Diffuser, list[nn.Parameter]]:
    """Return a copy of a teacher, and the parameters that a method trains. The others are frozen.

    The embedding table is always frozen. It corresponds to the text encoder, which none of the papers
    trains.

    Raises:
        JobError: the network has no parameters in this scope.
    """
    student = teacher.copy()
    network = student.network.eval()
    layers = (
        network.cross_attentions() if scope == "attention" else network.condition_maps()
    )  # "rest" is all except the maps
    inside = {id(each) for layer in layers for each in layer.parameters()}
    fixed = set() if network.table is None else {id(network.table.weight)}
    chosen = []
    for parameter in network.parameters():
        trains = id(parameter) not in fixed and (
            scope == "all" or (id(parameter) in inside) == (scope != "rest")
        )
        parameter.requires_grad_(trains)
        if trains:
            chosen.append(parameter)
    if not chosen:
        raise JobError(f"the network has no parameters in scope {scope}")
    return student, chosen


def freeze_student(student: Diffuser) -> Diffuser:
    """Return a trained student without gradients for any parameter."""
    for parameter in student.network.parameters():
        parameter.requires_grad_(False)
        parameter.grad = None
    return student


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectories:
    """Points of sampling trajectories."""

    times: Tensor  # (S,) int64, steps t in descending order
    points: Tensor  # S×N×C×H×W, z_t of N trajectories at each of these steps
    images: Tensor  # N×C×H×W, the sampled images

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return points sampled uniformly over trajectories and steps, `count`×C×H×W, and their t."""
        steps, images = self.points.shape[:2]
        step = torch.randint(steps, (count,), generator=rng)
        image = torch.randint(images, (count,), generator=rng)
        device = self.points.device
        return self.points[step.to(device), image.to(device)], self.times[step].to(device)


def sample_trajectories(
    diffuser: Diffuser,
    label: int | None,
    count: int,
    task: ErasureTask,
    rng: torch.Generator,
    *,
    step: int = 0,
) -> Trajectories:
    """Sample images with a diffuser; return their complete trajectories, without gradients.

    Args:
        diffuser: the diffuser to sample from.
        label: class of the samples. None for the null token.
        count: number of samples.
        task: the task, with guidance, sampling steps and stop signal.
        rng: random stream of the first noise.
        step: finished steps of the method, for the message of a stop.

    Raises:
        JobError: a stop was requested.
    """
    numbers = diffuser.channels * diffuser.size**2
    at_once = max(1, min(MOST_AT_ONCE, MOST_NUMBERS // numbers))
    parts = [
        _part(diffuser, label, min(at_once, count - start), task, rng, step)
        for start in range(0, count, at_once)
    ]
    return Trajectories(
        times=parts[0].times,
        points=torch.cat([part.points for part in parts], dim=1),
        images=torch.cat([part.images for part in parts]),
    )


def _part(
    diffuser: Diffuser,
    label: int | None,
    count: int,
    task: ErasureTask,
    rng: torch.Generator,
    step: int,
) -> Trajectories:
    times: list[int] = []
    points: list[Tensor] = []

    def keep(t: int, point: Tensor) -> None:
        task.raise_if_stopped_midway(step)
        times.append(t)
        points.append(point.detach().clone())

    shape = (count, diffuser.channels, diffuser.size, diffuser.size)
    options = task.options
    with torch.no_grad():
        images = ddim_sample(
            diffuser,
            torch.randn(shape, generator=rng).to(diffuser.device),
            diffuser.repeat_embedding(label, count),
            steps=options.sample_steps,
            guidance=options.guidance,
            step_hook=keep,
        )
    return Trajectories(times=torch.tensor(times), points=torch.stack(points), images=images)


def iter_trajectory_batches(
    teacher: Diffuser, own_diffuser: Diffuser, task: ErasureTask
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of z_t with their t, without end, from the trajectories that the option `trajectory` selects.

    Args:
        teacher: model whose trajectories for anchor or concept are sampled once.
        own_diffuser: student, or the average of its weights. If the option is "own", its trajectories are sampled
            again every `refresh` steps.
        task: the task with its options. Without an anchor, `anchor` means the concept.
    """
    options, rng = task.options, task.generator("paths")
    if options.trajectory == "own":
        step = 0
        while True:
            paths = sample_trajectories(
                own_diffuser, task.erase, options.batch_size, task, rng, step=step
            )
            for _ in range(options.refresh):
                yield paths.draw(options.batch_size, rng)
                step += 1
    label = task.erase
    if options.trajectory == "anchor" and task.anchor is not None:
        label = task.anchor
    paths = sample_trajectories(teacher, label, options.paths, task, rng)
    while True:
        yield paths.draw(options.batch_size, rng)


Batches = Iterator[tuple[Tensor, Tensor]]  # z_t and t, without end


def iter_noised_images(
    teacher: Diffuser, clean: Tensor, task: ErasureTask, rng: torch.Generator
) -> Batches:
    """Yield batches of images with noise of a random t, without end.

    Args:
        teacher: model with the noise schedule.
        clean: images, N×C×H×W, as the network takes them.
        task: the task, with the size of a batch.
        rng: random stream of images, steps and noise.
    """
    count = task.options.batch_size
    while True:
        chosen = torch.randint(len(clean), (count,), generator=rng)
        t = torch.randint(1, teacher.t_max + 1, (count,), generator=rng)
        images = clean[chosen.to(clean.device)]
        noise = torch.randn(images.shape, generator=rng).to(clean.device)
        t = t.to(clean.device)
        yield teacher.schedule.add_noise(images, t, noise).to(images.dtype), t


# student, teacher, z_t, t, task → the loss of a batch
Loss = Callable[[Diffuser, Diffuser, Tensor, Tensor, ErasureTask], Tensor]


def distill(
    teacher: Diffuser, task: ErasureTask, loss_of: Loss, noisy: Batches | None = None
) -> Diffuser:
    """Return a copy of the teacher that was trained to minimize a loss.

    Args:
        teacher: model to copy.
        task: the task with its options. Its `history` is filled.
        loss_of: function that returns the loss of a batch.
        noisy: batches of z_t and t. None: those of `iter_trajectory_batches`.

    Raises:
        JobError: see `minimize_with_adam`.
    """
    student, parameters = make_student(teacher, task.options.scope)
    drawn = iter_trajectory_batches(teacher, student, task) if noisy is None else noisy
    minimize_with_adam(task, parameters, lambda: loss_of(student, teacher, *next(drawn), task))
    return freeze_student(student)


def minimize_with_adam(
    task: ErasureTask,
    parameters: Sequence[nn.Parameter],
    loss_of: Callable[[], Tensor],
    *,
    average: ExponentialMovingAverage[nn.Module] | None = None,
    weight_decay: float = 0.0,
    clip: float = 0.0,
) -> None:
    """Minimize a loss with Adam, and store the loss of each step in `task.history`.

    The learning rate is constant. By default, Adam has no weight decay, as in the programs of ESD and of the
    predecessors of All but One. It normalises gradients by their size. A loss that is a mean over pixels
    and one that is a sum over pixels therefore lead to the same steps.

    Args:
        task: the task, with steps, learning rate, stop signal and progress.
        parameters: parameters to train.
        loss_of: function that returns the loss of a new batch.
        average: moving average of the network, updated after each step.
        weight_decay: decoupled weight decay (AdamW).
        clip: largest norm of the gradients. 0 disables clipping.

    Raises:
        JobError: a stop was requested, or the loss or a parameter is not finite. The message contains
            the step.
    """
    optimizer = torch.optim.AdamW(parameters, lr=task.options.lr, weight_decay=weight_decay)
    descent = _Descent(task, loss_of, GradientStep(optimizer, clip=clip, average=average))
    run_steps(descent, task.watch)
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise JobError(
            f"parameters are not finite after step {descent.total} of {descent.total}. Use a smaller lr "
            f"than {task.options.lr:g}."
        )


class _Descent(StepTrainer):
    stopped = STOPPED

    def __init__(
        self, task: ErasureTask, loss_of: Callable[[], Tensor], gradient_step: GradientStep
    ) -> None:
        super().__init__(task.options.num_steps)
        self.task, self.loss_of, self.gradient_step = task, loss_of, gradient_step

    def take_step(self) -> Mapping[str, float]:
        """Train on a new batch; return the loss."""
        return {"loss": self.gradient_step(self.loss_of())}

    def nonfinite_message(self, name: str, loss: float) -> str:
        """Return a message with the step and the learning rate."""
        return (
            f"the {name} is {loss} at step {self.step} of {self.total}. Use a smaller lr than "
            f"{self.task.options.lr:g}."
        )

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Add the loss of the step to the history."""
        self.task.history.append((self.step, losses["loss"]))
        return losses


def mean_square(difference: Tensor) -> Tensor:
    """Return the mean of the squared entries, which is the squared norm in the papers divided by their number."""
    return difference.square().mean()


@dataclass(frozen=True, slots=True, kw_only=True)
class ErasureResult:
    """A model without a concept."""

    diffuser: Diffuser
    changed: int  # number of parameters whose value differs from the teacher's
    parameters: int  # number of parameters of the network


def run_erasure(method: str, teacher: Diffuser, task: ErasureTask) -> ErasureResult:
    """Return a copy of a teacher without a concept. The teacher does not change.

    Args:
        method: a name in `registry.METHODS`.
        teacher: class-conditional diffuser.
        task: the task, with concept, anchor and hyperparameters. Its `history` is filled.

    Raises:
        UnknownName: the method does not exist.
        DataError: the images for `retrain` are not those of a training.
        JobError: the teacher has no classes, or lacks the null token or late noise steps that the method
            needs. Also if anchor and concept are the same class, the job was stopped, or a loss is not finite.
    """
    if method not in METHODS:
        raise UnknownName("erasing method", method, METHODS)
    _refuse(method, teacher, task)
    if "sample_steps" in METHODS[method].defaults:
        teacher.check_samples_from_noise()
    diffuser: Diffuser = METHODS.load(method)(teacher, task)
    changed, parameters = _changes(teacher, diffuser)
    return ErasureResult(diffuser=diffuser, changed=changed, parameters=parameters)


def _refuse(method: str, teacher: Diffuser, task: ErasureTask) -> None:
    needs = METHODS[method].needs
    if not teacher.class_names:
        raise JobError("this diffuser was trained without classes, so no concept can be erased")
    if task.erase == task.anchor:
        raise JobError(SAME.format(name=teacher.class_names[task.erase]))
    if "anchor" in needs and task.anchor is None:
        raise JobError(f"{method} needs an anchor, the class that is drawn instead")
    if "text" in needs and not teacher.network.cross_attentions():
        raise JobError(NO_TEXT.format(method=method))
    samples = "sample_steps" in METHODS[method].defaults
    guided = samples and task.options.guidance != 1
    if ("null" in needs or guided) and not teacher.has_null:
        raise JobError(NO_NULL.format(method=method))


@torch.no_grad()
def _changes(teacher: Diffuser, student: Diffuser) -> tuple[int, int]:
    weights_before = dict(teacher.network.named_parameters())
    changed = total = 0
    for name, parameter in student.network.named_parameters():
        total += parameter.numel()
        changed += int((parameter != weights_before[name]).sum())
    return changed, total
