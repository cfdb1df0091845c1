"""What our attempts have reserved on GPUs and what they take there, as far as that is known."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace

from launcher.gpu.counted_use import Reservation
from launcher.gpu.monitor import Sight
from launcher.gpu.process_owner import Ours
from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.gpus.attempt_memory import AttemptMemory, largest, peak_of, taken_now
from launcher.scheduler.gpus.attempt_places import place_of, vram_limits
from launcher.scheduler.gpus.job_reservations import reservations_of
from launcher.scheduler.gpus.shared_time import SharedTime, Sharing
from launcher.scheduler.policy.model import Running, Start
from launcher.store.rows import Claim
from launcher.store.usage import NO_USAGE, Usage
from launcher.system.paths import Home
from launcher.workers.job import Report, VramLimit, read_report

NO_JOB = 0


class Ledger:
    """Reservations on the one side, measurements on the other; one per scheduler."""

    def __init__(self, home: Home, ours: Ours) -> None:
        """Begin with nothing measured.

        Args:
            home: where attempts lie, with the reports of their workers.
            ours: gets the supervisors' pids.
        """
        self._home, self._ours = home, ours
        self._taken: dict[int, AttemptMemory] = {}
        self._seen: Sight | None = None
        self._alone: dict[int, int] = {}
        self._shared = SharedTime(home)
        self._named = False  # the driver knows our processes: what it does not list is not there

    def enter(
        self, sight: Sight | None, claims: Iterable[Claim], alone: Mapping[int, int] | None = None
    ) -> bool:
        """Record what the running attempts take now; return whether there was a new look.

        Args:
            sight: what was seen of the GPUs.
            claims: the attempts that run.
            alone: pid → job of programs whose supervisors are dead.
        """
        if sight is None or (self._seen is not None and sight.at == self._seen.at):
            return False
        running = {claim.job: claim for claim in claims if claim.gpus}
        self.know(claims, alone)
        self._shared.enter(sight, [*claims], self._ours.owner)
        by_driver, unknown = self._driver_usage(sight.gpus, running)
        earlier = {job: self._of(claim) for job, claim in running.items()}
        self._taken, self._seen = {}, sight
        for job, claim in running.items():
            unmeasured = {uuid for uuid in claim.gpus if (job, uuid) in unknown or not self._named}
            self._taken[job] = taken_now(
                claim,
                sight.gpus,
                self._report(claim),
                earlier=earlier[job],
                by_driver=by_driver.get(job, {}),
                unmeasured=unmeasured - by_driver.get(job, {}).keys(),
            )
        return True

    def know(self, claims: Iterable[Claim], alone: Mapping[int, int] | None = None) -> None:
        """Know whose processes are ours, before the next look asks for that.

        Args:
            claims: the attempts that run, and those about to start.
            alone: pid → job of programs whose supervisors are dead; None: as it was.
        """
        if alone is not None:
            self._alone = dict(alone)
        jobs = {claim.job for claim in claims if claim.gpus}
        lone = {pid: job for pid, job in self._alone.items() if job in jobs}
        supervised = jobs - set(lone.values())
        heads = {claim.pid: claim.job for claim in claims if claim.job in supervised}
        self._ours.heads = heads | lone

    def _of(self, claim: Claim) -> AttemptMemory:
        """Return what is known of an attempt; nothing of one of which only an earlier one was seen."""
        taken = self._taken.get(claim.job)
        return taken if taken is not None and taken.number == claim.number else AttemptMemory()

    def _report(self, claim: Claim) -> Report | None:
        return read_report(self._home.attempt(claim.job, claim.number))

    def _driver_usage(
        self, gpus: Iterable[GpuSnapshot], running: Mapping[int, Claim]
    ) -> tuple[dict[int, dict[str, int]], set[tuple[int, str]]]:
        """Return what the driver says of our processes, by job; and where it knows them, not their memory."""
        used: dict[int, dict[str, int]] = {}
        unknown: set[tuple[int, str]] = set()
        for gpu in gpus:
            for process in gpu.processes or ():
                job = self._ours.owner(process.pid)
                if job is None or job not in running or gpu.uuid not in running[job].gpus:
                    continue
                self._named = True
                if not process.used:  # in a container some say zero
                    unknown.add((job, gpu.uuid))
                else:
                    there = used.setdefault(job, {})
                    there[gpu.uuid] = there.get(gpu.uuid, 0) + process.used
        for job, uuid in unknown:
            used.get(job, {}).pop(uuid, None)
        return used, unknown

    def gpus(
        self, running: Iterable[Claim], seen: Iterable[GpuSnapshot]
    ) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs without what attempts took that have ended since they were seen."""
        attempts = {(claim.job, claim.number) for claim in running}
        gone: Counter[str] = Counter()
        for job, taken in self._taken.items():
            if (job, taken.number) not in attempts:
                gone.update(taken.by_driver)
        return tuple(
            replace(gpu, used=max(0, gpu.used - gone[gpu.uuid]))
            if gpu.uuid in gone and gpu.used is not None
            else gpu
            for gpu in seen
        )

    def running(self, claims: Iterable[Claim], usage: Callable[[str], Usage]) -> list[Running]:
        """Return the places of the attempts that run, the oldest first: what they take, when they may end."""
        return [
            place_of(
                claim, usage(claim.spec.signature) if claim.gpus else NO_USAGE, self._of(claim).used
            )
            for claim in sorted(claims, key=lambda claim: (claim.claimed, claim.job))
        ]

    def peak(self, claim: Claim) -> int | None:
        """Return the most that an attempt took on one GPU, in bytes; None: not measured.

        A short one may have come and gone between two looks: then its worker's last word counts.
        """
        if not claim.gpus:
            return None
        taken = self._of(claim)
        return largest(taken.peak, peak_of(self._report(claim), taken.context))

    def sharing(self, claim: Claim) -> Sharing:
        """Return how long an attempt shared its GPUs, what it used of them, how much slower it was then."""
        return self._shared.of(claim)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID the most that all others had on an attempt's GPUs at the last two looks, if any saw it."""
        if not claim.gpus:
            return {}
        taken = self._of(claim)
        return {
            uuid: max(taken.others[uuid], taken.before.get(uuid, 0))
            for uuid in claim.gpus
            if uuid in taken.others
        }

    def vram_limits(self, claims: Collection[Claim]) -> dict[tuple[int, int], VramLimit]:
        """Return by job and number how much of its GPUs an attempt may take while it shares one of them."""
        return vram_limits(claims, self._of)

    def reservations(self, claims: Iterable[Claim], mask: int = -1) -> list[Reservation]:
        """Return what others must know of: the running attempts' reservations, with what is in use of them.

        Args:
            claims: the attempts.
            mask: of the cores that they may be given.
        """
        totals = {gpu.uuid: gpu.total for gpu in (self._seen.gpus if self._seen else ())}
        reservations = []
        for claim in claims:
            reservations += reservations_of(
                Start(
                    job=claim.job,
                    devices=claim.gpus,
                    cpus=claim.cpus,
                    reason="",
                    reservation=claim.reservation,
                    exclusive=claim.exclusive,
                ),
                claim.spec.resources,
                totals=totals,
                used=self._of(claim).used,
                mask=mask,
            )
        return reservations
