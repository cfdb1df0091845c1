"""Submission of pilots to Slurm: arguments and script of sbatch, and its responses."""

import math
import re
import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from launcher.queue.backends.node_paths import NodePaths
from launcher.queue.backends.pilot_folder import PilotFolder, PilotSpec
from launcher.queue.backends.settings import BackendSettings
from launcher.queue.backends.slurm_states import format_array_ranges, split_token
from launcher.system.prologue import prologue_lines

MIB = 1 << 20
# seconds between the warning of a pilot and its end, so that trainings save
WARN_BEFORE_END_S = 120
# errors that Slurm repeats until somebody changes a configuration
_PERMANENT_ERROR = re.compile(
    r"invalid|unrecognized option|node configuration is not available|can ?not be satisfied"
    r"|not permitted|permission denied|more processors requested",
    re.IGNORECASE,
)
_START = re.compile(r"\bto start at (?P<at>[0-9]{9,11})\b")


class SubmissionBatch(NamedTuple):
    """Pilots that are submitted with one call: one alone, or the elements of an array."""

    name: str  # name of Slurm's job
    spec: PilotSpec  # specification of one of the pilots: all request the same
    folder: Path  # the pilot's, or the one above those of all
    elements: tuple[int, ...] = ()


def group_into_batches(pilots: Iterable[tuple[PilotFolder, PilotSpec]]) -> list[SubmissionBatch]:
    """Return how pilots are submitted: those with names such as `launcher-ab_17` together, by arrays."""
    arrays: dict[tuple[str, Path], list[tuple[PilotSpec, int]]] = {}
    alone: list[SubmissionBatch] = []
    for folder, spec in pilots:
        name, index = split_token(folder.token)
        if index:
            arrays.setdefault((name, folder.folder.parent), []).append((spec, int(index)))
        else:
            alone.append(SubmissionBatch(name=name, spec=spec, folder=folder.folder))
    return alone + [
        SubmissionBatch(name, array[0][0], parent, tuple(sorted(index for _, index in array)))
        for (name, parent), array in arrays.items()
    ]


def sbatch_options(settings: BackendSettings, spec: PilotSpec) -> list[str]:
    """Return the options of Slurm for such a pilot. The site's own options come first, ours override them."""
    named = {
        "partition": settings.partition,
        "account": settings.account,
        "qos": settings.qos,
        "constraint": settings.constraint,
        "reservation": settings.reservation,
        "gres": _gres(settings, spec),
        "mem": "" if spec.memory is None else f"{math.ceil(spec.memory / MIB)}M",
        "time": "" if spec.time_s is None else str(_minutes(spec.time_s)),
        "cpus-per-task": str(spec.cpus),
        "nodes": "1",
        "ntasks": "1",
        # a pilot that is gone is replaced by another one, never run twice
        "signal": f"B:USR1@{_warning_s(spec)}",
        # limits of a login node are not those of a node
        "propagate": "NONE",
        "export": "ALL",  # the environment holds next to nothing
    }
    words = [f"--{name}={value}" for name, value in named.items() if value]
    return [*settings.options, *words, "--no-requeue", *["--exclusive"] * settings.exclusive]


def sbatch_arguments(settings: BackendSettings, batch: SubmissionBatch) -> list[str]:
    """Return the arguments of sbatch for pilots whose folders are made; the script is its input."""
    folder = NodePaths(settings).path(batch.folder)
    escaped = folder.replace("%", "%%")
    if batch.elements:
        log = f"{escaped}/{batch.name}_%a/{PilotFolder(batch.folder).log.name}"
        array = [f"--array={format_array_ranges(batch.elements)}"]
    else:
        log, array = f"{escaped}/{PilotFolder(batch.folder).log.name}", []
    words = ["--parsable", f"--job-name={batch.name}", f"--chdir={folder}", "--open-mode=append"]
    return [*sbatch_options(settings, batch.spec), *words, f"--output={log}", *array]


def batch_script(settings: BackendSettings, batch: SubmissionBatch) -> str:
    """Return the script of a pilot, which becomes the pilot: Slurm's signals reach it, not a shell."""
    folder = shlex.quote(NodePaths(settings).path(batch.folder))
    if batch.elements:
        folder = f'{folder}/{shlex.quote(batch.name)}_"$SLURM_ARRAY_TASK_ID"'
    # the start-up files of a login shell define `module` and conda
    shell = "#!/bin/bash -l" if settings.prologue else "#!/bin/bash"
    start = [*settings.wrap, NodePaths(settings).interpreter(), "-P", "-m", "launcher.pilots"]
    lines = [
        shell,
        # an administrator may requeue it anyway: its attempts were abandoned by then
        '[ "${SLURM_RESTART_COUNT:-0}" = 0 ] || exit 0',
        *prologue_lines(settings.prologue),
        f"exec {shlex.join(start)} {folder}",
    ]
    return "\n".join(lines) + "\n"


def is_permanent_error(complaint: str) -> bool:
    """Return whether Slurm will refuse such a pilot again until a configuration changes."""
    return _PERMANENT_ERROR.search(complaint) is not None


def parse_estimated_start(text: str) -> float | None:
    """Return when `sbatch --test-only` expects the start, in seconds since 1970."""
    match = _START.search(text)
    return None if match is None else float(match["at"])


def _gres(settings: BackendSettings, spec: PilotSpec) -> str:
    if not spec.gpus:
        return ""
    kind = f"{settings.gpu_type}:" if settings.gpu_type else ""
    return f"gpu:{kind}{spec.gpus}"


def _minutes(time_s: float) -> int:
    return max(1, math.ceil(time_s / 60))


def _warning_s(spec: PilotSpec) -> int:
    """Return how many seconds before its end a pilot gets a warning. It is at most a quarter of its time limit."""
    if spec.time_s is None:
        return WARN_BEFORE_END_S
    return min(WARN_BEFORE_END_S, 15 * _minutes(spec.time_s))
