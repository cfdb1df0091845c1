"""The state of a diffuser's training that is under way, with which it goes on to the same bits."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trueface.runtime import tensor_files

SCHEMA = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A training between two steps."""

    claim: str  # fingerprint of all that decides the result
    step: int  # done
    network: dict[str, Any]
    average: dict[str, Any]
    optimizer: dict[str, Any]
    rows: list[list[float]]  # of the history
    pending: list[float]  # losses since the last row
    seconds: float


def save(path: Path, state: Interrupted) -> None:
    """Write the state atomically.

    Raises:
        MachineError: it cannot be written.
    """
    # no asdict: it would copy every tensor
    content = {name: getattr(state, name) for name in Interrupted.__dataclass_fields__}
    tensor_files.save(path, {"schema": SCHEMA, **content})


def load(path: Path, claim: str) -> Interrupted | None:
    """Return the state of the training that `claim` names; None where there is none, or another's."""
    try:
        content = tensor_files.load(path)
    except FileNotFoundError:
        return None
    except tensor_files.BrokenFileError as error:
        log.warning("%s is left aside, the training begins anew: %s", path, error)
        return None
    if not isinstance(content, dict) or content.pop("schema", None) != SCHEMA:
        log.warning("%s is of another version, the training begins anew", path)
        return None
    try:
        state = Interrupted(**content)
    except TypeError:
        return None
    if state.claim != claim:
        log.info("%s is of a training with other settings or images; this one begins anew", path)
        return None
    return state
