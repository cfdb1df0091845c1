"""One rank: a process that does its part of a job's training, and tells how it ended."""

import contextlib
import importlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from multiprocessing.connection import Connection

import torch
import torch.distributed as dist

from launcher.api import Job, Json
from trueface.jobs.ranks.failures import Failure
from trueface.jobs.ranks.messages import DONE, FAILED, Channel
from trueface.jobs.ranks.rank_job import Forwarding, obey, rank_job
from trueface.jobs.ranks.world import Place
from trueface.runtime import gpu_memory, logs
from trueface.runtime.errors import UsageError
from trueface.runtime.sharding import Shard
from trueface.training.distributed.group import Group

Entry = Callable[[Job, Group], Mapping[str, Json]]

# the job's own process sees a rank that dies; a slow disk must not end the others
PATIENCE = timedelta(days=7)
INTERFACE = "GLOO_SOCKET_IFNAME"  # all ranks are on one machine, whose name need not resolve


def main(connection: Connection) -> None:
    """Do a rank's part of the task that comes first; the first rank's result is that of the job."""
    channel = Channel(connection)
    task = channel.receive().content
    place = Place(**task["place"])
    os.environ.clear()
    os.environ.update(task["environment"])
    os.environ.setdefault(INTERFACE, "lo")
    os.chdir(task["folder"])
    try:
        job = rank_job(task["job"], place, channel)
        threading.Thread(target=_listen, args=(channel, job), daemon=True).start()
        # the first one's log is the job's; those of the others would say the same again
        handler = Forwarding(channel) if place.rank == 0 else logging.NullHandler()
        logs.root().addHandler(handler)
        module, _, function = task["entry"].partition(":")
        entry: Entry = getattr(importlib.import_module(module), function)
        with _meeting(place) as group:
            result = entry(job, group)
        channel.send(DONE, dict(result))
    except BaseException as error:  # noqa: BLE001  # the rank's top: whatever it was is told
        with contextlib.suppress(OSError):
            channel.send(FAILED, Failure.of(error).record())
        os._exit(1)  # who waits for other ranks could not leave in order


def _listen(channel: Channel, job: Job) -> None:
    """Obey the job's own process, and end at once when it has gone."""
    try:
        while True:
            message = channel.receive()
            obey(job, message)
    except (EOFError, OSError):
        os._exit(1)


@contextlib.contextmanager
def _meeting(place: Place) -> Iterator[Group]:
    """Join the other ranks of the job, and leave together with them.

    Raises:
        UsageError: there are fewer cards than ranks.
        JobError: torch cannot use the rank's card, or it is another one than was promised.
    """
    if place.device != "cpu":
        _take_card(place)
    # not declared as exported, though documented
    store = dist.FileStore(place.meeting, place.size)  # type: ignore[attr-defined]
    dist.init_process_group(
        place.backend,
        store=store,
        rank=place.rank,
        world_size=place.size,
        timeout=PATIENCE,
    )
    control = dist.new_group(backend="gloo", timeout=PATIENCE)
    assert isinstance(control, dist.ProcessGroup)  # this rank is in it
    shard = Shard(rank=place.rank, size=place.size)
    yield Group(shard, control=control, backend=place.backend)
    dist.barrier(group=control)
    dist.destroy_process_group()


def _take_card(place: Place) -> None:
    number, there = torch.device(place.device).index or 0, torch.cuda.device_count()
    if 0 < there <= number:
        raise UsageError(
            f"{place.name}: this job sees {there} GPU{'s' * (there > 1)}; ask for as many GPUs as "
            f"processes, or set processes: {there}"
        )
    gpu_memory.confirm(number, os.environ)
    torch.cuda.set_device(number)  # else a rank would take memory of the first card, too
