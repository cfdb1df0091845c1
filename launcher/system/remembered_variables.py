"""Which variables of a shell's environment a job may remember: none that looks like a secret, unless it is named."""

import re
from collections.abc import Collection, Mapping
from fnmatch import translate
from functools import cache

from launcher.system.errors import UsageError, meant

# as in the documentation, in any case of letters
SECRET_PATTERNS = (
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
    "*_AUTH",
    "*_CRED",
    "*_CREDS",
    "*_LICENSE",
    "*CONN_STR*",
    "*CONNECTION_STRING*",
    "*COOKIE*",
    "*JWT*",
)
# a password, or a token instead of a user name; with ssh, a user name is not a secret
_URL_WITH_SECRET = r"(?<!ssh)(?<!sftp)://(?!git@)[^/?#\s]+@|\w://[^/?#\s:]*:(?!\d+/)\S+@"
# tokens by the prefixes of their services, a signed JSON token, and a connection string with a password
_SECRET_VALUE = (
    r"\b(?i:hf_|sk-|gh[pousr]_|github_pat_|glpat-|xox[abprs]-|AKIA)[\w-]{16,}|\beyJ[\w-]{8,}\.[\w-]{8,}"
    r"|(?i:(?:^|;)\s*(?:password|pwd|accountkey|sharedaccesskey)\s*=\s*[^;\s])"
)
# a place where a secret lies is none itself, and a library's switch is none at all
PUBLIC_PATTERNS = (
    "*_FILE",
    "*_PATH",
    "*_DIR",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "TOKENIZERS_PARALLELISM",
)


def is_likely_secret(name: str, value: str) -> bool:
    """Return whether a variable looks like a secret, by its name or its value; then it is not stored."""
    if is_secret_value(value):
        return True
    secret, public, _ = _patterns()
    upper = name.upper()
    return secret.match(upper) is not None and public.match(upper) is None


def is_secret_value(value: str) -> bool:
    """Return whether a value looks like a secret: a URL with a password, or the token of a service."""
    return _patterns()[2].search(value) is not None


@cache  # compiled at the first use: screens import this module without it
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str], re.Pattern[str]]:
    """Return the patterns of secret names, of public names, and of secrets in values."""
    secret, public = (
        re.compile("|".join(map(translate, patterns)))
        for patterns in (SECRET_PATTERNS, PUBLIC_PATTERNS)
    )
    return secret, public, re.compile(f"{_URL_WITH_SECRET}|{_SECRET_VALUE}")


def filter_environment(
    environment: Mapping[str, str], pass_env: Collection[str] = ()
) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables of an environment that a job stores, and the names of those left out.

    Args:
        environment: the shell's.
        pass_env: names that the job asks for, whatever they look like.

    Raises:
        UsageError: one of them is not set.
    """
    for name in find_unset_variables(environment, pass_env):
        hint = meant(name, environment) or ". Export it, or leave it out."
        raise UsageError(f"pass_env: {name} is not set in this shell{hint}")
    left_out = tuple(
        name
        for name, value in sorted(environment.items())
        if value and name not in pass_env and is_likely_secret(name, value)
    )
    kept = {name: value for name, value in environment.items() if name not in left_out}
    return kept, left_out


def find_unset_variables(environment: Mapping[str, str], pass_env: Collection[str]) -> list[str]:
    """Return which of the variables that a job asks for are not set."""
    return [name for name in pass_env if name not in environment]


def omitted_variables_note(names: Collection[str]) -> str:
    """Return a note about the variables that were left out; it contains only their names."""
    shown = ", ".join(names)
    one = len(names) == 1
    what = "looks like a secret, so it is" if one else "look like secrets, so they are"
    example = next(iter(names))
    return (
        f"note: {shown} {what} not stored with the job. If the job needs {'it' if one else 'them'}, use "
        f"--pass-env {example}, or pass_env: [{example}] in a task file."
    )
