"""The process that sends messages: looks at what happened, has messages sent, and puts down who was told.

There is one per home; its scheduler starts it where messages are configured.
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
from pathlib import Path
from typing import NamedTuple

from launcher.errors import Error, UsageError
from launcher.job_options.notifications import Event
from launcher.notify import messages
from launcher.notify import notices as noted
from launcher.notify.messages import Message
from launcher.notify.notices import GivenUp, Notices, write_notices
from launcher.notify.sending import Sent, send_now
from launcher.notify.settings import NotifySettings, Target, configured_notify
from launcher.store.opening import open_to_read
from launcher.store.run_news import RunNews, RunNewsReader
from launcher.system.config import configuration_file
from launcher.system.daemon_control import scheduler_pid
from launcher.system.error_log import EXPECTED, Troubles, set_long_log_aside
from launcher.system.file_digests import UNSTABLE_S
from launcher.system.files import read_json, stamp
from launcher.system.locks import live_in, lock
from launcher.system.paths import Home
from launcher.system.scheduler_start import this_version, version_of
from launcher.system.stop_event import StopEvent

logger = logging.getLogger(__name__)

OLDEST_S = 600.0  # seconds before the first start that are reported, if targets were defined then
LOOK_S = 1.0  # between two looks at what happened
SENDING_S = 0.1  # likewise at messages that are under way
MOST_AT_ONCE = 64  # messages that are under way
GRACE_S = 3.0  # without a scheduler: another one may take its place
LONGEST_STAY_S = 86_400.0  # without a scheduler, for messages that wait


class _UnderWay(NamedTuple):
    """A message on its way to a target."""

    target: str
    run: RunNews  # as it stood then
    events: tuple[Event, ...]
    message: Message
    answer: Future[Sent]


class Service:
    """Everything that the process knows; all of it can be found again."""

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
    ) -> None:
        """Go on from what the home's file says.

        Args:
            home: the queue's; this process holds its `notify.lock`.
            environ: tells where the user's file is; commands get it, too.
            clock: seconds since 1970.
            uptime: seconds since the machine was started.
        """
        self._home, self._environ, self._clock, self._uptime = home, environ, clock, uptime
        self._host = socket.gethostname()
        self._notices = noted.read_notices(home)
        self._under_way: dict[str, _UnderWay] = {}  # by target
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="sending")
        self._leaving = threading.Event()
        self._troubles = Troubles()
        self._settings: NotifySettings | None = None
        self._is_broken = False  # the user's file is
        self._file: object = ()  # the stamp of the user's file
        self._database: object = None  # the stamps of the queue's; None: it may have changed
        self._alone_since: float | None = None  # since when no scheduler lives, by `uptime`

    def step(self) -> float:
        """Do all that is due; return after how many seconds to look again."""
        now = self._clock()
        self._read_settings()
        if scheduler_pid(self._home) is not None:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = self._uptime()
        for each in [way for way in self._under_way.values() if way.answer.done()]:
            del self._under_way[each.target]
            self._take(each)
        if self._settings is not None:
            with self._troubles.survived(*EXPECTED):
                self._listen(now)
            with self._troubles.survived(*EXPECTED):
                for target in self._settings.targets:
                    self._tell(target, self._settings, now)
        return SENDING_S if self._under_way else LOOK_S

    def finished(self) -> bool:
        """Tell whether nothing is left to do for this process."""
        if not self._home.database.exists():
            return True
        if self._settings is None and not self._is_broken:
            return True
        if self._under_way:
            return False
        if self._alone_since is None:
            # where a newer launcher serves the home, its scheduler starts a process of its own code
            scheduler = version_of(read_json(self._home.scheduler_record) or {})
            return scheduler.is_newer_than(this_version())
        alone_s = self._uptime() - self._alone_since
        return alone_s > (LONGEST_STAY_S if self._notices.pending else GRACE_S)

    def close(self) -> None:
        """End what is under way; it is sent again."""
        self._leaving.set()
        self._threads.shutdown()

    def _read_settings(self) -> None:
        """Read the user's file where it has changed; of a broken one nothing holds."""
        try:
            file = stamp(str(configuration_file(self._environ)))
            if file == self._file:
                return
            self._file, self._is_broken = file, False
            self._settings = configured_notify(self._environ)
        except UsageError as error:
            logger.warning("config.toml trouble=%r; no message is sent", str(error))
            self._settings, self._is_broken = None, True
            return
        names = [] if self._settings is None else [target.name for target in self._settings.targets]
        logger.info("targets=%s", ",".join(names) or "none")
        now = self._clock()
        notices = noted.with_targets(self._notices, names, self._changed(now))
        try:
            self._keep(notices)
        except OSError as error:  # the disk is full: it is known here, and written later
            self._troubles.tell(error)
            self._notices = notices

    def _changed(self, now: float) -> float:
        """Return when the user's file was changed last, in seconds since 1970."""
        file = stamp(str(configuration_file(self._environ)))
        return now if file is None else min(now, file[1] / 1e9)

    # --- what happened

    def _listen(self, now: float) -> None:
        """Take in all that happened, and put it down; what could not be put down is read again."""
        notices, database = self._notices, self._home.database
        stamps, at = (stamp(str(database)), stamp(f"{database}-wal")), time.time()
        if stamps != self._database:
            with self._reader() as reader:
                newest = reader.newest()
                cursor = notices.cursor
                if cursor is None:
                    cursor = reader.beginning(max(now - OLDEST_S, self._changed(now)))
                cursor = min(cursor, newest)  # the database was replaced by an older one
                upto, runs = reader.since(cursor)
                if notices.cursor is None:
                    runs = [reader.whole(run) for run in runs]
                notices = noted.heard(notices, upto, runs, now)
        self._keep(notices)
        # SQLite writes its log from the start again: a change within the same step of the file system's clock
        # leaves the stamp as it was
        changed = max((changed_ns for _, changed_ns in filter(None, stamps)), default=0) / 1e9
        self._database = stamps if at - changed >= UNSTABLE_S else None

    @contextlib.contextmanager
    def _reader(self) -> Iterator[RunNewsReader]:
        # opened anew each time: one that was opened while nobody wrote sees nothing new
        with contextlib.closing(open_to_read(self._home.database)) as connection:
            yield RunNewsReader(connection)

    def _keep(self, notices: Notices) -> None:
        """Put down what is known, before anything of it is sent.

        Raises:
            OSError: that is not possible; all is as it was.
        """
        if self._settings is not None:
            notices = noted.left(notices, self._settings, self._clock())
        if notices != self._notices:
            write_notices(self._home, notices)
            self._notices = notices

    # --- what is sent

    def _tell(self, target: Target, settings: NotifySettings, now: float) -> None:
        """Begin to send a target the next message that is due."""
        if target.name in self._under_way:
            return
        if not noted.may_be_tried(self._notices.failing.get(target.name), now):
            return
        since = (self._notices.targets or {}).get(target.name, 0.0)
        for run in self._notices.runs.values():
            if events := noted.due(run, target, settings, now, since=since):
                break
        else:
            return
        with self._reader() as reader:
            counts = {} if run.open else reader.ended_since(run.id, run.since)
            failures = reader.failures(run.id, run.after) if run.happened else ()
        if not run.open and not counts and not failures:  # nothing of it ran
            self._keep(noted.told(self._notices, target.name, run, events))
            return
        message = messages.of_run(run, events, failures, counts, host=self._host, now=now)
        logger.info("message=%r to=%s", message.title, target.name)
        answer = self._threads.submit(send_now, target, message, self._environ, self._leaving)
        self._under_way[target.name] = _UnderWay(target.name, run, events, message, answer)

    def _take(self, sent: _UnderWay) -> None:
        """Put down how a sending ended."""
        now, answer, title = self._clock(), sent.answer.result(), sent.message.title
        told = noted.told(self._notices, sent.target, sent.run, sent.events)
        if answer.sent:
            logger.info("sent=%r to=%s", title, sent.target)
            notices = told
        else:
            logger.warning("not sent=%r to=%s trouble=%r", title, sent.target, answer.text)
            lost = GivenUp(now, sent.target, title, answer.text)
            retry_s = (self._settings or NotifySettings()).retry_s
            notices = noted.failed(
                self._notices, told, lost, happened=sent.run.last_at, retry_s=retry_s
            )
        try:
            self._keep(notices)
        except OSError as error:  # the disk is full: it is known here, and sent again after a death
            self._troubles.tell(error)
            self._notices = notices


def serve(service: Service, leaving: Callable[[], bool], sleep: Callable[[float], object]) -> None:
    """Serve until there is nothing left to do.

    Args:
        service: does the work.
        leaving: tells whether to leave now.
        sleep: for so many seconds, or until `leaving` changes.
    """
    troubles = Troubles()
    while not leaving():
        pause_s = LOOK_S
        try:
            pause_s = service.step()
        # a fault of ours in one look must not end the messages of all others
        except Exception as error:  # noqa: BLE001
            troubles.tell(error)
        with contextlib.suppress(Error, OSError):
            if service.finished():
                break
        sleep(pause_s)
    service.close()


# --- the process

LOG_BYTES = 1 << 20  # of its log; one older log is kept
NICE = 10  # jobs come first


def main(argv: Sequence[str]) -> int:
    """Take the home's lock and serve; leave at once when another process has it."""
    home = Home(Path(argv[0]))
    os.chdir("/")
    os.umask(0o077)
    os.nice(NICE)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(message)s"
    )
    if not home.database.exists():
        return 0
    held = lock(home.notify_lock)
    if held is None:
        return 0
    lives = live_in(home.folder)
    set_long_log_aside(home.notify_log, LOG_BYTES)
    leaving = StopEvent()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: leaving.set())
    logger.info("notify pid=%d", os.getpid())
    serve(Service(home, os.environ), leaving.is_set, leaving.wait)
    logger.info("notify pid=%d ends", os.getpid())
    if lives is not None:
        os.close(lives)
    os.close(held)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Error as error:
        logger.error("error: %s", error)  # noqa: TRY400  # a message, not a traceback
        sys.exit(error.exit_code)
