"""The size limit of logs: the key `log_limit` of config.toml."""

from collections.abc import Mapping

from launcher.errors import UsageError
from launcher.system.config import read_configuration
from launcher.units import format_bytes, parse_bytes

KEY = "log_limit"
DEFAULT_LIMIT = 1 << 30  # bytes; logs of trainings have megabytes
LEAST_LIMIT = 1 << 20  # bytes; curves are read from the last MiB
NO_LIMIT = 0  # stored word
_NONE = "none"


def read_log_limit(value: object) -> int:
    """Return the limit in bytes, `NO_LIMIT` for none.

    Raises:
        UsageError: the value is invalid or too small.
    """
    if value == _NONE:
        return NO_LIMIT
    if not isinstance(value, str):
        raise UsageError(f'{KEY}: expected a size such as "100MiB", or "{_NONE}", got {value!r}')
    try:
        limit = parse_bytes(value)
    except UsageError as error:
        raise UsageError(f"{KEY}: {error}") from error
    if limit < LEAST_LIMIT:
        raise UsageError(
            f'{KEY}: expected at least {format_bytes(LEAST_LIMIT)}, or "{_NONE}", got {value!r}'
        )
    return limit


def configured_log_limit(environ: Mapping[str, str]) -> int:
    """Return the limit of a user's file in bytes, otherwise the default.

    Raises:
        UsageError: the file has a mistake.
    """
    limit = read_configuration(environ).log_limit
    return DEFAULT_LIMIT if limit is None else limit
