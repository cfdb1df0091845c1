"""How a command line of the laboratory begins and ends: what must be installed, one message, one exit code.

Packages are looked for before a command is imported, which would end in the middle of an import.

All errors of the launcher and the laboratory have an `exit_code`; asking for it instead of their
class spares `trueface --help` the import of pydantic.

0 done · 1 a job failed · 2 bad usage · 3 the machine or pretrained weights · 130 interrupted ·
141 the reader of a pipe left.
"""

import importlib.util
import os
import sys
from collections.abc import Callable, Sequence

import click

PACKAGES = (
    "jinja2",
    "markupsafe",
    "numpy",
    "PIL",
    "scipy",
    "simplejpeg",
    "sklearn",
    "torch",
    "torchvision",
)
_NEED_NOTHING = frozenset({"-h", "--help", "--version"})  # as the first word


def can_work(argv: Sequence[str]) -> bool:
    """Tell whether all packages are installed, or the arguments ask for none; else say what to do."""
    if argv and argv[0] in _NEED_NOTHING:
        return True
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if not missing:
        return True
    sys.stderr.write(
        f"error: trueface needs {', '.join(missing)}, not installed here; install the laboratory "
        "with `pip install 'launcher-trueface[lab]'`, in a checkout with `pip install '.[lab]'`\n"
    )
    return False


MACHINE = 3
INTERRUPTED = 130
PIPE_CLOSED = 141


class PipeClosed(Exception):
    """The reader of the output left: click ends with code 1 where it sees the BrokenPipeError itself."""


def exit_code(action: Callable[[], object]) -> int:
    """Run `action`; print its error on stderr, and return the exit code."""
    try:
        ended = action()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except SystemExit as leaving:  # argparse, after the help page of a classic command line
        return leaving.code if isinstance(leaving.code, int) else 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (BrokenPipeError, PipeClosed):
        # the reader (head, less) has seen enough; Python must not complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        code = MACHINE if isinstance(error, OSError) else getattr(error, "exit_code", None)
        if code is None:
            raise  # a fault of ours: its traceback is what mends it
        click.echo(f"error: {error}", err=True)
        return int(code)
    return (
        ended if type(ended) is int else 0
    )  # click gives back the code of a command that ended so
