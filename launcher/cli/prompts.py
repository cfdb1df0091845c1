"""What commands that change jobs share: print what changes, ask for confirmation, name what is left."""

import sys
from collections.abc import Callable, Collection, Sequence

import click

from launcher.cli.complete import JOBS
from launcher.errors import UsageError, counted
from launcher.screens.format import columns, harmless, named, tabbed
from launcher.states import State
from launcher.store.rows import JobRow

NOTHING_CHANGED = "nothing was changed"
LEFT = 130  # the exit code of whoever refuses, or leaves
dry_run_option = click.option(
    "-n", "--dry-run", is_flag=True, help="Print what would change, and change nothing."
)
yes_option = click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
many = click.argument("patterns", nargs=-1, required=True, metavar="PATTERN…", shell_complete=JOBS)


def in_states(jobs: Sequence[JobRow], states: Collection[State], what: str) -> list[JobRow]:
    """Return the jobs that are in one of `states`; name the others on stderr.

    Args:
        jobs: what was chosen.
        states: where the change is possible.
        what: the change, as in "nothing to hold".

    Raises:
        UsageError: none of them is.
    """
    wrong = [job for job in jobs if job.state not in states]
    kept = [job for job in jobs if job.state in states]
    excluded = [
        f"{state}: {named(there)}"
        for state in State
        if (there := [job for job in wrong if job.state is state])
    ]
    if not kept:
        *others, last = [str(state) for state in State if state in states]
        could = f"{', '.join(others)} or {last}" if others else last
        raise UsageError(
            f"nothing to {what}: {'; '.join(excluded) or 'no job is chosen'}; "
            f"this is for jobs that are {could}: `launcher status` lists them"
        )
    for line in excluded:
        click.echo(
            f"left as it is, {line}" if len(wrong) == 1 else f"left as they are, {line}", err=True
        )
    return kept


def say(jobs: Sequence[JobRow], what: Callable[[JobRow], str], *, err: bool = False) -> None:
    """Print a line for each job: number, name, and what happens to it."""
    rows = [(str(job.id), harmless(job.name), harmless(what(job))) for job in jobs]
    if not rows:
        return
    if sys.stdout.isatty():
        click.echo("\n".join(columns(rows, right=frozenset({0}))), err=err)
    else:
        click.echo(tabbed(rows), err=err)


def rehearse(jobs: Sequence[JobRow], what: Callable[[JobRow], str]) -> None:
    """Print for each job what would happen to it, and that nothing did.

    Args:
        jobs: what would be changed.
        what: what each would do or suffer, as it follows "would": "be cancelled".
    """
    say(jobs, lambda job: f"would {what(job)}")
    click.echo(f"{NOTHING_CHANGED} (dry run)", err=True)


def ask(jobs: Sequence[JobRow], question: str, *, needed: bool) -> None:
    """Show which jobs are about to be changed, each with its state, and ask whether they should.

    Args:
        jobs: what is about to be changed.
        question: ends with a question mark.
        needed: without a terminal to ask, raise an error; otherwise go on.

    Raises:
        UsageError: there is no terminal, and an answer is needed.
        click.exceptions.Exit: the answer is no, or Ctrl-C; prints that nothing was changed.
    """
    if not sys.stdin.isatty():
        if needed:
            raise UsageError(
                f"{question} Say --yes where nobody can be asked, --dry-run to see what it would do"
            )
        return
    say(jobs, lambda job: str(job.state), err=True)
    try:
        agreed = click.confirm(question, err=True)
    except click.Abort:
        click.echo(err=True)
        agreed = False
    if not agreed:
        click.echo(NOTHING_CHANGED, err=True)
        raise click.exceptions.Exit(LEFT)


def say_missed(jobs: Sequence[JobRow], touched: Collection[int]) -> None:
    """Name the jobs that changed their state before it could be done."""
    missed = [job for job in jobs if job.id not in touched]
    if missed:
        click.echo(f"{counted(len(missed), 'job')} changed meanwhile: {named(missed)}", err=True)
