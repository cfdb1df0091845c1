"""Commands of trueface as a user gives them, and their output."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from trueface.cli import main


class CommandOutput(NamedTuple):
    """Output of a command on stdout and stderr."""

    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return its answer, which is one document."""
        return json.loads(self.out)


class Command:
    """Runs commands in this process."""

    def __init__(
        self, capsys: pytest.CaptureFixture[str], run: Callable[..., int] = main.run
    ) -> None:
        self.capsys, self.run = capsys, run

    def __call__(self, *words: str | Path, code: int = 0) -> CommandOutput:
        """Return what `trueface WORDS` writes, once it has ended with this exit code."""
        self.capsys.readouterr()
        assert self.run([str(word) for word in words]) == code
        return CommandOutput(*self.capsys.readouterr())
