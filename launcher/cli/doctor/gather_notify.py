"""Gathers whether the targets of messages can be used; nothing is sent."""

import os
import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from launcher.cli.doctor.facts import NotifyTarget
from launcher.errors import UsageError
from launcher.notify.sending import send_now
from launcher.notify.settings import Target, configured_notify
from launcher.notify.state import read_notices
from launcher.system.config import configuration_file
from launcher.system.paths import Home

LOOK_S = 15.0  # to import apprise on a busy machine
_OTHERS = 0o077


def see_targets(environ: Mapping[str, str]) -> tuple[NotifyTarget, ...]:
    """Return what can be told of each target; of a file with faults nothing, as those are told elsewhere."""
    try:
        settings = configured_notify(environ)
        exposed = settings is not None and _is_exposed(configuration_file(environ))
    except UsageError:
        return ()
    if settings is None or not settings.targets:
        return ()
    with ThreadPoolExecutor(max_workers=4) as threads:
        problems = threads.map(lambda target: _problem(target, environ), settings.targets)
        return tuple(
            NotifyTarget(name=target.name, problem=problem, exposed=exposed and bool(target.url))
            for target, problem in zip(settings.targets, problems, strict=True)
        )


def see_unsent(home: Home | None) -> tuple[str, ...]:
    """Return the messages that were given up, and why."""
    if home is None:
        return ()
    try:
        given_up = read_notices(home).given_up
    except OSError:
        return ()
    return tuple(f"{each.title!r} to {each.target} ({each.why})" for each in given_up)


def _problem(target: Target, environ: Mapping[str, str]) -> str:
    """Return why a target cannot be used, '' where it can."""
    if target.command:
        program = os.path.expanduser(target.command[0])  # noqa: PTH111  # of a word of a command
        path = shutil.which(program, path=environ.get("PATH"))
        return "" if path else f"{target.command[0]} is not in PATH, or is no program"
    answer = send_now(replace(target, timeout_s=LOOK_S), None, environ)
    return "" if answer.sent else answer.text


def _is_exposed(file: Path) -> bool:
    try:
        return bool(file.stat().st_mode & _OTHERS)
    except OSError:
        return False
