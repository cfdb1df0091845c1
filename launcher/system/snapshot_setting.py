"""The largest file that a snapshot copies: the key `snapshot_file_limit` of config.toml."""

from launcher.system.config_tables import ConfigTable, Fault, register_table
from launcher.system.errors import UsageError
from launcher.system.units import parse_bytes

KEY = "snapshot_file_limit"
DEFAULT_FILE_LIMIT = 10 << 20  # bytes; a larger file holds data


def _read_file_limit(value: object, faults: list[Fault]) -> int:
    """Return the limit in bytes.

    Args:
        value: value as the file has it.
        faults: list to which an error is added if the value is invalid.
    """
    problem = f'expected a size such as "10MiB", got {value!r}'
    if isinstance(value, str):
        try:
            return parse_bytes(value)
        except UsageError as error:
            problem = str(error)
    faults.append(((KEY,), f"{KEY}: {problem}"))
    return DEFAULT_FILE_LIMIT


SNAPSHOT_FILE_LIMIT = register_table(ConfigTable(KEY, _read_file_limit, DEFAULT_FILE_LIMIT))
