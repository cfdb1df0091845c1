"""The GPUs of a pilot, and what its attempts take of them, as its beats tell."""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import replace

from launcher.gpu.snapshot import GpuSnapshot
from launcher.scheduler.dispatch.attempts_elsewhere import name_of_claim
from launcher.scheduler.gpus.attempt_memory import AttemptMemory, largest, peak_of, taken_now
from launcher.scheduler.remote.link import PilotLink
from launcher.store.rows import Claim
from launcher.store.usage import NOT_MEASURED, Measured
from launcher.workers.job import Report, read_report


class PilotGpus:
    """What is known of the GPUs of one pilot."""

    def __init__(self, link: PilotLink) -> None:
        """Begin without having looked."""
        self._link = link
        self._seen: tuple[GpuSnapshot, ...] = ()
        self._taken: dict[
            str, AttemptMemory
        ] = {}  # by attempt; also of those that have ended lately
        self._number = 0  # of the beat that was taken in last

    def enter(self, claims: Collection[Claim]) -> bool:
        """Take in the pilot's newest beat; return whether there was one.

        Args:
            claims: the attempts on this pilot.
        """
        beat = self._link.beat
        if beat is None or beat.number == self._number:
            return False
        self._number = beat.number
        if not beat.gpus:  # nothing has worked there since
            return False
        self._seen = beat.gpus
        before, self._taken = self._taken, {}
        for claim in claims:
            name = name_of_claim(claim)
            used = {
                uuid: size
                for uuid, size in beat.used.get(name, {}).items()
                if uuid in claim.gpus and size
            }
            self._taken[name] = taken_now(
                claim,
                beat.gpus,
                self._report(claim),
                earlier=before.get(name) or AttemptMemory(number=claim.number),
                by_driver=used,
                unmeasured={*claim.gpus} - used.keys(),
            )
        return True

    @property
    def _gpus(self) -> tuple[GpuSnapshot, ...]:
        """The GPUs as they were seen last: in its hello, where nothing has worked there since."""
        return self._seen or (self._link.hello.gpus if self._link.hello is not None else ())

    def now(self, claims: Iterable[Claim]) -> tuple[GpuSnapshot, ...]:
        """Return the GPUs without what attempts took that have ended since they were seen."""
        living = {name_of_claim(claim) for claim in claims}
        gone: Counter[str] = Counter()
        for name, taken in self._taken.items():
            if name not in living:
                gone.update(taken.by_driver)
        return tuple(
            replace(gpu, used=max(0, gpu.used - gone[gpu.uuid]))
            if gpu.uuid in gone and gpu.used is not None
            else gpu
            for gpu in self._gpus
        )

    @property
    def fingerprint(self) -> str:
        """The model of its cards, by which is learned what jobs take there; '': it has none."""
        return next((gpu.fingerprint for gpu in self._gpus if gpu.total), "")

    def memory(self, claim: Claim) -> AttemptMemory:
        """Return what is known of an attempt."""
        return self._taken.get(name_of_claim(claim)) or AttemptMemory(number=claim.number)

    def measured(self, claim: Claim) -> Measured:
        """Return what was seen of an attempt that has ended."""
        if not claim.gpus:
            return NOT_MEASURED
        taken = self.memory(claim)
        peak = largest(taken.peak, peak_of(self._report(claim), taken.context))
        cards = {gpu.uuid: gpu.fingerprint for gpu in self._gpus}
        machine = next((cards[uuid] for uuid in claim.gpus if uuid in cards), "")
        return Measured(peak=peak, machine=machine)

    def others_usage(self, claim: Claim) -> dict[str, int]:
        """Return by UUID what all others had on an attempt's GPUs at the last look, if it was seen."""
        taken = self.memory(claim)
        return {
            uuid: max(size, taken.before.get(uuid, 0))
            for uuid, size in taken.others.items()
            if uuid in claim.gpus
        }

    def _report(self, claim: Claim) -> Report | None:
        return read_report(self._link.folder.attempt(name_of_claim(claim)))
