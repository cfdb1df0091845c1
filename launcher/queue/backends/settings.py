"""The tables [backends.NAME] of config.toml: which engine, what its pilots ask for, where their folders lie.

on = ["slurm", "local"]           # backends of jobs that name none, in this order

[backends.slurm]
kind = "slurm"                    # or "local", "ray"
cpus = 8                          # cores of each pilot
gpus = 2
pilots = 4                        # most at once
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from launcher.system.config import read_configuration
from launcher.system.config_tables import (
    ConfigTable,
    Fault,
    absolute_path,
    read_keys,
    register_table,
    unknown_name_text,
)
from launcher.system.errors import UsageError
from launcher.system.prologue import prologue_lines
from launcher.system.units import parse_bytes, parse_seconds

TABLE = "backends"
LOCAL = "local"  # backend that is always there: this machine, without pilots
KINDS = ("local", "ray", "slurm")
_WORD = "a word, such as"
_TIME_KEYS = {"time", "idle", "lease", "beat", "poll"}  # keys whose fields end with _s
_BASH = ("/bin/bash", "-lc")  # a login shell reads the files that define `module` and conda


class BackendSettings(NamedTuple):
    """One table [backends.NAME]."""

    name: str
    kind: str
    cpus: int = 1  # cores of a pilot
    gpus: int = 0  # GPUs of a pilot
    gpu_type: str = ""  # such as "a100": --gres=gpu:a100:2
    memory: int | None = None  # bytes of main memory of a pilot; None: the engine's default
    time_s: float | None = None  # wall time of a pilot; None: the engine's default
    pilots: int = 1  # most at once
    per_minute: int = 6  # pilots submitted in a minute, at most
    pilot: bool = True  # False: plain mode, a job of the engine for each of ours
    idle_s: float = 300.0  # a pilot without work leaves after so long
    lease_s: float | None = (
        None  # None: a silent pilot is given up only when the engine says that it ended
    )
    beat_s: float = 5.0
    poll_s: float = 5.0  # seconds; shortest time between two questions to the engine
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False  # whole nodes
    # further options of the engine, as the engine takes them: "--nice=100"
    options: tuple[str, ...] = ()
    prologue: str = ""  # lines of bash that the site needs before the pilot: "module load cuda"
    # command through which the pilot is started: ["apptainer", "exec", "--nv", "lab.sif"]
    wrap: tuple[str, ...] = ()
    python: str = ""  # the interpreter on the nodes; '': that of the scheduler
    folder: Path | None = None  # folder on a file system that all pilots see; None: below the home
    paths: Mapping[str, str] = {}  # path here → path on the nodes
    address: str = ""  # address of a running Ray cluster
    resources: Mapping[str, float] = {}  # Ray's custom resources of a pilot


class Backends(NamedTuple):
    """The engines that a user's file names, and where jobs run that do not say it."""

    by_name: Mapping[str, BackendSettings] = {}  # in the file's order
    default: tuple[str, ...] = (LOCAL,)

    @property
    def names(self) -> tuple[str, ...]:
        """All that `--on` takes."""
        return tuple(dict.fromkeys((LOCAL, *self.by_name)))


def read_configured_backends(environ: Mapping[str, str]) -> Backends:
    """Return the backends of the user's file.

    Raises:
        UsageError: the file cannot be read, or something in these tables is wrong; all faults at once.
    """
    configuration = read_configuration(environ)
    faults: list[Fault] = []
    backends = Backends(by_name=BACKENDS.read_from(configuration.tables, faults))
    try:
        default = read_backend_names(configuration.tables.get("on"), backends)
    except UsageError as error:
        faults.append((("on",), f"on: {error}"))
        default = (LOCAL,)
    configuration.refuse(faults)
    return backends._replace(default=default)


def read_backend_names(value: object, backends: Backends) -> tuple[str, ...]:
    """Return the backends that an option names, as "slurm,local" or as a list of names. None means the default.

    Raises:
        UsageError: it does not name a backend, or names an unknown one.
    """
    if value is None:
        return backends.default
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise UsageError('expected names of backends, such as "slurm,local"')
    names = tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))
    for name in names:
        if name not in backends.names:
            fault = unknown_name_text(name, "a backend of the configuration", backends.names)
            table = f"Add a table [{TABLE}.{name}] to config.toml (launcher help clusters)."
            raise UsageError(fault if fault.endswith("?") else f"{fault}. {table}")
    if not names:
        raise UsageError('expected names of backends, such as "slurm,local"')
    return names


def read_backends(table: object, faults: list[Fault]) -> Mapping[str, BackendSettings]:
    """Return what the tables say, in the order of the file.

    Args:
        table: all of [backends], as the file has it.
        faults: where all that is wrong with it is added.
    """
    if not isinstance(table, dict):
        faults.append(((TABLE,), f"{TABLE}: expected tables such as [{TABLE}.slurm]"))
        return {}
    backends = {}
    for name, entry in table.items():
        if not isinstance(entry, dict):
            faults.append(((TABLE, name), f"{TABLE}.{name}: expected a table, [{TABLE}.{name}]"))
            continue
        read = read_keys((TABLE, name), entry, _KEY_READERS, faults)
        values = {f"{key}_s" if key in _TIME_KEYS else key: value for key, value in read.items()}
        kind = values.get("kind", name if name in KINDS else None)
        if kind is None:
            listed = " or ".join(f'"{known}"' for known in KINDS)
            faults.append(((TABLE, name), f"{TABLE}.{name}: missing kind. Write kind = {listed}"))
            continue
        backends[name] = BackendSettings(name=name, **{**values, "kind": kind})
    return backends


BACKENDS = register_table(ConfigTable[Mapping[str, BackendSettings]](TABLE, read_backends, {}))


def _require(holds: bool) -> None:
    """Refuse a value unless a condition holds. The table below contains the expected values."""
    if not holds:
        raise ValueError


def _kind(value: object) -> str:
    _require(value in KINDS)
    return str(value)


def _text(value: object) -> str:
    _require(isinstance(value, str) and "\0" not in value)
    return str(value)


def _word(value: object) -> str:
    text = _text(value)
    _require(text.split() == [text] and not text.startswith("-"))
    return text


def _texts(value: object) -> tuple[str, ...]:
    _require(isinstance(value, list))
    return tuple(map(_text, cast("list[object]", value)))


def _whole_number(value: object) -> int:
    _require(type(value) is int and 0 <= value <= 1_000_000)
    return cast("int", value)


def _positive_number(value: object) -> int:
    _require(value != 0)
    return _whole_number(value)


def _switch(value: object) -> bool:
    _require(isinstance(value, bool))
    return bool(value)


def _pilot(value: object) -> bool:
    return value == "on" if value in ("on", "off") else _switch(value)


def _span(value: object) -> float:
    span = parse_seconds(_text(value))
    _require(span > 0)
    return span


def _bytes(value: object) -> int:
    return parse_bytes(_text(value))


def _folder(value: object) -> Path:
    return absolute_path("folder", _text(value))


def _table(value: object) -> dict[str, Any]:
    _require(isinstance(value, dict))
    return cast("dict[str, Any]", value)


def _paths(value: object) -> Mapping[str, str]:
    pairs = {_text(here): _text(there) for here, there in _table(value).items()}
    _require(all(path.startswith("/") for pair in pairs.items() for path in pair))
    return pairs


def _amounts(value: object) -> Mapping[str, float]:
    table = _table(value)
    _require(all(type(item) in {int, float} and 0 <= item < 1e9 for item in table.values()))
    return {_word(name): float(amount) for name, amount in table.items()}


# key → what is expected, how it is read
_KEY_READERS: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "kind": ('"local", "ray" or "slurm"', _kind),
    "cpus": ("a whole number of CPU cores per pilot, at least 1", _positive_number),
    "gpus": ("a whole number of GPUs per pilot", _whole_number),
    "gpu_type": (f'{_WORD} "a100"', _word),
    "memory": ('the main memory of each pilot, such as "64GiB"', _bytes),
    "time": ('the wall time of each pilot, such as "12h"', _span),
    "pilots": ("a whole number of pilots at once, at least 1", _positive_number),
    "per_minute": ("a whole number of submissions per minute, at least 1", _positive_number),
    "pilot": ('"on", or "off" to submit each job as a job of the engine', _pilot),
    "idle": ('the time after which a pilot without work ends, such as "5m"', _span),
    "lease": ('the time without contact after which a pilot ends its jobs, such as "60s"', _span),
    "beat": ('the time between two reports of a pilot, such as "5s"', _span),
    "poll": ('the time between two queries of the engine, such as "5s"', _span),
    "partition": (f'{_WORD} "gpu"', _word),
    "account": (f'{_WORD} "lab"', _word),
    "qos": (f'{_WORD} "normal"', _word),
    "constraint": ('a string, such as "a100&nvlink"', _text),
    "reservation": (f'{_WORD} "course"', _word),
    "exclusive": ("true or false: whether a pilot takes whole nodes", _switch),
    "options": ('a list of options for the engine, such as ["--nice=100"]', _texts),
    "prologue": ('lines of bash, such as "module load cuda"', _text),
    "wrap": ('a list of words, such as ["apptainer", "exec", "lab.sif"]', _texts),
    "python": ("the path of an interpreter on the nodes", _text),
    "folder": ("the absolute path of a folder that all nodes see", _folder),
    "paths": ('a table such as { "/local" = "/shared" }', _paths),
    "address": ('a string, such as "10.0.0.1:6379"', _text),
    "resources": ("a table such as { worker = 1 }", _amounts),
}


def with_prologue(settings: BackendSettings, *words: str) -> list[str]:
    """Return a command that runs after what the site needs before it."""
    lines = prologue_lines(settings.prologue)
    return [*_BASH, "\n".join((*lines, 'exec "$@"')), "bash", *words] if lines else [*words]
