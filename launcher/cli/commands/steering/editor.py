"""The owner's own editor: started on a file of ours, waited for, and what was written there."""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from launcher.errors import MachineError, UsageError
from launcher.screens.format import harmless

VARIABLES = ("VISUAL", "EDITOR")
_USUAL = ("sensible-editor", "nano", "vi")


class EditorFailed(MachineError):
    """The editor could not be started, or ended with an error."""


def editor_argv(environment: Mapping[str, str]) -> list[str]:
    """Return the command line of the editor, without the file.

    Raises:
        UsageError: none is set and none is installed; or the variable cannot be read.
    """
    for name in VARIABLES:
        text = environment.get(name, "").strip()
        if text:
            try:
                argv = shlex.split(text)
            except ValueError as error:
                raise UsageError(f"{name} is {text!r}, which is no command line: {error}") from None
            if not argv or not argv[0]:
                raise UsageError(f"{name} is {text!r}, which names no program")
            return argv
    if not sys.stdin.isatty():
        raise UsageError(
            "there is no terminal for an editor: --set KEY=VALUE changes a job without"
        )
    for program in _USUAL:
        if path := shutil.which(program):
            return [path]
    raise UsageError("no editor is known: set EDITOR, such as EDITOR=nano")


class EditedFile:
    """A text that is changed in an editor; the folder in which it lies is its owner's alone."""

    def __init__(self, name: str) -> None:
        """Make the folder, and no file in it."""
        self.path = Path(tempfile.mkdtemp(prefix="launcher-edit-"), name)

    def edit(self, text: str) -> str:
        """Write a text, wait for the editor, and return what is there then.

        Raises:
            EditorFailed: nothing can be said of what was wanted.
            UsageError: there is no editor, or it left bytes that are no UTF-8.
        """
        self.path.write_text(text, encoding="utf-8")
        argv = editor_argv(os.environ)
        before = signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C is the editor's
        try:
            code = subprocess.run([*argv, str(self.path)], check=False).returncode
        except OSError as error:
            why = error.strerror or str(error)
            raise EditorFailed(f"cannot start the editor {harmless(argv[0])}: {why}") from error
        finally:
            signal.signal(signal.SIGINT, before)
        if code:
            how = f"exit code {code}" if code > 0 else signal.Signals(-code).name
            raise EditorFailed(f"the editor {harmless(argv[0])} ended with {how}")
        try:
            return self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
        except UnicodeDecodeError as error:
            raise UsageError(f"what the editor saved is no UTF-8 text: {error}") from error

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.path.parent, ignore_errors=True)
