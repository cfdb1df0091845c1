"""The steps of a training: objective and optimizer for each batch, and sums of an epoch.

The state can be saved and restored between two batches, so that an interrupted training resumes bit
by bit.

The gradients of a step may be taken at perturbed weights with a higher loss, by SAM or AWP:

    sam    all learnable parameters together: eps = rho * g / |g|. P. Foret et al., arXiv 2010.01412,
           algorithm 1
    awp    each weight of two dimensions or more by itself, in parts of its own length:
           phi_l = gamma * |theta_l| * g_l / |g_l|. D. Wu et al., arXiv 2004.05884, equation 10;
           biases and batch norms stay

Both make two passes per step: g at the original weights, and the gradient of the optimizer's step
at the perturbed ones. In the second pass nothing else differs: dropout draws the same masks, and
buffers (the running statistics of batch norm) keep the values of the first pass. There are
three differences from the published programs:

1. Weights are restored from a copy, because adding and subtracting does not restore their bits.
2. AWP's direction comes from the model itself. The published proxy is a copy that takes one SGD step
   without momentum or decay. It gives the same direction, as its length is divided out.
3. AWP's masks of dropout are those of the first pass, and it does not change statistics of a second
   model.

With fp16 the scale of the loss is divided out with the norm of the gradient. Each rank of a group
has the averaged gradients, so all perturb their weights equally.
"""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from trueface.data.batch import Batch, BatchLoader
from trueface.data.loading.prefetching import closing
from trueface.models.detectors import Detector, freeze_backbone, set_train_mode
from trueface.runtime.errors import JobError, UsageError
from trueface.runtime.gradient_step import GradientStep, Quantity
from trueface.runtime.graph_step import (
    GraphedSteps,
    Inputs,
    allocate_momentum,
    make_steps,
    reason_of_device,
)
from trueface.runtime.moving_average import ExponentialMovingAverage
from trueface.runtime.precision import autocast
from trueface.runtime.progress import REPORT_EVERY_S, RunContext
from trueface.runtime.rng import stream_seed
from trueface.training import optimizer_state
from trueface.training.config import TrainerConfig, eager_reason
from trueface.training.distributed import SINGLE_PROCESS, ProcessGroup, RankBatch
from trueface.training.objectives.protocol import CORRECT, Logs, Objective, TrainingFacts
from trueface.training.objectives.registry import EAGER_OBJECTIVE, is_capturable
from trueface.training.schedules import current_lr, make_schedule
from trueface.training.settings import BOTH

# function of parameters and gradients: the factor of each added gradient; None: no ascent direction
Lengths = Callable[[Sequence[Tensor], Sequence[Tensor]], list[float] | None]
RandomState = dict[str, Tensor | None]
INPUTS, LABELS = "inputs", "labels"  # parts of a replayed step's batch; the others are its columns
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningMetrics:
    """The sums over the batches of one epoch so far."""

    batches: int = 0
    images: int = 0
    loss: float = 0.0  # times images
    right: int = 0

    def plus(self, images: int, loss: float, right: int) -> "RunningMetrics":
        """Return the sums with one more batch of that mean loss."""
        return RunningMetrics(
            batches=self.batches + 1,
            images=self.images + images,
            loss=self.loss + loss * images,
            right=self.right + right,
        )


class AccumulatedBatches(NamedTuple):
    """The batches whose gradients wait for a step of the optimizer."""

    batches: int = 0
    rows: int = 0  # rows of all processes

    def plus(self, rows: int) -> "AccumulatedBatches":
        """Return the same with one more batch."""
        return AccumulatedBatches(self.batches + 1, self.rows + rows)


class Loop:
    """A model in training: its optimizer, learning rate, running mean and gradient scale.

    Args:
        model: on the device of `watch`.
        training: the images.
        objective: what is minimized.
        config: optimizer, schedule, precision, what learns.
        watch: device, progress, stop.
        state: of an optimizer to continue with. Empty: a fresh one.
        group: of the processes that share each batch.
    """

    def __init__(
        self,
        model: nn.Module,
        training: BatchLoader,
        objective: Objective,
        *,
        config: TrainerConfig,
        watch: RunContext,
        state: optimizer_state.OptimizerState,
        group: ProcessGroup = SINGLE_PROCESS,
    ) -> None:
        self.group = group
        self.model, self.training, self.objective = model, training, objective
        self.config, self.watch = config, watch
        objective.prepare(TrainingFacts.from_feed(training), config.options)
        if config.freeze:
            freeze_backbone(cast(Detector, model))
        if too_many := config.long_accumulation_reason(len(training)):
            log.warning("accumulate=%d state=too many reason=%s", config.accumulate, too_many)
        reason = _eager_reason(objective, config, watch.device, group.size)
        replays = config.accelerate == "graph" and not reason
        self._optimizer = _optimizer(model, config, is_replayed=replays)
        if state:
            optimizer_state.load_optimizer_state_dict(model, self._optimizer, state)
        self._perturbation = make_perturbation(config)
        self.schedule = make_schedule(self._optimizer, config, len(training))
        self._average: ExponentialMovingAverage[nn.Module] | None = None
        if config.ema > 0:
            self._average = ExponentialMovingAverage(
                model,
                config.ema,
                rises=config.ema_warmup,
                begins_after_step=True,
                buffers=True,
            )
            if too_long := config.long_average_reason(len(training)):
                log.warning("ema=%g state=too long reason=%s", config.ema, too_long)
        kind = watch.device.partition(":")[0]
        self._scaler = torch.amp.GradScaler(kind, enabled=config.precision == "fp16")
        self._gradient_step = GradientStep(
            self._optimizer,
            nonfinite=self._divergence_error,
            checks_norm=config.finite_gradients,
            scaler=self._scaler,
            average=self._average,
        )
        if replays and isinstance(self._optimizer, SGD) and self._scaler.is_enabled():
            allocate_momentum(self._optimizer)
        self.steps = make_steps(
            self._gradient_step,
            self._loss_of,
            device=watch.device,
            accelerate=config.accelerate,
            reason=reason,
        )
        if config.compile:  # in place, so that the parameters keep their names
            optimizer_state.network_of(model).compile()
        self._shared = group.average_gradients(model, watch.device)  # it computes the logits
        self.images_read = 0
        self._accumulated = AccumulatedBatches()
        self._epoch = 0  # under way
        self._has_run = False  # whether a batch went through the model since `run` was called
        self._reported_at = 0.0

    @property
    def result(self) -> nn.Module:
        """The model to validate and to keep: the running mean, where there is one."""
        return self.model if self._average is None else self._average.network

    @property
    def is_stopped(self) -> bool:
        """Whether a person wants the training to end; all processes of its group get one answer."""
        return self.group.any(flag=self.watch.stop.is_set())

    @property
    def _images_due(self) -> int:
        return len(self.training) * self.config.num_epochs

    @property
    def lr(self) -> float:
        """The learning rate of the optimizer."""
        return current_lr(self._optimizer)

    def optimizer_state(self) -> optimizer_state.OptimizerState:
        """Return a copy of the optimizer's moments of past gradients."""
        return optimizer_state.optimizer_state_dict(self.model, self._optimizer)

    def run(
        self,
        epoch: int,
        start_metrics: RunningMetrics | None,
        *,
        every: int,
        pause: Callable[[RunningMetrics], None],
    ) -> RunningMetrics:
        """Train on the images of one epoch, or until stopped.

        Args:
            epoch: from 0.
            start_metrics: the sums of earlier batches of this epoch, whose state was restored, or None.
            every: call `pause` after this number of batches, but only between two steps. 0: never.
            pause: called with the sums so far.

        Raises:
            JobError: loss or gradients are not finite.
        """
        frozen = self.config.freeze
        fixed = frozen and self.config.freeze_bn
        set_train_mode(self.model, fixed_statistics=fixed, frozen_backbone=frozen)
        sums = start_metrics or RunningMetrics()
        if start_metrics is None:
            # dropout, and objectives that draw, draw from torch's own generator
            torch.manual_seed(stream_seed(f"dropout/{epoch}", self.config.seed))
        batches_due = math.ceil(len(self.training) / self.config.rows_per_batch)
        self.objective.begin_epoch(epoch, sums.batches, batches_due)
        began, earlier = time.monotonic(), sums.images
        self._epoch, self._has_run = epoch, False
        lacks_pairs = False
        with closing(self.training(epoch)) as batches:
            for part in islice(self.group.iter_rank_batches(batches), sums.batches, None):
                # saved gradients would be as large as the model, so a training pauses between steps
                if not self._accumulated.batches and self.is_stopped:
                    break
                if not self.objective.can_learn(part.batch.labels):
                    self._skip(part)
                    lacks_pairs |= part.total > 0
                    sums = sums.plus(0, 0.0, 0)
                    continue
                loss, logs = self._step(part)
                loss, right = self.group.mean_of(part, loss, int(logs[CORRECT]))
                sums = sums.plus(part.total, loss, right)
                self.images_read += part.total
                speed = (sums.images - earlier) / max(time.monotonic() - began, 1e-9)
                self._report_step(epoch, sums.loss / sums.images, speed, logs)
                if self._accumulated.batches:
                    continue
                if every and sums.batches % every < self.config.accumulate:
                    pause(sums)
        if self._accumulated.batches:  # the last batches of an epoch are a step, too
            self._apply_waiting()
        if lacks_pairs and not sums.images:
            raise JobError(
                f"no batch of epoch {epoch + 1} has the images that objective {self.config.objective} compares. Use "
                f"a larger batch_size than {self.config.batch_size}, or images of both classes."
            )
        return sums

    def _skip(self, part: RankBatch) -> None:
        """Leave out a batch. Only the learning rate goes on, because its schedule counts batches."""
        self.schedule.begin_step()
        self.schedule.end_step()
        self.images_read += part.total

    def report(self, *, epoch: int, **numbers: float) -> None:
        """Report how many images were read, in which epoch (from 1), with numbers by name."""
        step, total = self.images_read, self._images_due
        self.watch.progress(step=step, total=total, epoch=epoch, **numbers)

    def state(self, sums: RunningMetrics | None) -> dict[str, Any]:
        """Return all that the next batch depends on, but the model's own parameters.

        Args:
            sums: of the epoch under way; None between two epochs.
        """
        return {
            "optimizer": self._optimizer.state_dict(),
            "rate": self.schedule.state(),
            "average": None if self._average is None else self._average.state_dict(),
            "scaler": self._scaler.state_dict(),
            "objective": self.objective.state(),
            "images_read": self.images_read,
            "sums": None if sums is None else asdict(sums),
            **read_rng_state(self.watch.device),
        }

    def restore(self, state: dict[str, Any], epochs: int) -> RunningMetrics | None:
        """Go on from what `state` gave, after so many epochs; return the sums that it was given."""
        self._optimizer.load_state_dict(state["optimizer"])
        self.schedule.restore(state["rate"], epochs)
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        self.objective.restore(state.get("objective", {}))  # earlier versions had none to save
        if state["scaler"]:
            self._scaler.load_state_dict(state["scaler"])
        self.images_read = state["images_read"]
        restore_rng_state(self.watch.device, state)
        return None if state["sums"] is None else RunningMetrics(**state["sums"])

    def _step(self, part: RankBatch) -> tuple[float, Logs]:
        if isinstance(self.steps, GraphedSteps):
            return self._graphed_step(self.steps, part.batch)
        part = part._replace(batch=part.batch.to(self.watch.device))
        if self.config.accumulate > 1:
            return self._accumulate(part)
        self.schedule.begin_step()
        moving = self._perturbation
        if moving is not None and self._epoch < moving.first_epoch:
            moving = None
        draws = read_rng_state(self.watch.device) if moving else {}
        first: tuple[Tensor, ...] = ()  # the loss of the first pass, if there is a second
        loss, logs = self._forward(part, ascends=moving is not None and moving.of_ascent)
        self._backward(loss, part)
        perturbed = self.objective.perturbed(self.model)
        if moving is not None:
            if perturbed is not None:
                name = "sam" if self.config.sam else "awp"
                raise JobError(
                    f"objective {self.config.objective} and {name}: "
                    f"{getattr(self.config, name):g} each need a second pass, but a step has only "
                    f"one. Set {name}: 0."
                )
            perturbed = moving.perturb_weights(self.model, self.watch.device, draws)
        if perturbed is not None:  # the gradients of a second pass take the place of the first's
            first = (loss,) if len(part.batch.labels) else ()
            with perturbed:
                loss, again = self._forward(part)
                logs = {**again, **logs}  # the first pass lacks some terms
                self._backward(loss, part)
        correct = torch.as_tensor(logs[CORRECT], device=loss.device)
        self.objective.before_step(self.model)
        last, right, *values = self._gradient_step.apply_and_read(
            _mean(loss, part), correct, *first
        )
        for value in values:
            self._gradient_step.require_finite("loss", value)
        self.objective.stepped()
        self.schedule.end_step()
        return values[0] if values else last, {**logs, CORRECT: right}

    def _accumulate(self, part: RankBatch) -> tuple[float, Logs]:
        """Add the gradients of a batch; take the step after the last batch of a group."""
        if not self._accumulated.batches:
            self.schedule.begin_step()
        loss, logs = self._forward(part)
        # as if the group had no missing images; see `_apply_waiting`
        share = part.total / self.config.rows_per_step
        self._backward(loss * share, part, adds=self._accumulated.batches > 0)
        if self._perturbation or self.objective.perturbed(self.model) is not None:
            raise JobError(
                f"accumulate: {self.config.accumulate} cannot be used with a second pass of each step. "
                "Set accumulate: 1."
            )
        correct = torch.as_tensor(logs[CORRECT], device=loss.device)
        value, right = self._gradient_step.read(_mean(loss, part), correct)
        self._accumulated = self._accumulated.plus(part.total)
        if self._accumulated.batches == self.config.accumulate:
            self._apply_waiting()
        return value, {**logs, CORRECT: right}

    def _apply_waiting(self) -> None:
        """Take the step of the batches whose gradients wait, as the mean over their images."""
        if self._accumulated.rows != self.config.rows_per_step:
            self._gradient_step.scale_gradients(self.config.rows_per_step / self._accumulated.rows)
        self.objective.before_step(self.model)
        self._gradient_step.apply()
        self.objective.stepped()
        self.schedule.end_step()
        self._accumulated = AccumulatedBatches()

    def _graphed_step(self, graphed_steps: GraphedSteps, batch: Batch) -> tuple[float, Logs]:
        self.schedule.begin_step()
        inputs = {**batch.columns, INPUTS: batch.inputs, LABELS: batch.labels}
        done = graphed_steps(inputs)
        self.objective.stepped()
        self.schedule.end_step()
        return done

    def _loss_of(self, inputs: Inputs) -> tuple[Tensor, Logs]:
        columns = {name: each for name, each in inputs.items() if name not in {INPUTS, LABELS}}
        labels = inputs[LABELS]
        batch = Batch(inputs[INPUTS], labels, torch.empty(0, dtype=torch.int64), columns)
        return self._forward(RankBatch(batch, 0, len(labels)))

    def _forward(self, part: RankBatch, *, ascends: bool = False) -> tuple[Tensor, Logs]:
        step = self.objective.ascent_step if ascends else self.objective.training_step
        try:
            draws = nullcontext() if self._has_run else self.group.refuse_own_draws(self.model)
            self._has_run = True
            with draws, autocast(self.watch.device, self.config.precision):
                return step(self._shared, part.batch)
        except ValueError as error:  # batch norm of a single value has no variance
            if "more than 1 value per channel" not in str(error):
                raise
            raise JobError(
                f"batch_size {self.config.batch_size} gives a batch of {part.total}, too small to "
                "train with at this image size. Use another batch_size or larger images."
            ) from error

    def _backward(self, loss: Tensor, part: RankBatch, *, adds: bool = False) -> None:
        if self.group.size > 1:
            loss = loss * self.group.weight(part)
        self._gradient_step.backward(loss, adds=adds)

    def _divergence_error(self, quantity: Quantity, value: float) -> JobError:
        sentence = {
            "loss": f"the loss became {value}",
            "norm": f"the norm of the gradients became {value}",
            "scale": "the gradients are still too large for fp16",
        }[quantity]
        return JobError(
            f"{sentence} in epoch {self._epoch + 1}, after {self.images_read} images (lr "
            f"{self.lr:.3g}, batch_size {self.config.batch_size}, precision "
            f"{self.config.precision}). Use a lower lr."
        )

    def _report_step(self, epoch: int, loss: float, images_per_s: float, logs: Logs) -> None:
        done = self.images_read >= self._images_due
        if not done and time.monotonic() - self._reported_at < REPORT_EVERY_S:
            return
        self._reported_at = time.monotonic()
        further = {name: float(value) for name, value in logs.items() if name != CORRECT}
        numbers = {**further, "loss": loss, "lr": self.lr, "images_per_s": images_per_s}
        self.report(epoch=epoch + 1, **numbers)


def _mean(loss: Tensor, part: RankBatch) -> Tensor | None:
    """Return the mean loss of a part, or None for the mean of nothing."""
    return loss if len(part.batch.labels) else None


def _eager_reason(objective: Objective, config: TrainerConfig, device: str, processes: int) -> str:
    """Return why steps cannot be replayed as a CUDA graph; "" if they can."""
    if reason := reason_of_device(device):
        return reason
    if reason := eager_reason(
        sam=config.sam,
        awp=config.awp,
        schedule=config.schedule,
        compiles=config.compile,
        processes=processes,
        accumulate=config.accumulate,
    ):
        return reason
    if not is_capturable(config.objective, objective):
        return EAGER_OBJECTIVE.format(name=config.objective)
    return ""


def _optimizer(model: nn.Module, config: TrainerConfig, *, is_replayed: bool) -> Optimizer:
    """Return the optimizer; only fused ones can be replayed."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    lr, weight_decay = config.lr, config.weight_decay
    if config.optimizer == "sgd":
        return SGD(
            parameters,
            lr=lr,
            momentum=config.momentum,
            weight_decay=weight_decay,
            fused=is_replayed or None,  # None: torch chooses
        )
    make = AdamW if config.optimizer == "adamw" else Adam
    # fused is one pass over all parameters: on a CPU three times as fast as a loop over them
    return make(parameters, lr=lr, weight_decay=weight_decay, fused=config.fused or is_replayed)


def read_rng_state(device: str) -> RandomState:
    """Return the state of the generators that dropout, and objectives that draw, draw from."""
    on_gpu = device.startswith("cuda")
    cuda = torch.cuda.get_rng_state(torch.device(device)) if on_gpu else None
    return {"random": torch.get_rng_state(), "cuda_random": cuda}


def restore_rng_state(device: str, state: RandomState) -> None:
    """Let the next pass draw what was drawn since a state of theirs."""
    torch.set_rng_state(cast(Tensor, state["random"]))
    if (cuda := state["cuda_random"]) is not None and device.startswith("cuda"):
        torch.cuda.set_rng_state(cuda, torch.device(device))


class Perturbation(NamedTuple):
    """A second pass of each step, at moved weights."""

    lengths: Lengths  # distance of each parameter along its gradient
    least_dimensions: int = 0  # dimensions of parameters that move
    first_epoch: int = 0  # from 0, with which it begins
    of_ascent: bool = False  # the first pass is that of an objective's `ascent_step`

    @contextmanager
    def perturb_weights(self, model: nn.Module, device: str, draws: RandomState) -> Iterator[None]:
        """Return a context of moved weights; it is entered when the first pass's gradients are there.

        At its end weights and buffers have the bits that they had at its start. Where the gradient
        is 0, or no finite number, nothing moves.

        Args:
            model: its parameters that have no gradient, as frozen ones, stay.
            device: of the model.
            draws: from before the first pass.
        """
        moving = [
            parameter
            for parameter in model.parameters()
            if parameter.grad is not None and parameter.ndim >= self.least_dimensions
        ]
        gradients = [cast(Tensor, parameter.grad) for parameter in moving]
        values = [each.detach() for each in moving]
        kept = [(each, each.clone()) for each in (*values, *model.buffers())]
        factors = self.lengths(values, gradients) if moving else None
        if factors is not None:
            for value, gradient, factor in zip(values, gradients, factors, strict=True):
                value.add_(gradient, alpha=factor)
        restore_rng_state(device, draws)
        try:
            yield
        finally:
            for tensor, value in kept:
                tensor.copy_(value)


def make_perturbation(config: TrainerConfig) -> Perturbation | None:
    """Return the perturbation that a training requests, or None.

    Raises:
        UsageError: it requests both.
    """
    if config.sam and config.awp:
        raise UsageError(BOTH)
    if config.sam:
        return sam(config.sam)
    if config.awp and config.freeze:
        log.warning("awp=%g freeze=true effect=only the last layer is perturbed", config.awp)
    return awp(config.awp, first_epoch=config.awp_from - 1) if config.awp else None


def sam(radius: float) -> Perturbation:
    """Return sharpness-aware minimization: all parameters move by `radius` in total, > 0."""

    def lengths(_: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float] | None:
        norm = math.hypot(*_norms(gradients))
        return [radius / norm] * len(gradients) if 0 < norm < math.inf else None

    return Perturbation(lengths)


def awp(share: float, *, first_epoch: int = 0) -> Perturbation:
    """Return adversarial weight perturbation: each weight moves by `share` of its length, > 0.

    Args:
        share: gamma; weights whose gradient is 0 stay.
        first_epoch: from 0.
    """

    def lengths(values: Sequence[Tensor], gradients: Sequence[Tensor]) -> list[float] | None:
        norms = _norms(gradients)
        if not all(map(math.isfinite, norms)):
            return None
        own = _norms(values)
        return [
            share * length / norm if norm else 0.0 for length, norm in zip(own, norms, strict=True)
        ]

    return Perturbation(lengths, least_dimensions=2, first_epoch=first_epoch, of_ascent=True)


def _norms(tensors: Sequence[Tensor]) -> list[float]:
    """Return the lengths of tensors; of all at once, as each answer of a GPU is waited for."""
    norms: list[float] = torch.stack([torch.linalg.vector_norm(each) for each in tensors]).tolist()
    return norms
