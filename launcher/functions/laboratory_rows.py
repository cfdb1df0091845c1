"""The rows that laboratories tell of a run's tests and folders."""

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from launcher.errors import MachineError
from launcher.ids import model_folder_name
from launcher.job import Spec
from launcher.kind_interface.conditions import tested
from launcher.kind_interface.kind import Kind, Role
from launcher.kinds import installed
from launcher.planning.missing_packages import missing_packages
from launcher.states import State
from launcher.store.rows import JobRow

_TELLING = frozenset({Role.TEST, Role.FOLDER})


def collect(jobs: Sequence[JobRow]) -> list[Mapping[str, Any]]:
    """Return the rows of a run's tests and folders.

    Raises:
        MachineError: packages that a laboratory reads its results with are not installed.
    """
    done = [job for job in jobs if job.state is State.DONE and job.spec.role in _TELLING]
    rows: list[Mapping[str, Any]] = []
    for name in sorted({job.kind for job in done}):
        kind = installed([name]).get(name)
        if kind is None or not kind.results:
            continue
        if uninstalled := missing_packages([kind]):
            raise MachineError("; ".join(uninstalled))
        module, _, function = kind.results.partition(":")
        table = getattr(importlib.import_module(module), function)
        specs = [job.spec for job in done if job.kind == name and _is_there(job.spec)]
        if specs:
            rows += table(specs[0].run_folder, [_subject(kind, spec) for spec in specs])
    return rows


def _is_there(spec: Spec) -> bool:
    return spec.role != Role.FOLDER or all(Path(path).exists() for path in spec.outputs)


def _subject(kind: Kind, spec: Spec) -> tuple[str, str]:
    if spec.role == Role.FOLDER:
        return "", model_folder_name(spec.name.partition("/")[2])
    return spec.model or "", tested(spec.data or "", kind.settings.condition(spec.settings))
