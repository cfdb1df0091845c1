"""The addresses of targets: read from the configured source and redacted in all output."""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote

from launcher.frontends.notify.settings import NotifyTarget
from launcher.system.errors import UsageError
from launcher.system.lazy_regex import compile_lazily

HIDDEN = "•••"
MOST_BYTES = 1 << 16
_OTHER_USERS_MODE = 0o077
_SHORTEST = 4  # characters of a part of an address that is redacted
_DELIMITERS = compile_lazily(r"[/?&=:,;#\s]+")


def read_address(target: NotifyTarget, environ: Mapping[str, str]) -> str:
    """Return the address of a target that is not a command.

    Raises:
        UsageError: the address is missing, or other users can read it. The message contains a remedy.
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


def _check_address(text: str, place: str) -> str:
    """Return a valid address; errors do not contain the address."""
    if "://" not in text or not text.isprintable():
        raise UsageError(f"{place} does not contain an address such as ntfy://my-topic")
    return text


def redact_secrets(text: str, address: str) -> str:
    """Return a text without an address and its parts: user, password, tokens.

    Args:
        text: Text that may contain them.
        address: Address to remove, '' for none.
    """
    scheme, _, rest = address.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    parts = {*_DELIMITERS.split(user), *_DELIMITERS.split(rest[len(authority) :])}
    if not (
        at and "." in host
    ):  # a token of a service; other names are needed in messages about failures
        parts |= {*_DELIMITERS.split(host)}
    parts = {part for part in parts if len(part) >= _SHORTEST}
    secrets = {rest, *parts, *map(unquote, parts)} - {"", scheme}
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def describe_target(target: NotifyTarget) -> str:
    """Return the description of a target without secrets."""
    if target.command:
        return f"command {' '.join(target.command)}"
    if target.url_file is not None:
        return f"address in {target.url_file}"
    if target.url_env:
        return f"address in ${target.url_env}"
    return f"{target.url.partition('://')[0]}://{HIDDEN}"
