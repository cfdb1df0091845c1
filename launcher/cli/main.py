"""The command `launcher`: finds the verb, runs it, turns errors into messages and exit codes."""

import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

import click

from launcher import __version__
from launcher.errors import Error, MachineError, TaskFileError
from launcher.views import harmless

VERBS = {
    "add": "queue any program",
    "cancel": "cancel waiting jobs and end running ones",
    "clean": "forget ended jobs and delete what their attempts left",
    "group": "limit how many jobs of a group run at once",
    "hold": "keep queued jobs from starting",
    "logs": "print what a job wrote",
    "priority": "let waiting jobs start sooner or later",
    "release": "let held jobs start",
    "results": "print the results of a run as a table",
    "retry": "run again what failed, was cancelled or skipped",
    "run": "plan a task file, queue its jobs and watch them",
    "service": "keep the queue going after a reboot",
    "show": "print all that is known of a job, and why it waits",
    "status": "list jobs and their states",
    "stop": "stop starting jobs; with --now also end the running ones",
    "wait": "wait until jobs have ended",
}
INTERRUPTED = 130
PIPE_CLOSED = 141


class Verbs(click.Group):
    """Imports a verb only when it is used, so that every command answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's shape
        """Return the verbs in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Return a verb, imported now."""
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(f"launcher.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the verb that the arguments begin with, or name the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.exceptions.NoSuchCommand as error:
            # click looks for near ones among imported verbs, and there are none
            raise click.exceptions.NoSuchCommand(
                error.command_name, possibilities=VERBS, ctx=ctx
            ) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "LAUNCHER"},
    epilog="Exit codes: 0 done, 1 some job failed, 2 bad usage or task file, 3 machine trouble, "
    "130 interrupted, 141 the output's reader left.",
)
@click.version_option(__version__, prog_name="launcher")
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
def cli(debug: bool) -> None:  # main reads it from the arguments
    """Queue jobs for the GPUs and cores of this machine, and run experiments described in a file."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    _open_streams()
    code = _run(list(sys.argv[1:] if argv is None else argv))
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has seen enough
        code = PIPE_CLOSED
        _drop_output()
    except OSError as error:
        click.echo(f"error: {error}", err=True)
        code = MachineError.exit_code
        _drop_output()
    sys.exit(code)


def _open_streams() -> None:
    """Have the standard streams, also where the caller has closed them.

    Otherwise the next file to be opened, the queue's database, would be the standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open until the end


def _drop_output() -> None:
    """Let Python's own last flush succeed, so that it does not complain."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(argv: list[str]) -> int:
    try:
        code = cli.main(args=argv, prog_name="launcher", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("", err=True)
        return INTERRUPTED
    except Error as error:
        _explain(error, debug="--debug" in argv)
        return error.exit_code
    except OSError as error:  # a full disk, a folder that may not be written
        _explain(error, debug="--debug" in argv)
        return MachineError.exit_code
    except SystemExit:  # click's answer to a closed pipe, and to nothing else
        return PIPE_CLOSED
    return code if isinstance(code, int) else 0


def _explain(error: Error | OSError, *, debug: bool) -> None:
    if debug:
        traceback.print_exception(error)
    elif isinstance(error, TaskFileError):
        click.echo(str(error), err=True)
    else:
        lines = map(harmless, f"error: {error}".split("\n"))  # a job's name may hold anything
        click.echo("\n".join(lines), err=True)
