"""The prologue of a site in a job script, and the variables that it changes."""

import base64
from collections.abc import Mapping

from launcher.system.files import Json
from launcher.system.remembered_variables import is_likely_secret

BEFORE_SITE_VARIABLE = (
    "LAUNCHER_BEFORE"  # the environment before a site's prologue, as base64 of `env -0`
)
_NO_SITE = {"_", "SHLVL", "PWD", "OLDPWD", "CUDA_VISIBLE_DEVICES"}  # a shell's own; the engine's
_MOST_BEFORE = 1 << 16  # characters: an environment may not have a longer variable than twice that


def prologue_lines(prologue: str) -> list[str]:
    """Return a prologue as lines of bash that record its changes for `site_changes`; empty if there is none."""
    if not prologue.strip():
        return []
    keep = f"[ ${{#{BEFORE_SITE_VARIABLE}}} -lt {_MOST_BEFORE} ] && export {BEFORE_SITE_VARIABLE} || unset {BEFORE_SITE_VARIABLE}"
    return [f'{BEFORE_SITE_VARIABLE}="$(env -0 | base64 -w0)"', keep, *prologue.splitlines()]


def site_changes(environ: Mapping[str, str]) -> dict[str, Json]:
    """Return the changes that a prologue made to an environment; empty if there was no prologue.

    If a folder was added to a search path, as `module load` does, only the added part is returned. It is later added
    to the owner's own path. Secrets are left out.
    """
    try:
        text = base64.b64decode(environ.get(BEFORE_SITE_VARIABLE, ""), validate=True).decode(
            errors="replace"
        )
    except ValueError:
        return {}
    if not text:
        return {}
    before = dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)
    changes: dict[str, Json] = {}
    for name, value in environ.items():
        was = before.get(name, "")
        engines = name.startswith(("LAUNCHER_", "SLURM", "BASH_FUNC_")) or name in _NO_SITE
        if value != was and not engines and not is_likely_secret(name, value):
            changes[name] = _site_change(name, was, value)
    return changes


def _site_change(name: str, old_value: str, value: str) -> Json:
    if not name.endswith("PATH"):
        return value
    if not old_value:
        return [value, ""]
    first, middle, last = f":{value}:".partition(f":{old_value}:")
    return [first.strip(":"), last.strip(":")] if middle else value
