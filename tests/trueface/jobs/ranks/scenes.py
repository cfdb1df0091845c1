"""Entry functions of the ranks in these tests, imported in separate processes. Their imports are few."""

import ctypes
import os
import signal
import time
from collections.abc import Mapping

import torch

from launcher.api import Job, JobError, Json
from trueface.training.distributed import ProcessGroup


def talk(_: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Return the numbers of the ranks."""
    return {"ranks": group.gather_json(group.shard.rank)}


def out_of_memory(_: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Fail in the second rank, while the first waits for it."""
    if group.shard.rank == 1:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
    group.wait()
    return {}


def die(_: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Be killed in the second rank, while the first waits for it."""
    if group.shard.rank == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    group.wait()
    return {}


def stuck(job: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Hold Python's lock in the second rank, as a library may do, so that no thread of it runs."""
    job.progress(step=group.shard.rank)
    group.wait()
    if group.shard.rank == 1:
        ctypes.PyDLL(None).sleep(600)
    group.wait()
    return {}


def hang(job: Job, group: ProcessGroup) -> Mapping[str, Json]:
    """Ignore signals, and end with the channel or on a stop message."""
    os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    job.progress(step=os.getpid())
    while not group.any(flag=job.stop.is_set()):
        time.sleep(0.02)
    raise JobError("stopped")
