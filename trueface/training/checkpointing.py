"""The files that a training keeps of itself: weights, history, optimizer's state, event files.

The optimizer's state is what it remembers of past gradients, by the names of the parameters. A fine-tuning
may go on with that of its base. Learning rate and weight decay are no part of it: a fine-tuning has its own.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from trueface.evaluation.operating_threshold import Calibration
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.runtime import paths, tensor_files
from trueface.runtime.errors import CheckpointError, JobError
from trueface.runtime.files import Json, write_json
from trueface.runtime.progress import Watch
from trueface.training.history import Epoch, write_history
from trueface.training.settings import TrainSettings

SCHEMA = 1  # of an optimizer's state
MOMENTS = ("exp_avg", "exp_avg_sq")  # of Adam and AdamW alike: the shape of the parameter
STEP = "step"
MOMENTUM = "momentum_buffer"  # of SGD, of that shape, too
OptimizerState = Mapping[str, Mapping[str, Tensor]]  # parameter → moment → values
FLUSH_S = 10  # a training that is killed loses no more
BEST, LAST = "best", "last"  # checkpoints: of the chosen epoch, and of a training that was stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOptimizer:
    """The state of an optimizer as it lies on disk."""

    epoch: int  # after which it was taken
    state: OptimizerState


def state_of(model: nn.Module, optimizer: Optimizer) -> OptimizerState:
    """Return a copy of the state of every parameter that `optimizer` has moved."""
    return {
        name: {
            key: value.detach().cpu().clone(memory_format=torch.contiguous_format)
            for key, value in optimizer.state[parameter].items()
            if key in (*MOMENTS, STEP, MOMENTUM) and value is not None
        }
        for name, parameter in network_of(model).named_parameters()
        if optimizer.state.get(parameter)
    }


def give_state(model: nn.Module, optimizer: Optimizer, state: OptimizerState) -> int:
    """Let `optimizer` go on from `state`; return for how many parameters it does.

    Others start afresh: those that were not trained before, those of another shape, and all where the
    state is of another kind of optimizer.
    """
    count, shaped = 0, (MOMENTUM,) if isinstance(optimizer, SGD) else MOMENTS
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for name, parameter in network_of(model).named_parameters():
        kept = state.get(name, {})
        fits = all(key in kept and kept[key].shape == parameter.shape for key in shaped)
        fits = fits and (STEP in kept or shaped != MOMENTS)
        if not fits or id(parameter) not in trained:
            continue
        # like the parameter, so that device and memory format are those of its gradients
        own = {key: torch.empty_like(parameter).copy_(kept[key]) for key in shaped}
        if shaped == MOMENTS:
            own[STEP] = kept[STEP].to(parameter.device, copy=True)  # where a fused optimizer counts
        optimizer.state[parameter] = own
        count += 1
    return count


def network_of(model: nn.Module) -> nn.Module:
    """Return the part of a model that checkpoints hold: all of it but the preprocessing."""
    return getattr(model, "network", model)


def save_optimizer(path: Path, kept: KeptOptimizer) -> None:
    """Write a state atomically; folders are made as needed."""
    content = {
        "schema": SCHEMA,
        "epoch": kept.epoch,
        "state": {name: dict(values) for name, values in kept.state.items()},
    }
    tensor_files.save(path, content)


def load_optimizer(path: Path) -> KeptOptimizer:
    """Read a state; nothing in the file is executed.

    Raises:
        CheckpointError: absent, cut off, not ours, or holding more than plain values.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError as error:
        raise CheckpointError(
            f"no optimizer's state {path}; train that model with save_optimizer"
        ) from error
    except tensor_files.BrokenFileError as error:
        raise CheckpointError(f"optimizer's state {path} cannot be read safely: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise CheckpointError(f"{path} is no optimizer's state of schema {SCHEMA}")
    if not isinstance(content.get("epoch"), int) or not isinstance(content.get("state"), dict):
        raise CheckpointError(f"{path} is a broken optimizer's state; train that model again")
    return KeptOptimizer(epoch=content["epoch"], state=content["state"])


def clear_event_files(folder: Path) -> None:
    """Delete the event files of another training from a model's folder."""
    shutil.rmtree(paths.event_files(folder), ignore_errors=True)


@contextmanager
def logged(watch: Watch, folder: Path, *, wanted: bool, images_read: int = 0) -> Iterator[Watch]:
    """Give a watch whose reports are also written as event files into a model's folder.

    Args:
        watch: where reports go.
        folder: of the model.
        wanted: else the watch is given as it is.
        images_read: where the training goes on; what was written beyond that is hidden by TensorBoard.

    Raises:
        JobError: the package is not installed.
    """
    if not wanted:
        yield watch
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # an extra, and slow to import
    except ImportError as error:
        remedy = "pip install 'launcher-trueface[tensorboard]'"
        raise JobError(f"tensorboard: true cannot be done: {error}; {remedy}") from error
    purge_step = images_read + 1 if images_read else None
    writer = SummaryWriter(
        str(paths.event_files(folder)), purge_step=purge_step, flush_secs=FLUSH_S
    )

    def report(*, step: int, total: int | None = None, **metrics: float | str) -> None:
        for name, value in metrics.items():
            if isinstance(value, int | float):
                writer.add_scalar(name, value, step)
        watch.progress(step=step, total=total, **metrics)

    try:
        yield replace(watch, progress=report)
    finally:
        writer.close()


class Checkpointing:
    """Writes history, weights, provenance and the optimizer's state, each whole or not at all.

    Args:
        folder: of the model.
        settings: what is to be kept.
        provenance: of the weights.
        facts: asked at every save, and written with it.
        noted: called after every epoch.
        begin: called before the weights that lie there are replaced for the first time; what it
            returns is called whenever they have been.
        further: the training goes on after its first epoch, so that what lies there is its own.
    """

    def __init__(
        self,
        folder: Path,
        settings: TrainSettings,
        provenance: Mapping[str, Json],
        *,
        facts: Callable[[], Mapping[str, Json]] = dict,
        noted: Callable[[], None],
        begin: Callable[[], Callable[[], None]],
        further: bool,
    ) -> None:
        self._folder, self._settings, self._provenance = folder, settings, provenance
        self._facts, self._noted, self._begin, self._further = facts, noted, begin, further
        self._written: Callable[[], None] | None = None

    def __call__(
        self,
        epochs: Sequence[Epoch],
        name: str | None,
        model: nn.Module,
        optimizer: Callable[[], OptimizerState],
    ) -> None:
        """Write the files of an epoch; see `trainer.fit`."""
        detector = cast(Detector, model)
        self._noted()
        write_history(paths.history(self._folder), epochs)
        if name == BEST:
            self._best(detector, epochs[-1])
            if self._settings.save_optimizer:
                kept = KeptOptimizer(epoch=len(epochs), state=optimizer())
                save_optimizer(paths.optimizer(self._folder), kept)
        elif name == LAST and self._settings.save_weights:
            path = paths.last_checkpoint(self._folder)
            facts: dict[str, Json] = {**self._provenance, **self._facts(), "epochs": len(epochs)}
            if epochs:
                facts |= _calibration(epochs[-1])
            checkpoint.save_model(path, detector, facts)

    def confirm(self, epochs: Sequence[Epoch], chosen: Epoch, model: Detector) -> None:
        """Write the chosen weights again: those on disk may be of an epoch that came out otherwise.

        An optimizer's state of another epoch than theirs goes away.
        """
        write_history(paths.history(self._folder), epochs)
        self._best(model, chosen)
        path = paths.optimizer(self._folder)
        if path.exists() and load_optimizer(path).epoch != chosen.epoch:
            path.unlink()

    def _best(self, model: Detector, epoch: Epoch) -> None:
        if self._written is None:
            if not self._further:
                # of an earlier training; with the new weights it would be taken for theirs
                paths.optimizer(self._folder).unlink(missing_ok=True)
            self._written = self._begin() if self._settings.save_weights else _nothing
        if self._settings.save_weights:
            own = {**self._provenance, **self._facts()}
            provenance = {**_calibration(epoch), **own, "epochs": epoch.epoch}
            checkpoint.save_model(paths.checkpoint(self._folder), model, provenance)
            write_json(paths.provenance(self._folder), {"schema": paths.SCHEMA, **provenance})
        self._written()


def _calibration(epoch: Epoch) -> dict[str, Json]:
    """Return temperature and threshold of an epoch's weights, for the provenance."""
    if epoch.temperature is None or epoch.threshold is None:
        return {}
    fitted = Calibration(temperature=epoch.temperature, threshold=epoch.threshold)
    return {"calibration": fitted.record}


def _nothing() -> None:
    """Do what there is to do where no weights are kept."""
