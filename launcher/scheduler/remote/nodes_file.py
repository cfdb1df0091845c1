"""nodes.jsonl: on which node each pilot was, for screens that show what ran there; kept after a pilot's end."""

import json
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Protocol

from launcher.system.paths import Home
from launcher.system.stored_fields import known_of

logger = logging.getLogger(__name__)

MOST = 20_000  # lines; what is older is not told any more
_NAME = "nodes.jsonl"


class OnNode(Protocol):
    """A pilot that may be on a node by now."""

    @property
    def token(self) -> str:
        """Its name."""

    @property
    def backend(self) -> str:
        """Its backend's name."""

    @property
    def node(self) -> str:
        """The node it is on, '' where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PastPilot:
    """Where a pilot is or was."""

    token: str
    backend: str = ""
    node: str = ""


def past_pilots(home: Home) -> dict[str, PastPilot]:
    """Return by token where pilots are or were, as far back as that is known."""
    try:
        text = (home.folder / _NAME).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    pilots = {}
    for line in [*filter(None, text.splitlines())][-MOST:]:
        try:
            pilot = known_of(PastPilot, json.loads(line), "a line")
        except (ValueError, RecursionError, TypeError):
            continue  # cut off by a power cut, or written by a newer launcher
        pilots[pilot.token] = pilot
    return pilots


class NodesFile:
    """The file; a line for each pilot whose node has become known."""

    def __init__(self, home: Home) -> None:
        """Begin; what is there is read when the first pilot is added."""
        self._home = home
        self._known: set[str] | None = None

    def add(self, pilots: Iterable[OnNode]) -> None:
        """Write down which node pilots are on, of each once; a full disk stops nothing."""
        there = [pilot for pilot in pilots if pilot.node]
        if not there:
            return
        if self._known is None:
            self._known = set(past_pilots(self._home))
        fresh = [pilot for pilot in there if pilot.token not in self._known]
        if not fresh:
            return
        lines = (
            json.dumps(asdict(PastPilot(token=pilot.token, backend=pilot.backend, node=pilot.node)))
            for pilot in fresh
        )
        try:
            with (self._home.folder / _NAME).open("a", encoding="utf-8") as file:
                # what stands there may end in the middle of a line
                file.write("".join(f"\n{line}\n" for line in lines))
        except OSError as error:
            logger.warning("%s trouble=%r", _NAME, str(error))
            return
        self._known.update(pilot.token for pilot in fresh)
