"""Which variables of a shell's environment a job may remember: none that looks like a secret, unless it is named."""

import base64
import json
import re
from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path

from launcher.errors import UsageError, meant
from launcher.system.files import Json, read_record
from launcher.system.processes import MARK

# as in the documentation, in any case of letters
SECRETS = (
    "*TOKEN*",
    "*SECRET*",
    "*PASSWORD*",
    "*PASSWD*",
    "*PASSPHRASE*",
    "*CREDENTIAL*",
    "*API_KEY*",
    "*APIKEY*",
    "*ACCESS_KEY*",
    "*PRIVATE_KEY*",
    "*_KEY",
    "*_PAT",
    "*_PASS",
    "*_PWD",
    "*_SK",
    "*_HOOK",
    "*WEBHOOK*",
)
# a password, or a token in the place of a name; of ssh a name is no secret
_URL_WITH_SECRET = re.compile(
    r"(?<!ssh)(?<!sftp)://(?!git@)[^/?#\s]+@|\w://[^/?#\s:]*:(?!\d+/)\S+@"
)
# a place where a secret lies is none itself, and a library's switch is none at all
PLAIN = ("*_FILE", "*_PATH", "*_DIR", "GOOGLE_APPLICATION_CREDENTIALS", "TOKENIZERS_PARALLELISM")


def looks_secret(name: str, value: str) -> bool:
    """Tell whether a variable is not stored in the queue unless a job names it: for its name, or a URL's user in it."""
    if _URL_WITH_SECRET.search(value):
        return True
    upper = name.upper()
    if any(fnmatchcase(upper, pattern) for pattern in PLAIN):
        return False
    return any(fnmatchcase(upper, pattern) for pattern in SECRETS)


def remembered(
    environment: Mapping[str, str], passed: Collection[str] = ()
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return what a job remembers of an environment, and the names of what is left out.

    Args:
        environment: the shell's.
        passed: names that the job asks for, whatever they look like.

    Raises:
        UsageError: one of them is not set.
    """
    for name in unset(environment, passed):
        hint = meant(name, environment) or ". Export it, or leave it out."
        raise UsageError(f"pass_env: {name} is not set in this shell{hint}")
    left_out = tuple(
        name
        for name, value in sorted(environment.items())
        if value and name not in passed and looks_secret(name, value)
    )
    kept = {name: value for name, value in environment.items() if name not in left_out}
    return kept, left_out


def unset(environment: Mapping[str, str], passed: Collection[str]) -> list[str]:
    """Return which of the variables that a job asks for are not set."""
    return [name for name in passed if name not in environment]


def left_out_note(names: Collection[str]) -> str:
    """Return what to tell of variables that were left out; their names only."""
    shown = ", ".join(names)
    one = len(names) == 1
    what = "looks like a secret, so it is" if one else "look like secrets, so they are"
    example = next(iter(names))
    return (
        f"note: {shown} {what} not stored with the job. If the job needs {'it' if one else 'them'}, use "
        f"--pass-env {example}, or pass_env: [{example}] in a task file."
    )


RECORD = "LAUNCHER_PLACE"  # name → [as it was set, as its owner had it or null]
SWEPT = "LAUNCHER_PARAMS"  # the values that a sweep gave a job, as JSON
OURS = ("LAUNCHER_CPUS", "LAUNCHER_JOB", "LAUNCHER_VRAM", SWEPT, MARK)  # no owner sets these


def placed_environment(
    owner: Mapping[str, str], place: Mapping[str, str], *, unless_set: Mapping[str, str]
) -> dict[str, str]:
    """Return the environment of an attempt.

    Args:
        owner: that in which its job was queued.
        place: what holds whatever its owner had there.
        unless_set: what its owner may have set otherwise.
    """
    variables = {**unless_set, **owner, **place}
    variables.pop(RECORD, None)
    ours = {
        name: [text, owner.get(name)]
        for name, text in variables.items()
        if owner.get(name) != text and name not in OURS
    }
    return {**variables, RECORD: json.dumps(ours)}


QUEUE = ("LAUNCHER_HOME", "LAUNCHER_CLAIMS", "LAUNCHER_CONFIG")  # which queue a command works with


def queue_variables(home: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables by which `launcher` in a job finds the queue that runs the job.

    Args:
        home: the queue folder.
        environ: the environment of the scheduler.
    """
    own = {name: environ[name] for name in QUEUE if environ.get(name)}
    return {**own, "LAUNCHER_HOME": str(home)}


def owners_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment as its owner made it; what a job has changed of its own stays."""
    variables = {name: text for name, text in environ.items() if name != RECORD}
    if RECORD not in environ:
        return variables
    for name in OURS:
        variables.pop(name, None)
    for name, entry in (read_record(environ[RECORD]) or {}).items():
        match entry:  # what cannot be understood is left out
            case [str(ours), None] if variables.get(name) == ours:
                del variables[name]
            case [str(ours), str(before)] if variables.get(name) == ours:
                variables[name] = before
    return variables


BEFORE = "LAUNCHER_BEFORE"  # the environment before a site's prologue, as base64 of `env -0`
SITE = "LAUNCHER_SITE"  # what that prologue has changed: name → [before the owner's, after it] or a text
_NO_SITE = {"_", "SHLVL", "PWD", "OLDPWD", "CUDA_VISIBLE_DEVICES"}  # a shell's own; the engine's
_MOST_BEFORE = 1 << 16  # characters: an environment may not have a longer variable than twice that


def prologue_lines(prologue: str) -> list[str]:
    """Return a prologue as lines of bash, after which `site_changes` knows what it has changed; none for none."""
    if not prologue.strip():
        return []
    keep = f"[ ${{#{BEFORE}}} -lt {_MOST_BEFORE} ] && export {BEFORE} || unset {BEFORE}"
    return [f'{BEFORE}="$(env -0 | base64 -w0)"', keep, *prologue.splitlines()]


def site_changes(environ: Mapping[str, str]) -> dict[str, Json]:
    """Return what a prologue has changed of an environment, nothing where there was none.

    Of a search path, such as `module load` puts folders before, only what was added counts; it is added to the
    owner's own. Secrets are left out.
    """
    try:
        text = base64.b64decode(environ.get(BEFORE, ""), validate=True).decode(errors="replace")
    except ValueError:
        return {}
    if not text:
        return {}
    before = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    changes: dict[str, Json] = {}
    for name, value in environ.items():
        was = before.get(name, "")
        engines = name.startswith(("LAUNCHER_", "SLURM", "BASH_FUNC_")) or name in _NO_SITE
        if value != was and not engines and not looks_secret(name, value):
            changes[name] = _change(name, was, value)
    return changes


def _change(name: str, was: str, value: str) -> Json:
    if not name.endswith("PATH"):
        return value
    if not was:
        return [value, ""]
    first, middle, last = f":{value}:".partition(f":{was}:")
    return [first.strip(":"), last.strip(":")] if middle else value


def with_site(owner: Mapping[str, str], changes: str) -> dict[str, str]:
    """Return an owner's environment with what a site's prologue has changed.

    Args:
        owner: that in which a job was queued.
        changes: of `site_changes`, as JSON; what cannot be understood is left out.
    """
    variables = dict(owner)
    for name, change in (read_record(changes) or {}).items():
        match change:
            case str(value):
                variables[name] = value
            case [str(first), str(last)]:
                variables[name] = ":".join(filter(None, (first, owner.get(name, ""), last)))
    return variables
