"""Files of a training: initial weights, checkpoints, trainer state and event files.

A fine-tuning may continue with the optimizer state of its base (see `optimizer_state`).

An interrupted training resumes from its state. The state is complete at any time, because the file is
replaced atomically. It belongs to one training: its fingerprint includes everything that determines
the result. On the same machine, with the same versions, code and number of threads, the resumed
training is bit-identical. If one of these differs, it resumes and logs the difference.
"""

import json
import logging
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from trueface.data.loading.preprocessing import Preprocessing
from trueface.evaluation.operating_threshold import Calibration
from trueface.models import assembly, checkpoint, detectors
from trueface.models.detectors import Classifier, Detector
from trueface.runtime import paths, stepping, tensor_files
from trueface.runtime.errors import JobError, install_command
from trueface.runtime.files import Json, file_sha256, read_json, write_json
from trueface.runtime.progress import RunContext
from trueface.training.distributed import ProcessGroup
from trueface.training.history import Epoch, write_history
from trueface.training.optimizer_state import (
    OptimizerCheckpoint,
    OptimizerState,
    load_optimizer,
    save_optimizer,
)
from trueface.training.settings import LearningSettings, TrainSettings

FLUSH_S = 10  # seconds of event files that a killed training loses at most
BEST, LAST = "best", "last"  # checkpoints: of the selected epoch, and of a stopped training
# keys of a provenance: the inputs of a result …
IDENTITY_KEYS = (
    "job", "model", "base", "images", "settings", "data_root", "train_images_sha256",
    "val_images_sha256", "start_sha256", "optimizer_sha256",
)  # fmt: skip
IMAGE_BYTES = "image_bytes_sha256"  # another, which provenances of earlier versions lack
# … the initial weights, which a training that starts from its own earlier weights has replaced
START = ("started_from", "weights_sha256", "start_sha256", "optimizer_sha256")
# … and the conditions of its computation
ENVIRONMENT_KEYS = (
    "device", "device_name", "threads", "world_size", "versions", "code", "image_files",
)  # fmt: skip
# values of conditions that earlier versions did not record
_EARLIER: Mapping[str, Json] = {"world_size": 1}
log = logging.getLogger(__name__)


def clear_event_files(folder: Path) -> None:
    """Delete the event files of another training from a model's folder."""
    shutil.rmtree(paths.event_files(folder), ignore_errors=True)


@contextmanager
def log_to_tensorboard(
    watch: RunContext, folder: Path, *, is_on: bool, images_read: int = 0
) -> Iterator[RunContext]:
    """Yield a run context whose reports are also written as event files to a model's folder.

    Args:
        watch: receives the reports.
        folder: folder of the model.
        is_on: whether event files are written. If false, the run context is yielded unchanged.
        images_read: position at which the training resumes. TensorBoard hides later events.

    Raises:
        JobError: the package is not installed.
    """
    if not is_on:
        yield watch
        return
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional package that is slow to import
    except ImportError as error:
        remedy = install_command("tensorboard")
        raise JobError(
            f"tensorboard: true needs a package that is missing ({error}). Install it: {remedy}"
        ) from error
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


def _do_nothing() -> None:
    """Do nothing. It is called after weights were replaced if `on_first_write` is not set."""


@dataclass(slots=True, kw_only=True)
class CheckpointCallback:
    """Writes history, weights, provenance and the optimizer's state, each atomically.

    Attributes:
        folder: folder of the model.
        settings: settings that select the files to keep.
        provenance: provenance of the weights.
        facts: function that is called at every save. Its result is added to the provenance.
        identity: names of the facts that identify this training.
        before_save: function that is called after every epoch, before its state is saved.
        on_first_write: function that is called before existing weights are replaced for the first time. The
            function that it returns is called after every replacement.
        further: whether the training resumes after its first epoch, so that the existing files are its own.
    """

    folder: Path
    settings: TrainSettings
    provenance: Mapping[str, Json]
    facts: Callable[[], Mapping[str, Json]] = dict
    identity: Collection[str] = ()
    before_save: Callable[[], None] = _do_nothing
    on_first_write: Callable[[], Callable[[], None]] = lambda: _do_nothing
    further: bool = False
    _written: Callable[[], None] | None = field(default=None, init=False)

    def __call__(
        self,
        epochs: Sequence[Epoch],
        name: str | None,
        model: nn.Module,
        optimizer: Callable[[], OptimizerState],
    ) -> None:
        """Write the files of an epoch; see `trainer.fit`."""
        detector = cast(Detector, model)
        self.before_save()
        write_history(paths.history(self.folder), epochs)
        if name == BEST:
            self._best(detector, epochs[-1])
            if self.settings.save_optimizer:
                kept = OptimizerCheckpoint(epoch=len(epochs), state=optimizer())
                save_optimizer(paths.optimizer(self.folder), kept)
        elif name == LAST and self.settings.save_weights:
            path = paths.last_checkpoint(self.folder)
            facts: dict[str, Json] = {**self.provenance, **self.facts(), "epochs": len(epochs)}
            if epochs:
                facts |= _calibration(epochs[-1])
            checkpoint.save_model(path, detector, facts)

    def confirm(self, epochs: Sequence[Epoch], epoch: Epoch, model: Detector) -> None:
        """Write the selected weights again, because those on disk may be from another run of the epoch.

        An optimizer state of another epoch is deleted.
        """
        write_history(paths.history(self.folder), epochs)
        self._best(model, epoch)
        path = paths.optimizer(self.folder)
        if path.exists() and load_optimizer(path).epoch != epoch.epoch:
            path.unlink()

    def _best(self, model: Detector, epoch: Epoch) -> None:
        if self._written is None:
            if not self.further:
                # the state is of an earlier training and does not belong to the new weights
                paths.optimizer(self.folder).unlink(missing_ok=True)
            self._written = self.on_first_write() if self.settings.save_weights else _do_nothing
        if self.settings.save_weights:
            own = {**self.provenance, **self.facts()}
            provenance = {**_calibration(epoch), **own, "epochs": epoch.epoch}
            checkpoint.save_model(paths.checkpoint(self.folder), model, provenance)
            write_json(paths.provenance(self.folder), {"schema": paths.SCHEMA, **provenance})
        self._written()


def _calibration(epoch: Epoch) -> dict[str, Json]:
    """Return the temperature and threshold of an epoch's weights, for the provenance."""
    if epoch.temperature is None or epoch.threshold is None:
        return {}
    fitted = Calibration(temperature=epoch.temperature, threshold=epoch.threshold)
    return {"calibration": fitted.json_record}


class TrainerState(NamedTuple):
    """A training between two batches."""

    epochs: tuple[Epoch, ...]  # finished epochs
    chosen: int | None  # number of the best epoch so far, counted from 1
    weights: Mapping[str, Tensor] | None  # weights of the best epoch; None if these are the model's
    model: Mapping[str, Tensor]
    steps: dict[str, Any]  # result of `Loop.state`
    seconds: float  # duration so far
    start: Mapping[str, Json]  # initial weights, as in the provenance
    # epochs after which the training resumed, with the changed conditions
    resumed: tuple[Mapping[str, Json], ...] = ()


class TrainingFingerprint(stepping.RunFingerprint):
    """The identity of the training that a state belongs to, and the conditions of its computation."""

    @classmethod
    def from_provenance(
        cls, provenance: Mapping[str, Json], neutral: frozenset[str], parts: Collection[str] = ()
    ) -> "TrainingFingerprint":
        """Return the fingerprint of a training.

        Args:
            provenance: provenance of the weights.
            neutral: settings that do not change a result.
            parts: names of further facts that identify the training. Absent facts are omitted, so that
                trainings interrupted under an earlier version can resume.
        """
        made_of = {key: provenance.get(key) for key in IDENTITY_KEYS}
        made_of |= {key: provenance[key] for key in (IMAGE_BYTES, *parts) if key in provenance}
        settings = made_of["settings"]
        if isinstance(settings, dict):
            # the images are identified by their absolute path and by the hashes of the lists
            places = neutral | {"data_root", "split_path"}
            made_of["settings"] = {k: v for k, v in settings.items() if k not in places}
            if settings.get("warm_start"):
                made_of = {key: value for key, value in made_of.items() if key not in START}
        return cls(
            fingerprint=stepping.values_fingerprint(made_of),
            conditions={key: provenance.get(key, _EARLIER.get(key)) for key in ENVIRONMENT_KEYS},
        )

    def differences(self, stored_conditions: Mapping[str, Json]) -> list[str]:
        """Return the differences of the conditions. Earlier versions did not record all of them."""
        return super().differences({**_EARLIER, **stored_conditions})


def save_trainer_state(path: Path, claim: TrainingFingerprint, state: TrainerState) -> None:
    """Write a state atomically. Folders are created as needed."""
    plain = {
        "epochs": [asdict(epoch) for epoch in state.epochs],
        "start": json.dumps(dict(state.start)),
        "resumed": json.dumps([*map(dict, state.resumed)]),
    }
    stepping.write_resume_state(path, claim, {**state._asdict(), **plain})


def find_trainer_state(
    path: Path, claim: TrainingFingerprint, group: ProcessGroup
) -> TrainerState | None:
    """Return the state of this interrupted training, and log changed conditions.

    The returned state records that the training resumed. A state of another training, or an
    unreadable one, is logged.

    Args:
        path: path of the state file.
        claim: fingerprint of the training that is about to start.
        group: processes of the training.

    Raises:
        JobError: the processes of the group read different states.
    """
    content, found, differences = stepping.read_resume_state(path, claim, ()), None, list[str]()
    try:
        if content is not None:
            plain = {
                "epochs": tuple(Epoch(**epoch) for epoch in content["epochs"]),
                "start": json.loads(content["start"]),
                "resumed": tuple(json.loads(content["resumed"])),
            }
            kept = {name: content[name] for name in TrainerState._fields}
            differences = claim.differences(json.loads(content["conditions"]))
            found = TrainerState(**{**kept, **plain})
    except (KeyError, TypeError, ValueError) as error:
        log.warning("state=%s reason=lacks %s, so it starts from the beginning", path, error)
    # the first process replaces the file once all have read it
    done = group.gather_json(None if found is None else len(found.epochs))
    if any(epochs != done[0] for epochs in done):
        raise JobError(
            f"the processes of this training read different checkpoints from {path} (epochs "
            f"{', '.join(map(str, done))}). Start the training again."
        )
    if found is None:
        return None
    message = "with the same result, bit by bit, as without the interruption"
    if differences:
        message = f"with a result that is not the same bit by bit: {'; '.join(differences)}"
    level, count = logging.WARNING if differences else logging.INFO, len(found.epochs)
    log.log(level, "state=resumes after epoch %d, %s", count, message)
    note: dict[str, Json] = {"after_epoch": count, "differs": [*differences]}
    return found._replace(resumed=(*found.resumed, note))


def clear_trainer_state(path: Path) -> None:
    """Remove a state, and its folder if that is now empty."""
    path.unlink(missing_ok=True)
    with suppress(OSError):
        path.parent.rmdir()


def interrupted_epochs(path: Path) -> int | None:
    """Return the number of finished epochs in a state, or None without a state."""
    try:
        return len(tensor_files.load(path)["epochs"])
    except (FileNotFoundError, tensor_files.BrokenFileError, TypeError, KeyError):
        return None


def clone_to_cpu(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingStart:
    """The initial weights of a training."""

    model: str | None  # ID of the model to start from; None for a new model
    folder: Path | None  # folder of that model
    weights: str  # for a new model: default, none, or the absolute path of a state dict
    is_warm_start: bool = False  # whether the model to start from is the one that is trained


def init_model(start: TrainingStart, settings: LearningSettings, device: str) -> Detector:
    """Return the model that a training starts from, on a device.

    Raises:
        JobError: the network does not take the clips of the settings.
        CheckpointError: the base model cannot be read, or has another architecture.
        WeightsError: the pretrained weights are not available.
    """
    clips = settings.clips if isinstance(settings, TrainSettings) else None
    side = settings.patch_size if settings.patch_size > 0 else settings.resize_size
    if start.folder is None:
        model = detectors.build_detector(
            settings.model,
            weights=start.weights,
            seed=settings.seed,
            dropout=settings.dropout,
            normalization=settings.normalization,
            channels_last=settings.channels_last,
            nodown=settings.nodown,
            side=side,
        )
        detectors.warn_of_other_side(model.spec, side)
        return detectors.accept_clips(model, clips).to(device)
    path = paths.checkpoint(start.folder)
    base = checkpoint.load(path)
    published = Preprocessing.read(base.provenance)
    if published is None or not published.resize:
        checkpoint.refuse_other_decoding(base, settings)
    checkpoint.refuse_other_normalization(base, settings.normalization)
    checkpoint.refuse_other_resolution(base, nodown=settings.nodown)
    checkpoint.refuse_other_preprocessing(base, settings, settings.resize_size)
    model = checkpoint.from_checkpoint(
        base,
        path,
        arch=settings.model,
        dropout=settings.dropout,
        channels_last=settings.channels_last,
    )
    detectors.warn_of_other_side(model.spec, side)
    return detectors.accept_clips(model, clips).to(device)


def load_optimizer_state(start: TrainingStart, settings: TrainSettings) -> OptimizerState | None:
    """Return the optimizer state that belongs to initial weights, or None for a new one.

    Raises:
        CheckpointError: the state of the base model is missing or unreadable.
    """
    if settings.optimizer_state == "fresh":
        return None
    assert start.folder is not None  # the rules of settings require a base
    path = paths.optimizer(start.folder)
    if start.is_warm_start and not path.exists():  # an earlier run did not save its state
        return None
    return load_optimizer(path).state


def start_provenance(
    start: TrainingStart, settings: LearningSettings, *, optimizer: bool = False
) -> dict[str, Json]:
    """Return the initial state of a training for its provenance, with checksums.

    Args:
        start: initial weights.
        settings: settings of the training.
        optimizer: whether the training continues with the optimizer state of the base model.
    """
    facts: dict[str, Json] = {
        "started_from": start.model, "weights_sha256": None, "start_sha256": None,
    }  # fmt: skip
    if start.folder is None:
        sha256 = assembly.weights_sha256(settings.model, start.weights)
        facts["weights_sha256"] = facts["start_sha256"] = sha256
    elif not start.is_warm_start:  # a warm start replaces the file of its initial weights
        facts["start_sha256"] = file_sha256(paths.checkpoint(start.folder))
        if optimizer:
            facts["optimizer_sha256"] = file_sha256(paths.optimizer(start.folder))
    return facts


def network_provenance(model: Classifier, start: TrainingStart) -> dict[str, Json]:
    """Return the library of a network, and the licence of its published weights, if it has any.

    For a model that starts from another one, the licence in the other's provenance applies.
    """
    licence: Json = model.spec.licence if start.weights != "none" else ""
    if start.folder is not None:
        licence = (read_json(paths.provenance(start.folder)) or {}).get("weights_licence")
    facts = {"library": model.spec.library, "weights_licence": licence}
    return {name: value for name, value in facts.items() if value}
