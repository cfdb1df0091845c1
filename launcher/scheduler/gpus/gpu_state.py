"""The scheduler's side of the GPUs: it has them looked at, and knows what runs there and what each attempt takes."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from launcher.accounts import NO_USE
from launcher.gpu.monitor import Lookout, Ours, Sight
from launcher.gpu.reservation_files import ReservationWatch, reservations_folder
from launcher.gpu.reservations import ReservationBoard
from launcher.gpu.snapshot import GpusFile, GpuSnapshot
from launcher.scheduler.gpus.gpu_ledger import Ledger, SentLimits, evacuated
from launcher.scheduler.gpus.reservation_exchange import Meter, ReservationExchange
from launcher.store.rows import Claim
from launcher.store.usage import NOT_MEASURED, Measured
from launcher.system.gpu_sharing import Rules
from launcher.system.memory import of_this_process
from launcher.system.paths import Home
from launcher.system.processes import seconds_since_start
from launcher.workers.started_file import program_of

FRESH_S = 3.0  # what was seen before is too old to decide by
NOBODY: Mapping[int, int] = MappingProxyType({})
UNSEEN = "the GPUs are being looked at"

logger = logging.getLogger(__name__)


class Accelerators:
    """All that one scheduler knows of GPUs; nothing of it needs to survive the scheduler.

    Attributes:
        exchange: what schedulers of other homes are told, and tell.
        moved: job that has to leave its GPU → why.
    """

    def __init__(
        self,
        home: Home,
        look: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
        *,
        board: ReservationBoard | None = None,
        rules: Callable[[], Rules] = Rules,
        absent: Callable[[], str] = str,
        cores: int = -1,
        meter: Meter = lambda _claims, _gpus: NO_USE,
    ) -> None:
        """Begin without having looked.

        Args:
            home: of the queue.
            look: returns every GPU as it is now; it may hang.
            wake: called in another thread when there is news.
            board: where other users' schedulers tell what they promise; None: where all do.
            rules: how GPUs are shared with them.
            absent: tells why no GPU can be seen, where none can.
            cores: the mask of those that jobs may be given.
            meter: returns what this home has used, and counts the attempts that run now.
        """
        ours, folder = Ours(), reservations_folder(os.environ)
        self._home, self._rules, self._absent = home, rules, absent
        self._lookout = Lookout(look, wake, ours=lambda: ours)
        self._ledger = Ledger(home, ours)
        self._sight: Sight | None = None
        self._limits = SentLimits(home)
        self.exchange = ReservationExchange(
            board or ReservationBoard(folder, home.folder, quotas=of_this_process()),
            ledger=self._ledger,
            meter=meter,
            watch=ReservationWatch(folder),
            cores=cores,
            sight=lambda: self._sight,
        )
        self._file = GpusFile(home)
        self._faults: dict[str, str] = {}
        self.moved: dict[int, str] = {}

    @property
    def seen(self) -> bool:
        """Whether the GPUs were looked at lately; while the driver hangs, that is known, too."""
        if self._sight is None:
            return False
        age_s = time.monotonic() - self._sight.at - self._sight.took_s
        return self._lookout.overdue() or age_s < FRESH_S

    @property
    def unseen(self) -> str:
        """Why nothing is known of the GPUs yet."""
        trouble = self._lookout.trouble
        return f"{UNSEEN} ({trouble})" if trouble else UNSEEN

    def seen_since(self, at: float) -> bool:
        """Tell whether they were looked at after a time (monotonic)."""
        return self._sight is not None and self._sight.at > at

    def look(
        self, claims: Collection[Claim], alone: Mapping[int, int] = NOBODY, *, wanted: bool
    ) -> None:
        """Have the GPUs looked at where that is wanted, and take in what the newest look saw.

        Args:
            claims: the attempts that run.
            alone: pid → job of programs whose supervisors are dead.
            wanted: something runs on a GPU, or waits for one.
        """
        self._ledger.know(claims, alone)
        if not wanted or self._lookout.ask(news=self.exchange.news):
            self.exchange.news = False
        self._sight = self._lookout.sight()
        if not self._ledger.enter(self._sight, claims, alone) or self._sight is None:
            return
        self._note_faults(self._sight.gpus)
        for job, reason in evacuated(claims, self._sight.gpus).items():
            if job not in self.moved:
                logger.warning("job=%d stop reason=%r", job, reason)
            self.moved[job] = reason
        self.exchange.read()
        self._show()

    def machine(self, claims: Collection[Claim]) -> dict[str, Any]:
        """Return what a `Machine` tells of GPUs, beside the attempts that run."""
        return {
            "gpus": self._ledger.taken.gpus(claims, self._sight.gpus) if self._sight else (),
            "rules": self._rules(),
            "absent": self._absent(),
            **self.exchange.others(claims),
            "idle": self._sight.idle if self._sight else {},
        }

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""
        if not claim.gpus:
            return NOT_MEASURED
        cards = {gpu.uuid: gpu.fingerprint for gpu in (self._sight.gpus if self._sight else ())}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        shared_s, slowdown, sm = self._ledger.sharing(claim)
        return Measured(
            peak=self._ledger.taken.peak(claim),
            shared_s=shared_s,
            slowdown=slowdown,
            sm=sm,
            machine=machine,
            elapsed_s=self._elapsed_s(claim),
        )

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs lately, if it was seen."""
        return self._ledger.taken.others_usage(claim)

    def _elapsed_s(self, claim: Claim) -> float | None:
        """Return how long ago an attempt's program began, whatever was done to the clock; None: unknown."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            program = program_of(self._home.attempt(claim.job, claim.number))
            return None if program is None else seconds_since_start(program)
        return None

    def machines(self) -> list[str]:
        """Return the fingerprints of this machine's cards, as far as they are known."""
        return [gpu.fingerprint for gpu in (self._sight.gpus if self._sight else ()) if gpu.total]

    @property
    def ledger(self) -> Ledger:
        """What attempts have reserved and take."""
        return self._ledger

    def tell(self, claims: Collection[Claim]) -> None:
        """Publish our reservations to other users, and send workers their VRAM limits."""
        self.exchange.publish(claims)
        if self.exchange.trouble or self._file.trouble:
            self._show()
        self._ledger.know(claims)  # those about to start are ours, too
        self._limits.send(claims, self._ledger.taken.vram_limits(claims))

    def begin(self) -> None:
        """Clear away what schedulers of our user left that were killed."""
        self.exchange.begin()

    def leave(self, claims: Collection[Claim]) -> None:
        """Leave; the reservations of what still runs stay for a successor to take over."""
        self.exchange.leave(claims)

    def _note_faults(self, gpus: Sequence[GpuSnapshot]) -> None:
        faults = {gpu.uuid: gpu.fault for gpu in gpus if gpu.fault}
        for gpu in gpus:
            before, now = self._faults.get(gpu.uuid, ""), gpu.fault
            if before != now:
                logger.warning("%s uuid=%s fault=%r before=%r", gpu.label, gpu.uuid, now, before)
                self._file.write_soon()
        self._faults = faults

    def _show(self) -> None:
        self._file.write(self._sight.gpus if self._sight else (), self.exchange.trouble)
