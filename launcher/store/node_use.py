"""What ran on which node: attempts of the past by pilot, summed up by the node that each pilot was on."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from launcher.system.files import Json

HOUR_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotUse:
    """Attempts of one pilot, or of this machine."""

    pilot: str  # its token; '': this machine
    attempts: int
    done: int
    gpu_s: float  # seconds of each of their GPUs
    cpu_s: float  # seconds of each of their cores


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeUse:
    """What ran on a node."""

    node: str
    backend: str
    attempts: int = 0
    done: int = 0
    gpu_hours: float = 0.0
    cpu_hours: float = 0.0

    def values(self) -> dict[str, Json]:
        """Return the node for programs."""
        return {
            "node": self.node,
            "backend": self.backend,
            "attempts": self.attempts,
            "done": self.done,
            "gpu_seconds": round(self.gpu_hours * HOUR_S, 3),
            "core_seconds": round(self.cpu_hours * HOUR_S, 3),
        }


def nodes_of(
    uses: Iterable[PilotUse], places: Mapping[str, tuple[str, str]]
) -> tuple[NodeUse, ...]:
    """Return what ran on each node, the one with most core-hours first.

    Args:
        uses: by pilot.
        places: backend and node of each pilot by its token, and of this machine by ''.
    """
    nodes: dict[tuple[str, str], NodeUse] = {}
    for use in uses:
        backend, node = place = places.get(use.pilot, ("", ""))
        so_far = nodes.get(place) or NodeUse(node=node, backend=backend)
        nodes[place] = replace(
            so_far,
            attempts=so_far.attempts + use.attempts,
            done=so_far.done + use.done,
            gpu_hours=so_far.gpu_hours + use.gpu_s / HOUR_S,
            cpu_hours=so_far.cpu_hours + use.cpu_s / HOUR_S,
        )
    return tuple(sorted(nodes.values(), key=lambda use: (-use.cpu_hours, use.backend, use.node)))
