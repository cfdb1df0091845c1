"""Reservations that the schedulers of one machine publish: of cores, main memory, GPUs.

A promise is an amount of a *resource*: bytes of a GPU's memory that are not in use yet, under its UUID; our jobs on a
GPU, and whether one of them is exclusive; cores; bytes of main memory. Homes of one user are distinguished as
those of several users are, so all homes of the machine together never promise more of anything than it has.

To promise, a scheduler (1) reads all files of the claims folder, (2) replaces its own by a rename, which is atomic,
with a new serial number and the serials that it has just read, and (3) reads all again; it withdraws when its new
promise does not fit beside theirs. In (3) it leaves out a promise that is *fresh*, which is new in the version that
it reads, where that version tells *our* serial.

Why two never keep what does not fit together. Of several that keep, look at the one, L, whose (2) came last. At its
(3) the file of every other one, E, is there and tells what E keeps. L left it out only if the version of E in which
it was new tells L's serial: then L's (2) came before E's (1), so before E's (2), and L was not the last. So L counted
all of them, and what is kept fits. No lock, no clock and no time stamp is part of this: a kernel's stamps are equal
within 4 ms, and run backwards when the clock is set.

Why one of two proceeds. Where one's (2) comes before the other's (1), the other tells its serial: it stays, and the
other withdraws. Both withdraw only when both come to (1) before either's (2), which takes less than a millisecond;
each tries again when it next decides, and these moments are not in step.

What is in use shows in two places, in the driver's answer and, as less left of a promise, here; a scheduler reads
the one after the other. So a promise is counted whole, with its use twice, until the use shows in both: a file tells
when the use was measured, and only for who has looked at the GPUs since then does the promise shrink. Of all that was
measured since a moment shortly before that look the least counts. For who does not tell when he looked, it shrinks
LAG_S after the measurement, which is more than the age of any look that a decision rests on.

Nothing that others write can do more than make us wait, and the owner of the file is named for it. That a claim is
false is not found out: memory that is only promised cannot be measured. Who was silent for STALE_S does not count,
unless one of his jobs is seen to live: when a scheduler is killed its jobs run on, and have what they were promised.
"""

import contextlib
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from launcher.accounts import PeerScheduler, ResourceDemand, ResourceUsage
from launcher.gpu.foreign_reservations import (
    STALE_S,
    is_publication_current,
    peers_in,
    sums_by_queue,
    usage_of_user,
)
from launcher.gpu.own_reservations import (
    PublishedReservation,
    Reservation,
    compute_totals,
    differ_notably,
    sum_by_resource,
)
from launcher.gpu.publication import Publication, write_publication
from launcher.gpu.reservation_files import (
    ReservationReader,
    home_hash,
    legacy_file_name,
    new_file_name,
    remove_abandoned,
    reservations_folder,
)
from launcher.gpu.resources import ForeignReservation
from launcher.system.memory import ProcessGroups
from launcher.system.processes import Identity, login_name

MOST_NAMES = 64  # of our file that are remembered
REFRESH_S = 5.0  # a file with reservations is renewed so often
USAGE_DELAY_S = (
    0.2  # what was used meanwhile is told so soon to others, where it decides who yields
)
ABANDONED_S = 3600.0  # after so long its file is removed
_MOST_COMPLAINTS = 256  # so that no other user fills our log
logger = logging.getLogger(__name__)


class OwnFile:
    """The names under which our home's reservations lie in the folder.

    Attributes:
        name: of our file.
        home: by which files of our home are known.
    """

    def __init__(self, folder: Path, home: Path, uid: int) -> None:
        """Choose a name; nothing is written.

        Args:
            folder: where all publish.
            home: the queue's folder; only one scheduler at a time works for it.
            uid: the user.
        """
        self._folder, self._uid = folder, uid
        self.home, self._old_name = home_hash(home), legacy_file_name(uid, home)
        self.name = new_file_name(uid)
        self._names = deque([self.name], maxlen=MOST_NAMES)
        self._leftover: set[str] = set()  # files of our home that a predecessor left

    @property
    def names(self) -> Collection[str]:
        """The names of our file, now and before."""
        return self._names

    def rename(self) -> None:
        """Choose another name for what is written next."""
        self.name = new_file_name(self._uid)
        self._names.append(self.name)

    def find_own(self, publications: Mapping[str, Publication]) -> set[str]:
        """Return which files are of our home; those that are not our own have been left behind."""
        own = {
            name for name, publication in publications.items() if self._is_own(name, publication)
        }
        self._leftover = own - {self.name}
        return own

    def _is_own(self, name: str, publication: Publication) -> bool:
        """Tell whether a file is of our home: only one scheduler at a time works for it."""
        if name == self.name:
            return True
        if publication.home:
            return publication.home == self.home and name.split(".")[1] == str(self._uid)
        return name == self._old_name

    def remove(self) -> None:
        """Remove our file.

        Raises:
            OSError: it cannot be removed.
        """
        (self._folder / self.name).unlink(missing_ok=True)

    def remove_leftover(self) -> None:
        """Remove what a predecessor left; what is reserved now stands in our file."""
        for name in self._leftover:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink(missing_ok=True)
        self._leftover = set()


class ReservationBoard:
    """Our file in the folder of reservations, and those of the others.

    Nothing is raised. Where the folder cannot be used, `publish` returns False and `error` says
    why and what follows, until it works again: jobs start all the same, as a full folder must not
    stop a queue for ever, and that text is shown, as a reservation must not be taken for published when it is not.

    Attributes:
        trouble: why others cannot know what we promise, or we what they do; empty: they can.
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
        """Take a place in the folder; nothing is written yet.

        Args:
            folder: where all publish, see `reservations_folder`.
            home: the queue's folder; only one scheduler at a time works for it.
            uid: the user; None: ours.
            clock: seconds, the same for all processes of the machine, and never set back.
            quotas: what limits our cores and memory; None: nothing.
            logs: log each fault of the folder and of others' files once.
        """
        self.error = ""
        self._folder = folder
        self._uid = os.geteuid() if uid is None else uid
        self._file, self._home = OwnFile(folder, home, self._uid), home
        self._quotas = quotas or ProcessGroups()
        self._reader = ReservationReader(folder, self._complain)
        self._clock, self._logs = clock, logs
        self._settled: Mapping[str, int] = {}  # resource → amount, as our file tells
        self._serial = ""  # of our file; empty: there is none
        self._at = 0.0  # when it was written
        self._is_in_place = False  # it was there when we last looked
        self._reservations: tuple[Reservation, ...] = ()
        self._published: Mapping[tuple[int, str], PublishedReservation] = {}
        self._complaints: set[tuple[str, str]] = set()
        self._peer_publications: Mapping[
            str, Publication
        ] = {}  # of others, as last read; also of the silent
        self.supervisors: tuple[
            Identity, ...
        ] = ()  # supervisors of what we reserve for, to be told
        self.demand: ResourceDemand | None = None  # what we wait for, as it is to be told
        self._usage, self._usage_at = (
            ResourceUsage(),
            self._clock(),
        )  # of this home, as it is to be told
        self._published_demand: ResourceDemand | None = None
        self._published_usage = ResourceUsage()

    def publish(self, reservations: Sequence[Reservation], fresh: Collection[int] = ()) -> bool:
        """Publish all that we reserve now; return whether others can read it.

        Args:
            reservations: of jobs that run, and of those that are about to start.
            fresh: the jobs about to start, which start only if `prior_reservations` leaves room for them.
                What was published before is not fresh, whatever this says.
        """
        self._reservations = tuple(reservations)
        if not reservations and self.demand is None and not self._usage.is_notable:
            return self.clear()
        self.error = ""
        seen = self._read_peers()
        return not self.error and self._write_file(seen, fresh)

    def remove_abandoned(self) -> None:
        """Remove what killed schedulers of our user left behind in homes that have none any more."""
        removed = remove_abandoned(self._folder, self._uid, self._clock(), ABANDONED_S)
        if removed:
            logger.info("claims removed=%d reason='not renewed for an hour'", len(removed))

    def withdraw(self, jobs: Collection[int]) -> bool:
        """Take back the reservations of these jobs; return whether others can read that."""
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
        self._file.rename()  # the one that was there is known, and could be taken
        return True

    def covers(self, reservations: Sequence[Reservation]) -> bool:
        """Tell whether our file already covers the sum of all these reservations.

        So a job that takes the place of one that has ended costs no look at the folder.
        """
        if not self._serial or self.error or self._clock() - self._at > STALE_S / 2:
            return False
        return all(
            amount <= self._settled.get(key, 0)
            for key, amount in sum_by_resource(reservations).items()
        )

    def states_exactly(self, reservations: Sequence[Reservation]) -> bool:
        """Tell whether our file states exactly the sum of these reservations, none of them being in use."""
        return dict(sum_by_resource(reservations)) == self._settled

    def is_due(self) -> bool:
        """Tell whether to publish again: it is time, it failed, or our file was removed."""
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
        """The names of our file, now and before: what happens to them is no news."""
        return self._file.names

    @property
    def name(self) -> str:
        """The name of our file."""
        return self._file.name

    def foreign_reservations(
        self, sampled_at: float | None = None
    ) -> tuple[ForeignReservation, ...]:
        """Return what others have reserved and do not use yet: each queue's sum for each resource.

        Args:
            sampled_at: when the GPUs were last looked at; None: unknown.
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
        """Return, right after `publish`, beside what our new reservations must fit, or be withdrawn.

        That is all that others reserved, but for what they reserved after they had counted ours.
        """
        publications = self._read_peers()
        # where others may take us for gone, we cannot rely on their having counted us
        if not self._is_in_place or self._clock() - self._at > STALE_S / 2:
            return self._sums(publications, sampled_at)
        later = {
            name
            for name, publication in publications.items()
            if publication.seen.get(self._file.name) == self._serial
        }
        return self._sums(publications, sampled_at, later)

    def set_usage(self, usage: ResourceUsage) -> None:
        """Know what this home has used until now; others are told when our file is written next."""
        self._usage, self._usage_at = usage, self._clock()

    def has_notable_change(self, reservations: Sequence[Reservation]) -> bool:
        """Tell whether notably more or less is in use of these reservations than others know."""
        return differ_notably(reservations, self._reservations)

    def is_usage_outdated(self) -> bool:
        """Tell whether others believe that we have used notably less than we did."""
        ours, announced = self._usage, self._published_usage
        return ours.cards > 1 + 1.01 * announced.cards or ours.cores > 10 + 1.01 * announced.cores

    def total_usage(self) -> ResourceUsage:
        """Return what our user has used, in all homes whose files are there, as last read."""
        own = self._usage.decay(self._clock() - self._usage_at)
        return own + usage_of_user(
            login_name(self._uid), self._peer_publications.values(), self._clock()
        )

    def peers(self) -> tuple[PeerScheduler, ...]:
        """Return who else waits, as last read."""
        return peers_in(
            self._peer_publications.values(), login_name(self._uid), self._clock(), STALE_S
        )

    def _write_file(self, seen: Mapping[str, Publication], fresh: Collection[int]) -> bool:
        """Write our file; return whether it is written."""
        now = self._clock()
        if not self._is_in_place:
            self._file.rename()
        all_told = compute_totals(self._reservations, self._published, fresh, now)
        serial = os.urandom(8).hex()
        serials = {name: each.serial for name, each in seen.items()}
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
        """Return what the others tell that counts, by file; and see whether our own file stands."""
        self._is_in_place = False
        try:
            publications = self._reader.read(self._file.name)
        except OSError as error:
            self._fail("read", error)
            return {}
        newest = publications.get(self._file.name)
        self._is_in_place = newest is not None and newest.serial == self._serial
        for name in self._file.find_own(publications):
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
        self.error = (  # screens cut it: what follows comes first
            "other queues may reserve the same cores and GPU memory, as launcher "
            f"cannot {verb} reservations in {self._folder}: {why}"
        )
        return False

    def _complain(self, what: str, why: str) -> None:
        if not self._logs:
            return
        if (what, why) not in self._complaints and len(self._complaints) < _MOST_COMPLAINTS:
            self._complaints.add((what, why))
            logger.warning("claims file=%s reason=%r", what, why)


def quiet_board(home: Path) -> ReservationBoard:
    """Return a board that reads this machine's folder for a screen, below which nothing may be logged.

    Raises:
        UsageError: LAUNCHER_CLAIMS is a relative path.
    """
    return ReservationBoard(reservations_folder(os.environ), home, logs=False)
