"""Interactive shells in a terminal, to press Tab in."""

import fcntl
import os
import pty
import select
import shutil
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher.frontends.cli.complete import VARIABLE

DEADLINE_S = 30.0
READY = "ready>"
PRINTS_WORDS = f"""#!/bin/sh
[ "$1" = completion ] || [ "${VARIABLE}" ] && exec {{ours}} "$@"
printf '<%s>' "$@"
echo
"""
_START = {
    "bash": ("bash", "--noprofile", "--rcfile", "{rc}", "-i"),
    "zsh": ("zsh", "-i"),
    "fish": ("fish", "--no-config", "-i", "-C", "source {rc}"),
}
_PROFILE = {
    "bash": f'eval "$(launcher completion bash)"; PS1="{READY} "\n',
    "zsh": f'autoload -Uz compinit && compinit -u -D; eval "$(launcher completion zsh)"\nPS1="{READY} "\n',
    "fish": f'launcher completion fish | source; function fish_prompt; echo "{READY} "; end\n',
}


class Shell:
    """A shell that runs in a terminal of its own."""

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self.shown = ""

    def type(self, text: str) -> None:
        """Type like a user. Text waits until the shell reads it."""
        os.write(self._terminal, text.encode())

    def until(self, text: str) -> None:
        """Read what the shell shows until a text is there."""
        deadline = time.monotonic() + DEADLINE_S
        while text not in self.shown:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.shown!r}"
            if select.select([self._terminal], [], [], left)[0]:
                self.shown += os.read(self._terminal, 65536).decode(errors="replace")


@contextmanager
def a_shell(name: str, folder: Path, home: Path) -> Iterator[Shell]:
    """Run a shell that completes for our command line; it is killed afterwards.

    Only completion and its script are ours. Otherwise `launcher` prints the words that it got, as `<show><name>`.
    """
    ours = folder / "ours" / "launcher"
    program = folder / "bin" / "launcher"
    for file, text in (
        (ours, f"#!{sys.executable}\nfrom launcher.frontends.cli.main import main\nmain()\n"),
        (program, PRINTS_WORDS.format(ours=ours)),
    ):
        file.parent.mkdir()
        file.write_text(text)
        file.chmod(0o755)
    profile = folder / ".zshrc"  # the name that zsh looks for
    profile.write_text(_PROFILE[name])
    path = shutil.which(name)
    assert path is not None
    environ = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
        "HOME": str(folder),
        "ZDOTDIR": str(folder),
        "LAUNCHER_HOME": str(home),
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    argv = [word.format(rc=profile) for word in _START[name]]
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(folder)
        os.execve(path, argv, environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 200, 0, 0))
    try:
        shell = Shell(terminal)
        shell.until(READY)
        yield shell
    finally:
        os.kill(pid, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(pid, 0)
