"""The modules that a fork server imports for its forks: which imports failed, and which state each fork sets again.

Libraries draw their random state and count their threads when they are imported. All forks would share that state, and
the variables of a job's environment would come too late. All of this belongs to the process, as `sys.modules`
does, and is inherited by its forks.
"""

import importlib
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# what libraries take for the number of cores that are theirs
OPENMP, MKL, OPENBLAS = "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"
MOST_DIGITS = 9
_VARIABLES = {"openmp": OPENMP, "mkl": MKL, "openblas": OPENBLAS}  # by threadpoolctl's names
_import_failures: dict[str, str] = {}  # module → the words of its import
_thread_pools: list[Any] = []  # threadpoolctl's handles of the pools that are there
# variables for the number of threads of libraries; the owner's values are kept
THREADS = (OPENMP, MKL, OPENBLAS)


def import_ahead(modules: Iterable[str], report: Callable[[str], None]) -> None:
    """Import modules; what fails is recorded, and reaches the job whose own import fails, too.

    Args:
        modules: their names.
        report: called with each name before its import, which may end the process, and with "" last.
    """
    for module in modules:
        report(module)
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:  # the job's own import fails in the same words
            traceback.print_exc()
        except (Exception, SystemExit) as error:  # noqa: BLE001  # an import may do anything
            traceback.print_exc()
            _import_failures[module] = f"{type(error).__name__}: {error}"
    _find_thread_pools()
    report("")


def first_import_failure() -> str:
    """Return the message of the first import that failed in this process; empty if none failed."""
    return next(
        (f"cannot import {module}: {words}" for module, words in _import_failures.items()), ""
    )


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

    None where it is none, or more than a library accepts, which takes a C int.
    """
    first = (text or "").partition(",")[0].strip().lstrip("0")
    return int(first) if first.isascii() and first.isdigit() and len(first) <= MOST_DIGITS else None
