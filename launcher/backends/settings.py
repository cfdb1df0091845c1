"""The tables [backends.NAME] of config.toml: which engine, what its pilots ask for, where their folders lie.

on = ["slurm", "local"]           # where jobs run that do not say it, in this order

[backends.slurm]
kind = "slurm"                    # or "local", "ray"
cpus = 8                          # of each pilot
gpus = 2
pilots = 4                        # most at once

From them come where a job may run, which jobs a pilot can hold at all, and paths as the nodes see them.
"""

import json
import sys
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, cast

from launcher.context import LIMITS, NICENESS
from launcher.errors import UsageError, counted
from launcher.job import Resources, Terms
from launcher.system.config import Fault, absolute, read_configuration, read_keys, unknown
from launcher.system.environment import prologue_lines
from launcher.system.files import Json
from launcher.units import format_bytes, format_seconds, parse_bytes, parse_seconds

TABLE = "backends"
HERE = "local"  # this machine, without pilots: always there
KINDS = ("local", "ray", "slurm")


class BackendSettings(NamedTuple):
    """One table [backends.NAME]."""

    name: str
    kind: str
    cpus: int = 1  # of a pilot
    gpus: int = 0  # of a pilot
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
    poll_s: float = 5.0  # so often the engine is asked at most
    partition: str = ""
    account: str = ""
    qos: str = ""
    constraint: str = ""
    reservation: str = ""
    exclusive: bool = False  # whole nodes
    options: tuple[str, ...] = ()  # further ones of the engine, as it takes them: "--nice=100"
    prologue: str = ""  # lines of bash that the site needs before the pilot: "module load cuda"
    wrap: tuple[
        str, ...
    ] = ()  # what the pilot is started through: ["apptainer", "exec", "--nv", "lab.sif"]
    python: str = ""  # the interpreter on the nodes; '': this one
    folder: Path | None = None  # of the pilots, on a file system that all see; None: below the home
    paths: Mapping[str, str] = {}  # path here → path on the nodes
    address: str = ""  # of a running Ray cluster
    resources: Mapping[str, float] = {}  # Ray's custom resources of a pilot


class Backends(NamedTuple):
    """The engines that a user's file names, and where jobs run that do not say it."""

    by_name: Mapping[str, BackendSettings] = {}  # in the file's order
    default: tuple[str, ...] = (HERE,)

    @property
    def names(self) -> tuple[str, ...]:
        """All that `--on` takes."""
        return tuple(dict.fromkeys((HERE, *self.by_name)))


def configured_backends(environ: Mapping[str, str]) -> Backends:
    """Return the backends of the user's file.

    Raises:
        UsageError: the file cannot be read, or something in these tables is wrong; all faults at once.
    """
    configuration = read_configuration(environ)
    faults: list[Fault] = []
    table = {} if configuration.backends is None else configuration.backends
    backends = Backends(by_name=read_backends(table, faults))
    try:
        default = read_on(configuration.on, backends)
    except UsageError as error:
        faults.append((("on",), f"on: {error}"))
        default = (HERE,)
    configuration.refuse(faults)
    return backends._replace(default=default)


def read_on(value: object, backends: Backends) -> tuple[str, ...]:
    """Return the backends that an option names: "slurm,local", or a list of names; None: the default.

    Raises:
        UsageError: it names none, or an unknown one.
    """
    if value is None:
        return backends.default
    listed = value.split(",") if isinstance(value, str) else value
    if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
        raise UsageError('expected names of backends, such as "slurm,local"')
    names = tuple(dict.fromkeys(name.strip() for name in listed if name.strip()))
    for name in names:
        if name not in backends.names:
            fault = unknown(name, "a backend of the configuration", backends.names)
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
        read = read_keys((TABLE, name), entry, _READ, faults)
        values = {f"{key}_s" if key in _SPANS else key: value for key, value in read.items()}
        kind = values.get("kind", name if name in KINDS else None)
        if kind is None:
            listed = " or ".join(f'"{known}"' for known in KINDS)
            faults.append(((TABLE, name), f"{TABLE}.{name}: missing kind. Write kind = {listed}"))
            continue
        backends[name] = BackendSettings(name=name, **{**values, "kind": kind})
    return backends


def _need(holds: bool) -> None:
    """Refuse a value; what is expected instead stands in the table."""
    if not holds:
        raise ValueError


def _kind(value: object) -> str:
    _need(value in KINDS)
    return str(value)


def _text(value: object) -> str:
    _need(isinstance(value, str) and "\0" not in value)
    return str(value)


def _word(value: object) -> str:
    text = _text(value)
    _need(text.split() == [text] and not text.startswith("-"))
    return text


def _texts(value: object) -> tuple[str, ...]:
    _need(isinstance(value, list))
    return tuple(map(_text, cast("list[object]", value)))


def _whole(value: object) -> int:
    _need(type(value) is int and 0 <= value <= 1_000_000)
    return cast("int", value)


def _some(value: object) -> int:
    _need(value != 0)
    return _whole(value)


def _switch(value: object) -> bool:
    _need(isinstance(value, bool))
    return bool(value)


def _pilot(value: object) -> bool:
    return value == "on" if value in ("on", "off") else _switch(value)


def _span(value: object) -> float:
    span = parse_seconds(_text(value))
    _need(span > 0)
    return span


def _bytes(value: object) -> int:
    return parse_bytes(_text(value))


def _folder(value: object) -> Path:
    return absolute("folder", _text(value))


def _table(value: object) -> dict[str, Any]:
    _need(isinstance(value, dict))
    return cast("dict[str, Any]", value)


def _paths(value: object) -> Mapping[str, str]:
    pairs = {_text(here): _text(there) for here, there in _table(value).items()}
    _need(all(path.startswith("/") for pair in pairs.items() for path in pair))
    return pairs


def _amounts(value: object) -> Mapping[str, float]:
    table = _table(value)
    _need(all(type(item) in {int, float} and 0 <= item < 1e9 for item in table.values()))
    return {_word(name): float(amount) for name, amount in table.items()}


_WORD = "a word, such as"
_SPANS = {"time", "idle", "lease", "beat", "poll"}  # whose fields end with _s
# key → what is expected, how it is read
_READ: Mapping[str, tuple[str, Callable[[object], Any]]] = {
    "kind": ('"local", "ray" or "slurm"', _kind),
    "cpus": ("a whole number of CPU cores per pilot, at least 1", _some),
    "gpus": ("a whole number of GPUs per pilot", _whole),
    "gpu_type": (f'{_WORD} "a100"', _word),
    "memory": ('the main memory of each pilot, such as "64GiB"', _bytes),
    "time": ('the wall time of each pilot, such as "12h"', _span),
    "pilots": ("a whole number of pilots at once, at least 1", _some),
    "per_minute": ("a whole number of submissions per minute, at least 1", _some),
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


def placed_terms(terms: Terms, backends: Backends) -> Terms:
    """Return terms that say where a job runs, unless that is here alone by default.

    Raises:
        UsageError: they name an unknown backend.
    """
    if terms.on:
        read_on([*terms.on], backends)
        return terms
    return terms if backends.default == (HERE,) else terms._replace(on=backends.default)


def runs_here(terms: Terms) -> bool:
    """Tell whether a job may run on this machine."""
    return not terms.on or HERE in terms.on


def runs_only_here(terms: Terms) -> bool:
    """Tell whether a job may run nowhere else."""
    return not terms.on or terms.on == (HERE,)


def impossible_there(asked: Resources, terms: Terms, backends: Backends) -> str:
    """Return why no pilot of a job's backends can ever hold it, '' where one can, or it may run here."""
    reasons = [
        never_fits(asked, terms.time_limit_s, backends.by_name[name])
        for name in terms.on
        if name in backends.by_name
    ]
    return "" if runs_here(terms) or not all(reasons) else "; ".join(reasons)


def never_fits(asked: Resources, limit: float | None, settings: BackendSettings) -> str:
    """Return why no pilot of a backend can ever hold a job, '' where one can; says what to change."""
    table = f"[backends.{settings.name}]"
    if asked.cpus > settings.cpus:
        return (
            f"needs {counted(asked.cpus, 'CPU core')}, but a pilot of {settings.name} has {settings.cpus} "
            f"(raise `cpus` in {table})"
        )
    gpus = asked.gpus if asked.works_on_gpu(there=settings.gpus > 0) else 0
    if gpus > settings.gpus:
        return (
            f"needs {counted(gpus, 'GPU')}, but a pilot of {settings.name} has {settings.gpus} "
            f"(raise `gpus` in {table})"
        )
    if asked.ram is not None and settings.memory is not None and asked.ram > settings.memory:
        return (
            f"needs {format_bytes(asked.ram)} of main memory, but a pilot of {settings.name} has "
            f"{format_bytes(settings.memory)} (raise `memory` in {table})"
        )
    if limit is not None and settings.time_s is not None and limit >= settings.time_s:
        return (
            f"has a time limit of {format_seconds(limit)}, but a pilot of {settings.name} ends after "
            f"{format_seconds(settings.time_s)} (raise `time` in {table} or lower the time limit)"
        )
    return ""


def slots(asked: Resources, settings: BackendSettings) -> int:
    """Return how many such jobs one pilot runs at once, at least; 1 where one of its GPUs is needed."""
    by_cpus = settings.cpus // max(1, asked.cpus)
    if asked.ram and settings.memory:
        by_cpus = min(by_cpus, settings.memory // asked.ram)
    if asked.works_on_gpu(there=settings.gpus > 0) and settings.gpus:
        by_cpus = min(by_cpus, settings.gpus // max(1, asked.gpus))
    return max(1, by_cpus)


_BASH = ("/bin/bash", "-lc")  # a login shell: `module` and conda are defined by what it reads


def after_prologue(settings: BackendSettings, *words: str) -> list[str]:
    """Return a command that runs after what the site needs before it."""
    lines = prologue_lines(settings.prologue)
    return [*_BASH, "\n".join((*lines, 'exec "$@"')), "bash", *words] if lines else [*words]


class NodePaths:
    """Turns paths of this machine into those of the nodes, where a backend's settings say that they differ."""

    def __init__(self, settings: BackendSettings) -> None:
        """Begin.

        Args:
            settings: of the backend.
        """
        self._python = settings.python
        # the longest first: /data/fast may lie elsewhere than the rest of /data
        pairs = ((here.rstrip("/"), there.rstrip("/")) for here, there in settings.paths.items())
        self._pairs = tuple(sorted(pairs, key=lambda pair: -len(pair[0])))
        self._context = lru_cache(maxsize=8)(self._new_context)

    def spec(self, text: str) -> str:
        """Return a spec as the node gets it; both are JSON."""
        return json.dumps(self._mapped(json.loads(text))) if self._pairs else text

    def context(self, text: str) -> str:
        """Return a job's context as the node gets it; both are JSON. The limits are the node's own."""
        return self._context(text)

    def interpreter(self, path: str = sys.executable) -> str:
        """Return the interpreter of the nodes for one of this machine, which is ours by default."""
        return self._python or self.path(path)

    def path(self, path: Path | str) -> str:
        """Return a path as the nodes see it."""
        path = str(path)
        for here, there in self._pairs:
            if path == here or path.startswith(f"{here}/"):
                return f"{there}{path[len(here) :]}" or "/"
        return path

    def _new_context(self, text: str) -> str:
        record: dict[str, Json] = json.loads(text)
        own = [record.pop(name) for name in (LIMITS, NICENESS) if name in record]
        if not (own or self._pairs or self._python):
            return text
        mapped = {name: self._mapped(value) for name, value in record.items()}
        environment = record.get("environment")
        if isinstance(environment, dict):
            mapped["environment"] = {
                name: ":".join(map(self.path, str(value).split(":")))
                for name, value in environment.items()
            }
        if self._python:
            mapped["interpreter"] = self._python
        return json.dumps(mapped)

    def _mapped(self, value: Json) -> Json:
        match value:
            case str():
                return self._word(value)
            case list():
                return [*map(self._mapped, value)]
            case dict():
                return {key: self._mapped(item) for key, item in value.items()}
        return value

    def _word(self, word: str) -> str:
        """Return a word of a command line, which may hold a path behind its option: --data=/local/x."""
        option, equals, path = word.partition("=")
        if equals and option.startswith("-"):
            return f"{option}={self.path(path)}"
        return self.path(word)
