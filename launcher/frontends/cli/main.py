"""The command `launcher`: find the command, run it, turn errors into messages and exit codes.

Defaults of options come from the user's configuration file and are checked like the command line.
"""

import contextlib
import importlib
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TextIO

import click

from launcher import __version__
from launcher.frontends.cli.complete import VARIABLE, complete_line
from launcher.frontends.cli.verb_table import GROUPS, MODULES, OTHER_NAMES, VERBS
from launcher.frontends.screens.usage_errors import usage_message
from launcher.frontends.version import version_line
from launcher.system.config import Options, read_configuration
from launcher.system.config_tables import Fault, unknown_name_text
from launcher.system.errors import Error, MachineError, TaskFileError, UsageError
from launcher.system.terminal import (
    ALWAYS,
    AUTO,
    NEVER,
    choose_characters,
    choose_colour,
    print_stderr,
)
from launcher.system.text import sanitize_terminal

DOCTOR = "doctor"
VERSION_NAMES = ("-V", "-v", "version")  # in other tools
VARIABLE_PREFIX = "LAUNCHER"
INTERRUPTED = 130
PIPE_CLOSED = 141


def _set_ascii(_context: click.Context, _option: click.Parameter, is_chosen: bool | None) -> None:
    if is_chosen:
        choose_characters(ascii_only=True)


def _show_version(context: click.Context, _option: click.Parameter, is_chosen: bool) -> None:
    if is_chosen and not context.resilient_parsing:
        click.echo(version_line("launcher", __version__))
        context.exit()


APPEARANCE: list[click.Parameter] = [
    click.Option(
        ["--color"],
        type=click.Choice([AUTO, ALWAYS, NEVER]),
        expose_value=False,
        callback=lambda _context, _option, when: choose_colour(when or AUTO),
        help="Use colours. auto respects NO_COLOR and FORCE_COLOR.",
    ),
    click.Option(
        ["--ascii"],
        is_flag=True,
        expose_value=False,
        callback=_set_ascii,
        help="Use ASCII characters only.",
    ),
]


def verb(name: str) -> click.Command:
    """Import a verb and return it."""
    module, _, attribute = MODULES[name].partition(":")
    command: click.Command = getattr(
        importlib.import_module(f"launcher.frontends.cli.{module}"), attribute
    )
    return command


def defaults(
    verb: click.Command, keys: tuple[str, ...], options: Options, faults: list[Fault]
) -> dict[str, Any]:
    """Return the defaults of a verb's options in a table of the user's file, in the form of click.

    Args:
        verb: Verb, or subcommand such as `install` of `service`.
        keys: Name of the table.
        options: Table; options are named as on the command line.
        faults: List to which unknown options and invalid values are added.
    """
    options_by_name = options_of(verb)
    below = verb.commands if isinstance(verb, click.Group) else {}
    values: dict[str, Any] = {}
    for key, value in options.items():
        word = key.replace("_", "-")
        place = (*keys, key)
        if word in below and isinstance(value, dict):
            values[word] = defaults(below[word], place, value, faults)
        elif word not in options_by_name:
            what = f"an option of launcher {' '.join(keys)}"
            faults.append((place, unknown_name_text(key, what, [*options_by_name, *below])))
        else:
            option = options_by_name[word]
            try:
                values[option.name or ""] = _as_typed(option, value)
            except click.BadParameter as error:
                faults.append((place, f"{'.'.join(place)}: {error.message}"))
    return values


def options_of(verb: click.Command) -> dict[str, click.Option]:
    """Return the options of a verb by their long names without the dashes.

    Options of appearance are omitted: they depend on the terminal.
    """
    return {
        name.removeprefix("--"): option
        for option in verb.params
        if isinstance(option, click.Option) and option not in APPEARANCE
        for name in option.opts
        if name.startswith("--")
    }


def variable_of(keys: Iterable[str], option: str) -> str:
    """Return the environment variable of an option of a command, both named as on the command line."""
    return "_".join((VARIABLE_PREFIX, *keys, option)).upper().replace("-", "_")


def _name_variables(command: click.Command, keys: tuple[str, ...]) -> None:
    """Name the variables of a command after its options."""
    for name, option in options_of(command).items():
        option.envvar = variable_of(keys, name)
    for name, below in command.commands.items() if isinstance(command, click.Group) else ():
        _name_variables(below, (*keys, name))


def configured_defaults(name: str, verb: click.Command) -> dict[str, Any] | None:
    """Return the defaults of a verb in the user's file, in the form of `Context.default_map`.

    Args:
        name: Name of the verb.
        verb: Verb.

    Raises:
        UsageError: the file is invalid.
    """
    configuration = read_configuration(os.environ, VERBS)
    if name not in configuration.options:
        return None
    faults: list[Fault] = []
    values = defaults(verb, (name,), configuration.options[name], faults)
    configuration.refuse(faults)
    return {name: values}


def _as_typed(option: click.Option, value: object) -> Any:  # click accepts any value
    """Return a value of the file as it would be typed on the command line.

    Raises:
        click.BadParameter: the value is invalid for the option.
    """
    if option.is_flag:
        if not isinstance(value, bool):
            raise click.BadParameter("expected true or false")
        return value
    listed = value if isinstance(value, list) and option.multiple else [value]
    if any(isinstance(item, bool | list | dict) for item in listed):
        raise click.BadParameter("expected a number or a string")
    words = [str(item) for item in listed]
    for word in words:
        option.type.convert(word, None, None)
    return words if option.multiple else words[0]


def _is_job_type(name: str) -> bool:
    # 20 ms, only for an unknown command
    from launcher.queue.jobs.context import KIND_GROUP
    from launcher.system.entry_points import find_entry_points

    return any(point.name == name for point in find_entry_points(KIND_GROUP))


class Verbs(click.Group):
    """Imports a verb only when it is used, so every command responds fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # signature of click
        """Return the commands in the order of the help page."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb, imported now."""
        if cmd_name not in VERBS:
            if not ctx.resilient_parsing and _is_job_type(cmd_name):
                raise click.UsageError(
                    f"no command {cmd_name!r}. It is a job type: write it in a task file, and queue the file with "
                    "launcher run FILE. See: launcher help tasks"
                )
            return None
        command = verb(cmd_name)
        if not set(APPEARANCE) & set(command.params):
            _name_variables(command, (cmd_name,))
            command.params += APPEARANCE
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command at the start of the arguments, and the user's defaults for it."""
        name, verb, rest = super().resolve_command(ctx, args)
        if name is not None and verb is not None and not ctx.resilient_parsing:
            try:
                ctx.default_map = configured_defaults(name, verb)
            except UsageError:
                # an invalid file must not prevent help; `doctor` reports its faults
                if name != DOCTOR and not {"-h", "--help"} & set(rest):
                    raise
        return name, verb, rest

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the commands before the options."""
        self.format_commands(ctx, formatter)
        click.Command.format_options(self, ctx, formatter)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands in their groups, without importing any."""
        widest = max(map(len, VERBS))
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{verb:{widest}}", text) for verb, text in verbs.items()])


@click.group(
    cls=Verbs,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda word: word.replace("_", "-"),  # --time_limit is --time-limit
    },
    epilog="Exit codes: 0 success, 1 failed job, 2 wrong usage or task file, 3 problem with the machine, "
    "130 interrupted, 141 the reader of a pipe exited.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
@click.option("--debug", is_flag=True, help="Show a traceback with every error.")
def cli(debug: bool) -> None:  # `main` reads the option from the arguments
    """Queue programs and experiments for the GPUs and CPU cores of this machine."""


cli.params += APPEARANCE


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    if os.environ.get(VARIABLE, "").endswith(
        "_complete"
    ):  # a shell requests completions; respond fast
        sys.exit(complete_line(cli, VERBS, os.environ))
    _open_streams()
    choose_characters(ascii_only=False)
    try:
        code = _run(list(sys.argv[1:] if argv is None else argv))
    except OSError:  # the message cannot be written either: the terminal was closed
        code = MachineError.exit_code
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader (head, less) has closed the pipe
        code = PIPE_CLOSED
        _drop(sys.stdout)
    except OSError as error:
        if code != MachineError.exit_code:  # otherwise the first failed write has printed the error
            with contextlib.suppress(OSError):  # the terminal was closed
                print_stderr(f"error: {error}")
        code = MachineError.exit_code
        _drop(sys.stdout)
    try:
        sys.stderr.flush()
    except OSError:  # otherwise Python's own flush would exit with 120
        _drop(sys.stderr)
    sys.exit(code)


def _open_streams() -> None:
    """Open the standard streams if the caller has closed them.

    Otherwise the next opened file, the queue's database, would become the standard output.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # the lowest free descriptor is the one of the closed stream
            os.open(os.devnull, os.O_RDWR)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115  # open until the end


def _drop(stream: TextIO) -> None:
    """Let Python's last flush of a stream succeed, to avoid an error message."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(argv: list[str]) -> int:
    try:
        code = cli.main(args=argv, prog_name="launcher", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        print_stderr(
            f"error: {sanitize_terminal(usage_message(error, argv, VERBS, other_names=OTHER_NAMES))}"
        )
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print_stderr("")
        return INTERRUPTED
    except Error as error:
        _print_error(error, debug="--debug" in argv)
        return error.exit_code
    except OSError as error:  # a full disk or an unwritable folder
        _print_error(_folder_gone() or error, debug="--debug" in argv)
        return MachineError.exit_code
    except SystemExit:  # raised by click only for a closed pipe
        return PIPE_CLOSED
    return code if isinstance(code, int) else 0


def _folder_gone() -> MachineError | None:
    """Return the error if the current folder was deleted, which system calls do not report."""
    folder = Path("/proc/self/cwd").readlink()
    if folder.exists() or not folder.name.endswith(" (deleted)"):
        return None
    path = str(folder).removesuffix(" (deleted)")
    return MachineError(f"the current folder {path} was deleted. Change to an existing folder: cd")


def _print_error(error: Error | OSError, *, debug: bool) -> None:
    if debug:
        import traceback  # 0.3 ms, only for this option

        traceback.print_exception(error)
    elif isinstance(error, TaskFileError):
        print_stderr(str(error))
    else:
        # a job's name may contain any character
        lines = map(sanitize_terminal, f"error: {error}".split("\n"))
        print_stderr("\n".join(lines))
