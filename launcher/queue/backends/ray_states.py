"""The resources that a pilot requests from Ray, and the meaning of Ray's actor and node states for pilots."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from launcher.queue.backends.pilot_folder import PilotSpec
from launcher.queue.backends.protocol import (
    AllocationEndCause,
    AllocationState,
    EngineError,
    Observation,
)
from launcher.queue.backends.settings import BackendSettings
from launcher.system.text import sanitize_terminal
from launcher.system.units import format_bytes

_WAITING = frozenset({"DEPENDENCIES_UNREADY", "PENDING_CREATION", "RESTARTING"})
_ALIVE, _DEAD = "ALIVE", "DEAD"
# causes of a node's end: NodeDeathInfo in Ray's gcs.proto
_EXPECTED_TERMINATION, _PREEMPTED, _IDLE = 1, 3, 4
# Ray's texts about an actor's death, in the order to look; they are kept from one version to the next
_CAUSE_PATTERNS: Sequence[tuple[re.Pattern[str], AllocationEndCause]] = (
    (re.compile(r"its node has died|NODE_DIED"), AllocationEndCause.NODE_FAILED),
    (re.compile(r"killed by `?ray\.kill|RAY_KILL"), AllocationEndCause.CANCELLED),
    (re.compile(r"OUT_OF_MEMORY|memory pressure|running low on memory"), AllocationEndCause.MEMORY),
    (re.compile(r"INTENDED_USER_EXIT|exit_actor\(\) is called"), AllocationEndCause.COMPLETED),
)
# behind the end of any process that a signal has killed: what may have been, an out-of-memory killer among others
_ROOT_CAUSES_TEXT = "There are some potential root causes"
_MESSAGE_PATTERN = re.compile(
    r'(?:error_message|formatted_exception_string): "(?P<text>(?:[^"\\]|\\.)*)"'
)
_EXIT_CODE_PATTERN = re.compile(r"exit code (?P<code>[0-9]+)")
_ESCAPED = re.compile(r"\\(['\"\\])")
_TRACEBACK = "Traceback"
_MOST_TEXT = 400  # characters of Ray's output that a message shows


class RayNode(NamedTuple):
    """A node in Ray's records, alive or dead."""

    alive: bool
    name: str
    address: str
    death_reason: int
    total: Mapping[str, float]
    free: Mapping[str, float]


def actor_options(settings: BackendSettings, spec: PilotSpec | BackendSettings) -> dict[str, Any]:
    """Return the resources that a pilot of a specification requests from Ray."""
    options: dict[str, Any] = {"num_cpus": spec.cpus, "num_gpus": spec.gpus}
    if spec.memory is not None:
        options["memory"] = spec.memory
    if settings.gpu_type and spec.gpus:
        options["accelerator_type"] = settings.gpu_type
    if settings.resources:
        options["resources"] = dict(settings.resources)
    return options


def node_resources(
    settings: BackendSettings, spec: PilotSpec | BackendSettings
) -> dict[str, float]:
    """Return the same by the names under which Ray counts it on nodes."""
    wanted: dict[str, float] = {"CPU": float(spec.cpus), "GPU": float(spec.gpus)}
    if spec.memory is not None:
        wanted["memory"] = float(spec.memory)
    if settings.gpu_type and spec.gpus:
        wanted[f"accelerator_type:{settings.gpu_type}"] = 0.001
    return {name: amount for name, amount in {**wanted, **settings.resources}.items() if amount}


def read_nodes(answer: Mapping[str, Any]) -> Mapping[str, RayNode]:
    """Return the nodes of a response, by Ray's IDs.

    Raises:
        EngineError: the nodes cannot be parsed.
    """
    try:
        return {
            str(key): RayNode(
                alive=bool(record["alive"]),
                name=str(record["name"]),
                address=str(record["address"]),
                death_reason=int(record["end"]),
                total=_amounts(record["has"]),
                free=_amounts(record["free"]),
            )
            for key, record in answer["nodes"].items()
        }
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _not_understood(f"Ray's nodes: {error!r}") from error


def parse_observations(
    answer: Mapping[str, Any], tokens: Iterable[str], requested_resources: Mapping[str, float]
) -> dict[str, Observation]:
    """Return the observations of pilots in a response.

    Args:
        answer: the response of the process that calls Ray.
        tokens: the requested pilots.
        requested_resources: the resources that a pilot requests.

    Raises:
        EngineError: the response cannot be parsed.
    """
    nodes = read_nodes(answer)
    try:
        return {
            token: _observation(answer["pilots"][token], nodes, requested_resources)
            for token in set(tokens)
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise _not_understood(f"Ray's actors: {error!r}") from error


def why_no_node_fits(nodes: Iterable[RayNode], requested_resources: Mapping[str, float]) -> str:
    """Return why no node can run a pilot now, '' if one can."""
    alive = [node for node in nodes if node.alive]
    if any(_fits(node.free, requested_resources) for node in alive):
        return ""
    listed = _format_resources(requested_resources)
    if any(_fits(node.total, requested_resources) for node in alive):
        return f"no node has {listed} free"
    return f"no node of the cluster has {listed} (a new node may have it)"


def could_ever_fit(nodes: Iterable[RayNode], requested_resources: Mapping[str, float]) -> bool:
    """Return whether a node of the cluster could run a pilot if nothing else ran there."""
    return any(_fits(node.total, requested_resources) for node in nodes if node.alive)


def _not_understood(subject: str) -> EngineError:
    return EngineError(f"cannot parse Ray's answer: {subject}")


def _observation(
    record: Mapping[str, Any],
    nodes: Mapping[str, RayNode],
    requested_resources: Mapping[str, float],
) -> Observation:
    if not record:
        return Observation(stage=AllocationState.UNKNOWN)
    node = nodes.get(str(record["node"]))
    name = sanitize_terminal(node.name) if node else ""
    state = record["state"]
    if state in _WAITING:
        return Observation(
            stage=AllocationState.WAITING,
            reason=why_no_node_fits(nodes.values(), requested_resources),
        )
    if state == _ALIVE:
        return Observation(stage=AllocationState.RUNNING, node=name)
    if state != _DEAD:
        raise _not_understood(f"the state of an actor, {state!r}")
    cause, reason = _parse_death(str(record["death"]))
    answers = True
    if cause is AllocationEndCause.NODE_FAILED and node is not None:
        cause = AllocationEndCause.PREEMPTED if node.death_reason == _PREEMPTED else cause
        answers = _is_machine_back(node, nodes.values())
    return Observation(
        stage=AllocationState.ENDED,
        cause=cause,
        reason=reason,
        node=name,
        node_answers=answers,
        emptied=cause
        is AllocationEndCause.COMPLETED,  # a guard has its actor exit when nothing lives
    )


def _is_machine_back(node: RayNode, nodes: Iterable[RayNode]) -> bool:
    """Return whether a dead node's machine is back, or was shut down in an orderly way.

    Otherwise it may only be disconnected, and its attempts may run until it detects its own death.
    """
    if node.death_reason in {_EXPECTED_TERMINATION, _PREEMPTED, _IDLE}:
        return True
    return any(other.alive and other.address == node.address for other in nodes)


def _parse_death(death: str) -> tuple[AllocationEndCause, str]:
    """Return why an actor died, with Ray's description."""
    match = _MESSAGE_PATTERN.search(death)
    text = match["text"] if match else death
    lines = text.replace("\\t", " ").split("\\n")
    if lines[0].startswith(_TRACEBACK):  # the last line of a traceback contains the error
        lines = [line for line in lines if line.strip()][-1:]
    words = " ".join(_ESCAPED.sub(r"\1", " ".join(lines)).split())
    text = sanitize_terminal(words.partition(_ROOT_CAUSES_TEXT)[0].rstrip())
    cause = next(
        (cause for pattern, cause in _CAUSE_PATTERNS if pattern.search(death)),
        AllocationEndCause.FAILED,
    )
    if cause is AllocationEndCause.COMPLETED:
        return cause, ""
    if cause is AllocationEndCause.CANCELLED:
        return cause, "cancelled"
    code = _EXIT_CODE_PATTERN.search(death)
    if cause is AllocationEndCause.FAILED and code and code["code"] != "0":
        return cause, f"exit code {code['code']}"
    return cause, text if len(text) <= _MOST_TEXT else text[:_MOST_TEXT] + "…"


def _fits(available: Mapping[str, float], requested_resources: Mapping[str, float]) -> bool:
    return all(available.get(name, 0.0) >= amount for name, amount in requested_resources.items())


def _format_resources(requested_resources: Mapping[str, float]) -> str:
    words = [
        format_bytes(int(amount)) if name == "memory" else f"{amount:g} {name}"
        for name, amount in requested_resources.items()
    ]
    return sanitize_terminal(", ".join(words))


def _amounts(record: Mapping[str, Any]) -> dict[str, float]:
    return {str(name): float(amount) for name, amount in record.items()}
