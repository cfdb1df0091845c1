"""Parameters of Slurm in a script that has changed only the name of the cluster: `AutoExecutor` drops them."""

import sys
from collections.abc import Iterable
from types import FrameType

from submitit.auto.auto import AutoExecutor, flexible_init

from launcher.frontends.plugins.submitit.parameters import GENERIC, parameter_names

SLURM, OWN = "slurm_", "launcher_"
CONSTRUCTOR = ("max_num_timeout", "max_pickle_size_gb", "python")  # arguments of `AutoExecutor`
RENAMED = {"time": "timeout_min", "mem": "mem_gb", "array_parallelism": "group"}
# the functions of submitit that select the parameters of a cluster; submitit offers no other way to see the rest
_SELECTING = (flexible_init.__code__, AutoExecutor._internal_update_parameters.__code__)  # noqa: SLF001


def find_dropped_parameters() -> list[str]:
    """Return the parameters of Slurm that the AutoExecutor which calls us was given."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001  # callers have no public function
    while frame is not None:
        if frame.f_code in _SELECTING:
            return [name for name in frame.f_locals["kwargs"] if name.startswith(SLURM)]
        frame = frame.f_back
    return []


def ignored_parameters_note(dropped_names: Iterable[str]) -> str:
    """Return a note on parameters of Slurm, with those of this cluster that have their effect; '' if there are none."""
    names = sorted(dropped_names)
    if not names:
        return ""
    known = {*parameter_names(), *GENERIC, *CONSTRUCTOR}
    plain = (name.removeprefix(SLURM) for name in names)
    ours = {RENAMED.get(name, name) for name in plain} & known
    way = f". Use {', '.join(f'{OWN}{name}' for name in sorted(ours))}" if ours else ""
    return f"note: the cluster 'launcher' ignores {', '.join(names)}{way}"
