"""The folders in which programs start: each is there, or a job before the program may make it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launcher.draft import absolute_path
from launcher.errors import Error, Problem
from launcher.planning.expanding.step import Step

SETTING = "cwd"


@dataclass(frozen=True, slots=True)
class ProgramFolders:
    """Looks at the folders that entries of programs name."""

    root: Path  # relative ones start here
    exists: Callable[[Path], bool]
    is_folder: Callable[[Path], bool]

    def problem(self, step: Step, *, follows: bool) -> Problem | None:
        """Return why a step cannot start in its folder; None if it may.

        Args:
            step: of any kind.
            follows: whether a job runs before it, which may make the folder.
        """
        named = "" if step.kind.entry else str(step.settings.values.get(SETTING, ""))
        if not named:
            return None
        try:
            path = absolute_path(self.root, named)
        except Error as error:
            return _problem(step, f"{SETTING}: {error}", "give a path from the project, or from /")
        if self.is_folder(path) or (follows and not self.exists(path)):
            return None
        if self.exists(path):
            message = f"{SETTING}: {named!r} is a file, and a program starts in a folder"
            return _problem(step, message, "name the folder in which it lies")
        hint = f"make it with mkdir -p {named}, or name the job that makes it: after: JOB"
        return _problem(step, f"{SETTING}: there is no folder {named!r}", hint)


def _problem(step: Step, message: str, hint: str) -> Problem:
    given = step.settings.given.get(SETTING)
    place = step.place if given is None else given[1].place
    return Problem(code=SETTING, message=message, place=place, hint=hint)
