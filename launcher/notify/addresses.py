"""The addresses of targets: read from where the settings say, and hidden in all that is shown."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from launcher.errors import UsageError
from launcher.notify.settings import NotifyTarget

HIDDEN = "•••"
MOST_BYTES = 1 << 16
_OTHER_USERS_MODE = 0o077
_SHORTEST = 4  # characters of a part of an address that is worth hiding
_DELIMITERS = re.compile(r"[/?&=:,;#\s]+")


def read_address(target: NotifyTarget, environ: Mapping[str, str]) -> str:
    """Return the address of a target that is no command.

    Raises:
        UsageError: it is not there, or others may read it; says what to do.
    """
    if target.url_file is not None:
        return _read_address_file(target.url_file)
    if target.url_env:
        text = environ.get(target.url_env, "").strip()
        if not text:
            raise UsageError(
                f"the variable {target.url_env} is not set in the scheduler's environment. "
                "Set it where the scheduler is started, or use url_file."
            )
        return _check_address(text, f"the variable {target.url_env}")
    return target.url


def _read_address_file(path: Path) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(f"{path} is not a file")
        if status.st_mode & _OTHER_USERS_MODE:
            raise UsageError(f"other users may read {path}. Protect its secret: chmod 600 {path}")
        data = os.read(descriptor, MOST_BYTES)
    finally:
        os.close(descriptor)
    lines = [line.strip() for line in data.decode(errors="replace").splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if len(lines) != 1:
        raise UsageError(f"{path} has {len(lines)} lines. Write only one address into it.")
    return _check_address(lines[0], str(path))


def _check_address(text: str, where: str) -> str:
    """Return an address; what is wrong with it is said without showing it."""
    if "://" not in text or not text.isprintable():
        raise UsageError(f"{where} does not contain an address such as ntfy://my-topic")
    return text


def redact_secrets(text: str, address: str) -> str:
    """Return a text without an address and its parts: user, password, tokens.

    Args:
        text: which may hold some of them.
        address: which is to be kept out, '' for none.
    """
    scheme, _, rest = address.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    parts = {*_DELIMITERS.split(user), *_DELIMITERS.split(rest[len(authority) :])}
    if not (
        at and "." in host
    ):  # a service's token; else a name that a message about a failure needs
        parts |= {*_DELIMITERS.split(host)}
    parts = {part for part in parts if len(part) >= _SHORTEST}
    secrets = {rest, *parts, *map(unquote, parts)} - {"", scheme}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def describe_target(target: NotifyTarget) -> str:
    """Return what may be shown of where a target's messages go."""
    if target.command:
        return f"command {' '.join(target.command)}"
    if target.url_file is not None:
        return f"address in {target.url_file}"
    if target.url_env:
        return f"address in ${target.url_env}"
    return f"{target.url.partition('://')[0]}://{HIDDEN}"
