"""A user's own defaults: the file config.toml, below the command line and the environment.

    home = "~/queue"              # as LAUNCHER_HOME
    on = ["slurm", "local"]       # backends, in this order, for jobs that name none

    log_limit = "100MiB"          # size of a job's log, or "none"

    [subsets]                     # words for data IDs, added to a plugin package's own
    wild = ["InTheWild", "SDXL-*"]

    [modifiers]
    mail = "Mail"

    [sharing]                     # the GPUs, with others: see launcher/system/gpu_sharing.py
    reserve = "2GiB"

    [backends.slurm]              # engines beside this machine: see launcher/queue/backends/settings.py
    cpus = 8

    [notify.mail]                 # targets of messages: see launcher/frontends/notify/settings.py
    url_file = "~/.config/launcher/mail.url"

    [run]                         # a verb's options, named as on the command line
    detach = true

Settings on which an experiment depends belong to its task file; this file contains a user's preferences.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeVar

from launcher.system.config_tables import (
    CONFIG_TABLES,
    ConfigTable,
    Fault,
    absolute_path,
    unknown_name_text,
)
from launcher.system.errors import UsageError
from launcher.system.files import file_stamp

MOST_BYTES = 2**20  # bytes; a page of defaults has a thousandth of that
WORDS = ("subsets", "modifiers")
# key → the module that reads its value with a `ConfigTable` of this key; every command checks it
_CHECKED_TABLES = {
    "log_limit": "launcher.system.log_setting",
    "snapshot_file_limit": "launcher.system.snapshot_setting",
    "sharing": "launcher.system.gpu_sharing",
}
# keys that only the commands read which use them: `launcher.queue.backends.settings`, `launcher.frontends.notify.settings`
_OTHER_TABLES = ("on", "backends", "notify")
KEYS = ("home", *WORDS, *_CHECKED_TABLES, *_OTHER_TABLES)

# Texts, not compiled: every command imports this, and users without a file do not need them.
_BARE = r"[A-Za-z0-9_-]+|\"[^\"\n]*\"|'[^'\n]*'"
_DOTTED = rf"(?:{_BARE})(?:[ \t]*\.[ \t]*(?:{_BARE}))*"
_HEADER = rf"[ \t]*\[[ \t]*({_DOTTED})[ \t]*\][ \t]*(?:#.*)?"
_ASSIGNED = rf"[ \t]*({_DOTTED})[ \t]*="
_WORD = r"[A-Za-z0-9][A-Za-z0-9_.+\-]*"  # as in `launcher.ids`, which builds on this package
_PLACED = r" \(at (?:line ([0-9]+), column [0-9]+|end of document)\)$"

Part = TypeVar("Part")
Options = Mapping[str, Any]  # name as written → value of any type


class Configuration(NamedTuple):
    """The content of the file; empty if there is no file."""

    file: Path
    exists: bool = False
    home: Path | None = None  # absolute
    subsets: Mapping[str, tuple[str, ...]] = {}  # word → subsets, as in `launcher.ids.Words`
    modifiers: Mapping[str, tuple[str, ...]] = {}
    options: Mapping[str, Options] = {}  # by verb
    tables: Mapping[str, Any] = {}  # the values of other keys as written, for `read`
    lines: Mapping[tuple[str, ...], int] = {}  # line of each key

    def read(self, table: ConfigTable[Part]) -> Part:
        """Return the value of a table.

        Raises:
            UsageError: something in it is wrong; all its faults at once.
        """
        faults: list[Fault] = []
        value = table.read_from(self.tables, faults)
        self.refuse(faults)
        return value

    def place(self, *keys: str) -> str:
        """Return where a key stands, such as `/home/me/.config/launcher/config.toml:3`."""
        line = self._line(keys)
        return f"{self.file}:{line}" if line else str(self.file)

    def refuse(self, faults: Iterable[Fault]) -> None:
        """Raise everything that is wrong with the file, each with its place; nothing if all is well.

        Raises:
            UsageError: there is at least one fault.
        """
        in_order = sorted(faults, key=lambda fault: self._line(fault[0]))
        if in_order:
            messages = [f"{self.place(*keys)}: {message}" for keys, message in in_order]
            raise UsageError("\n       ".join(messages))

    def _line(self, keys: tuple[str, ...]) -> int:
        """Return the line of a key, or of the table that contains it; 0 if unknown."""
        for length in range(len(keys), 0, -1):
            wanted = keys[:length]
            if line := self.lines.get(wanted):
                return line
            for key, line in self.lines.items():
                if _with_dashes(key) == _with_dashes(wanted):  # options are written either way
                    return line
        return 0


def configuration_file(environ: Mapping[str, str]) -> Path:
    """Return where the file lies, or would lie.

    Raises:
        UsageError: LAUNCHER_CONFIG is a relative path, or begins with the home folder of an unknown user.
    """
    named = environ.get("LAUNCHER_CONFIG", "")
    if named:
        return absolute_path("LAUNCHER_CONFIG", named)
    return user_folder(environ, "XDG_CONFIG_HOME", ".config") / "launcher" / "config.toml"


def user_folder(environ: Mapping[str, str], variable: str, usual: str) -> Path:
    """Return one of the XDG base directories.

    Raises:
        UsageError: the user has no home folder.
    """
    folder = Path(environ.get(variable, ""))
    return folder if folder.is_absolute() else absolute_path("the user's home", "~") / usual


def read_configuration(
    environ: Mapping[str, str],
    verbs: Collection[str] | None = None,
    find_further_faults: Callable[[Mapping[str, Options]], Iterable[Fault]] = lambda _: (),
) -> Configuration:
    """Read the user's file.

    Args:
        environ: defines the path of the file.
        verbs: the tables of options that are allowed; None: any. The options of a verb and the types of
            their values are returned by `launcher.frontends.cli.main.defaults`.
        find_further_faults: other errors of these tables; they are reported with the rest.

    Raises:
        UsageError: it cannot be read, or holds something unknown; all faults of the file at once.
    """
    file = configuration_file(environ)
    text = _text(file, is_demanded=bool(environ.get("LAUNCHER_CONFIG")))
    if text is None or not text.strip():
        return Configuration(file=file, exists=text is not None)
    read = _parse_toml(file, text)
    configuration = Configuration(file=file, exists=True, lines=_lines(text))
    faults: list[Fault] = []
    keys = (*KEYS, *(verbs or ()))
    for key, value in read.items():
        table = isinstance(value, dict)
        if key not in keys and not (table and verbs is None):
            what = f"a {'table' if table else 'key'} of the configuration"
            faults.append(((key,), unknown_name_text(key, what, keys)))
        elif key not in KEYS and not table:
            faults.append(((key,), f"{key}: expected a table of options, such as [{key}]"))
    home = _home(read.get("home"), faults)
    words = {name: dict(_words(name, read.get(name), faults)) for name in WORDS}
    for key, module in _CHECKED_TABLES.items():
        if key in read:
            import_module(module)  # only users with a file need the readers
            CONFIG_TABLES[key].read_from(read, faults)
    options = {key: value for key, value in read.items() if key not in KEYS}
    tables = {key: value for key, value in options.items() if isinstance(value, dict)}
    configuration.refuse([*faults, *find_further_faults(tables)])
    return configuration._replace(
        home=home,
        subsets=words["subsets"],
        modifiers=words["modifiers"],
        options=options,
        tables={key: value for key, value in read.items() if key in KEYS},
    )


def read_table(table: ConfigTable[Part], environ: Mapping[str, str]) -> Part:
    """Return the value of a table in a user's file.

    Raises:
        UsageError: the file cannot be read, or something in it is wrong.
    """
    return read_configuration(environ).read(table)


class WatchedConfig(Generic[Part]):
    """A part of the user's file, read again after each change; if the file has errors, the previous value is used."""

    def __init__(
        self,
        environ: Mapping[str, str],
        read: Callable[[Mapping[str, str]], Part],
        warn: Callable[[str], None],
        initial: Part | None = None,
    ) -> None:
        """Begin without having read anything.

        Args:
            environ: defines the path of the file.
            read: returns the part.
            warn: called with each error of the file, once.
            initial: the value until the file was read without errors; None if unknown.
        """
        self._environ, self._read, self._warn, self._current = environ, read, warn, initial
        self._file_stamp: object = ()
        self._last_error = ""

    def __call__(self) -> Part:
        """Return the current value.

        Raises:
            UsageError: the file was never read without errors, and there is no initial value.
        """
        try:
            seen = file_stamp(str(configuration_file(self._environ)))
            if seen != self._file_stamp:
                self._file_stamp = seen
                self._current = self._read(self._environ)
        except UsageError as error:
            if str(error) != self._last_error:
                self._last_error = str(error)
                self._warn(self._last_error)
        if self._current is None:
            raise UsageError(self._last_error)
        return self._current


def _text(file: Path, *, is_demanded: bool) -> str | None:
    """Return the text of the file; None if it does not exist and was not asked for."""
    try:
        with file.open("rb") as opened:
            mode = os.fstat(opened.fileno()).st_mode
            data = opened.read(MOST_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        if not is_demanded:
            return None
        raise UsageError(
            f"LAUNCHER_CONFIG names {file}, which does not exist. Make it, or unset the variable."
        ) from error
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration {file}: {error.strerror}. "
            "Make it readable, or set LAUNCHER_CONFIG to another file."
        ) from error
    # config.toml names programs that run as the user who reads it
    if stat.S_ISREG(mode) and mode & stat.S_IWOTH:
        raise UsageError(
            f"every user may write the configuration {file}. Remove this permission: chmod o-w {file}"
        )
    if len(data) > MOST_BYTES:
        raise UsageError(f"{file} is not a configuration: it has more than {MOST_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, data[error.start]
        raise UsageError(
            f"{file}:{line}: the byte 0x{byte:02x} is not UTF-8. Save the file as UTF-8."
        ) from error


def _parse_toml(file: Path, text: str) -> dict[str, Any]:
    # only users with a file import the parser, which takes as long as all other imports
    tomllib = import_module("tomllib")
    try:
        read: dict[str, Any] = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        message = str(error)
        where = re.search(_PLACED, message)
        line = where[1] if where and where[1] else text.count("\n") + 1
        message = re.sub(_PLACED, "", message)
        raise UsageError(
            f"{file}:{line}: not valid TOML: {message[:1].lower()}{message[1:]}"
        ) from error
    return read


def _home(value: object, faults: list[Fault]) -> Path | None:
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        faults.append((("home",), 'home: expected the path of a folder, such as "~/queue"'))
        return None
    try:
        return absolute_path("home", value)
    except UsageError as error:
        faults.append((("home",), str(error)))
        return None


def _words(table: str, value: object, faults: list[Fault]) -> Iterator[tuple[str, tuple[str, ...]]]:
    if value is None:
        return
    if not isinstance(value, dict):
        faults.append(((table,), f'{table}: expected a table with lines such as word = "folder"'))
        return
    for word, folders in value.items():
        listed = folders if isinstance(folders, list) else [folders]
        if not re.fullmatch(_WORD, word):
            message = (
                f"{word!r} is not a valid word of a data ID. Use letters, digits, _ . + and -."
            )
            faults.append(((table, word), message))
        elif not listed or not all(isinstance(item, str) and item for item in listed):
            message = f'{table}.{word}: expected "folder", or ["folder", "pattern-*"]'
            faults.append(((table, word), message))
        else:
            yield word, tuple(listed)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """Return the lines of keys and tables, found line by line because tomllib does not report them."""
    lines_of: dict[tuple[str, ...], int] = {}
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), 1):
        if header := re.fullmatch(_HEADER, line):
            table = _parts(header[1])
            lines_of.setdefault(table, number)
        elif assigned := re.match(_ASSIGNED, line):
            keys = table + _parts(assigned[1])
            for length in range(len(table) + 1, len(keys) + 1):
                lines_of.setdefault(keys[:length], number)
    return lines_of


def _with_dashes(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key.replace("_", "-") for key in keys)


def _parts(dotted_name: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in re.findall(_BARE, dotted_name))
