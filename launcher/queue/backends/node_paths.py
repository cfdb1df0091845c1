"""Paths of this machine as the nodes of a backend see them."""

import json
import sys
from functools import lru_cache
from pathlib import Path

from launcher.queue.backends.settings import BackendSettings
from launcher.queue.jobs.context import LIMITS, NICENESS, PROGRAMS
from launcher.system.files import Json


class NodePaths:
    """Maps paths of this machine to those of the nodes, if a backend's settings define a difference."""

    def __init__(self, settings: BackendSettings) -> None:
        """Begin.

        Args:
            settings: settings of the backend.
        """
        self._python = settings.python
        # the longest first: /data/fast may have another path there than the rest of /data
        pairs = ((here.rstrip("/"), there.rstrip("/")) for here, there in settings.paths.items())
        self._pairs = tuple(sorted(pairs, key=lambda pair: -len(pair[0])))
        self._context = lru_cache(maxsize=8)(self._map_context)

    def spec(self, text: str) -> str:
        """Return a spec as the node gets it; both are JSON."""
        return json.dumps(self._map_value(json.loads(text))) if self._pairs else text

    def context(self, text: str) -> str:
        """Return a job's context as the node gets it; both are JSON. The limits and programs are the node's own."""
        return self._context(text)

    def interpreter(self, path: str = sys.executable) -> str:
        """Return the interpreter of the nodes for one of this machine, which is ours by default."""
        return self._python or self.path(path)

    def path(self, path: Path | str) -> str:
        """Return a path as the nodes see it."""
        path = str(path)
        for here, there in self._pairs:
            if path == here or path.startswith(f"{here}/"):
                return f"{there}{path[len(here) :]}" or "/"
        return path

    def _map_context(self, text: str) -> str:
        record: dict[str, Json] = json.loads(text)
        own = [record.pop(name) for name in (LIMITS, NICENESS, PROGRAMS) if name in record]
        if not (own or self._pairs or self._python):
            return text
        mapped = {name: self._map_value(value) for name, value in record.items()}
        environment = record.get("environment")
        if isinstance(environment, dict):
            mapped["environment"] = {
                name: ":".join(map(self.path, str(value).split(":")))
                for name, value in environment.items()
            }
        if self._python:
            mapped["interpreter"] = self._python
        return json.dumps(mapped)

    def _map_value(self, value: Json) -> Json:
        match value:
            case str():
                return self._map_word(value)
            case list():
                return [*map(self._map_value, value)]
            case dict():
                return {key: self._map_value(item) for key, item in value.items()}
        return value

    def _map_word(self, word: str) -> str:
        """Return a word of a command line, which may hold a path behind its option: --data=/local/x."""
        option, equals, path = word.partition("=")
        if equals and option.startswith("-"):
            return f"{option}={self.path(path)}"
        return self.path(word)
