"""Shorter intervals for the background processes of a test: it need not wait as long as a person can.

Forks of `tests.forked` and `tests.nvml.scheduler` apply them. Every other process has the intervals of the product.
`make night` runs the tests without forks: they pass there, too, but later.
"""

import importlib
import json
import os
from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager

VARIABLE = "LAUNCHER_TESTS_INTERVALS"  # JSON: module and name of a constant → its value
QUICK_MESSAGES = {
    "launcher.frontends.notify.notices.RUN_END_DELAY_S": 0.5,
    "launcher.frontends.notify.service.EVENT_POLL_S": 0.1,
    "launcher.frontends.notify.service.SCHEDULER_GRACE_S": 1.0,
}
# a scheduler that soon misses a pilot; it asks the engine whether that lives
QUICK_PILOTS = {
    "launcher.queue.backends.backend_pilots.ACTIVE_POLL_S": 0.2,
    "launcher.queue.backends.pilot_rules.LEAST_SILENCE_S": 0.6,
    "launcher.queue.scheduler.pilot_events.IDLE_POLL_S": 0.1,
    "launcher.queue.scheduler.pilot_events.ORPHAN_POLL_S": 0.1,
    "launcher.queue.store.transitions.SIGNALLED_BACKOFF_S": 0.3,
}
# a job whose supervisor was killed runs again sooner, and a program that was killed has ended sooner
QUICK_KILLS = {
    "launcher.queue.store.transitions.SIGNALLED_BACKOFF_S": 0.3,
    "launcher.queue.scheduler.running_attempts.POLL_S": 0.2,
    "launcher.queue.scheduler.running_attempts.REMIND_S": 0.2,
    "launcher.queue.workers.attempt_handles.POLL_S": 0.2,
    "launcher.queue.workers.exit_outcome.SIGNALLED_WAIT_S": 0.3,
}
# a program that failed has ended sooner: nobody shuts the machine down
QUICK_FAILURES = {"launcher.queue.workers.exit_outcome.FAILED_WAIT_S": 0.05}
# writes that wait for room on a disk, or for a folder that is away, are tried again sooner
QUICK_WRITES = {
    "launcher.queue.backends.outbox.RETRY_S": 0.2,
    "launcher.system.files.DISK_FULL_PAUSE_S": 0.2,
    "launcher.queue.workers.supervisor.DISK_FULL_PAUSE_S": 0.2,
}
# programs and interpreters that are missing count as gone sooner
QUICK_LOSSES = {
    "launcher.queue.workers.fork_server_pool.AWAY_TIMEOUT_S": 0.3,
    "launcher.queue.workers.fork_server_pool.MISSING_POLL_S": 0.1,
    "launcher.queue.workers.start_attempt.AWAY_TIMEOUT_S": 0.3,
}
# a scheduler that looks at GPUs more often, and shows sooner what it has seen
QUICK_LOOKS = {
    "launcher.queue.gpu.gpus_file.SHOW_EVERY_S": 0.3,
    "launcher.queue.gpu.monitor.POLL_S": 0.2,
    "launcher.queue.scheduler.local_partition.POLL_S": 0.2,
    "launcher.queue.scheduler.local_node.POLL_S": 0.2,
    "launcher.queue.scheduler.loop.POLL_S": 0.2,
}


def shorten(environment: MutableMapping[str, str], intervals: Mapping[str, float]) -> None:
    """Shorten constants in the background processes that have an environment.

    Args:
        environment: gets a variable.
        intervals: the module and the name of each constant, separated by a dot → its new value.
    """
    for place, value in intervals.items():
        module, _, name = place.rpartition(".")
        usual = getattr(importlib.import_module(module), name)
        assert 0 < value < usual, f"{place} is {usual}"
    before = json.loads(environment.get(VARIABLE, "{}"))
    environment[VARIABLE] = json.dumps(before | dict(intervals))


@contextmanager
def shortened(intervals: Mapping[str, float]) -> Iterator[None]:
    """Shorten constants in the background processes that are started from our environment in a block."""
    before = os.environ.get(VARIABLE)
    shorten(os.environ, intervals)
    try:
        yield
    finally:
        os.environ.pop(VARIABLE, None)
        if before is not None:
            os.environ[VARIABLE] = before


def apply() -> set[str]:
    """Shorten the constants that our environment names; return their modules."""
    modules = set()
    for place, value in json.loads(os.environ.get(VARIABLE, "{}")).items():
        module, _, name = place.rpartition(".")
        setattr(importlib.import_module(module), name, value)
        modules.add(module)
    return modules
