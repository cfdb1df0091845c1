"""The GPUs of a pilot on its node: those that its engine names in CUDA_VISIBLE_DEVICES, and how they are used."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from launcher.queue.gpu.monitor import GpuPoller, find_owner, parent_pid
from launcher.queue.gpu.snapshot import GpuSnapshot

# bytes; a change of the used memory by this much is reported at once
LEAST_REPORTED_CHANGE_BYTES = 64 << 20
_NO_GPUS = {"", "nodevfiles", "none", "void"}


class WrongGpus(Exception):
    """Engine and driver disagree about the GPUs. The message contains the difference."""


def resolve_visible_gpus(
    visible: str | None, gpus: Sequence[GpuSnapshot]
) -> tuple[GpuSnapshot, ...]:
    """Return the GPUs that CUDA_VISIBLE_DEVICES names, in its order.

    Args:
        visible: its text, with indices, UUIDs of GPUs or MIG instances, or prefixes of these. None if it is not set.
        gpus: all that the driver lists.

    Raises:
        WrongGpus: it names a device that the driver does not list.
    """
    if visible is None or visible.strip().lower() in _NO_GPUS:
        return ()
    chosen: dict[str, GpuSnapshot] = {}
    for word in (word.strip() for word in visible.split(",")):
        if word.startswith("-"):
            break  # CUDA, too, reads no further
        gpu = _find_gpu(word, gpus)
        if gpu is None:
            listed = ", ".join(f"{gpu.index} ({gpu.uuid})" for gpu in gpus) or "none"
            raise WrongGpus(
                f"CUDA_VISIBLE_DEVICES={visible}: no GPU {word!r}; the driver lists {listed}"
            )
        chosen[gpu.uuid] = gpu
    return tuple(chosen.values())


def _find_gpu(word: str, gpus: Sequence[GpuSnapshot]) -> GpuSnapshot | None:
    if word.isdecimal():  # CUDA uses the first MIG instance of a divided GPU
        return next((gpu for gpu in gpus if gpu.index == int(word)), None)
    alike = [gpu for gpu in gpus if word and gpu.uuid.startswith(word)]
    return alike[0] if len(alike) == 1 else next((gpu for gpu in alike if gpu.uuid == word), None)


class NodeGpus:
    """Usage of a pilot's GPUs, polled in a thread of its own, as a driver may hang."""

    def __init__(
        self,
        gpus: Sequence[GpuSnapshot],
        snapshot: Callable[[], Sequence[GpuSnapshot]],
        wake: Callable[[], None],
    ) -> None:
        """Begin without a poll.

        Args:
            gpus: the pilot's GPUs, as they were when it registered. If empty, nothing is ever polled.
            snapshot: returns all GPUs of the node as they are now.
            wake: called in another thread after a poll.
        """
        self._uuids = frozenset(gpu.uuid for gpu in gpus)
        self._poller = GpuPoller(
            lambda: [gpu for gpu in snapshot() if gpu.uuid in self._uuids], wake
        )
        # attempt → UUID → most bytes since the last heartbeat
        self._peaks: dict[str, dict[str, int]] = {}
        self._sampled_at = 0.0
        self._last_sent = self.gpus = tuple(gpus)  # in the last heartbeat; at the newest poll

    def __bool__(self) -> bool:
        return bool(self._uuids)

    def refresh(self, supervisors: Mapping[int, str]) -> None:
        """Start a poll if the newest is older than a second, and record the result of the last one.

        Args:
            supervisors: pid of a supervisor → its attempt, of those that run on a GPU.
        """
        if not self._uuids:
            return
        self._poller.request_sample()
        sight = self._poller.latest_sample()
        if sight is None:
            return
        self.gpus = tuple(replace(gpu, processes=None) for gpu in sight.gpus)
        if sight.at == self._sampled_at:
            return
        self._sampled_at = sight.at
        for gpu in sight.gpus:
            self._record_peaks(gpu, supervisors)

    @property
    def has_changed(self) -> bool:
        """Whether the current usage should be reported to the scheduler at once."""
        before = {gpu.uuid: gpu for gpu in self._last_sent}
        return any(_differs(before.get(gpu.uuid), gpu) for gpu in self.gpus)

    def take_peaks(self) -> dict[str, dict[str, int]]:
        """Return the most bytes that each attempt held since the last heartbeat, by GPU, for the heartbeat of now."""
        peaks, self._peaks, self._last_sent = self._peaks, {}, self.gpus
        return peaks

    def _record_peaks(self, gpu: GpuSnapshot, supervisors: Mapping[int, str]) -> None:
        """Add up the bytes that the processes of each attempt hold, if the driver reports them."""
        held: Counter[str] = Counter()
        for process in gpu.processes or ():
            owner = find_owner(process.pid, parent_pid, supervisors) if process.used else None
            if owner is not None and process.used:
                held[owner] += process.used
        for attempt, used in held.items():
            peaks = self._peaks.setdefault(attempt, {})
            peaks[gpu.uuid] = max(used, peaks.get(gpu.uuid, 0))


def _differs(last_snapshot: GpuSnapshot | None, now: GpuSnapshot) -> bool:
    if (
        last_snapshot is None
        or last_snapshot.fault != now.fault
        or last_snapshot.warnings != now.warnings
    ):
        return True
    if last_snapshot.used is None or now.used is None:
        return last_snapshot.used is not now.used
    return abs(last_snapshot.used - now.used) >= LEAST_REPORTED_CHANGE_BYTES
