"""The size limit of logs: the key `log_limit` of config.toml."""

from launcher.system.config_tables import ConfigTable, Fault, register_table
from launcher.system.errors import UsageError
from launcher.system.units import format_bytes, parse_bytes

KEY = "log_limit"
DEFAULT_LIMIT = 1 << 30  # bytes; logs of trainings have megabytes
LEAST_LIMIT = 1 << 20  # bytes; curves are read from the last MiB
NO_LIMIT = 0  # stored word
_NONE = "none"


def read_log_limit(value: object, faults: list[Fault]) -> int:
    """Return the limit in bytes, `NO_LIMIT` for none.

    Args:
        value: value as the file has it.
        faults: list to which an error is added if the value is invalid or too small.
    """
    try:
        return _parse_limit(value)
    except UsageError as error:
        faults.append(((KEY,), f"{KEY}: {error}"))
        return DEFAULT_LIMIT


def _parse_limit(value: object) -> int:
    if value == _NONE:
        return NO_LIMIT
    if not isinstance(value, str):
        raise UsageError(f'expected a size such as "100MiB", or "{_NONE}", got {value!r}')
    limit = parse_bytes(value)
    if limit < LEAST_LIMIT:
        raise UsageError(
            f'expected at least {format_bytes(LEAST_LIMIT)}, or "{_NONE}", got {value!r}'
        )
    return limit


LOG_LIMIT = register_table(ConfigTable(KEY, read_log_limit, DEFAULT_LIMIT))
