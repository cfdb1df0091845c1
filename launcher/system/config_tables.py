"""The keys of config.toml and their readers: one `ConfigTable` for each key that a module reads."""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from launcher.system.errors import UsageError, suggestion_or_known_names

Part = TypeVar("Part")
Fault = tuple[tuple[str, ...], str]  # key, error


class ConfigTable(NamedTuple, Generic[Part]):
    """A key of the file, mostly of a table."""

    key: str
    # function that reads the value as written, and adds faults
    read: Callable[[Any, list[Fault]], Part]
    default: Part  # if the file does not have the key

    def read_from(self, values: Mapping[str, Any], faults: list[Fault]) -> Part:
        """Return the value of a file.

        Args:
            values: the values of all keys.
            faults: list to which all errors are added.
        """
        return self.read(values[self.key], faults) if self.key in values else self.default


CONFIG_TABLES: dict[str, ConfigTable[Any]] = {}  # key → its table, of the modules that are imported


def register_table(table: ConfigTable[Part]) -> ConfigTable[Part]:
    """Register the table of a key."""
    CONFIG_TABLES[table.key] = table
    return table


def read_keys(
    place: tuple[str, ...],
    table: Mapping[str, Any],
    keys: Mapping[str, tuple[str, Callable[[Any], Any]]],
    faults: list[Fault],
    hint: str = "",
) -> dict[str, Any]:
    """Return the values of a table, by the names of their keys with underscores.

    Args:
        place: the table's.
        table: table as the file has it.
        keys: key → expected value in words (empty if its reader reports that itself), and its reader.
        faults: list to which all errors are added.
        hint: message about an unknown key, which replaces its `{}`.
    """
    values: dict[str, Any] = {}
    for key, value in table.items():
        written, where = key.replace("-", "_"), (*place, key)
        if written not in keys:
            faults.append(
                (
                    where,
                    unknown_name_text(key, f"a key of [{'.'.join(place)}]{hint.format(key)}", keys),
                )
            )
            continue
        expected, read = keys[written]
        try:
            values[written] = read(value)
        except (UsageError, TypeError, ValueError) as error:
            message = f"expected {expected}" if expected else str(error)
            faults.append((where, f"{'.'.join(where)}: {message}"))
    return values


def absolute_path(subject: str, text: str) -> Path:
    """Return a path that may begin with `~` as an absolute one.

    Raises:
        UsageError: it is relative, or begins with a home folder that does not exist.
    """
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:  # "~nobody/queue"
        raise UsageError(
            f"{subject}: {text!r} begins with a home folder that does not exist. Write the whole path."
        ) from error
    if not path.is_absolute():
        raise UsageError(
            f"{subject} must be an absolute path, not {text!r}. Write a path that begins with / or ~."
        )
    return path


def unknown_name_text(name: str, subject: str, names: Collection[str]) -> str:
    """Return the error text for a name that is unknown there."""
    return f"{name!r} is not {subject}{suggestion_or_known_names(name, sorted(names))}"
