"""The folders of a run: those of its models and of other outputs, and paths of settings."""

from functools import lru_cache
from pathlib import Path

from launcher.ids import model_folder_name
from launcher.system.errors import UsageError

MADE = "made"  # in a run's folder: the outputs of jobs of the role FOLDER


@lru_cache(maxsize=4096)  # a plan uses the same folders thousands of times
def model_folder(run_folder: Path, model: str) -> Path:
    """Return the folder of a model of a run."""
    return run_folder / model_folder_name(model)


@lru_cache(maxsize=4096)
def absolute_path(folder: Path, text: str) -> Path:
    """Return a path of the settings as an absolute one, without following links.

    Raises:
        UsageError: the path starts with the home folder of a user that does not exist.
    """
    try:
        return folder / Path(text).expanduser()
    except (RuntimeError, ValueError) as error:  # "~nobody/data", "~a\0b"
        raise UsageError(f"{text!r} begins with a home folder that does not exist") from error
