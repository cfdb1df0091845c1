"""A training loop over a fixed number of steps, with stop, progress, a check of losses and a resume file.

If all random numbers of a training depend only on the step number, it resumes bit-identically on the same
machine with the same versions and number of threads. The resume file is complete at any time, because it is
replaced atomically.

Start reading at `run_steps`.
"""

import json
import logging
import math
import time
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from trueface.runtime import tensor_files
from trueface.runtime.artifact import difference
from trueface.runtime.digests import sha256_hex
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext
from trueface.runtime.timer import now

SCHEMA = 1
SAVE_EVERY_S = 20.0  # seconds between two states; a killed training loses at most these

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunFingerprint:
    """Identity of the training that a state belongs to, and the conditions of its computation."""

    fingerprint: str  # hash of everything that determines the result
    conditions: Mapping[str, Json] = field(default_factory=dict)  # device, threads, versions

    def differences(self, stored_conditions: Mapping[str, Json]) -> list[str]:
        """Return the differences between these conditions and stored ones: "threads 2 instead of 4"."""
        return [*difference(self.conditions, stored_conditions)]


def values_fingerprint(made_of: Any) -> str:
    """Return the fingerprint of a training whose result depends only on plain values."""
    return sha256_hex(json.dumps(made_of, sort_keys=True))


@dataclass(frozen=True, slots=True)
class ResumeFile:
    """Path of a training's state, and how often it is written."""

    path: Path
    run_fingerprint: RunFingerprint
    every: int = 0  # steps; 0: every `SAVE_EVERY_S` seconds


class Stateful(Protocol):
    """An object with a state that can be saved and restored, such as a network or an optimizer."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102
    def load_state_dict(self, state: Any, /) -> Any: ...  # noqa: D102


class StepTrainer(ABC):
    """A training between two of its steps.

    Attributes:
        total: number of steps.
        step: number of finished steps.
        seconds: time of the finished steps, without interruptions.
        parts: saved objects, by their names in the file.
        stopped: message of a stop.
    """

    stopped = "stopped after {step} of {total} steps. The next attempt resumes from there."

    def __init__(self, total: int) -> None:
        self.total, self.step, self.seconds = total, 0, 0.0
        self.parts: dict[str, Stateful] = {}

    @abstractmethod
    def take_step(self) -> Mapping[str, float]:
        """Take the next step; return its losses by name."""

    @abstractmethod
    def nonfinite_message(self, name: str, loss: float) -> str:
        """Return the error message for a loss of the last step that is not finite."""

    def record_losses(self, losses: Mapping[str, float]) -> Mapping[str, float]:
        """Add the losses of the last step to the history; return the numbers to report."""
        return losses

    def extra_state(self) -> dict[str, Any]:
        """Return further values to save with the parts."""
        return {}

    def load_extra_state(self, numbers: Mapping[str, Any]) -> None:  # noqa: B027  # few have any
        """Restore the values that `extra_state` returned."""

    def after_save(self) -> None:  # noqa: B027  # few have any
        """Write further files each time the state was written, such as the history."""


def run_steps(
    training: StepTrainer, watch: RunContext, resume_file: ResumeFile | None = None
) -> None:
    """Run the steps of a training, from its saved state if there is one.

    Args:
        training: a training that has taken no step.
        watch: receives the progress and signals a stop.
        resume_file: file of the state. If None, the training always starts from the beginning. The
            caller removes the file.

    Raises:
        JobError: the training was stopped (its state is written first), or a loss is not finite.
    """
    if resume_file is not None:
        _restore(training, resume_file)
    started, saved = now() - training.seconds, time.monotonic()
    while training.step < training.total:
        if watch.stop.is_set():
            if resume_file is not None:
                _save(training, resume_file)
            raise JobError(training.stopped.format(step=training.step, total=training.total))
        losses = training.take_step()
        training.step += 1
        for name, loss in losses.items():
            if not math.isfinite(loss):
                raise JobError(training.nonfinite_message(name, loss))
        training.seconds = now() - started
        watch.progress(step=training.step, total=training.total, **training.record_losses(losses))
        if (
            resume_file is not None
            and training.step < training.total
            and _is_due(training, resume_file, saved)
        ):
            saved = time.monotonic()
            _save(training, resume_file)


def read_resume_state(
    path: Path, claim: RunFingerprint, needed_keys: Collection[str]
) -> dict[str, Any] | None:
    """Return the saved state of this training, or None if there is none.

    A state of another training or an unreadable state is logged and not returned.

    Args:
        path: path of the state file.
        claim: fingerprint of the training that is about to start.
        needed_keys: keys that the state must contain.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError:
        return None
    except tensor_files.BrokenFileError as error:
        log.warning(
            "state=%s reason=cannot be read, so it starts from the beginning: %s", path, error
        )
        return None
    if not isinstance(content, dict) or content.get("schema", SCHEMA) != SCHEMA:
        log.warning(
            "state=%s reason=not of schema %d, so it starts from the beginning", path, SCHEMA
        )
        return None
    if content.get("fingerprint") != claim.fingerprint:
        log.info("state=%s reason=of another training, so it starts from the beginning", path)
        return None
    if missing := sorted({*needed_keys} - content.keys()):
        log.warning(
            "state=%s reason=lacks %s, so it starts from the beginning", path, ", ".join(missing)
        )
        return None
    return content


def write_resume_state(path: Path, claim: RunFingerprint, content: Mapping[str, Any]) -> None:
    """Write a state atomically. Folders are created as needed.

    Raises:
        MachineError: the file cannot be written.
    """
    mark = {
        "schema": SCHEMA,
        "fingerprint": claim.fingerprint,
        "conditions": json.dumps(dict(claim.conditions)),
    }
    tensor_files.save(path, {**mark, **content})


def _is_due(training: StepTrainer, resume_file: ResumeFile, saved_at: float) -> bool:
    if resume_file.every:
        return training.step % resume_file.every == 0
    return time.monotonic() - saved_at > SAVE_EVERY_S


def _save(training: StepTrainer, resume_file: ResumeFile) -> None:
    parts = {name: part.state_dict() for name, part in training.parts.items()}
    done = {"step": training.step, "seconds": training.seconds}
    write_resume_state(
        resume_file.path, resume_file.run_fingerprint, {**done, **parts, **training.extra_state()}
    )
    training.after_save()


def _restore(training: StepTrainer, resume_file: ResumeFile) -> None:
    content = read_resume_state(
        resume_file.path,
        resume_file.run_fingerprint,
        {"step", *training.parts, *training.extra_state()},
    )
    if content is None:
        return
    training.step, training.seconds = content["step"], content.get("seconds", 0.0)
    for name, part in training.parts.items():
        part.load_state_dict(content[name])
    training.load_extra_state(content)
    differences = resume_file.run_fingerprint.differences(
        json.loads(content.get("conditions", "{}"))
    )
    bits = f", but not bit by bit: {'; '.join(differences)}" if differences else ""
    level = logging.WARNING if differences else logging.INFO
    log.log(level, "state=%s resumes after step %d%s", resume_file.path, training.step, bits)
