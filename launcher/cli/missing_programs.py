"""Warnings of programs, and targets of messages, that are not there: when jobs are queued instead of when they fail."""

import os
import shutil
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.errors import UsageError, known_words, nearest
from launcher.job_options.notifications import RunNotify
from launcher.notify.settings import configured_notify
from launcher.screens.format import harmless

if TYPE_CHECKING:  # planning imports pydantic, and `launcher add` plans nothing
    from launcher.planning.plan import Plan


def missing_program(program: str, folder: Path, environment: Mapping[str, str]) -> str:
    """Return why a program cannot be started as it is typed, from its folder; '' if it can.

    Args:
        program: the first word of a command line.
        folder: in which the program is started.
        environment: with its PATH.
    """
    if "/" not in program:
        executable = shutil.which(program, path=environment.get("PATH", os.defpath))
        return "" if executable else f"no program {program!r} is on PATH"
    path = folder / program
    try:
        if not path.exists():
            return f"there is no program {program!r}"
        if path.is_dir() or not os.access(path, os.X_OK):
            return f"{program!r} cannot be executed; chmod +x makes a script a program"
    except (OSError, ValueError):  # a name that no file can have
        return f"there is no program {program!r}"
    return ""


def warn_of_missing(plans: "Collection[Plan]") -> None:
    """Tell which programs of task files, and targets of their messages, are not there."""
    _warn_of_programs(plans)
    for plan in plans:
        if plan.notify.to is not None or plan.notify.events:
            _warn_of_targets(plan.name, plan.notify, os.environ)


def _warn_of_targets(run: str, notify: RunNotify, environ: Mapping[str, str]) -> None:
    """Tell that messages which a run asks for reach nobody, or not all whom it names."""
    try:
        settings = configured_notify(environ)
    except UsageError as error:
        click.echo(f"warning: {harmless(str(error))}; no message of {run} is sent", err=True)
        return
    names = [] if settings is None else [target.name for target in settings.targets]
    for name in notify.to or ():
        if name not in names:
            close = nearest(name, names)
            hint = f"did you mean {close!r}?" if close else known_words(name, names)
            text = f"warning: notify: config.toml has no target {name!r}; {hint}"
            click.echo(harmless(text), err=True)
    if not names and notify.to is None:
        text = f"warning: notify: no message of {run} is sent: config.toml has no table [notify]"
        click.echo(harmless(f"{text}; see docs/notify.md"), err=True)


def _warn_of_programs(plans: "Iterable[Plan]") -> None:
    """Tell which programs of task files cannot be found; each once, for an earlier job may make it."""
    first: dict[tuple[str, str, str], str] = {}  # program, folder and PATH → the first such job
    here = os.environ.get("PATH", os.defpath)
    for made in plans:
        for job in made.jobs:
            if not job.entry:
                folder, variables = job.settings.get("cwd"), job.settings.get("env")
                path = variables.get("PATH", here) if isinstance(variables, dict) else here
                first.setdefault((job.argv[0], str(folder or ""), str(path)), job.name)
    for (program, folder, path), name in first.items():
        place = Path.cwd() / Path(folder).expanduser()
        if reason := missing_program(program, place, {"PATH": path}):
            text = f"warning: {reason}; {name} fails unless it is there when that starts"
            click.echo(harmless(text), err=True)
