"""The process that sends messages: reads events, sends messages, and records which targets received them.

There is one process per queue; the scheduler starts it if messages are configured.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.notify import messages
from launcher.frontends.notify import notices as noted
from launcher.frontends.notify.messages import Message
from launcher.frontends.notify.notices import (
    DeadLetter,
    NotificationState,
    write_notification_state,
)
from launcher.frontends.notify.sending import DeliveryResult, deliver
from launcher.frontends.notify.settings import NotifySettings, NotifyTarget, read_configured_notify
from launcher.provenance.file_digests import UNSTABLE_S
from launcher.queue.home.daemon_control import scheduler_pid
from launcher.queue.home.paths import Home
from launcher.queue.home.scheduler_start import this_version, version_of
from launcher.queue.store.opening import open_database_readonly
from launcher.queue.store.run_news import RunEventReader
from launcher.system.config import configuration_file
from launcher.system.error_log import EXPECTED_ERRORS, ErrorThrottle, rotate_long_log
from launcher.system.errors import Error, UsageError
from launcher.system.files import file_stamp, read_json
from launcher.system.locks import lock_file, mark_in_use
from launcher.system.stop_event import StopEvent

logger = logging.getLogger(__name__)

OLDEST_REPORTED_S = (
    600.0  # seconds before the first start that are reported, if targets were defined then
)
EVENT_POLL_S = 1.0  # seconds between two reads of events
DELIVERY_POLL_S = 0.1  # seconds between two checks of messages that are being sent
MOST_DELIVERIES = 64  # messages sent at the same time
SCHEDULER_GRACE_S = 3.0  # seconds without a scheduler: a new scheduler may start
LONGEST_STAY_S = 86_400.0  # without a scheduler, if messages are pending


class _Delivery(NamedTuple):
    """A message that is being sent to a target."""

    target: str
    happened: float  # time of the last reported event
    # function that marks the message as sent
    mark: Callable[[NotificationState], NotificationState]
    message: Message
    result: Future[DeliveryResult]


class NotifyService:
    """The state of the process; all of it can be restored from files and the database."""

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Continue from the stored notification state.

        Args:
            home: Queue folder; this process holds its `notify.lock`.
            environ: Environment, which determines the user's file; commands also get it.
            clock: Returns seconds since 1970.
            uptime: Returns seconds since the start of the machine.
        """
        self._home, self._environ, self._clock, self._uptime = home, environ, clock, uptime
        self._host = socket.gethostname()
        self._state = noted.read_notification_state(home)
        self._deliveries: dict[str, _Delivery] = {}  # by target
        self._threads = ThreadPoolExecutor(MOST_DELIVERIES, thread_name_prefix="sending")
        self._leaving = threading.Event()
        self._error_throttle = ErrorThrottle()
        self._settings: NotifySettings | None = None
        self._is_broken = False  # whether the user's file is invalid
        self._settings_fingerprint: object = ()  # fingerprint of the user's file
        self._database_fingerprints: object = (
            None  # fingerprints of the queue's database files; None: they may have changed
        )
        self._scheduler_gone_since: float | None = (
            None  # start of the time without a scheduler, by `uptime`
        )

    def step(self) -> float:
        """Do all work that is due; return the seconds until the next step."""
        now = self._clock()
        self._read_settings()
        if scheduler_pid(self._home) is not None:
            self._scheduler_gone_since = None
        elif self._scheduler_gone_since is None:
            self._scheduler_gone_since = self._uptime()
        for each in [way for way in self._deliveries.values() if way.result.done()]:
            del self._deliveries[each.target]
            self._record_delivery(each)
        if self._settings is not None:
            with self._error_throttle.suppress_and_log(*EXPECTED_ERRORS):
                self._read_events(now)
            with self._error_throttle.suppress_and_log(*EXPECTED_ERRORS):
                for target in self._settings.targets:
                    self._start_delivery(target, self._settings, now)
        return DELIVERY_POLL_S if self._deliveries else EVENT_POLL_S

    def is_finished(self) -> bool:
        """Return whether this process has nothing left to do."""
        if not self._home.database.exists():
            return True
        if self._settings is None and not self._is_broken:
            return True
        if self._deliveries:
            return False
        if self._scheduler_gone_since is None:
            # the scheduler of a newer launcher starts a process with its own code
            scheduler = version_of(read_json(self._home.scheduler_record) or {})
            return scheduler.is_newer_than(this_version())
        alone_s = self._uptime() - self._scheduler_gone_since
        return alone_s > (LONGEST_STAY_S if self._state.has_pending else SCHEDULER_GRACE_S)

    def close(self) -> None:
        """Stop messages that are being sent; they will be sent again."""
        self._leaving.set()
        self._threads.shutdown()

    def _read_settings(self) -> None:
        """Read the user's file if it has changed; an invalid file has no effect."""
        try:
            file = file_stamp(str(configuration_file(self._environ)))
            if file == self._settings_fingerprint:
                return
            self._settings_fingerprint, self._is_broken = file, False
            self._settings = read_configured_notify(self._environ)
        except UsageError as error:
            logger.warning("config.toml trouble=%r; no message is sent", str(error))
            self._settings, self._is_broken = None, True
            return
        names = [] if self._settings is None else [target.name for target in self._settings.targets]
        logger.info("targets=%s", ",".join(names) or "none")
        now = self._clock()
        notices = noted.with_targets(self._state, names, self._settings_changed_at(now))
        try:
            self._save(notices)
        except OSError as error:  # the disk is full: the state is kept in memory and written later
            self._error_throttle.log_error(error)
            self._state = notices

    def _settings_changed_at(self, now: float) -> float:
        """Return the time of the last change of the user's file, in seconds since 1970."""
        file = file_stamp(str(configuration_file(self._environ)))
        return now if file is None else min(now, file[1] / 1e9)

    # --- events

    def _read_events(self, now: float) -> None:
        """Read new events and store them; if they cannot be stored, they are read again."""
        notices, database = self._state, self._home.database
        stamps, at = (file_stamp(str(database)), file_stamp(f"{database}-wal")), time.time()
        if stamps != self._database_fingerprints:
            with self._reader() as reader:
                newest = reader.newest()
                cursor = notices.cursor
                if cursor is None:
                    cursor = reader.last_event_before(
                        max(now - OLDEST_REPORTED_S, self._settings_changed_at(now))
                    )
                cursor = min(cursor, newest)  # an older database has replaced it
                upto, runs = reader.read_since(cursor)
                job_ends = reader.job_ends(cursor, upto)
                if notices.cursor is None:
                    runs = [reader.extend_to_idle_start(run) for run in runs]
                notices = noted.with_events(notices, upto, runs, now, job_ends=job_ends)
        self._save(notices)
        # SQLite writes its log from the start again. A change within one tick of the file system's clock
        # leaves the fingerprint unchanged
        changed = max((changed_ns for _, changed_ns in filter(None, stamps)), default=0) / 1e9
        self._database_fingerprints = stamps if at - changed >= UNSTABLE_S else None

    @contextlib.contextmanager
    def _reader(self) -> Iterator[RunEventReader]:
        # opened again each time: a connection that was opened without a writer sees no changes
        with contextlib.closing(open_database_readonly(self._home.database)) as connection:
            yield RunEventReader(connection)

    def _save(self, notices: NotificationState) -> None:
        """Store the state before any message about it is sent.

        Raises:
            OSError: the state cannot be written; it is unchanged.
        """
        if self._settings is not None:
            notices = noted.prune(notices, self._settings, self._clock())
        if notices != self._state:
            write_notification_state(self._home, notices)
            self._state = notices

    # --- deliveries

    def _start_delivery(self, target: NotifyTarget, settings: NotifySettings, now: float) -> None:
        """Start sending the next due message to a target."""
        if target.name in self._deliveries:
            return
        if not noted.is_retry_due(self._state.failing.get(target.name), now):
            return
        since = self._state.targets.get(target.name, 0.0)
        for run in self._state.runs.values():
            if events := noted.due_events(run, target, settings, now, start_time=since):
                break
        else:
            self._start_job_delivery(target, settings, since)
            return
        with self._reader() as reader:
            counts = {} if run.open else reader.count_ended_since(run.id, run.since)
            failures = reader.failures(run.id, run.after) if run.happened else ()
        if not run.open and not counts and not failures:  # no job of the run ran
            self._save(noted.mark_sent(self._state, target.name, run, events))
            return
        message = messages.make_run_message(run, events, failures, counts, host=self._host, now=now)
        mark = partial(noted.mark_sent, target=target.name, run=run, events=events)
        self._deliver(target, message, run.last_at, mark)

    def _start_job_delivery(
        self, target: NotifyTarget, settings: NotifySettings, start_time: float
    ) -> None:
        """Start sending the first end of a job, or hold, that a target has not received."""
        for end in self._state.job_ends:
            if noted.is_end_due(end, target, settings, start_time=start_time):
                break
        else:
            return
        if end.held:
            message = messages.make_hold_message(end, host=self._host)
        else:
            with self._reader() as reader:
                took_s = reader.duration(end.job)
            message = messages.make_job_message(end, took_s, host=self._host)
        mark = partial(noted.mark_end_sent, target=target.name, end=end)
        self._deliver(target, message, end.at, mark)

    def _deliver(
        self,
        target: NotifyTarget,
        message: Message,
        event_time: float,
        mark: Callable[[NotificationState], NotificationState],
    ) -> None:
        logger.info("message=%r to=%s", message.title, target.name)
        answer = self._threads.submit(deliver, target, message, self._environ, self._leaving)
        self._deliveries[target.name] = _Delivery(target.name, event_time, mark, message, answer)

    def _record_delivery(self, delivery: _Delivery) -> None:
        """Record the result of a delivery."""
        now, answer, title = self._clock(), delivery.result.result(), delivery.message.title
        told = delivery.mark(self._state)
        if answer.delivered:
            logger.info("sent=%r to=%s", title, delivery.target)
            notices = told
        else:
            logger.warning("not sent=%r to=%s trouble=%r", title, delivery.target, answer.text)
            lost = DeadLetter(now, delivery.target, title, answer.text)
            retry_s = (self._settings or NotifySettings()).retry_s
            notices = noted.mark_failed(
                self._state, told, lost, event_time=delivery.happened, retry_s=retry_s
            )
        try:
            self._save(notices)
        except OSError as error:  # the disk is full: the result is kept in memory; after a crash the message is sent again
            self._error_throttle.log_error(error)
            self._state = notices


def serve(
    service: NotifyService, is_stopping: Callable[[], bool], sleep: Callable[[float], object]
) -> None:
    """Run the service until nothing is left to do.

    Args:
        service: Service to run.
        is_stopping: Returns whether to stop now.
        sleep: Sleeps for some seconds, or until `is_stopping` changes.
    """
    troubles = ErrorThrottle()
    while not is_stopping():
        pause_s = EVENT_POLL_S
        try:
            pause_s = service.step()
        # an error in one step must not stop later messages
        except Exception as error:  # noqa: BLE001
            troubles.log_error(error)
        with contextlib.suppress(Error, OSError):
            if service.is_finished():
                break
        sleep(pause_s)
    service.close()


# --- the process

LOG_BYTES = 1 << 20  # bytes of the log file; one older file is kept
NICE = 10  # jobs have priority


def main(argv: Sequence[str]) -> int:
    """Take the lock of the queue and run the service; exit immediately if another process holds it."""
    home = Home(Path(argv[0]))
    os.chdir("/")
    os.umask(0o077)
    os.nice(NICE)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if not home.database.exists():
        return 0
    held = lock_file(home.notify_lock)
    if held is None:
        return 0
    lives = mark_in_use(home.folder)
    rotate_long_log(home.notify_log, LOG_BYTES)
    leaving = StopEvent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: leaving.set())
    logger.info("notify pid=%d", os.getpid())
    serve(NotifyService(home, os.environ), leaving.is_set, leaving.wait)
    logger.info("notify pid=%d ends", os.getpid())
    if lives is not None:
        os.close(lives)
    os.close(held)
    return 0


def run_main(argv: Sequence[str]) -> int:
    """Run `main`, and log an error that ends it; return the exit code."""
    try:
        return main(argv)
    except Error as error:
        logger.error("error: %s", error)  # noqa: TRY400  # a message, not a traceback
        return error.exit_code
