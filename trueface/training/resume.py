"""A training that was interrupted: what lies on disk so that it can go on, and whether it may.

The state is whole at every instant (the file is replaced, never rewritten) and belongs to one training:
its fingerprint is made of everything that determines the result. On the same machine, with the same
versions, code and number of threads it goes on bit by bit; where one of these differs, it goes on and
says so.
"""

import contextlib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.runtime import stepping, tensor_files
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.training.distributed import ProcessGroup
from trueface.training.history import Epoch

# of a provenance: what a result is made of …
MADE_OF = (
    "job", "model", "base", "images", "settings", "data_root", "train_images_sha256",
    "val_images_sha256", "start_sha256", "optimizer_sha256",
)  # fmt: skip
# … where it started, which a training that starts from its own earlier weights has since replaced
START = ("started_from", "weights_sha256", "start_sha256", "optimizer_sha256")
# … and what it is made with
MADE_WITH = ("device", "device_name", "threads", "world_size", "versions", "code")
# what an earlier version did not record was so
_EARLIER: Mapping[str, Json] = {"world_size": 1}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A training between two batches."""

    epochs: tuple[Epoch, ...]  # done
    chosen: int | None  # which of them is the best so far, from 1
    weights: Mapping[str, Tensor] | None  # of the best epoch; None: the model's own are
    model: Mapping[str, Tensor]
    steps: dict[str, Any]  # of `Steps.state`
    seconds: float  # that it took so far
    start: Mapping[str, Json] = field(default_factory=dict)  # of its provenance
    resumed: tuple[Mapping[str, Json], ...] = ()  # after which epochs, and what was other then


class TrainingClaim(stepping.Claim):
    """Which training a state belongs to, and what it was computed with."""

    @classmethod
    def of(
        cls, provenance: Mapping[str, Json], neutral: frozenset[str], parts: Collection[str] = ()
    ) -> "TrainingClaim":
        """Return the claim of a training on a state.

        Args:
            provenance: of its weights.
            neutral: settings that cannot change a result.
            parts: names of facts by which parts of the training tell it from others; absent where a
                part has none, so that what an earlier version interrupted goes on.
        """
        made_of = {key: provenance.get(key) for key in MADE_OF}
        made_of |= {key: provenance[key] for key in parts if key in provenance}
        settings = made_of["settings"]
        if isinstance(settings, dict):
            # their absolute path and the hashes of the lists tell which images are meant
            places = neutral | {"data_root", "split_path"}
            made_of["settings"] = {k: v for k, v in settings.items() if k not in places}
            if settings.get("warm_start"):
                made_of = {key: value for key, value in made_of.items() if key not in START}
        return cls(
            fingerprint=stepping.fingerprint(made_of),
            conditions={key: provenance.get(key, _EARLIER.get(key)) for key in MADE_WITH},
        )

    def differences(self, other: Mapping[str, Json]) -> list[str]:
        """Return in what the conditions differ, as "threads 2 instead of 4"."""
        return [
            f"{key} {_shown(self.conditions.get(key))} instead of {_shown(before)}"
            for key in MADE_WITH
            if self.conditions.get(key) != (before := other.get(key, _EARLIER.get(key)))
        ]


def save(path: Path, claim: TrainingClaim, interrupted: Interrupted) -> None:
    """Write a state atomically; folders are made as needed."""
    content = {
        "epochs": [asdict(epoch) for epoch in interrupted.epochs],
        "chosen": interrupted.chosen,
        "weights": None if interrupted.weights is None else dict(interrupted.weights),
        "model": dict(interrupted.model),
        "steps": interrupted.steps,
        "seconds": interrupted.seconds,
        "start": json.dumps(dict(interrupted.start)),
        "resumed": json.dumps([dict(note) for note in interrupted.resumed]),
    }
    stepping.save(path, claim, content)


def find(path: Path, claim: TrainingClaim) -> tuple[Interrupted, list[str]] | None:
    """Return the state of an interrupted training, and what is no longer as it was then.

    That it goes on is noted in what is returned. A state of another training, or one that cannot
    be read, is logged.

    Args:
        path: where it would lie.
        claim: of the training that is about to begin.
    """
    content = stepping.find(path, claim, ())
    if content is None:
        return None
    try:
        interrupted = _interrupted(content)
        differences = claim.differences(json.loads(content["conditions"]))
    except (KeyError, TypeError, ValueError) as error:
        log.warning("state=%s reason=lacks %s, so it begins anew", path, error)
        return None
    note: dict[str, Json] = {"after_epoch": len(interrupted.epochs), "differs": [*differences]}
    return replace(interrupted, resumed=(*interrupted.resumed, note)), differences


def begun(path: Path, claim: TrainingClaim, group: ProcessGroup) -> Interrupted | None:
    """Return the state of this training where it was interrupted, and log in what it differs.

    Raises:
        JobError: the processes of the group read different states.
    """
    match = find(path, claim)
    # the first process replaces the file once all have read it
    done = group.gather_json(None if match is None else len(match[0].epochs))
    if any(epochs != done[0] for epochs in done):
        raise JobError(
            f"the processes of this training read different states from {path} "
            f"(epochs {', '.join(map(str, done))}); start it again"
        )
    if match is None:
        return None
    interrupted, differences = match
    level = logging.WARNING if differences else logging.INFO
    log.log(level, "state=%s", words(interrupted.epochs, differences))
    return interrupted


def clear(path: Path) -> None:
    """Remove a state, and its folder where nothing else lies in it."""
    path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        path.parent.rmdir()


def epochs(path: Path) -> int | None:
    """Return how many epochs the training of a state had done; None where there is no state."""
    try:
        return len(tensor_files.load(path)["epochs"])
    except (FileNotFoundError, tensor_files.BrokenFileError, TypeError, KeyError):
        return None


def copied(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a copy of a state dict on the CPU."""
    return {name: tensor.detach().cpu().clone() for name, tensor in state.items()}


def words(epochs: Sequence[Epoch], differences: Sequence[str]) -> str:
    """Return the message of a training that goes on."""
    if not differences:
        return f"goes on after epoch {len(epochs)}, bit by bit as if it had not been interrupted"
    return f"goes on after epoch {len(epochs)}, but not bit by bit: {'; '.join(differences)}"


def _interrupted(content: Mapping[str, Any]) -> Interrupted:
    return Interrupted(
        epochs=tuple(Epoch(**epoch) for epoch in content["epochs"]),
        chosen=content["chosen"],
        weights=content["weights"],
        model=content["model"],
        steps=content["steps"],
        seconds=content["seconds"],
        start=json.loads(content["start"]),
        resumed=tuple(json.loads(content["resumed"])),
    )


def _shown(value: Json) -> str:
    return value[:12] if isinstance(value, str) else json.dumps(value)
