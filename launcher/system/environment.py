"""The environment of an attempt, and that of its owner read back from it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from launcher.system.files import read_record
from launcher.system.lazy_regex import compile_lazily
from launcher.system.process_trees import ATTEMPT_VARIABLE

RECORD_VARIABLE = "LAUNCHER_PLACE"  # name → [value that launcher set, value of the owner or null]
SWEEP_VARIABLE = "LAUNCHER_PARAMS"  # the values that a sweep gave a job, as JSON
# no owner sets these
OWN_VARIABLES = "LAUNCHER_CPUS", "LAUNCHER_JOB", "LAUNCHER_VRAM", SWEEP_VARIABLE, ATTEMPT_VARIABLE
HOME_VARIABLE = "LAUNCHER_HOME"
# variables that name the queue of a command
QUEUE_VARIABLES = HOME_VARIABLE, "LAUNCHER_CLAIMS", "LAUNCHER_CONFIG"
# changes by a site's prologue: name → a text, or [words before the owner's value, words after it]
SITE_VARIABLE = "LAUNCHER_SITE"

SNAPSHOT_VARIABLE = (
    "LAUNCHER_SNAPSHOT"  # folder of the snapshot that Python follows, or `SNAPSHOT_OFF`
)
SNAPSHOT_OFF = "off"  # the only value that a user sets
_STARTUP_END = "/launcher/provenance/snapshots/startup"  # last parts of the path of a folder in the PYTHONPATH of jobs
_PYTHON_PATH = "PYTHONPATH"

_VARIABLE = compile_lazily(r"[A-Za-z_][A-Za-z0-9_]*")


def variable_fault(name: str) -> str:
    """Return why a name cannot be that of an environment variable; '' if it can."""
    if _VARIABLE.fullmatch(name):
        return ""
    return f"{name!r} is not a valid variable name; use letters, digits and _, and no digit first"


def attempt_environment(
    owner_environment: Mapping[str, str],
    overrides: Mapping[str, str],
    *,
    unless_set: Mapping[str, str],
) -> dict[str, str]:
    """Return the environment of an attempt.

    Args:
        owner_environment: the environment in which its job was queued.
        overrides: variables that replace the owner's.
        unless_set: variables that the owner's replace.
    """
    variables = {**unless_set, **owner_environment, **overrides}
    variables.pop(RECORD_VARIABLE, None)
    ours = {
        name: [text, owner_environment.get(name)]
        for name, text in variables.items()
        if owner_environment.get(name) != text and name not in OWN_VARIABLES
    }
    return {**variables, RECORD_VARIABLE: json.dumps(ours)}


def queue_variables(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which `launcher` in a job finds the queue that runs the job.

    Args:
        home: the queue folder.
        environ: the environment of the scheduler.
    """
    own = {name: environ[name] for name in QUEUE_VARIABLES if environ.get(name)}
    return {**own, HOME_VARIABLE: str(home)}


def owners_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment as its owner made it; a job's changes of its own variables stay."""
    variables = {name: text for name, text in environ.items() if name != RECORD_VARIABLE}
    if RECORD_VARIABLE not in environ:
        return variables
    for name in OWN_VARIABLES:
        variables.pop(name, None)
    for name, entry in (read_record(environ[RECORD_VARIABLE]) or {}).items():
        match entry:  # an invalid entry is left out
            case [str(ours), None] if variables.get(name) == ours:
                del variables[name]
            case [str(ours), str(before)] if variables.get(name) == ours:
                variables[name] = before
    return without_snapshot(variables)


def without_job(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a process that a job's own command starts, and that does not belong to the job."""
    variables = without_snapshot(environ)
    variables.pop(ATTEMPT_VARIABLE, None)
    return variables


def without_snapshot(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which Python does not follow the snapshot of a job."""
    variables = dict(environ)
    if variables.get(SNAPSHOT_VARIABLE) not in {None, SNAPSHOT_OFF}:
        del variables[SNAPSHOT_VARIABLE]
    if _STARTUP_END in variables.get(_PYTHON_PATH, ""):
        folders = variables.pop(_PYTHON_PATH).split(os.pathsep)
        if others := [folder for folder in folders if not folder.endswith(_STARTUP_END)]:
            variables[_PYTHON_PATH] = os.pathsep.join(others)
    return variables


def with_site_changes(owner: Mapping[str, str], changes: str) -> dict[str, str]:
    """Return an owner's environment with the changes that a site's prologue made.

    Args:
        owner: the environment in which a job was queued.
        changes: changes of `site_changes`, as JSON; entries that cannot be parsed are left out.
    """
    variables = dict(owner)
    for name, change in (read_record(changes) or {}).items():
        match change:
            case str(value):
                variables[name] = value
            case [str(first), str(last)]:
                variables[name] = ":".join(filter(None, (first, owner.get(name, ""), last)))
    return variables
