"""Module that multiprocessing's fork server imports once for all ranks of a process; see `coordinator`.

The server runs no torch operation and no CUDA call, since a fork could not use either after that. The
job's own process cannot fork the ranks itself: in a notebook or a test it has computed already.
"""

import atexit
import gc
import importlib
import os
import sys

RANK = "trueface.jobs.ranks.rank"
IMPORTED = ("torch.distributed", "torchvision.transforms.v2", "trueface.jobs.training", RANK)

if (
    "multiprocessing.forkserver" in sys.orig_argv[-1]
):  # otherwise the importing process is not the fork server
    gc.disable()  # it would search the new modules again and again: an eighth of the time of their import
    for name in IMPORTED:
        importlib.import_module(name)
    importlib.import_module(RANK).ignore_signals()
    # All output is written when the job's own process has ended. The normal destruction of imported
    # modules takes a second, which would delay the end of the job.
    atexit.register(os._exit, 0)
    gc.collect()
    gc.freeze()  # ranks must not write to the shared pages of imported modules
    gc.enable()
