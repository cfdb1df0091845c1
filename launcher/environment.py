"""Which variables of a shell's environment a job may remember: none that looks like a secret, unless it is named."""

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase

from launcher.errors import UsageError, nearest

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
)
# a place where a secret lies is none itself, and a library's switch is none at all
PLAIN = ("*_FILE", "*_PATH", "*_DIR", "GOOGLE_APPLICATION_CREDENTIALS", "TOKENIZERS_PARALLELISM")


def looks_secret(name: str) -> bool:
    """Tell whether a variable of this name is kept out of the queue unless a job names it."""
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
        close = nearest(name, environment)
        hint = f"did you mean {close}?" if close else "export it, or leave it out"
        raise UsageError(f"pass_env: {name} is not set in this shell; {hint}")
    left_out = tuple(
        name
        for name, value in sorted(environment.items())
        if value and name not in passed and looks_secret(name)
    )
    kept = {name: value for name, value in environment.items() if name not in left_out}
    return kept, left_out


def unset(environment: Mapping[str, str], passed: Collection[str]) -> list[str]:
    """Return which of the variables that a job asks for are not set."""
    return [name for name in passed if name not in environment]


def left_out_note(names: Collection[str]) -> str:
    """Return what to tell of variables that were left out; their names only."""
    shown = ", ".join(names)
    what = "looks like a secret and is" if len(names) == 1 else "look like secrets and are"
    example = next(iter(names))
    return (
        f"note: {shown} {what} not stored with the job; where a job needs it: "
        f"--pass-env {example}, or pass_env: [{example}] in a task file"
    )
