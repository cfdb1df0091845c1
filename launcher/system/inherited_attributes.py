"""Attributes that a process inherits besides limits and niceness: scheduling, I/O class, OOM score, cores, privileges.

The first shell of a queue starts its scheduler, and so would decide about the jobs of all later shells. What can be
reset is reset. Source: sched(7), ioprio_set(2), proc_pid_oom_score_adj(5), personality(2), prctl(2).
"""

import contextlib
import ctypes
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

_IOPRIO_SET = {"x86_64": 251, "aarch64": 30}.get(platform.machine())  # number of the system call
_IOPRIO_WHO_PROCESS, _IOPRIO_CLASS_NONE = 1, 0
_BATCH_SYSTEMS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID")  # variables in an allocation
_POLICIES = {
    os.SCHED_BATCH: "batch",
    os.SCHED_IDLE: "idle",
    os.SCHED_FIFO: "fifo",
    os.SCHED_RR: "rr",
}
# capabilities(7), in the order of their bits
_CAPABILITIES = (
    "chown dac_override dac_read_search fowner fsetid kill setgid setuid setpcap linux_immutable"
    " net_bind_service net_broadcast net_admin net_raw ipc_lock ipc_owner sys_module sys_rawio"
    " sys_chroot sys_ptrace sys_pacct sys_admin sys_boot sys_nice sys_resource sys_time"
    " sys_tty_config mknod lease audit_write audit_control setfcap mac_override mac_admin syslog"
    " wake_alarm block_suspend audit_read perfmon bpf checkpoint_restore"
)
_MOST_NAMED = 4  # capabilities; a container may lack thirty


def reset_inherited_attributes(environ: Mapping[str, str]) -> None:
    """Give this process the attributes of a plain login, as far as it may.

    Args:
        environ: Inside an allocation of a batch system, the cores stay as that system has set them.
    """
    with contextlib.suppress(OSError):
        if os.sched_getscheduler(0) != os.SCHED_OTHER:
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.personality(0)
    if _IOPRIO_SET is not None:
        libc.syscall(_IOPRIO_SET, _IOPRIO_WHO_PROCESS, 0, _IOPRIO_CLASS_NONE)
    _reset_oom_score()
    if not any(name in environ for name in _BATCH_SYSTEMS):
        with contextlib.suppress(OSError):  # the kernel takes those of our cpuset
            os.sched_setaffinity(0, range(os.cpu_count() or 1))


def _reset_oom_score() -> None:
    """Set the OOM score to 0, or to the lowest value that the kernel allows."""
    file = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError, ValueError):
        lowest, allowed = 0, int(file.read_text())
        while lowest != allowed:
            try:
                file.write_text(str(lowest))
            except PermissionError:
                lowest = (lowest + allowed + 1) // 2 if lowest + 1 < allowed else allowed
            else:
                return


class Attributes(NamedTuple):
    """Attributes of a process that its children cannot improve without privileges."""

    no_new_privileges: bool = False
    capabilities: int = ~0  # mask of those that the process's children may get
    oom_score: int = 0
    policy: str = ""  # scheduling class, if not the normal one


def read_attributes(pid: int) -> Attributes:
    """Return the attributes of a process, 0 for this one; the defaults if they are unknown."""
    folder = Path(f"/proc/{pid or 'self'}")
    try:
        lines = (folder / "status").read_text(errors="replace").splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        return Attributes(
            no_new_privileges=status.get("NoNewPrivs") == "1",
            capabilities=int(status.get("CapBnd", "-1"), 16),
            oom_score=int((folder / "oom_score_adj").read_text()),
            policy=_POLICIES.get(os.sched_getscheduler(pid), ""),
        )
    except (OSError, ValueError):
        return Attributes()


def describe_losses(scheduler: Attributes, shell: Attributes) -> list[str]:
    """Return what jobs inherit from a scheduler that is worse than in a shell, as nouns."""
    losses = []
    if scheduler.no_new_privileges and not shell.no_new_privileges:
        losses.append("no_new_privs, so that sudo fails")
    if shell.capabilities >= 0 and (missing := shell.capabilities & ~scheduler.capabilities):
        losses.append(f"a bounding set without {_name_capabilities(missing)}")
    if scheduler.oom_score > shell.oom_score:
        losses.append(f"oom_score_adj {scheduler.oom_score}")
    if scheduler.policy and not shell.policy:
        losses.append(f"scheduling class {scheduler.policy}")
    return losses


def _name_capabilities(mask: int) -> str:
    """Return the names of capabilities; of many, the first ones and how many others there are."""
    bits = [bit for bit in range(mask.bit_length()) if mask >> bit & 1]
    known = dict(enumerate(_CAPABILITIES.split()))
    parts = [
        f"cap_{known[bit]}" if bit in known else f"capability {bit}" for bit in bits[:_MOST_NAMED]
    ]
    if more := len(bits) - len(parts):
        parts.append(f"{more} more")
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
