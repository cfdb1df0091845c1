"""`launcher edit`: change what a job asks for, and the words of a program, in the owner's own editor.

It is started on a file of ours and waited for; what was written there is read back.
"""

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.cli.complete import JOBS
from launcher.cli.jobs import (
    HELP,
    LEFT,
    NOTHING_CHANGED,
    dry_run_option,
    only_job,
    rehearse,
    say,
)
from launcher.errors import MachineError, Problem, TaskFileError, UsageError, counted
from launcher.screens.format import harmless
from launcher.states import OPEN, State
from launcher.store.client import check_still_there, lift_stop, open_queue, say_if_stopped, set_off
from launcher.store.queue import Store
from launcher.store.rows import JobRow
from launcher.system.daemon_control import wake
from launcher.system.paths import Home

if TYPE_CHECKING:
    from launcher.planning.revision import Revision


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


@click.command(epilog=f"JOB: {HELP}")
@click.argument("job", shell_complete=JOBS)
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change this, without an editor: an option (resources.vram=16GiB), or of a program argv, cwd, env; repeatable.",
)
@click.option("--force", is_flag=True, help="Also change a job that is done, and run it again.")
@dry_run_option
def command(job: str, sets: tuple[str, ...], force: bool, dry_run: bool) -> None:
    """Change what JOB asks for in your editor ($VISUAL, $EDITOR), as YAML; of a program also its words.

    What decides a laboratory's results stands in its task file: change it there, and run it.

    A waiting job is changed where it stands in the queue. One that has failed, or was cancelled or
    skipped, is queued again, as by `launcher retry --set`. Nothing changes where you save nothing, an
    empty file, or nothing else than before, or where the editor ends with an error.

    \b
    Examples:
      launcher edit 12
      launcher edit train/gan2:pre --set resources.vram=16GiB
    """
    with open_queue() as (home, store):
        row = only_job(store, job)
        _refuse(row, force=force)
        revision = _by_sets(home, store, row, sets) if sets else _by_editor(home, store, row)
        if revision is None:
            click.echo(f"{NOTHING_CHANGED}: job {row.id} is as it was", err=True)
            return
        if dry_run:
            again = "" if row.state in OPEN else "be queued again, "
            rehearse([row], lambda _: f"{again}change: {revision.summary}")
            return
        check_still_there(home, store)
        _write(home, store, revision)


def _refuse(row: JobRow, *, force: bool) -> None:
    """Refuse a job that runs, or is done.

    Raises:
        UsageError: says what to do instead.
    """
    if row.state is State.RUNNING:
        raise UsageError(
            f"job {row.id} runs, and a program cannot be changed meanwhile: `launcher cancel {row.id}`, and when "
            f"it has ended, `launcher edit {row.id}` changes it and queues it again"
        )
    if row.state is State.DONE and not force:
        raise UsageError(f"job {row.id} is done; --force changes it and runs it again")


def _by_sets(home: Home, store: Store, row: JobRow, sets: Sequence[str]) -> "Revision | None":
    # kinds and pydantic, which no other verb of this room needs
    from launcher.functions.plan_checks import check_revisions
    from launcher.planning.revision import revise_all

    revisions = revise_all(store, [row], sets, time.time())
    check_revisions(home, store, revisions.values())
    return revisions.get(row.id)


def _by_editor(home: Home, store: Store, row: JobRow) -> "Revision | None":
    """Return what the owner wants of a job; None: as it is."""
    from launcher.functions.plan_checks import check_revisions
    from launcher.planning.revision import form_of, own_values, read_form, revise

    text = original = form_of(row, _title(row))
    before = own_values(row, time.time())
    file = EditedFile(f"job-{row.id}.yaml")
    keep = False
    try:
        while True:
            text = file.edit(text)
            if text == original or not text.strip():
                return None
            try:
                revision = revise(store, row, before, read_form(row, text, time.time()))
                check_revisions(home, store, [revision] if revision else [])
            except UsageError as error:
                _explain(error)
                keep = True  # what was written is worth more than the folder
                if not _again():
                    click.echo(
                        f"{NOTHING_CHANGED}; what you wrote is kept in {file.path}", err=True
                    )
                    raise click.exceptions.Exit(_code(error)) from error
                keep = False
            else:
                return revision
    except EditorFailed as error:
        raise EditorFailed(f"{error}: {NOTHING_CHANGED}") from error
    finally:
        if not keep:
            file.remove()


def _title(row: JobRow) -> str:
    what = "" if row.state in OPEN else " When it is changed, it is queued again."
    return f"{harmless(row.name)} of run {harmless(row.run)}, job {row.id}: {row.state}.{what}"


def _explain(error: UsageError) -> None:
    """Say what is wrong with what was written."""
    if not isinstance(error, TaskFileError):
        click.echo(f"error: {harmless(str(error))}", err=True)
        return
    problems: Sequence[Problem] = error.problems
    click.echo("\n\n".join(map(str, problems)), err=True)
    click.echo(f"\n{counted(len(problems), 'error')}", err=True)


def _again() -> bool:
    """Ask whether the owner mends it; where nobody can be asked, no."""
    if not sys.stdin.isatty():
        return False
    try:
        return click.confirm("edit again?", default=True, err=True)
    except click.Abort:
        click.echo(err=True)
        return False


def _code(error: UsageError) -> int:
    return LEFT if sys.stdin.isatty() else error.exit_code


def _write(home: Home, store: Store, revision: "Revision") -> None:
    row = revision.row
    if row.state in OPEN:
        store.steering.change([revision.stored()], time.time())
        wake(home)
        say([row], lambda _: f"changed: {revision.summary}")
        say_if_stopped(home)
        return
    queued = store.steering.retry([row.id], time.time(), [revision.stored()])
    lift_stop(home)
    set_off(home)
    say(
        store.read.jobs_by_id(queued),
        lambda job: (
            f"queued again, changed: {revision.summary}"
            if job.id == row.id
            else "queued again with it"
        ),
    )
