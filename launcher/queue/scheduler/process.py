"""The process of a scheduler: takes the lock of its queue folder, runs, and makes room for a newer one.

It reads the backends from the user's file again after each change. If the file has a table
[notify], it keeps the process alive that sends notifications. This program and that of searches
belong to packages above the queue, which name them in `Services`.
"""

import contextlib
import gc
import logging
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher import __version__
from launcher.queue.backends.settings import read_configured_backends
from launcher.queue.gpu.nvml import Nvml
from launcher.queue.home.daemon_control import start_scheduler
from launcher.queue.home.paths import Home, check_home, check_home_namespace
from launcher.queue.home.scheduler_lock import SchedulerLock
from launcher.queue.home.scheduler_start import this_version
from launcher.queue.scheduler.loop import Scheduler
from launcher.queue.store.opening import should_check
from launcher.queue.store.queue import Store
from launcher.system import cgroups
from launcher.system.config import WatchedConfig, read_configuration, read_table
from launcher.system.environment import owners_environment
from launcher.system.error_log import ErrorThrottle, rotate_long_log
from launcher.system.errors import Error, MachineError, UsageError
from launcher.system.files import Json, read_json, write_json
from launcher.system.gpu_sharing import SHARING
from launcher.system.inherited_attributes import reset_inherited_attributes
from launcher.system.locks import lock_holder, mark_in_use
from launcher.system.process_start import spawn_daemon
from launcher.system.processes import boot_id, identity, usable_cores

CHECK_S = 20.0  # seconds between two checks whether the notifier is alive


class Services(NamedTuple):
    """Modules that a scheduler runs as processes of their own; an empty name is a missing program."""

    searches: str = ""  # command that runs one search
    notifications: str = ""  # sends notifications about runs


class Notifier:
    """Starts the program that sends notifications. It decides itself what to send and when to exit."""

    def __init__(self, home: Home, environ: Mapping[str, str], module: str) -> None:
        """Create a notifier. No process is started yet.

        Args:
            home: The queue folder.
            environ: Environment with the path of the user's file.
            module: The program; empty if there is none.
        """
        self._home, self._module = home, module
        self._is_configured = WatchedConfig(
            environ, self._has_notify_settings, lambda _: None, initial=False
        )
        self._next_check_at = 0.0  # monotonic
        self._child: int | None = None

    def ensure_running(self) -> None:
        """See that the process lives where it is wanted.

        Raises:
            OSError: it cannot be started.
        """
        if not self._module or not self._is_configured() or time.monotonic() < self._next_check_at:
            return
        self._next_check_at = time.monotonic() + CHECK_S
        self._reap()
        if self._child is None and lock_holder(self._home.notify_lock) is None:
            argv = [sys.executable, "-P", "-m", self._module, str(self._home.folder)]
            self._child = spawn_daemon(argv, self._home.notify_log)

    def _has_notify_settings(self, environ: Mapping[str, str]) -> bool:
        """Whether the user's file contains notification settings. An invalid file is reported by its other readers."""
        self._next_check_at = 0.0  # the user's file was changed
        try:
            return "notify" in read_configuration(environ).tables
        except UsageError:
            return False

    def _reap(self) -> None:
        """Take in the end of the process that was started."""
        if self._child is not None:
            with contextlib.suppress(ChildProcessError):
                if os.waitpid(self._child, os.WNOHANG) == (0, 0):
                    return
            self._child = None


logger = logging.getLogger(__name__)

LOG_BYTES = 8 << 20  # size of the scheduler's log; one older log is kept
# signals that end the scheduler at the next turn
LEAVE_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(argv: Sequence[str], services: Services) -> int:
    """Take the lock of the queue folder and run. Exit at once if another scheduler has it.

    Args:
        argv: The queue folder.
        services: Programs that the scheduler starts.
    """
    home = Home(Path(argv[0]))
    os.chdir("/")
    os.umask(0o077)
    _clear_attempt_variables()
    reset_inherited_attributes(os.environ)
    cgroups.leave_attempt_group()  # whatever attempt has started us does not end us
    logging.raiseExceptions = False  # a full disk must not end the scheduler
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    check_home(home)
    right = SchedulerLock(home)
    if not right.acquire():
        return 0
    check_home_namespace(home)
    lives = mark_in_use(home.folder)
    cgroups.remove_dead_groups()
    store = Store(home, check=_needs_check(home))
    cpus = usable_cores()
    record, troubles = _scheduler_record(cpus), ErrorThrottle()
    notifier = Notifier(home, os.environ, services.notifications)

    def housekeeping() -> None:
        with troubles.suppress_and_log(
            OSError, MachineError
        ):  # without a lock on a new file the scheduler continues with its record
            if not right.revalidate():
                logger.warning("trouble='another scheduler serves this queue folder'")
                scheduler.leave()
                return
        rotate_long_log(home.scheduler_log, LOG_BYTES)
        with troubles.suppress_and_log(OSError):
            notifier.ensure_running()
        if not home.scheduler_record.exists():  # the disk was full, or the record was deleted
            with contextlib.suppress(OSError):
                write_json(home.scheduler_record, record, mode=0o600)

    probe = Nvml()
    scheduler = Scheduler(
        home,
        store,
        snapshot=probe.snapshot,
        cpus=cpus,
        housekeeping=housekeeping,
        rules=WatchedConfig(os.environ, partial(read_table, SHARING), _warn, SHARING.default),
        absent=lambda: probe.absent,
        backends=WatchedConfig(os.environ, read_configured_backends, _warn),
        search_program=services.searches,
    )
    scheduler.leave_on_signals(*LEAVE_SIGNALS)
    home.scheduler_record.unlink(missing_ok=True)  # a predecessor's
    housekeeping()
    logger.info("scheduler pid=%d version=%s", os.getpid(), __version__)
    gc.freeze()  # existing objects stay and need no further garbage collection
    scheduler.run()
    # repeated requests for the same action must not kill the process while the interpreter exits
    signal.pthread_sigmask(signal.SIG_BLOCK, LEAVE_SIGNALS)
    with contextlib.suppress(
        OSError, MachineError
    ):  # the disk is full, or the queue folder is missing
        if home.exists() and right.revalidate():  # the next scheduler need not wait for our end
            write_json(home.scheduler_record, record | {"left": time.time()}, mode=0o600)
    right.release()
    if lives is not None:
        os.close(lives)
    # commands that queued jobs while we still held the lock did not start another scheduler
    stays = not scheduler.leaving and not home.stop_record.exists()
    is_queue = home.database.exists() and not home.damage_record.exists()
    if stays and is_queue and (not store.is_current() or _has_work(store)):
        start_scheduler(home)  # also if another database has replaced ours
    store.close()
    return 0


def _clear_attempt_variables() -> None:
    """Take out of our environment what an attempt that has started us was given for itself."""
    own = owners_environment(os.environ)
    for name in os.environ.keys() - own.keys():
        del os.environ[name]
    os.environ.update(own)


def _scheduler_record(cpus: int) -> dict[str, Json]:
    """Return the identity of this process and its number of cores, as written in the queue folder."""
    me = identity(os.getpid())
    return {
        **(me.to_json() if me else {}),
        "version": __version__,
        "code": this_version().changed_ns,
        "since": time.time(),
        "cpus": cpus,
    }


def _has_work(store: Store) -> bool:
    now = time.time()
    ready_jobs = store.ready_jobs
    return (
        bool(ready_jobs.read_ready(1))
        or ready_jobs.repair_unready(now)
        or ready_jobs.release_due_timers(now) is not None
        or bool(store.searches.active_numbers())
    )


def _warn(trouble: str) -> None:
    logger.warning("config.toml trouble=%r; the previous settings stay in use", trouble)


def _needs_check(home: Home) -> bool:
    last = read_json(home.scheduler_record)
    size = home.database.stat().st_size if home.database.exists() else 0
    return should_check(size, has_rebooted=last is not None and last.get("boot") != boot_id())


def run_main(argv: Sequence[str], services: Services) -> int:
    """Run `main`, and log an error that ends it; return the exit code."""
    try:
        return main(argv, services)
    except Error as error:
        logger.error("error: %s", error)  # noqa: TRY400  # a message, not a traceback
        return error.exit_code
