"""The modules that a fork server imports for its forks: which imports failed, and which state each fork sets again.

A plugin package may also let its own modules be imported. If a file of the package has changed since, a fork
imports them again.

Libraries draw their random state and count their threads when they are imported. All forks would share that state, and
the variables of a job's environment would come too late. All of this belongs to the process, as `sys.modules`
does, and is inherited by its forks.
"""

import importlib
import importlib.util
import os
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from launcher.queue.jobs.context import KIND_GROUP
from launcher.system.entry_points import find_entry_points

# variables that libraries take for the number of cores that are theirs
OPENMP, MKL, OPENBLAS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
MOST_DIGITS = 9
_VARIABLES = {"openmp": OPENMP, "mkl": MKL, "openblas": OPENBLAS}  # by threadpoolctl's names
_import_failures: dict[str, str] = {}  # module → text of the failure of its import
_thread_pools: list[Any] = []  # threadpoolctl's handles of the pools that are there
# plugin package → stamps of its files before the import
_plugin_files: dict[str, "FileStamps"] = {}
# variables for the number of threads of libraries; the owner's values are kept
THREADS = (OPENMP, MKL, OPENBLAS)

# path, inode, size, and when content and inode were changed last
FileStamp = tuple[str, int, int, int, int]
FileStamps = frozenset[FileStamp]


def import_ahead(modules: Iterable[str], report: Callable[[str], None]) -> None:
    """Import modules; what fails is recorded, and reaches the job whose own import fails, too.

    Args:
        modules: their names.
        report: called with each name before its import, which may end the process, and with "" last.
    """
    modules = tuple(modules)
    plugins = _plugin_packages() if modules else frozenset()
    for module in modules:
        report(module)
        package = module.partition(".")[0]
        if package in plugins and package not in _plugin_files:
            _plugin_files[package] = _file_stamps(package)
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:  # the job's own import fails in the same words
            traceback.print_exc()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # an import may do anything
            traceback.print_exc()
            if package in plugins:
                # the job itself imports the module, and reports the failure
                _forget_package(package)
            else:
                _import_failures[module] = f"{type(error).__name__}: {error}"
    _find_thread_pools()
    report("")


def first_import_failure() -> str:
    """Return the message of the first import that failed in this process; empty if none failed."""
    return next(
        (f"cannot import {module}: {words}" for module, words in _import_failures.items()), ""
    )


def forget_changed_plugins() -> None:
    """Remove the modules of plugin packages whose files have changed; the job imports them as they are now."""
    for package, stamps in [*_plugin_files.items()]:
        if _file_stamps(package) != stamps:
            _forget_package(package)


def forget_modules_below(folder: str) -> None:
    """Remove the packages that were imported from a folder, so that they are imported from another; not this one."""
    above = f"{folder}/"
    imported = [
        name.partition(".")[0]
        for name, module in sys.modules.items()
        if (getattr(module, "__file__", None) or "").startswith(above)
    ]
    for package in {*imported} - {"__main__", __name__.partition(".")[0]}:
        _forget_package(package)


def _forget_package(package: str) -> None:
    for name in [*sys.modules]:
        if name.partition(".")[0] == package:
            del sys.modules[name]
    _plugin_files.pop(package, None)
    importlib.invalidate_caches()


def _plugin_packages() -> frozenset[str]:
    """Return the packages that offer job types."""
    return frozenset(
        point.value.partition(":")[0].partition(".")[0] for point in find_entry_points(KIND_GROUP)
    )


def _file_stamps(package: str) -> FileStamps:
    """Return the files of a package and their stamps; those that cannot be read are omitted."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):
        return frozenset()
    if spec is None:
        return frozenset()
    folders = spec.submodule_search_locations or ()
    single = () if folders else (spec.origin or "",)
    return frozenset(chain(_stamps_in(single), *map(_stamps_below, folders)))


def _stamps_below(folder: str) -> Iterator[FileStamp]:
    """Yield the stamps of files in a folder, without the bytecode that Python stores when it imports a module."""
    try:
        with os.scandir(folder) as entries:
            found = [entry for entry in entries if entry.name != "__pycache__"]
    except OSError:
        return
    yield from _stamps_in(entry.path for entry in found if not entry.is_dir())
    for entry in found:
        if entry.is_dir():
            yield from _stamps_below(entry.path)


def _stamps_in(paths: Iterable[str]) -> Iterator[FileStamp]:
    for path in paths:
        try:
            facts = os.stat(path)  # noqa: PTH116  # hundreds for each job
        except OSError:
            continue
        yield path, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def reset_after_fork(environment: Mapping[str, str]) -> None:
    """Make this fork's libraries draw numbers of their own, and keep to their number of threads.

    Args:
        environment: the job's; its variables hold as if they had been there at the import.
    """
    random.seed()
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()
    for pool in _thread_pools:
        threads = _read_thread_count(environment.get(_VARIABLES.get(pool.internal_api, OPENMP)))
        if threads is not None:
            pool.set_num_threads(threads)
    torch, threads = sys.modules.get("torch"), _read_thread_count(environment.get(OPENMP))
    if torch is not None and threads is not None:
        torch.set_num_threads(threads)


def _find_thread_pools() -> None:
    """Find the thread pools of the imported libraries, if threadpoolctl is installed."""
    _thread_pools.clear()
    if "numpy" not in sys.modules and "torch" not in sys.modules:
        return
    try:
        control = importlib.import_module("threadpoolctl")
    except ImportError:
        return
    _thread_pools.extend(control.ThreadpoolController().lib_controllers)


def _read_thread_count(text: str | None) -> int | None:
    """Read a variable: a number, or several, one for each level of nested threads.

    None if it is not a number, or more than a library accepts, which takes a C int.
    """
    first = (text or "").partition(",")[0].strip().lstrip("0")
    return int(first) if first.isascii() and first.isdigit() and len(first) <= MOST_DIGITS else None
