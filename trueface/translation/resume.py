"""The state of a training that was interrupted: a file that is whole at every instant."""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from trueface.runtime import tensor_files
from trueface.runtime.files import Json

SCHEMA = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Claim:
    """Which training a state belongs to, and with what it was computed."""

    fingerprint: str  # of all that determines the result
    conditions: Mapping[str, Json] = field(default_factory=dict)  # device, threads, versions


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A training between two steps."""

    step: int  # done
    generator: Mapping[str, Tensor]
    critic: Mapping[str, Tensor]
    generator_optimizer: Mapping[str, Any]
    critic_optimizer: Mapping[str, Any]
    history: list[dict[str, float]]
    losses: Mapping[str, float]  # the latest of each: not every step trains the generator


def save(path: Path, claim: Claim, state: State) -> None:
    """Write a state atomically."""
    content = {
        "schema": SCHEMA,
        "fingerprint": claim.fingerprint,
        "conditions": json.dumps(dict(claim.conditions), sort_keys=True),
        "step": state.step,
        "generator": dict(state.generator),
        "critic": dict(state.critic),
        "generator_optimizer": dict(state.generator_optimizer),
        "critic_optimizer": dict(state.critic_optimizer),
        "history": json.dumps(state.history),
        "losses": dict(state.losses),
    }
    tensor_files.save(path, content)


def find(path: Path, claim: Claim) -> State | None:
    """Return the state of this very training; None where there is none, or another one's.

    On the same machine, with the same versions and number of threads, it goes on bit by bit; where one
    of these differs, it goes on and says so.
    """
    try:
        content = tensor_files.load(path)
    except FileNotFoundError:
        return None
    except tensor_files.BrokenFileError as error:
        log.warning("state=%s cannot be read: %s; begins anew", path, error)
        return None
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        log.warning("state=%s is of another schema; begins anew", path)
        return None
    if content["fingerprint"] != claim.fingerprint:
        log.warning("state=%s is of another training; begins anew", path)
        return None
    if json.loads(content["conditions"]) != json.loads(json.dumps(dict(claim.conditions))):
        log.warning(
            "state=%s goes on, but not bit by bit: computed with %s", path, content["conditions"]
        )
    return State(
        step=content["step"],
        generator=content["generator"],
        critic=content["critic"],
        generator_optimizer=content["generator_optimizer"],
        critic_optimizer=content["critic_optimizer"],
        history=json.loads(content["history"]),
        losses=content["losses"],
    )


def clear(path: Path) -> None:
    """Remove a state whose training is done."""
    path.unlink(missing_ok=True)
