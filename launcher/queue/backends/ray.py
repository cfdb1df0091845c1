"""Pilots as actors of a running Ray cluster.

Ray itself is never imported here: a child process in the cluster's interpreter calls it (`ray_desk`).
"""

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.queue.backends.json_line_process import JsonLineProcess
from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.protocol import (
    NO_NODES,
    EngineError,
    Estimate,
    Observation,
    SubmissionRefused,
)
from launcher.queue.backends.ray_states import (
    actor_options,
    could_ever_fit,
    node_resources,
    parse_observations,
    read_nodes,
    why_no_node_fits,
)
from launcher.queue.backends.settings import BackendSettings, with_prologue
from launcher.queue.home.paths import Home
from launcher.system.log_files import last_lines
from launcher.system.remembered_variables import is_likely_secret
from launcher.system.text import sanitize_terminal

PATIENCE_S = 60.0  # joining a cluster takes seconds, on a busy machine many
LOG_LINES = 20
MOST_TEXT = 600  # characters of Ray's output that a message shows
DESK = Path(__file__).with_name("ray_desk.py")
_AUTO_ADDRESS = "auto"  # RAY_ADDRESS, or the cluster of this machine


def make(settings: BackendSettings, home: Home) -> "Ray":  # noqa: ARG001  # as all engines are made
    """Return the Ray cluster of a table of config.toml."""
    return Ray(settings)


class Ray:
    """A Ray cluster that runs pilots."""

    def __init__(self, settings: BackendSettings, patience_s: float = PATIENCE_S) -> None:
        """Begin without a request.

        Args:
            settings: its table of config.toml.
            patience_s: timeout of each response of Ray.
        """
        self._settings = settings
        python = settings.python or sys.executable
        self._desk_process = JsonLineProcess(
            [python, "-P", str(DESK), settings.address or _AUTO_ADDRESS],
            _environment,
            name="Ray",
            patience_s=patience_s,
        )

    def submit(self, pilots: Sequence[tuple[PilotFolder, PilotSpec]]) -> None:
        """Create an actor for each pilot.

        Raises:
            SubmissionRefused: there is no Ray here, or it is of another version than the cluster.
            EngineError: Ray did not accept all pilots, or did not respond.
        """
        self._call(
            "submit",
            pilots=[
                {
                    "token": folder.token,
                    "asks": actor_options(self._settings, spec),
                    "argv": self._guard_command(folder),
                    "log": NodePaths(self._settings).path(folder.log),
                }
                for folder, spec in pilots
            ],
        )

    def observe(
        self,
        tokens: Collection[str],
        nodes: Mapping[str, str] = NO_NODES,  # noqa: ARG002  # as all engines are asked
    ) -> Mapping[str, Observation]:
        """Query Ray once for all pilots and nodes.

        Raises:
            EngineError: nothing is known.
        """
        if not tokens:
            return {}
        answer = self._call("observe", tokens=sorted(tokens))
        return parse_observations(answer, tokens, node_resources(self._settings, self._settings))

    def cancel(self, tokens: Collection[str]) -> None:
        """Kill actors. Their guards kill the processes of the pilots.

        Raises:
            EngineError: Ray does not respond.
        """
        self._call("cancel", tokens=sorted(tokens))

    def collect(self, pilot: PilotFolder) -> str:
        """Return the last lines of a pilot's log."""
        return "\n".join(map(sanitize_terminal, last_lines(pilot.log, LOG_LINES)))

    def estimate(self, spec: PilotSpec) -> Estimate:
        """Return whether a node of the cluster has room for such a pilot.

        Raises:
            EngineError: Ray does not respond.
        """
        try:
            nodes = read_nodes(self._call("observe", tokens=[])).values()
        except SubmissionRefused as error:
            return Estimate(possible=False, why=str(error))
        wanted = node_resources(self._settings, spec)
        why = why_no_node_fits(nodes, wanted)
        starts_at = None if why else time.time()
        return Estimate(possible=could_ever_fit(nodes, wanted), why=why, starts_at=starts_at)

    def close(self) -> None:
        """End the process that calls Ray. Pilots continue."""
        self._desk_process.close()

    def _guard_command(self, folder: PilotFolder) -> list[str]:
        """Return the command of an actor: the guard of a pilot, in the site's container and after its prologue."""
        node = NodePaths(self._settings)
        guard = (node.interpreter(), "-P", "-m", "launcher.queue.backends.ray_guard")
        words = (*self._settings.wrap, *guard, node.path(folder.folder))
        return with_prologue(self._settings, *words)

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        answer = self._desk_process.call(operation, **arguments)
        error = answer.get("error")
        if error is None:
            return answer
        text = sanitize_terminal(" ".join(str(error).split()))[:MOST_TEXT]
        if answer.get("for_good"):
            raise SubmissionRefused(
                f"Ray refuses pilots of [backends.{self._settings.name}]: {text}"
            )
        raise EngineError(f"Ray: {text}")


def _environment() -> dict[str, str]:
    """Return the environment of the process that calls Ray: ours, without secrets."""
    return {name: text for name, text in os.environ.items() if not is_likely_secret(name, text)}
