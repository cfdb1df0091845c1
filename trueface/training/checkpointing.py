"""The files that a training keeps of itself, epoch by epoch."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

from torch import nn

from trueface.evaluation.operating_threshold import Calibration
from trueface.models import checkpoint
from trueface.models.detectors import Detector
from trueface.runtime import paths
from trueface.runtime.files import Json, write_json
from trueface.training import optimizer_state
from trueface.training.history import Epoch, write_history
from trueface.training.settings import TrainSettings

SCHEMA = 1  # of provenance.json
BEST, LAST = "best", "last"  # checkpoints: of the chosen epoch, and of a training that was stopped


class Checkpointing:
    """Writes history, weights, provenance and the optimizer's state, each whole or not at all.

    Args:
        folder: of the model.
        settings: what is to be kept.
        provenance: of the weights.
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
        noted: Callable[[], None],
        begin: Callable[[], Callable[[], None]],
        further: bool,
    ) -> None:
        self._folder, self._settings, self._provenance = folder, settings, provenance
        self._noted, self._begin, self._further = noted, begin, further
        self._written: Callable[[], None] | None = None

    def __call__(
        self,
        epochs: Sequence[Epoch],
        name: str | None,
        model: nn.Module,
        optimizer: Callable[[], optimizer_state.State],
    ) -> None:
        """Write the files of an epoch; see `trainer.fit`."""
        detector = cast(Detector, model)
        self._noted()
        write_history(paths.history(self._folder), epochs)
        if name == BEST:
            self._best(detector, epochs[-1])
            if self._settings.save_optimizer:
                kept = optimizer_state.Kept(epoch=len(epochs), state=optimizer())
                optimizer_state.save(paths.optimizer(self._folder), kept)
        elif name == LAST and self._settings.save_weights:
            path = paths.last_checkpoint(self._folder)
            facts: dict[str, Json] = {**self._provenance, "epochs": len(epochs)}
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
        if path.exists() and optimizer_state.load(path).epoch != chosen.epoch:
            path.unlink()

    def _best(self, model: Detector, epoch: Epoch) -> None:
        if self._written is None:
            if not self._further:
                # of an earlier training; with the new weights it would be taken for theirs
                paths.optimizer(self._folder).unlink(missing_ok=True)
            self._written = self._begin() if self._settings.save_weights else _nothing
        if self._settings.save_weights:
            provenance = {**_calibration(epoch), **self._provenance, "epochs": epoch.epoch}
            checkpoint.save_model(paths.checkpoint(self._folder), model, provenance)
            write_json(paths.provenance(self._folder), {"schema": SCHEMA, **provenance})
        self._written()


def _calibration(epoch: Epoch) -> dict[str, Json]:
    """Return temperature and threshold of an epoch's weights, for the provenance."""
    if epoch.temperature is None or epoch.threshold is None:
        return {}
    fitted = Calibration(temperature=epoch.temperature, threshold=epoch.threshold)
    return {"calibration": fitted.record}


def _nothing() -> None:
    """Do what there is to do where no weights are kept."""
