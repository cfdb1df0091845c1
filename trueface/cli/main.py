"""The command `trueface`: finds the command, runs it, ends with an exit code."""

import gc
import importlib
import sys
from collections.abc import Sequence

import click

from trueface import __version__
from trueface.cli.exit_codes import MACHINE, PipeClosed, can_work, exit_code

COMMANDS = {
    "sample": "make a synthetic image set and its splits",
    "forge": "make fakes of aligned faces, and a set of both with splits",
    "import": "link a real data set into TrueFace's shape, with splits",
    "splits": "split images into train.json, val.json and test.json",
    "poison": "choose which training labels are flipped",
    "unlearn": "unlearn the flipped labels of a poisoned model",
    "unlearn-classic": "unlearn by pgu, with the flags of the original unlearn_trueface.py",
    "classify": "train a classifier for any number of classes",
    "forget": "unlearn a class, or a random fraction of the images, of a classifier",
    "unlearned": "compare the unlearned models of a run with their references",
    "predict": "predict whether images are real or fake",
    "pretrain": "train a task file's model and write a folder to hand on",
    "compare": "compare two models with paired tests",
    "generate": "do one job about generators: train or erase one, disrupt or purify images",
    "purification": "show what purifiers restore of disrupted images, and at which price",
    "erasing": "show what diffusers forgot of a concept, and what can be recovered",
    "benchmark": "rank the models of a benchmark, and check its numbers",
    "fairness": "show how evenly models err over groups of people",
    "qualities": "show models on the same images in several qualities",
    "audit": "find mistakes in an experiment",
    "report": "write one HTML page about a run, with plots",
}
MODULES = {
    "classify": "classes",
    "erasing": "generation",
    "forge": "run_job",
    "forget": "classes",
    "generate": "generation",
    "import": "import_set",
    "poison": "run_job",
    "purification": "generation",
    "sample": "run_job",
    "unlearn": "run_job",
    "unlearn-classic": "classic.unlearn",
    "unlearned": "leaderboard",
}  # others: their own name
ATTRIBUTES = {"import": "import_set"}  # others: their own name; this one is a word of Python
# The original's programs.
OLD_NAMES = {
    "make_splits": "splits",
    "compare_scores": "compare",
    "unlearn_trueface": "unlearn-classic",
}


REPORTS_LEAKS = {"triton"}  # on stderr, where a process ends without a last collection


class Commands(click.Group):
    """Imports the commands only when one is used, so that help answers at once."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  # click's shape
        """Return the commands in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        """Return a command, imported now."""
        name = OLD_NAMES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            raise click.exceptions.NoSuchCommand(cmd_name, possibilities=COMMANDS, ctx=ctx)
        word = name.replace("-", "_")
        module = importlib.import_module(f"trueface.cli.{MODULES.get(name, name)}")
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
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="To train and test, see python -m trueface --help. Exit codes: 0 done, 1 the job failed,"
    " 2 wrong usage, 3 a problem of the machine or of pretrained weights.",
)
@click.version_option(__version__, prog_name="trueface")
def cli() -> None:
    """Make image sets and splits, poison, unlearn, predict, compare, audit and report, without a queue."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    code = run(sys.argv[1:] if argv is None else argv)
    if not REPORTS_LEAKS & sys.modules.keys():
        gc.freeze()  # to look through all of torch once more takes most of a second
    sys.exit(code)


def run(argv: Sequence[str]) -> int:
    """Run the command line and return the exit code."""
    if not can_work(argv):
        return MACHINE
    return exit_code(lambda: cli.main(args=list(argv), prog_name="trueface", standalone_mode=False))
