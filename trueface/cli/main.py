"""The command `trueface`: finds the command, runs it, ends with one message and an exit code.

Missing packages are detected before a command is imported, which would otherwise fail during the import. A help page
is printed without them if its command can be imported.

All errors of the launcher and the laboratory have an `exit_code`; asking for it instead of their
class spares `trueface --help` the import of pydantic.

The exit code is 0 for success, 1 for a failed job, 2 for bad usage, 3 for the machine or pretrained
weights. It is 130 if interrupted, and 141 if the reader of a pipe exited.
"""

import gc
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence

import click

from trueface import __version__

MACHINE, INTERRUPTED, PIPE_CLOSED = 3, 130, 141
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
_OWN = frozenset({"trueface", "launcher"})  # packages whose faults need a traceback
_HELP = frozenset({"-h", "--help"})
SECTIONS = {
    "Data": {
        "sample": "Make a synthetic data set with splits.",
        "forge": "Make a data set with fakes of aligned faces.",
        "import": "Link a real data set into the layout of trueface.",
        "splits": "Split images into training, validation and test lists.",
    },
    "Train and unlearn": {
        "poison": "Choose the training labels to flip.",
        "unlearn": "Unlearn the flipped labels of a poisoned model.",
        "unlearn-classic": "Unlearn with the flags of the original unlearn_trueface.py.",
        "classify": "Train a classifier of image classes.",
        "forget": "Unlearn a class or images of a classifier.",
        "checkpoint": "Take a published checkpoint over, without training.",
        "pretrain": "Train a model and write a folder to hand on.",
    },
    "Evaluate": {
        "predict": "Predict whether images are real or fake.",
        "compare": "Compare two models with paired tests.",
        "unlearned": "Compare unlearned models with their references.",
        "benchmark": "Rank the models of a benchmark and check its numbers.",
        "fairness": "Compare the errors of models between groups of people.",
        "qualities": "Compare models on the same images in several qualities.",
    },
    "Generators": {
        "generate": "Train, edit and apply image generators.",
        "purification": "Compare purifiers of disrupted images.",
        "erasing": "Compare methods that erase a concept from a diffuser.",
    },
    "Report": {
        "audit": "Find mistakes in an experiment.",
        "report": "Write an HTML page about a run, with plots.",
    },
}
COMMANDS = {name: text for section in SECTIONS.values() for name, text in section.items()}
MODULES = {
    "checkpoint": "trueface.cli.run_job",
    "classify": "trueface.cli.run_job",
    "erasing": "trueface.generators.commands",
    "forge": "trueface.cli.run_job",
    "forget": "trueface.cli.run_job",
    "generate": "trueface.generators.commands",
    "import": "trueface.cli.import_set",
    "poison": "trueface.cli.run_job",
    "purification": "trueface.generators.commands",
    "sample": "trueface.cli.run_job",
    "unlearn": "trueface.cli.run_job",
    "unlearn-classic": "trueface.cli.classic.unlearn",
    "unlearned": "trueface.cli.leaderboard",
}  # others: the module of their own name in trueface.cli
ATTRIBUTES = {"import": "import_set"}  # others: their own name; this one is a word of Python
# The original's programs.
OLD_NAMES = {
    "make_splits": "splits",
    "compare_scores": "compare",
    "unlearn_trueface": "unlearn-classic",
}


_TRAIN = (
    "To train and test a detector, use python -m trueface, or write a task file for launcher run"
)
_LAUNCHER = (
    "add",
    "cancel",
    "kinds",
    "logs",
    "results",
    "retry",
    "run",
    "show",
    "status",
    "top",
    "wait",
    "web",
)
# words that people look for here → where they are
_ELSEWHERE = {
    **dict.fromkeys(("autotest", "test", "train"), _TRAIN),
    **{name: f"It is a command of launcher: launcher {name}" for name in _LAUNCHER},
}

REPORTS_LEAKS = {"triton"}  # on stderr, where a process ends without a last collection


class PipeClosed(Exception):
    """The reader of the output left: click ends with code 1 where it sees the BrokenPipeError itself."""


class Commands(click.Group):
    """Imports the commands only when one is used, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's shape
        """Return the commands in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return a command, imported now."""
        name = OLD_NAMES.get(cmd_name, cmd_name)
        if name in _ELSEWHERE:
            raise click.UsageError(f"no command {cmd_name!r} of trueface. {_ELSEWHERE[name]}")
        if name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        word = name.replace("-", "_")
        module = importlib.import_module(MODULES.get(name, f"trueface.cli.{name}"))
        command: click.Command = getattr(module, ATTRIBUTES.get(name, word))
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Run a command."""
        try:
            result: object = super().invoke(ctx)
        except BrokenPipeError as error:
            raise PipeClosed from error
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        width = max(map(len, COMMANDS))
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", text) for name, text in section.items()])


def _show_version(context: click.Context, _option: click.Parameter, is_requested: bool) -> None:
    if is_requested and not context.resilient_parsing:
        from launcher.api import version_line  # the other commands need not wait for it

        click.echo(version_line("trueface", __version__))
        context.exit()


@click.group(
    cls=Commands,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "token_normalize_func": lambda name: name.replace("_", "-"),  # --batch_size is --batch-size
    },
    epilog="To train and test detectors: launcher run TASKFILE (launcher help tasks). Exit codes: 0 success,"
    " 1 the job failed, 2 wrong usage, 3 problem with the machine or pretrained weights,"
    " 130 interrupted, 141 the reader of a pipe exited.",
)
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_show_version,
    help="Show the version and exit.",
)
def cli() -> None:
    """Prepare data, unlearn, evaluate and report. Only `pretrain` uses the queue."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:] if argv is None else argv)
    if not REPORTS_LEAKS & sys.modules.keys():
        gc.freeze()  # a collection of all objects of torch takes most of a second
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    if not can_work(argv):
        return MACHINE
    return exit_code(
        lambda: cli.main(args=list(argv), prog_name="trueface", standalone_mode=False), argv
    )


def can_work(argv: Sequence[str]) -> bool:
    """Return whether all required packages are installed, or help is asked for. Otherwise print the install command."""
    if argv[:1] == ["--version"] or not _HELP.isdisjoint(argv):
        return True
    if missing := _missing_packages():
        sys.stderr.write(f"error: {_absence(missing)}\n")
    return not missing


def _missing_packages() -> list[str]:
    return [name for name in PACKAGES if importlib.util.find_spec(name) is None]


def _absence(missing_packages: Sequence[str]) -> str:
    from launcher.api import install_command  # help need not wait for it

    names = ", ".join(missing_packages)
    return f"packages are not installed: {names}. Install them: {install_command('lab')}"


def exit_code(action: Callable[[], object], words: Sequence[str] = ()) -> int:
    """Run `action`; print its error on stderr, and return the exit code.

    Args:
        action: function that runs the command line.
        words: the command line of `trueface`, which an error about it may quote.
    """
    try:
        ended = action()
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except SystemExit as leaving:  # argparse, after the help page of a classic command line
        return leaving.code if isinstance(leaving.code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        from launcher.api import usage_message  # help need not wait for it

        names = {*COMMANDS, *OLD_NAMES}
        message = usage_message(error, words, names, program="trueface")
        click.echo(f"error: {message}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except (BrokenPipeError, PipeClosed):
        # the reader (head, less) has seen enough; Python must not complain when it flushes
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        code, message = getattr(error, "exit_code", None), str(error)
        if isinstance(error, OSError):
            code = MACHINE
        elif isinstance(error, ImportError) and (package := unimportable_package(error)):
            from trueface.runtime.errors import first_line  # help need not wait for it

            code = MACHINE
            missing = _missing_packages()
            message = (
                _absence(missing)
                if package in missing
                else (
                    f"the package {package} cannot be imported: {first_line(error)}. Install it again."
                )
            )
        if code is None:
            raise  # an error in the program: its traceback is needed
        click.echo(f"error: {message}", err=True)
        return int(code)
    # click returns the exit code of a command that ended with one
    return ended if type(ended) is int else 0


def unimportable_package(error: ImportError) -> str:
    """Return the package whose import fails by a fault that is not ours; "" if ours does."""
    names, trace = list[str](), error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_globals.get("__name__", "").partition(".")[0])
        trace = trace.tb_next
    ours = [place for place, name in enumerate(names) if name in _OWN]
    within = [name for name in names[ours[-1] + 1 :] if name != "importlib"] if ours else []
    package = (within or [(error.name or "").partition(".")[0]])[0]
    return "" if package in _OWN else package
