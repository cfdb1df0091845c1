"""The command line in a process of its own, in a pipe or in a terminal."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

COMMAND = (sys.executable, "-c", "from launcher.cli.main import main; main()")


def in_a_terminal(*words: str, columns: int = 80, typed: str = "", code: int = 0) -> str:
    """Run the command line in a terminal of its own and return what it drew.

    Args:
        words: the verb and its arguments.
        columns: the terminal's width.
        typed: what a person types into it.
        code: the exit code that is expected.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    os.write(ours, typed.encode())
    child = subprocess.Popen([*COMMAND, *words], stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    drawn = b""
    try:
        while chunk := os.read(ours, 4096):
            drawn += chunk
    except OSError:
        pass  # the terminal's other end was closed
    os.close(ours)
    assert child.wait() == code
    return drawn.decode().replace("\r\n", "\n")
