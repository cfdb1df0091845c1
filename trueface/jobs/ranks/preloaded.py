"""Module that multiprocessing's fork server imports once for all ranks of a process; see `coordinator`.

The server runs no torch operation and no CUDA call, since a fork could not use either after that. The
job's own process cannot fork the ranks itself: in a notebook or a test it has computed already.
"""

import atexit
import gc
import os
import sys

import torch
import torch.distributed
import torchvision.transforms.v2

from trueface.jobs import training
from trueface.jobs.ranks import rank

IMPORTED = (torch, torch.distributed, torchvision.transforms.v2, training, rank)

if (
    "multiprocessing.forkserver" in sys.orig_argv[-1]
):  # otherwise the importing process is not the fork server
    rank.ignore_signals()
    # All output is written when the job's own process has ended. The normal destruction of imported
    # modules takes a second, which would delay the end of the job.
    atexit.register(os._exit, 0)
    gc.collect()
    gc.freeze()  # ranks must not write to the shared pages of imported modules
