"""From a decision to a running attempt, here or on a pilot: claimed in a transaction, launched after its commit."""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import partial
from itertools import chain

from launcher.backends.node_paths import NodePaths
from launcher.backends.pilot_link import PilotLink
from launcher.backends.settings import BackendSettings
from launcher.context import has_folder
from launcher.gpu.snapshot import GpuSnapshot
from launcher.job import CPU, NUMBERS
from launcher.scheduler.gpus.gpu_state import Accelerators
from launcher.scheduler.policy.model import Start
from launcher.scheduler.started_attempts import (
    Launched,
    OnPilot,
    Place,
    name_of_claim,
    spec_text_of,
)
from launcher.scheduler.unrecorded_attempts import Unrecorded, nobody, unrecorded
from launcher.staging.left_stages import take_left
from launcher.states import Reason, ReasonCode
from launcher.store.claims import Seat
from launcher.store.rows import PILOT, Claim, ReadyJob
from launcher.store.scheduler_actions import Scheduling
from launcher.system.answering import NoAnswer, within
from launcher.system.environment import queue_variables
from launcher.system.files import sync, write_whole
from launcher.system.paths import LOG, SPEC, Attempt, Home
from launcher.system.processes import Identity, boot_id
from launcher.workers.attempt_watch import LOOK_AGAIN_S
from launcher.workers.fork_server_pool import ForkServerPool, Unusable
from launcher.workers.order import OrderWriter, order_text
from launcher.workers.start_pauses import Outage
from launcher.workers.started_file import void_attempt

WORKER_STARTING = Reason(code=ReasonCode.WORKER_STARTING, text="waiting for its worker to start")
STILL_RUNS = "waiting for the end of an attempt that the queue has no record of ({})"
UNCLEAR_BEFORE = (
    "waiting for a readable folder of its next attempt: cannot read {}. "
    "If nothing of this job runs, move the folder away"
)
UNCLEAR_PAUSE_S = 5.0  # before that is looked at again: a look may take half a second
RAN_BEFORE = "the queue has no record of the attempt in {}"

logger = logging.getLogger(__name__)


class Launches:
    """What one turn of the scheduler starts, here and on pilots; nothing of it runs before `go`."""

    def __init__(
        self,
        home: Home,
        queue: Scheduling,
        fork_servers: ForkServerPool,
        clock: Callable[[], float],
        outage: Outage,
        gpus: Accelerators,
    ) -> None:
        """Begin with nothing."""
        self._outage, self._gpus = outage, gpus
        self._home, self._queue, self._fork_servers, self._clock = home, queue, fork_servers, clock
        # in a transaction that is still open; with the reason, where it cannot be started
        self._claimed: list[Launched | OnPilot] = []
        self._given_up: list[tuple[Claim, Unusable]] = []
        # the same, committed; by who is to get it
        self._committed: dict[Hashable, list[Launched | OnPilot]] = {}
        self._hopeless: list[tuple[Claim, Unusable]] = []
        self._orders = OrderWriter(home)
        self._variables = queue_variables(home.folder, os.environ)
        self._unclear: dict[int, tuple[float, str]] = {}  # job → when to look again, monotonic; why
        self.again_s: float | None = None  # look again so soon: nothing will wake us for it

    def commit(self) -> None:
        """Know that the transaction is committed: what was claimed must be launched."""
        for start in self._claimed:
            self._committed.setdefault(start.receiver, []).append(start)
        self._hopeless += self._given_up
        self._claimed.clear()
        self._given_up.clear()

    def go(self) -> Iterator[Launched | OnPilot]:
        """Hand what is committed to its supervisors, and to pilots; each pilot gets all of its own at once.

        Raises:
            OSError: the claim of one that must never run twice cannot be synced to the disk; it
                and those behind it are launched another time.
        """
        while self._committed:
            receiver, together = next(iter(self._committed.items()))
            if any(start.claim.spec.terms.rerun == "never" for start in together):
                # a claim must survive a power cut: without it the job would be started again
                for path in (self._home.database_log, self._home.attempts, self._home.folder):
                    sync(path)
            del self._committed[receiver]
            together[0].launch(together)
            for start in together:
                yield start
                claim = start.claim  # logged only now: it starts earlier so
                logger.info("job=%d attempt=%d start reason=%r", *claim.key, start.reason)

    def promised(self) -> Iterator[Claim]:
        """Return what is claimed and could not be launched yet, also in the transaction that is still open."""
        starts = chain(self._claimed, *self._committed.values())
        yield from (start.claim for start in starts)

    def claimed(self) -> Iterator[Claim]:
        """Return what is claimed in the transaction that is still open."""
        yield from (start.claim for start in self._claimed)
        yield from (claim for claim, _ in self._given_up)

    def undo(self) -> None:
        """Take everything back; the transaction came to nothing."""
        for start in self._claimed:
            if isinstance(start, Launched):
                self._fork_servers.give_back(start.environment, start.supervisor)
        self._claimed.clear()
        self._given_up.clear()

    def hopeless(self) -> list[tuple[Claim, Unusable]]:
        """Return what was claimed although it cannot be started, and why.

        Its attempt has failed, or counts as lost where that may pass, so that the job ends some time.
        """
        hopeless, self._hopeless = self._hopeless, []
        return hopeless

    def claim(self, ready: ReadyJob, start: Start) -> Reason | None:
        """Promise a job its place here; return why not, where it cannot start yet."""
        environment = ready.lane.environment
        if not self._outage.admits(time.monotonic()):
            self.again_s = LOOK_AGAIN_S
            return self._outage.reason
        before = self._in_the_way(ready.id)
        if before.unclear or before.living:
            return self._obstacle(before)
        try:
            supervisor = self._fork_servers.take(environment)
        except Unusable as error:
            self._give_up(ready, start, error, before.number)
            return None
        if supervisor is None:
            return WORKER_STARTING
        try:
            claim = self._claim(ready, seat_of(start, supervisor.who), start.reason, before.number)
        except NoAnswer as error:  # what goes on elsewhere must not wait for it
            self._fork_servers.give_back(environment, supervisor)
            self.again_s = LOOK_AGAIN_S
            return Reason(
                code=ReasonCode.CANNOT_START, text=f"waiting for its files: {error.strerror}"
            )
        except BaseException:
            self._fork_servers.give_back(environment, supervisor)
            raise
        if claim is None:
            self._fork_servers.give_back(environment, supervisor)
            return None
        if self._must_not_run(claim, before):
            self._fork_servers.give_back(environment, supervisor)
            return None
        self._outage.tried(time.monotonic())
        self._claimed.append(
            Launched(
                claim=claim,
                attempt=self._home.attempt(*claim.key),
                supervisor=supervisor,
                environment=environment,
                place=Place(job=ready, start=start),
            )
        )
        return None

    def send(
        self, ready: ReadyJob, start: Start, link: PilotLink, settings: BackendSettings
    ) -> Reason | None:
        """Promise a job its place on a pilot; return why not, where it cannot start yet."""
        before = self._in_the_way(ready.id)
        if before.unclear or before.living:
            return self._obstacle(before)
        seat = seat_of(start, nobody(f"{PILOT}{link.token}"))
        reason = f"{start.reason}, {_place_of(link)} of {settings.name}"
        lay_out = partial(self._lay_out, link, NodePaths(settings))
        try:
            claim = self._claim(ready, seat, reason, before.number, lay_out)
        except OSError as error:  # what other places start must not wait for this file system
            self.again_s = LOOK_AGAIN_S
            where = link.folder.attempts
            text = f"cannot create the folder of its attempt in {where}: {error.strerror or error}"
            return Reason(code=ReasonCode.CANNOT_START, text=text)
        if claim is None:
            return None
        attempt = OnPilot(claim=claim, link=link, clock=self._clock, reason=start.reason)
        if self._must_not_run(claim, before):
            void_attempt(attempt.attempt)  # whoever serves next sends it nowhere
        else:
            self._claimed.append(attempt)
        return None

    def prepare(self, place: Place) -> Attempt | None:
        """Write the order of the job that will probably follow in a place: it starts earlier then.

        Nothing is claimed. Where another one follows, or nothing does, the order is deleted.

        Returns whose order was written now; None: none was.

        Raises:
            OSError: the disk is full.
        """
        seat = seat_of(place.start, nobody(boot_id()))
        claim = self._queue.next_claim(place.job, seat, self._clock())
        if claim is not None and self._orders.number_ahead(claim.job) == claim.number:
            return None
        self._orders.discard()
        if claim is None or claim.job in self._unclear:
            return None
        if unrecorded(self._home, *claim.key) != Unrecorded(number=claim.number):
            return None  # what lies in its way is looked at when it is claimed
        return self._orders.prepare(
            claim.job,
            claim.number,
            self._order(claim),
        )

    def _in_the_way(self, job: int) -> Unrecorded:
        """Look what lies where a job's next attempt goes; what is unclear keeps no other job waiting."""
        if ahead := self._orders.number_ahead(job):
            return Unrecorded(number=ahead)
        number, now = self._queue.next_attempt(job), time.monotonic()
        again_at, unclear = self._unclear.pop(job, (0.0, ""))
        if now < again_at:
            self._unclear[job] = again_at, unclear
            return Unrecorded(number=number, unclear=unclear)
        before = unrecorded(self._home, job, number)
        if before.unclear:
            if not unclear:
                logger.warning("job=%d unclear=%r", job, before.unclear)
            self._unclear[job] = time.monotonic() + UNCLEAR_PAUSE_S, before.unclear
        return before

    def _claim(
        self,
        ready: ReadyJob,
        seat: Seat,
        reason: str,
        number: int,
        prepare: Callable[[Claim], None] | None = None,
    ) -> Claim | None:
        """Claim a job; return None if it was cancelled or set aside, or if another job writes the same path.

        Raises:
            OSError: the disk is full.
        """
        claim = self._queue.claim(
            ready.id,
            seat,
            reason=reason,
            now=self._clock(),
            number=number,
            prepare=prepare or self._make_folder,
        )
        if claim is None:
            self.again_s = 0.0  # there may be others behind it
        return claim

    def _make_folder(self, claim: Claim) -> None:
        """Make an attempt's folder.

        Raises:
            OSError: the disk is full.
        """
        self._orders.write(
            claim.job,
            claim.number,
            self._order(claim),
        )

    def _order(self, claim: Claim) -> str:
        """Return the order of an attempt on this machine.

        Raises:
            OSError: that cannot be taken now which those before it have left.
        """
        return order_of(
            self._home,
            claim,
            claim.spec_text,
            claim.context_text,
            queue=self._variables,
            gpus=self._gpus.gpus,
        )

    def _lay_out(self, link: PilotLink, paths: NodePaths, claim: Claim) -> None:
        """Make an attempt's folder below its pilot's, and its name in the home.

        Raises:
            OSError: the disk is full.
        """
        spec, context = paths.spec(spec_text_of(claim)), paths.context(claim.context_text)
        queue = {name: paths.path(text) for name, text in self._variables.items()}
        gpus = () if link.hello is None else link.hello.gpus
        text = order_of(self._home, claim, spec, context, queue=queue, gpus=gpus)
        within(link.root, partial(self._lay_there, link, claim, text))

    def _lay_there(self, link: PilotLink, claim: Claim, text: str) -> None:
        there = link.folder.attempt(name_of_claim(claim))
        there.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_whole(there.text(SPEC), text)
        if claim.spec.log_link is not None:  # it has another name from the start
            write_whole(there.text(LOG), "")
        _link_attempt(self._home.attempt(*claim.key), there)

    def _give_up(self, ready: ReadyJob, start: Start, why: Unusable, number: int) -> None:
        """Claim a job without a supervisor, so that its attempt can end."""
        claim = self._claim(ready, seat_of(start, nobody(boot_id())), start.reason, number)
        if claim is not None:
            self._given_up.append((claim, why))

    def _must_not_run(self, claim: Claim, before: Unrecorded) -> bool:
        """Give up what must never run twice where an attempt of it may have begun that is not on record."""
        if not before.began or claim.spec.terms.rerun != "never":
            return False
        why = RAN_BEFORE.format(before.began[-1].folder)
        self._given_up.append((claim, Unusable(why, sure=False)))
        return True

    def _obstacle(self, before: Unrecorded) -> Reason:
        """Return why a job does not start in whose way something lies."""
        self.again_s = LOOK_AGAIN_S
        if before.unclear:
            text = UNCLEAR_BEFORE.format(before.unclear)
            return Reason(code=ReasonCode.ATTEMPT_UNCLEAR, text=text)
        text = STILL_RUNS.format(before.living[0].folder)
        return Reason(code=ReasonCode.ATTEMPT_RUNS, text=text)


def seat_of(start: Start, who: Identity) -> Seat:
    """Return what an attempt is promised, and who is to start it."""
    return Seat(
        device=",".join(start.devices) or CPU,
        cpus=start.cpus,
        reservation=start.reservation,
        exclusive=start.exclusive,
        boot=who.boot,
        pid=who.pid,
        start_ticks=who.start_ticks,
    )


def order_of(
    home: Home,
    claim: Claim,
    spec_text: str,
    context_text: str,
    *,
    queue: Mapping[str, str],
    gpus: Sequence[GpuSnapshot],
) -> str:
    """Return an attempt's order; it goes on from the stage that those before it have left.

    Args:
        home: the queue's.
        claim: the attempt.
        spec_text: the job's spec as JSON.
        context_text: its context as JSON.
        queue: the variables by which `launcher` in the job finds this queue.
        gpus: those of the machine on which it runs.

    Raises:
        OSError: that cannot be taken from them now.
    """
    run_folder = claim.spec.run_folder
    goes_on = claim.number > 1 and (claim.spec.entry or has_folder(claim.spec))
    return order_text(
        job=claim.job,
        number=claim.number,
        device=claim.device,
        cpus=claim.cpus,
        claim=claim.reservation,
        left=within(run_folder, partial(take_left, home, *claim.key, run_folder))
        if goes_on
        else "",
        queue=queue,
        gpu_numbers=gpu_numbers_of(claim.gpus, gpus)
        if claim.spec.resources.gpu_ids == NUMBERS
        else (),
        spec_text=spec_text,
        context_text=context_text,
    )


def gpu_numbers_of(gpus: Sequence[str], there: Sequence[GpuSnapshot]) -> tuple[int, ...]:
    """Return the numbers of GPUs in PCI bus order; none if one is unknown, or MIG makes them ambiguous.

    Args:
        gpus: their UUIDs.
        there: all GPUs that a process there can see.
    """
    numbers = {gpu.uuid: gpu.index for gpu in there}
    if any(gpu.mig is not None for gpu in there) or not numbers.keys() >= {*gpus}:
        return ()
    return tuple(numbers[uuid] for uuid in gpus)


def _place_of(link: PilotLink) -> str:
    """Return where a pilot is, in words: its token tells nobody anything."""
    hello = link.hello
    if hello is None:
        return f"pilot {link.token}"
    node = f"node {hello.node or hello.host}"
    return f"{node}, job {hello.job}" if hello.job else node


def _link_attempt(here: Attempt, there: Attempt) -> None:
    """Let a name in the home lead to an attempt's folder on a pilot; what a transaction left is replaced.

    Raises:
        OSError: somebody's files lie there, or the disk is full.
    """
    try:
        here.folder.symlink_to(there.folder)
    except FileExistsError:
        if here.folder.is_symlink():
            here.folder.unlink()
        else:  # an order that was written ahead, and an empty log
            here.log.unlink(missing_ok=True)
            here.spec.unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                here.folder.rmdir()
        here.folder.symlink_to(there.folder)
