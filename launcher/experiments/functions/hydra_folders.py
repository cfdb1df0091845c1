"""Warning about Hydra programs that may write into one folder: its default name has whole seconds."""

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from launcher.queue.jobs.context import JOB_FOLDER
from launcher.system.errors import pluralize
from launcher.system.executables import script_of

OWN_FOLDER = f"hydra.run.dir={JOB_FOLDER}"
_CHOSEN = re.compile(r"\+{0,2}hydra\.(?:run|sweep)\.dir=")
_CERTAIN = re.compile(
    r"(?:\+{1,2}[A-Za-z_][\w./@-]*|\+{0,2}hydra[./][\w./@-]*)="
)  # only Hydra has these options
_OVERRIDE = re.compile(r"[A-Za-z_][\w./@-]*=")
_IMPORT = re.compile(r"^\s*(?:import|from)\s+hydra\b", re.MULTILINE)
_MOST_BYTES = 1 << 18  # bytes of a script that are searched for an import


def shared_folder_warning(programs: Iterable[Sequence[str]], folder: str, line: str = "") -> str:
    """Return the warning that jobs may write into one of Hydra's folders; '' if they do not.

    Args:
        programs: Words of the programs that are queued together.
        folder: Folder in which they start.
        line: Command line that queues them with own folders; '' to name only the word.
    """
    number = sum(_uses_default_folder(argv, folder) for argv in programs)
    if number < 2:  # one job has the folder for itself
        return ""
    return (
        f"warning: {pluralize(number, 'job')} can write into one folder: Hydra's outputs/DATE/TIME has whole seconds. "
        f"Give each its own: {line or OWN_FOLDER}"
    )


def _uses_default_folder(argv: Sequence[str], folder: str) -> bool:
    if any(map(_CHOSEN.match, argv)):
        return False
    if any(map(_CERTAIN.match, argv)):
        return True
    script = script_of(argv) if any(map(_OVERRIDE.match, argv)) else ""
    return bool(script) and _imports_hydra(str(Path(folder, script)))


@lru_cache(maxsize=8)
def _imports_hydra(script: str) -> bool:
    try:
        with Path(script).open("rb") as file:
            text = file.read(_MOST_BYTES).decode(errors="replace")
    except (OSError, ValueError):
        return False
    return _IMPORT.search(text) is not None
