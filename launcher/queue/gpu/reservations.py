"""Reservations that the schedulers of one machine publish: of cores, main memory, GPUs.

A reservation is an amount of a *resource*. Resources of a GPU are bytes of its unused memory (under
its UUID), our jobs on it, and whether one of them is exclusive. The other resources are cores and
bytes of main memory. Queues of one user are distinguished like those of several users. All queues
of the machine together therefore never reserve more of a resource than exists.

A scheduler reserves in three steps. (1) It reads all files of the folder. (2) It replaces its own
file by an atomic rename, with a new serial number and the serials that it has just read. (3) It
reads all files again and withdraws if its new reservation does not fit. In (3) it ignores a *fresh*
reservation, which is new in the version that it reads, if that version contains *our* serial.

Why two schedulers never keep reservations that do not fit together. Of several that keep, consider
the one, L, whose (2) came last. At its (3) the file of every other one, E, contains the
reservations of E. L ignored one only if the version of E in which it was new contains L's serial.
Then L's (2) came before E's (1), so before E's (2), and L was not the last. So L counted all of
them, and all kept reservations fit. The proof uses no lock, no clock and no time stamp. Time
stamps of a kernel are equal within 4 ms, and run backwards when the clock is set.

Why one of two proceeds. If one's (2) comes before the other's (1), the other publishes its serial:
the first keeps, and the other withdraws. Both withdraw only if both come to (1) before either's
(2), which takes less than a millisecond. Each tries again at its next decision, and these moments
are not in step.

Memory in use appears in two places: in the driver's values and here, as a smaller rest of a
reservation. A scheduler reads one after the other. A reservation is therefore counted completely,
with its usage twice, until both places show the usage. A file contains the time of the usage
measurement. The reservation shrinks only for a reader whose GPU reading is newer. The lowest
measurement since a moment shortly before that reading counts. For a reader without the time of its
reading, it shrinks LAG_S after the measurement. This is more than the age of any reading that a
decision uses.

Content written by others can at most make us wait, and the reason names the owner of the file. A
file that is not in our form reserves each GPU that it names as a whole. (3) ignores nothing of it,
as it states no serial that it has seen. A false reservation is not detected, because memory that is
only reserved cannot be measured. A scheduler without an update for STALE_S does not count, unless
one of its jobs is alive. If a scheduler is killed, its jobs continue and keep their reservations.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from launcher.queue.gpu.foreign_reservations import (
    STALE_S,
    is_publication_current,
    sums_by_queue,
    usage_of_user,
    waiting_peers,
)
from launcher.queue.gpu.own_reservations import (
    PublishedReservation,
    Reservation,
    compute_totals,
    differ_notably,
    sum_by_resource,
)
from launcher.queue.gpu.publication import Publication, write_publication
from launcher.queue.gpu.reservation_files import (
    ReservationReader,
    home_hash,
    new_file_name,
    remove_abandoned,
    reservations_folder,
)
from launcher.queue.gpu.resources import ForeignReservation
from launcher.queue.jobs.accounts import PeerScheduler, ResourceDemand, ResourceUsage
from launcher.system.memory import ProcessGroups
from launcher.system.processes import Identity, login_name

MOST_NAMES = 64  # names of our file that are remembered
REFRESH_S = 5.0  # a file with reservations is renewed so often
USAGE_DELAY_S = 0.2  # seconds until new usage is published if it decides which user yields
ABANDONED_S = 3600.0  # seconds after which an abandoned file is removed
_MOST_COMPLAINTS = 256  # limit, so that no other user fills our log
logger = logging.getLogger(__name__)


class OwnFile:
    """The names of our queue's reservation files.

    Attributes:
        name: Name of our file.
        home: Hash by which files of our queue are identified.
    """

    def __init__(self, folder: Path, home: Path, uid: int) -> None:
        """Choose a name. Nothing is written.

        Args:
            folder: Folder of all publications.
            home: The queue folder. Only one scheduler at a time works for it.
            uid: The user.
        """
        self._folder, self._uid = folder, uid
        self.home = home_hash(home)
        self.name = new_file_name(uid)
        self._names = deque([self.name], maxlen=MOST_NAMES)
        self._leftover: set[str] = set()  # files of our queue from an earlier scheduler

    @property
    def names(self) -> Collection[str]:
        """The names of our file, now and before."""
        return self._names

    def rename(self) -> None:
        """Choose another name for the next publication."""
        self.name = new_file_name(self._uid)
        self._names.append(self.name)

    def find_own_files(self, publications: Mapping[str, Publication]) -> set[str]:
        """Return the files of our queue. All except our own are left from earlier schedulers."""
        own = {
            name for name, publication in publications.items() if self._is_own(name, publication)
        }
        self._leftover = own - {self.name}
        return own

    def _is_own(self, name: str, publication: Publication) -> bool:
        """Whether a file is of our queue. Only one scheduler at a time works for it."""
        if name == self.name:
            return True
        return publication.home == self.home and name.split(".")[1] == str(self._uid)

    def remove(self) -> None:
        """Remove our file.

        Raises:
            OSError: it cannot be removed.
        """
        (self._folder / self.name).unlink(missing_ok=True)

    def remove_leftover(self) -> None:
        """Remove the files of an earlier scheduler. Our file contains all current reservations."""
        for name in self._leftover:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
        self._leftover = set()


class ReservationBoard:
    """Our file in the folder of reservations, and those of the others.

    Nothing is raised. If the folder cannot be used, `publish` returns False and `error` contains
    the reason and its consequence until the folder works again. Jobs start nevertheless, because a
    full folder must not stop a queue permanently. The text is shown, because an unpublished
    reservation must not count as published.

    Attributes:
        error: Why reservations cannot be exchanged with others. Empty if they can.
        complaints: Faults of the folder and of others' files: what, and why.
    """

    def __init__(
        self,
        folder: Path,
        home: Path,
        *,
        uid: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        quotas: ProcessGroups | None = None,
        logs: bool = True,
    ) -> None:
        """Prepare the publication. Nothing is written yet.

        Args:
            folder: Folder of all publications, see `reservations_folder`.
            home: The queue folder. Only one scheduler at a time works for it.
            uid: The user, None for our own.
            clock: Seconds, the same for all processes of the machine, and never set back.
            quotas: Limits of our cores and memory, None for no limits.
            logs: Log each fault of the folder and of others' files once.
        """
        self.error = ""
        self._folder = folder
        self._uid = os.geteuid() if uid is None else uid
        self._file, self._home = OwnFile(folder, home, self._uid), home
        self._quotas = quotas or ProcessGroups()
        self._reader = ReservationReader(folder, self._complain, clock)
        self._clock, self._logs = clock, logs
        self._settled: Mapping[str, int] = {}  # resource → amount, as in our file
        self._serial = ""  # serial of our file; empty: there is no file
        self._at = 0.0  # when our file was written
        self._is_in_place = False  # our file existed at the last check
        self._reservations: tuple[Reservation, ...] = ()
        self._published: Mapping[tuple[int, str], PublishedReservation] = {}
        self.complaints: set[tuple[str, str]] = set()
        # publications of others, as last read; also of the silent
        self._peer_publications: Mapping[str, Publication] = {}
        # supervisors of the jobs with reservations, to be published
        self.supervisors: tuple[Identity, ...] = ()
        self.demand: ResourceDemand | None = None  # request of the waiting jobs, to be published
        # usage of this queue, to be published
        self._usage, self._usage_at = ResourceUsage(), self._clock()
        self._published_demand: ResourceDemand | None = None
        self._published_usage = ResourceUsage()

    def publish(self, reservations: Sequence[Reservation], fresh: Collection[int] = ()) -> bool:
        """Publish all current reservations. Return whether others can read them.

        Args:
            reservations: Reservations of running jobs and of jobs that are about to start.
            fresh: The jobs about to start. They start only if `prior_reservations` leaves room for
                them. Reservations that were published before are never fresh.
        """
        self._reservations = tuple(reservations)
        if not reservations and self.demand is None and not self._usage.is_notable:
            return self.clear()
        self.error = ""
        seen = self._read_peers()
        return not self.error and self._write_file(seen, fresh)

    def remove_abandoned(self) -> None:
        """Remove files of killed schedulers of our user whose queues have no scheduler now."""
        removed = remove_abandoned(self._folder, self._uid, self._clock(), ABANDONED_S)
        if removed:
            logger.info("claims removed=%d reason='not renewed for an hour'", len(removed))

    def withdraw(self, jobs: Collection[int]) -> bool:
        """Take back the reservations of these jobs; return whether others can read the change."""
        return self.publish(
            [reservation for reservation in self._reservations if reservation.job not in jobs]
        )

    def clear(self) -> bool:
        """Remove our file, as when nothing is reserved; return whether it is gone.

        Not for a scheduler that leaves running jobs to its successor: their reservations stay.
        """
        self._reservations, self._serial, self._is_in_place, self.error = (), "", False, ""
        self._published, self._settled = {}, {}
        self._published_demand, self._published_usage = None, ResourceUsage()
        try:
            self._file.remove()
        except OSError as error:
            return self._fail("remove", error)
        self._file.remove_leftover()
        self._file.rename()  # the former name is known to others, and could be taken
        return True

    def covers(self, reservations: Sequence[Reservation]) -> bool:
        """Whether our file already covers the sum of all these reservations.

        A job that replaces an ended one then needs no new reading of the folder.
        """
        if not self._serial or self.error or self._clock() - self._at > STALE_S / 2:
            return False
        return all(
            amount <= self._settled.get(key, 0)
            for key, amount in sum_by_resource(reservations).items()
        )

    def states_exactly(self, reservations: Sequence[Reservation]) -> bool:
        """Whether our file contains exactly the sum of these reservations, none of them being in use."""
        return dict(sum_by_resource(reservations)) == self._settled

    def is_due(self) -> bool:
        """Whether to publish again: the interval is over, publishing failed, or our file was removed."""
        if self.demand != self._published_demand:
            return True
        if (
            self._peer_publications
            and self.is_usage_outdated()
            and self._clock() - self._at >= USAGE_DELAY_S
        ):
            return True
        if not self._reservations and self.demand is None:
            return False
        late = self._clock() - self._at >= REFRESH_S
        return late or bool(self.error) or not self._is_in_place

    @property
    def names(self) -> Collection[str]:
        """The current and former names of our file. Their changes need no reaction."""
        return self._file.names

    @property
    def name(self) -> str:
        """The name of our file."""
        return self._file.name

    def foreign_reservations(
        self, sampled_at: float | None = None
    ) -> tuple[ForeignReservation, ...]:
        """Return the unused reservations of others: each queue's sum for each resource.

        Args:
            sampled_at: Time of the last GPU reading, None if unknown.
        """
        return self._sums(self._read_peers(), sampled_at)

    def _sums(
        self,
        publications: Mapping[str, Publication],
        sampled_at: float | None,
        ignore_fresh_of: Collection[str] = (),
    ) -> tuple[ForeignReservation, ...]:
        """Return each queue's sum for each resource, without what is fresh in the files of `ignore_fresh_of`."""
        me = login_name(self._uid)
        return sums_by_queue(publications, sampled_at, ignore_fresh_of, me=me, quotas=self._quotas)

    def prior_reservations(self, sampled_at: float | None = None) -> tuple[ForeignReservation, ...]:
        """Return, right after `publish`, the reservations with which our new ones must fit.

        These are all reservations of others except those made after their owners had counted ours.
        New reservations that do not fit must be withdrawn.
        """
        publications = self._read_peers()
        # if others may take us for gone, we cannot rely on their having counted us
        if not self._is_in_place or self._clock() - self._at > STALE_S / 2:
            return self._sums(publications, sampled_at)
        later = {
            name
            for name, publication in publications.items()
            if publication.seen.get(self._file.name) == self._serial
        }
        return self._sums(publications, sampled_at, later)

    def set_usage(self, usage: ResourceUsage) -> None:
        """Set the usage of this queue until now. It is published when our file is written next."""
        self._usage, self._usage_at = usage, self._clock()

    def has_notable_change(self, reservations: Sequence[Reservation]) -> bool:
        """Whether the usage of these reservations differs notably from the published one."""
        return differ_notably(reservations, self._reservations)

    def is_usage_outdated(self) -> bool:
        """Whether the published usage is notably lower than the actual one."""
        ours, announced = self._usage, self._published_usage
        return ours.cards > 1 + 1.01 * announced.cards or ours.cores > 10 + 1.01 * announced.cores

    def total_usage(self) -> ResourceUsage:
        """Return the usage of our user in all queues with a file, as last read."""
        own = self._usage.decay(self._clock() - self._usage_at)
        return own + usage_of_user(
            login_name(self._uid), self._peer_publications.values(), self._clock()
        )

    def peers(self) -> tuple[PeerScheduler, ...]:
        """Return the other waiting users, as last read."""
        return waiting_peers(
            self._peer_publications.values(), login_name(self._uid), self._clock(), STALE_S
        )

    def _write_file(
        self, seen_publications: Mapping[str, Publication], fresh: Collection[int]
    ) -> bool:
        """Write our file; return whether it is written."""
        now = self._clock()
        if not self._is_in_place:
            self._file.rename()
        all_told = compute_totals(self._reservations, self._published, fresh, now)
        serial = os.urandom(8).hex()
        serials = {name: each.serial for name, each in seen_publications.items()}
        ours = Publication(
            serial=serial,
            at=now,
            seen=serials,
            settled=all_told.settled,
            fresh=all_told.fresh,
            measured=all_told.measured,
            control_groups=self._quotas.groups,
            home=self._file.home,
            demand=self.demand,
            usage=self._usage,
            supervisors=self.supervisors,
            folder=str(self._home),
        )
        try:
            write_publication(self._folder, self._file.name, ours)
        except (OSError, ValueError) as error:
            return self._fail("write", error)
        self._published, self._serial, self._at, self._is_in_place = (
            all_told.entries,
            serial,
            now,
            True,
        )
        self._settled = {key: amount for key, amount in all_told.settled.items() if amount}
        self._published_demand, self._published_usage = self.demand, self._usage
        self._file.remove_leftover()
        return True

    def _read_peers(self) -> dict[str, Publication]:
        """Return the valid publications of others by file, and check that our own file exists."""
        self._is_in_place = False
        try:
            publications = self._reader.read(self._file.name)
        except OSError as error:
            self._fail("read", error)
            return {}
        newest = publications.get(self._file.name)
        self._is_in_place = newest is not None and newest.serial == self._serial
        for name in self._file.find_own_files(publications):
            del publications[name]
        now = self._clock()
        for name, publication in publications.items():
            if publication.at - now > STALE_S:
                self._complain(name, "its time is in the future")
            if publication.invalid_fields:
                self._complain(f"{name} of {publication.user}", publication.invalid_fields)
        self._peer_publications = publications
        return {
            name: publication
            for name, publication in publications.items()
            if is_publication_current(name, publication, now)
        }

    def _fail(self, verb: str, error: OSError | ValueError) -> bool:
        """Record what is wrong with the folder, log it when that is new; return False."""
        why = getattr(error, "strerror", None) or str(error)
        self._complain(str(self._folder), f"cannot {verb} reservations in {self._folder}: {why}")
        self.error = (  # screens cut the text: the consequence comes first
            "other queues may reserve the same cores and GPU memory, as launcher "
            f"cannot {verb} reservations in {self._folder}: {why}"
        )
        return False

    def _complain(self, subject: str, why: str) -> None:
        if (subject, why) in self.complaints or len(self.complaints) >= _MOST_COMPLAINTS:
            return
        self.complaints.add((subject, why))
        if self._logs:
            logger.warning("claims file=%s reason=%r", subject, why)


def quiet_board(home: Path) -> ReservationBoard:
    """Return a board that reads this machine's folder for a screen, below which nothing may be logged.

    Raises:
        UsageError: LAUNCHER_CLAIMS is a relative path.
    """
    return ReservationBoard(reservations_folder(os.environ), home, logs=False)
