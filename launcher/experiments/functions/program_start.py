"""How programs of `launcher add` start: their folder, their variables and their tags, checked before anything is queued."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from launcher.queue.jobs.context import FOLDER_PLACEHOLDERS
from launcher.queue.store.tags import TAG_RULE, is_tag
from launcher.system.environment import OWN_VARIABLES, variable_fault
from launcher.system.errors import MOST_LISTED, UsageError
from launcher.system.remembered_variables import is_likely_secret
from launcher.system.secret_arguments import secret_options
from launcher.system.text import sanitize_terminal, shell_line

_EXAMPLE = "such as --env OMP_NUM_THREADS=4"
_MOST_CHECKED = 1000  # command lines; the lines of one file are alike
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")


def read_variables(words: Sequence[str]) -> dict[str, str]:
    """Return the variables of `--env KEY=VALUE`.

    Raises:
        UsageError: an equals sign or a valid name is missing, a variable is given twice, or every job has its own.
    """
    variables: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--env {word!r}: missing =. Write KEY=VALUE, {_EXAMPLE}")
        if fault := variable_fault(name) if name else "missing name before =":
            raise UsageError(f"--env {word!r}: {fault}. Write KEY=VALUE, {_EXAMPLE}")
        if "\0" in text:
            raise UsageError(f"--env {name}: the value contains a null character. Remove it.")
        if name in (*OWN_VARIABLES, *_GPU_VARIABLES):
            hint = "Reserve GPUs with --gpus" if name in _GPU_VARIABLES else "Use another name"
            raise UsageError(f"--env {name}: launcher sets this variable for each job. {hint}.")
        if name in variables:
            raise UsageError(f"--env {name} is given twice. Remove one of them.")
        variables[name] = text
    return variables


def stored_secrets_warning(
    variables: Iterable[Mapping[str, str]], commands: Iterable[Sequence[str]]
) -> str:
    """Return the warning that variables or arguments that look like secrets are stored; '' if there are none.

    Args:
        variables: Variables of the programs, as given with --env or in a task file.
        commands: Command lines of the programs.
    """
    given = {name: text for each in variables for name, text in each.items()}
    names = {f"env {name}": None for name, text in given.items() if is_likely_secret(name, text)}
    checked = islice(commands, _MOST_CHECKED)
    options = (option for argv in checked for option in secret_options(argv))
    names |= {option or "an argument": None for option in options}
    if not names:
        return ""
    shown = [*names][:MOST_LISTED]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    what = "looks like a secret" if len(names) == 1 else "look like secrets"
    return sanitize_terminal(
        f"warning: {', '.join(shown)}{more} {what}. The queue stores the value, and other users can see arguments "
        "in ps. Let the program read it from a file that only you can read: launcher help configuration"
    )


def check_folders(settings: Iterable[Mapping[str, Any]]) -> None:
    """Refuse a folder of `--cwd` in which no program can start.

    Raises:
        UsageError: it does not exist, or is a file.
    """
    for folder in dict.fromkeys(each.get("cwd") for each in settings):
        if folder is None or folder.startswith(FOLDER_PLACEHOLDERS):  # made when an attempt starts
            continue
        if not folder:
            raise UsageError("--cwd is empty. Leave it out to start in the current folder.")
        try:
            path = Path(folder).expanduser()
        except RuntimeError:  # "~nobody": no such user
            path = Path(folder)
        if path.is_dir():
            continue
        if path.exists():
            raise UsageError(f"--cwd {folder} is a file. Name a folder.")
        raise UsageError(
            f"--cwd {folder} does not exist. To create it: mkdir -p {shell_line([str(path)])}"
        )


def check_tags(tags: Iterable[str]) -> None:
    """Refuse invalid tags.

    Raises:
        UsageError: a word cannot be a tag.
    """
    for tag in tags:
        if not is_tag(tag):
            raise UsageError(f"--tag {tag!r} is not a valid tag ({TAG_RULE}). Write another tag.")
