"""The process that sends messages: looks at what happened, keeps the outbox, has messages sent."""

import contextlib
import logging
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from launcher.backends.pilots_file import past_pilots
from launcher.errors import Error, UsageError
from launcher.job_options.notifications import Event
from launcher.notify import messages
from launcher.notify.bundles import noted, ripe, with_notes
from launcher.notify.machine_news import GPU_LOOK_S, GpuSight, MachineNews, pilot_faults_noted
from launcher.notify.sending import Answer, Sending, refused
from launcher.notify.settings import NotifySettings, configured_notify
from launcher.notify.state import Delivery, Notices, read_notices, write_notices
from launcher.states import State
from launcher.store.news import RunNewsReader
from launcher.store.opening import open_to_read
from launcher.system.config import configuration_file, read_configuration
from launcher.system.daemon_control import scheduler_pid, this_version, version_of
from launcher.system.error_log import EXPECTED, Troubles
from launcher.system.files import read_json, stamp
from launcher.system.paths import Home

logger = logging.getLogger(__name__)

LOOK_S = 1.0  # between two looks at what happened
SENDING_S = 0.1  # likewise at messages that are under way
GRACE_S = 3.0  # without a scheduler: another one may take its place
LONGEST_STAY_S = 86_400.0  # without a scheduler, for messages that wait


class Service:
    """Everything that the process knows; all of it can be found again."""

    def __init__(
        self,
        home: Home,
        environ: Mapping[str, str],
        *,
        clock: Callable[[], float] = time.time,
        uptime: Callable[[], float] = lambda: time.clock_gettime(time.CLOCK_BOOTTIME),
        gpus: GpuSight | None = None,
    ) -> None:
        """Go on from what the home's file says.

        Args:
            home: the queue's; this process holds its `notify.lock`.
            environ: tells where the user's file is; commands get it, too.
            clock: seconds since 1970.
            uptime: seconds since the machine was started.
            gpus: looks at them.
        """
        self._home, self._environ, self._clock, self._uptime = home, environ, clock, uptime
        self._host = socket.gethostname()
        self._notices = read_notices(home)
        self._sendings: dict[str, tuple[Delivery, Sending]] = {}  # by target
        self._machine = MachineNews(home, gpus or GpuSight(home), self._reader, uptime)
        self._troubles = Troubles()
        self._settings: NotifySettings | None = None
        self._is_broken = False  # the user's file is
        self._file: object = ()  # the stamp of the user's file
        self._database: object = None  # the stamps of the queue's
        self._record: object = None  # the stamp of the scheduler's record
        self._alone_since: float | None = None  # since when no scheduler lives, by `uptime`

    def step(self) -> float:
        """Do all that is due; return after how many seconds to look again."""
        now = self._clock()
        self._read_settings()
        served = self._is_served()
        self._collect(now)
        settings = self._settings
        if settings is not None:
            with self._troubles.survived(*EXPECTED):
                self._look(settings, served=served, now=now)
            self._send(settings, now)
        return SENDING_S if self._sendings else LOOK_S

    def _look(self, settings: NotifySettings, *, served: bool, now: float) -> None:
        """Take in all that happened, and put it down; what could not be put down is read again."""
        try:
            notices = self._listened(self._notices, settings, now)
            notices = self._machine.noted(notices, settings, served=served, now=now)
            self._keep(self._posted(notices, settings, now))
        except BaseException:
            self._database = None
            raise

    def finished(self) -> bool:
        """Tell whether nothing is left to do for this process."""
        if not self._home.database.exists():
            return True
        if self._settings is None and not self._is_broken:
            return True
        if self._sendings:
            return False
        if self._alone_since is None:
            return self._is_outdated()
        alone_s = self._uptime() - self._alone_since
        if self._notices.pending or self._may_idle(alone_s):
            return alone_s > LONGEST_STAY_S
        return alone_s > GRACE_S

    def close(self) -> None:
        """End what is under way; it is sent again."""
        for _, sending in self._sendings.values():
            sending.kill()
        self._sendings.clear()

    def _may_idle(self, alone_s: float) -> bool:
        """Tell whether a GPU idles of which nobody was told so far."""
        idle = self._notices.idle
        left = set(idle.since) - set(idle.mentioned)
        return bool(
            left and self._settings and alone_s <= 2 * self._settings.gpu_idle_s + GPU_LOOK_S
        )

    def _is_served(self) -> bool:
        served = scheduler_pid(self._home) is not None
        if served:
            self._alone_since = None
        elif self._alone_since is None:
            self._alone_since = self._uptime()
        return served

    def _is_outdated(self) -> bool:
        """Tell whether a newer launcher serves the home: its scheduler starts a process of its own code."""
        record = stamp(str(self._home.scheduler_record))
        if record == self._record:
            return False
        self._record = record
        return version_of(read_json(self._home.scheduler_record) or {}) > this_version()

    def _read_settings(self) -> None:
        """Read the user's file where it has changed; of a broken one nothing holds."""
        try:
            file = stamp(str(configuration_file(self._environ)))
            if file == self._file:
                return
            self._file, self._is_broken = file, False
            self._settings = configured_notify(self._environ)
            rules = read_configuration(self._environ).rules
            self._machine.devices = None if rules is None else rules.devices
        except UsageError as error:
            logger.warning("config.toml trouble=%r; no message is sent", str(error))
            self._settings, self._is_broken = None, True
            return
        names = [] if self._settings is None else [target.name for target in self._settings.targets]
        logger.info("targets=%s", ",".join(names) or "none")

    # --- what happened

    def _listened(self, notices: Notices, settings: NotifySettings, now: float) -> Notices:
        """Return the notices with what happened in the queue since they were made."""
        database = self._home.database
        stamps = stamp(str(database)), stamp(f"{database}-wal")
        if stamps == self._database:
            return notices
        with self._reader() as reader:
            newest = reader.newest()
            cursor = reader.beginning(now) if notices.cursor is None else notices.cursor
            if cursor > newest:  # the database was replaced by an older one
                cursor = newest
            news = reader.since(cursor)
        self._database = stamps
        notices = noted(replace(notices, cursor=cursor), news, settings, now)
        if news.pilot_faults and Event.GPU_FAILED in settings.of_machine:
            nodes = {token: each.node for token, each in past_pilots(self._home).items()}
            faults, notes = pilot_faults_noted(notices.faults, news.pilot_faults, nodes)
            machine = with_notes(notices.machine, notes, now)
            notices = replace(notices, faults=faults, machine=machine)
        return notices

    @contextlib.contextmanager
    def _reader(self) -> Iterator[RunNewsReader]:
        # opened anew each time: one that was opened while nobody wrote sees nothing new
        with contextlib.closing(open_to_read(self._home.database)) as connection:
            yield RunNewsReader(connection)

    def _counts(self, run: int, since: float) -> Mapping[State, int]:
        with self._reader() as reader:
            return reader.ended_since(run, since)

    # --- what is sent

    def _posted(self, notices: Notices, settings: NotifySettings, now: float) -> Notices:
        """Return the notices with the messages in the outbox whose time has come."""
        quiet = messages.is_quiet(settings.quiet, now)
        names = [target.name for target in settings.targets]
        notices = messages.without_target(notices, names, now)
        notices, ripened = ripe(notices, self._counts, settings, self._host, now)
        for addressed in ripened:
            logger.info("message=%r to=%s", addressed.message.title, ",".join(addressed.targets))
            deliveries = addressed.message.to(addressed.targets, quiet=quiet)
            notices = messages.posted(notices, deliveries, now)
        under_way = {delivery.id for delivery, _ in self._sendings.values()}
        return messages.gathered(notices, under_way, now, quiet=quiet)

    def _keep(self, notices: Notices) -> None:
        """Put down what is known, before anything of it is sent.

        Raises:
            OSError: that is not possible; all is as it was.
        """
        if notices != self._notices:
            write_notices(self._home, notices)
            self._notices = notices

    def _send(self, settings: NotifySettings, now: float) -> None:
        if messages.is_quiet(settings.quiet, now):
            return
        by_name = {target.name: target for target in settings.targets}
        for delivery in messages.due(self._notices, self._sendings.keys(), now):
            if delivery.target not in by_name:  # that it is given up could not be noted yet
                continue
            try:
                sending = Sending(by_name[delivery.target], delivery, self._environ)
            except (UsageError, OSError) as error:
                self._take(delivery, refused(error), now)
            else:
                self._sendings[delivery.target] = (delivery, sending)

    def _collect(self, now: float) -> None:
        """Take in how sendings ended."""
        for name, (delivery, sending) in list(self._sendings.items()):
            if (answer := sending.ended()) is not None:
                del self._sendings[name]
                self._take(delivery, answer, now)

    def _take(self, delivery: Delivery, answer: Answer, now: float) -> None:
        settings = self._settings or NotifySettings()
        if answer.sent:
            logger.info("sent=%r to=%s", delivery.title, delivery.target)
            notices = messages.sent(self._notices, delivery.id)
        else:
            logger.warning(
                "not sent=%r to=%s try=%d trouble=%r",
                delivery.title,
                delivery.target,
                delivery.tries + 1,
                answer.text,
            )
            notices = messages.failed(self._notices, delivery.id, answer.text, settings, now)
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
