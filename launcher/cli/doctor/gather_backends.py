"""Gathers what this host can tell of the backends of config.toml; no pilot is submitted."""

import shutil
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from launcher.backends.pilot_records import backend_folder
from launcher.backends.pilots_file import read_pilots
from launcher.backends.settings import Backends, BackendSettings, configured_backends
from launcher.cli.doctor.facts import Engine
from launcher.errors import UsageError
from launcher.system.home_checks import file_system, is_remote, without_links
from launcher.system.paths import Home
from launcher.system.processes import answer

SLURM = ("sbatch", "squeue", "scancel", "sinfo")
COMMAND_S = 5.0  # for an engine's program to answer
_RAY = "import importlib.metadata as packages; print('ray', packages.version('ray'))"


def see_backends(
    environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> tuple[Engine, ...]:
    """Return what can be told of each backend; of a file with faults nothing, as those are told elsewhere."""
    try:
        backends = configured_backends(environ)
    except UsageError:
        return ()
    return _engines(backends, environ, home, mountinfo)


def _engines(
    backends: Backends, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> tuple[Engine, ...]:
    if not backends.by_name:
        return ()
    see = partial(_engine, environ=environ, home=home, mountinfo=mountinfo)
    with ThreadPoolExecutor(max_workers=8) as threads:  # each may wait for its engine
        return tuple(threads.map(see, backends.by_name.values()))


def _engine(
    settings: BackendSettings, *, environ: Mapping[str, str], home: Home | None, mountinfo: str
) -> Engine:
    engine = Engine(name=settings.name, kind=settings.kind, partition=settings.partition)
    if home is not None:
        rows = {row.name: row for row in read_pilots(home).backends}
        if row := rows.get(settings.name):
            engine = replace(engine, failures=row.failures, reason=row.reason)
        user = Path(environ.get("HOME") or "/")
        folder = backend_folder(settings, home, user, mountinfo)
        kind = file_system(mountinfo, without_links(folder))
        engine = replace(engine, folder=str(folder), file_system=kind, shared=is_remote(kind))
    if settings.kind == "slurm":
        return _slurm(engine, environ)
    if settings.kind == "ray":
        return _ray(engine, settings.python or sys.executable)
    return engine


def _slurm(engine: Engine, environ: Mapping[str, str]) -> Engine:
    missing = tuple(name for name in SLURM if shutil.which(name, path=environ.get("PATH")) is None)
    if missing:
        return replace(engine, missing=missing)
    printed = answer(("sinfo", "--noheader", "--format=%R"), COMMAND_S)
    words = tuple(dict.fromkeys(line.strip() for line in printed.splitlines() if line.strip()))
    if not words or any(" " in word for word in words):  # a complaint, in words
        return replace(engine, answers=False, complaint=" ".join(printed.split()))
    return replace(engine, partitions=words)


def _ray(engine: Engine, python: str) -> Engine:
    if not Path(python).is_file():  # the nodes may have it all the same
        return engine
    printed = answer((python, "-c", _RAY), COMMAND_S).strip()
    name, _, version = printed.rpartition(" ")
    if name != "ray":
        last = printed.splitlines()[-1] if printed else ""
        return replace(engine, python=python, answers=False, complaint=last)
    return replace(engine, python=python, ray=version)
