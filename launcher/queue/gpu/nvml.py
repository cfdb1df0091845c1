"""State of this machine's GPUs, read from the driver through the library NVML.

A GPU or MIG instance is addressed by the driver's handle. Any query may be refused by an old driver, a container, a
missing permission or a failing card. A refused or impossible value is None.
"""

import contextlib
import ctypes
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pynvml

from launcher.queue.gpu.nvml_faults import XID_FALLEN_OFF_BUS, fault_of, warning_of
from launcher.queue.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.system.errors import pluralize
from launcher.system.memory import available_bytes, installed_bytes
from launcher.system.processes import login_name

_LIBRARY = "libnvidia-ml.so.1"
_UNSUPPORTED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
}
_DEAD = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}
_MOST_TOTAL = 1 << 50  # bytes; a larger total is an error of the driver
_MOST_ERRORS = 1 << 40
_MOST_MW = 10_000_000
_HOTTEST_C = 200
_MOST_MODE = 3
_RECENT_US = 1_500_000  # microseconds; a process is busy by its activity in this time. Readings are one second apart
_PIDS = 1 << 22  # PID_MAX_LIMIT of Linux on 64 bits; a list with a larger one is scrambled
_ERROR_TEXTS = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: f"{_LIBRARY} is missing",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVIDIA's driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA's driver was updated. Reboot to load it",
}

QUERY_ERRORS = (pynvml.NVMLError, UnicodeDecodeError)  # a name may come as garbage
logger = logging.getLogger(__name__)
RETRY_S = 30.0  # seconds between two tries to reach a driver that is not there
REOPEN_S = 120.0  # seconds between two reopenings for a missing GPU; one that is not permitted stays missing
UNLISTED_TEXT = "the driver does not list it any more"
MOST_EVENTS = 64  # events per reading; a failing GPU may report very many
_NO_UUID_PREFIX = "#"  # prefix of the placeholder UUID of a GPU that never reported one


class NvmlDevice:
    """A GPU or a MIG instance. `failure` is the reason why it no longer responds, if so."""

    def __init__(
        self, index: int, handle: Any, *, mig: int | None = None, failure: str = ""
    ) -> None:
        """Read the identity of the device.

        Args:
            index: Index of the GPU in PCI order.
            handle: Handle of the driver.
            mig: Index of the MIG instance, None for a whole GPU.
            failure: Why the device must not be queried.
        """
        self.index, self.handle, self.mig = index, handle, mig
        self.failure = failure
        self.unsupported: set[Callable[..., Any]] = set()  # queries that the GPU never supports
        # the GPU's memory is that of the machine, and is not reported
        self.shares_host_memory = False
        self.uuid: str = self.query(pynvml.nvmlDeviceGetUUID) or ""

    def query(self, *questions: Callable[..., Any], arguments: tuple[object, ...] = ()) -> Any:
        """Return the result of the first successful query, None if all are refused.

        Args:
            questions: Functions of pynvml for the same value, the preferred one first.
            arguments: Their arguments after the handle.
        """
        for question in questions:
            if self.failure:
                return None  # each query to a failed GPU may take long
            try:
                return question(self.handle, *arguments)
            except QUERY_ERRORS as error:
                value = error.value if isinstance(error, pynvml.NVMLError) else None
                if value in _DEAD:
                    self.failure = describe_error(error)
                elif value in _UNSUPPORTED:
                    self.unsupported.add(question)
                    if question is pynvml.nvmlDeviceGetMemoryInfo:
                        self.shares_host_memory = value == pynvml.NVML_ERROR_NOT_SUPPORTED
        return None

    def instances(self) -> "Iterator[NvmlDevice]":
        """Yield the MIG instances of the GPU."""
        for mig in range(self.query(pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
            handle = self.query(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, arguments=(mig,))
            if handle is not None:  # most places are empty
                instance = NvmlDevice(self.index, handle, mig=mig)
                self.failure = self.failure or instance.failure
                if instance.uuid:
                    yield instance


def has_library() -> bool:
    """Return whether the library of NVIDIA's driver is installed; the driver is not asked."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def describe_error(error: pynvml.NVMLError) -> str:
    """Return what an error of the driver means."""
    return _ERROR_TEXTS.get(error.value) or str(error)


def is_in_mig_mode(card: NvmlDevice) -> bool:
    """Whether a GPU is in MIG mode. Then only its instances can be used."""
    mode = card.query(pynvml.nvmlDeviceGetMigMode)
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def take_snapshot(part: NvmlDevice, card: NvmlDevice) -> GpuSnapshot:
    """Return the state of a GPU or a MIG instance without its faults.

    Args:
        part: The measured device.
        card: The physical GPU, which also reports values for its instances. Otherwise equal to
            `part`.
    """
    # version 1 counts the driver's own memory as used, so `used` and `free` add up to `total`
    memory = part.query(pynvml.nvmlDeviceGetMemoryInfo)
    total = _plausible_number(memory and memory.total, _MOST_TOTAL)
    used = _plausible_number(memory.used, total) if total else None
    if part.shares_host_memory:  # GB10, Jetson
        total = installed_bytes()
        used = max(0, total - available_bytes())
    rates = part.query(pynvml.nvmlDeviceGetUtilizationRates)
    busy = _plausible_number(rates and rates.gpu, 100)
    processes = _processes(part, total)
    asked = pynvml.nvmlDeviceGetProcessUtilization not in part.unsupported
    whole = part.mig is None  # the power of a GPU must not be counted once per instance
    return GpuSnapshot(
        uuid=part.uuid,
        index=card.index,
        mig=part.mig,
        name=part.query(pynvml.nvmlDeviceGetName) or "unknown",
        total=total or 0,
        used=used,
        shares_host_memory=part.shares_host_memory,
        processes=processes,
        utilisation=None if busy is None else busy / 100,
        reports_load=whole and processes is not None and asked,
        compute_mode=_plausible_number(card.query(pynvml.nvmlDeviceGetComputeMode), _MOST_MODE),
        power_w=_watts(card.query(pynvml.nvmlDeviceGetPowerUsage)) if whole else None,
        power_limit_w=_watts(card.query(pynvml.nvmlDeviceGetEnforcedPowerLimit)) if whole else None,
        temperature_c=_plausible_number(
            card.query(
                pynvml.nvmlDeviceGetTemperatureV,  # since 2025
                pynvml.nvmlDeviceGetTemperature,
                arguments=(pynvml.NVML_TEMPERATURE_GPU,),
            ),
            _HOTTEST_C,
        ),
        ecc_uncorrected=_plausible_number(
            card.query(
                pynvml.nvmlDeviceGetTotalEccErrors,
                arguments=(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC),
            ),
            _MOST_ERRORS,
        ),
    )


def read_memory_wear(card: NvmlDevice) -> tuple[str, str]:
    """Return permanent memory defects of a GPU, and those that a reset would repair."""
    rows = card.query(pynvml.nvmlDeviceGetRemappedRows)  # since Ampere
    if rows is not None:
        _, _, pending, failed = rows
        fault = "a bad row of memory could not be replaced" if failed else ""
        return fault, "a bad row of memory is to be replaced at the next reset" if pending else ""
    pending = card.query(pynvml.nvmlDeviceGetRetiredPagesPendingStatus)  # before
    return "", "a page of memory is to be retired at the next reset" if pending == 1 else ""


def _plausible_number(answer: Any, most: int | None) -> int | None:
    """Return a reported number, None if it cannot be true."""
    if answer is None or most is None or not 0 <= answer <= most:
        return None
    return int(answer)


def _watts(milliwatts: Any) -> float | None:
    value = _plausible_number(milliwatts, _MOST_MW)
    return None if value is None else value / 1000


def _processes(part: NvmlDevice, total: int | None) -> tuple[GpuProcess, ...] | None:
    """Return the processes with memory, the largest first. None if the driver does not report them."""
    computing = part.query(
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,  # before 2022
    )
    if computing is None:
        return None
    drawing = part.query(
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
    )
    used: dict[int, int | None] = {}
    for process in (*computing, *(drawing or ())):
        if not 0 < process.pid <= _PIDS:
            return None
        amounts = [used.get(process.pid), _plausible_number(process.usedGpuMemory, total)]
        used[process.pid] = max((amount for amount in amounts if amount is not None), default=None)
    busy = _sm_utilisation(part)
    processes = [
        GpuProcess(pid=pid, used=amount, user=_user(pid), command=_command(pid), sm=busy.get(pid))
        for pid, amount in used.items()
    ]
    return tuple(sorted(processes, key=lambda process: (-(process.used or 0), process.pid)))


def _sm_utilisation(part: NvmlDevice) -> dict[int, float]:
    """Return by pid the fraction of the last second in which a process kept a GPU busy, if reported.

    The driver does not report idle processes, MIG instances and, on some GPUs, any process.
    """
    if part.mig is not None:
        return {}
    since = max(0, time.time_ns() // 1000 - _RECENT_US)  # by the clock of the driver's samples
    samples = part.query(pynvml.nvmlDeviceGetProcessUtilization, arguments=(since,))
    newest: dict[int, tuple[int, float]] = {}
    for sample in samples or ():
        share = _plausible_number(sample.smUtil, 100)
        if share is None or sample.timeStamp <= since:  # some drivers repeat old ones
            continue
        newest[sample.pid] = max(newest.get(sample.pid, (0, 0.0)), (sample.timeStamp, share / 100))
    return {pid: share for pid, (_, share) in newest.items()}


def _user(pid: int) -> str | None:
    """Return the user of a process, None if it is not visible, as in another container."""
    try:
        return login_name(os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116  # done for each at every look
    except OSError:
        return None


def _command(pid: int) -> str | None:
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return None
    return name.decode(errors="replace").rstrip("\n")


GPU_LOST_TEXT = describe_error(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))


@dataclass(slots=True, kw_only=True)
class _DeviceHistory:
    """State of a GPU between readings."""

    snapshots: tuple[GpuSnapshot, ...]  # as the GPU last answered: the GPU itself, or its instances
    xids: set[int] = field(default_factory=set)
    errors: int | None = None  # memory errors at the last reading
    new_errors: int = 0  # errors since the first reading
    is_gone: bool = False
    is_lost: bool = False  # True if the GPU was lost, not only silent for one reading; if it responds again, it was reset


class Nvml:
    """The driver's library; keep one for as long as faults are to be remembered.

    Use it from one thread at a time. A question may take for ever: see `launcher.queue.gpu.monitor`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a probe. The library is loaded at the first reading.

        Args:
            clock: Returns the time in seconds.
        """
        self.absent = ""  # why there is no driver to ask
        self._clock = clock
        self._open = False
        self._driver = ""  # its version
        self._tried_at: float | None = None
        self._histories: dict[str, _DeviceHistory] = {}  # by UUID of the GPU
        self._uuid_by_index: dict[int, str] = {}  # index → UUID of the GPU that was last seen there
        self._events: Any = None
        self._registered: dict[int, str] = {}  # address of a handle whose events we get → UUID

    def snapshot(self) -> tuple[GpuSnapshot, ...]:
        """Return every GPU as it is now, or the MIG instances of a divided one, in PCI order.

        A GPU that was seen before and does not respond now is listed with a fault. If the whole
        driver does not respond, no GPU gets a fault: their state is unknown, and running jobs may
        continue.
        """
        self._ensure_open()
        cards = self._devices()
        self._collect_events()
        parts_of = {card.uuid: self._snapshot_device(card) for card in cards}
        parts_of |= {
            uuid: self._snapshot_unlisted(card)
            for uuid, card in self._histories.items()
            if uuid not in parts_of
        }
        marked = _mark_replaced(parts_of, cards)
        gpus = (replace(gpu, driver=self._driver) for gpu in marked)
        return tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig or 0)))

    # --- the library

    def _ensure_open(self) -> None:
        """Open the library if necessary. While a GPU is missing, reopen it periodically."""
        if self._open and not any(history.is_gone for history in self._histories.values()):
            return
        now = self._clock()
        pause_s = REOPEN_S if self._open else RETRY_S
        if self._tried_at is not None and now - self._tried_at < pause_s:
            return
        self._tried_at = now
        self._close()  # a GPU that was reset is visible only after the library is opened again
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._note_unavailable(error)
            return
        self._open, self.absent = True, ""
        self._driver = _driver_version()
        with contextlib.suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()

    def _note_unavailable(self, error: pynvml.NVMLError) -> None:
        if self.absent != describe_error(error):  # logged once, not every half minute
            logger.info("no GPU is used: %s", describe_error(error))
        self.absent = describe_error(error)

    def _close(self) -> None:
        if not self._open:
            return
        if self._events is not None:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._open, self._events, self._registered = False, None, {}

    def _devices(self) -> list[NvmlDevice]:
        """Return the GPUs that the driver lists, including those that do not respond."""
        if not self._open:
            return []
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:  # the GPU is being replaced
            self._note_unavailable(error)
            self._close()
            return []
        cards: dict[str, NvmlDevice] = {}
        for index in range(count):
            card = _device_at(index)
            if not card.uuid:
                card.failure = card.failure or "it does not report its UUID"
                seen = self._uuid_by_index.get(index)
                card.uuid = seen if seen and seen not in cards else f"{_NO_UUID_PREFIX}{index}"
            self._uuid_by_index[index] = card.uuid
            cards[card.uuid] = card
        for uuid in [
            uuid
            for uuid in self._histories
            if uuid.startswith(_NO_UUID_PREFIX) and uuid not in cards
        ]:
            del self._histories[uuid]  # the GPU has reported its UUID now
        return list(cards.values())

    def _collect_events(self) -> None:
        """Process the events that the driver reported since the last reading."""
        if self._events is None:
            return
        for _ in range(MOST_EVENTS):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except (
                pynvml.NVMLError
            ):  # there is no event, or the event set failed together with a GPU
                return
            heard = self._registered.get(_address(event.device))
            history = self._histories.get(heard or NvmlDevice(0, event.device).uuid)
            if history is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                logger.info("gpu=%s xid=%d", history.snapshots[0].uuid, event.eventData)
                history.xids.add(int(event.eventData))

    def _register_events(self, card: NvmlDevice) -> None:
        address = _address(card.handle)
        if self._events is None or self._registered.get(address) == card.uuid:
            return
        self._registered[address] = card.uuid  # also if the driver refuses: asking once is enough
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlDeviceRegisterEvents(
                card.handle, pynvml.nvmlEventTypeXidCriticalError, self._events
            )

    # --- one GPU

    def _snapshot_device(self, card: NvmlDevice) -> tuple[GpuSnapshot, ...]:
        parts = () if card.failure else _snapshot_parts(card)
        broken, pending = read_memory_wear(card)
        history = self._histories.get(card.uuid)
        if history is None:
            unknown = GpuSnapshot(
                uuid=card.uuid, index=card.index, name="unknown", total=0, used=None
            )
            history = self._histories[card.uuid] = _DeviceHistory(snapshots=parts or (unknown,))
        if card.failure:  # the GPU may have failed at the last query
            return self._snapshot_lost(history, card.failure)
        history.snapshots = parts
        if history.is_gone:
            logger.info("gpu=%s answers again", card.uuid)
            history.is_gone = False
            if history.is_lost:  # the GPU was reset or reinserted: its earlier state is over
                history.is_lost = False
                history.xids.clear()
                history.new_errors, history.errors = 0, None
        self._register_events(card)
        fault, warnings = _health(history, broken, pending)
        return tuple(
            replace(gpu, fault="; ".join(filter(None, (gpu.fault, fault))), warnings=warnings)
            for gpu in parts
        )

    def _snapshot_unlisted(self, history: _DeviceHistory) -> tuple[GpuSnapshot, ...]:
        if not self.absent:
            return self._snapshot_lost(history, UNLISTED_TEXT)
        fault = fault_of(XID_FALLEN_OFF_BUS) if history.is_gone else ""
        warnings = (f"the driver does not respond: {self.absent}",)
        return tuple(
            replace(_without_readings(gpu, fault), warnings=warnings) for gpu in history.snapshots
        )

    def _snapshot_lost(self, history: _DeviceHistory, silence: str) -> tuple[GpuSnapshot, ...]:
        fault = (
            fault_of(XID_FALLEN_OFF_BUS)
            if XID_FALLEN_OFF_BUS in history.xids
            else f"does not respond: {silence}"
        )
        history.is_lost = (
            history.is_lost
            or XID_FALLEN_OFF_BUS in history.xids
            or silence in {UNLISTED_TEXT, GPU_LOST_TEXT}
        )
        if not history.is_gone:
            logger.info("gpu=%s fault=%r", history.snapshots[0].uuid, fault)
            history.is_gone = True
            self._tried_at = self._clock()
            self._registered = {
                address: uuid
                for address, uuid in self._registered.items()
                if self._histories.get(uuid) is not history
            }
        return tuple(_without_readings(gpu, fault) for gpu in history.snapshots)


def _mark_replaced(
    parts_of: Mapping[str, Iterable[GpuSnapshot]], devices: Collection[NvmlDevice]
) -> list[GpuSnapshot]:
    """Return all GPUs, with a mark if another one has, or had, the same number.

    Args:
        parts_of: GPUs or their instances by the UUID of the card.
        devices: Cards that the driver lists. The numbers of the others may have passed to these.
    """
    uuids, numbers = {card.uuid for card in devices}, {card.index for card in devices}
    gone = {
        gpu.uuid: gpu.index
        for uuid, parts in parts_of.items()
        for gpu in parts
        if uuid not in uuids and gpu.index in numbers
    }
    return [
        replace(gpu, is_replaced=gpu.uuid in gone, is_ambiguous=gpu.index in gone.values())
        for parts in parts_of.values()
        for gpu in parts
    ]


def _driver_version() -> str:
    """Return the version of the driver, '' if it is not reported."""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except QUERY_ERRORS:
        return ""


def _device_at(index: int) -> NvmlDevice:
    try:
        return NvmlDevice(index, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError as error:
        return NvmlDevice(index, None, failure=describe_error(error))


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _snapshot_parts(card: NvmlDevice) -> tuple[GpuSnapshot, ...]:
    """Return the state of a GPU, or of its instances if it is divided."""
    if not is_in_mig_mode(card):
        return (take_snapshot(card, card),)
    instances = list(card.instances())
    shown = tuple(take_snapshot(instance, card) for instance in instances)
    card.failure = next(
        (instance.failure for instance in instances if instance.failure), card.failure
    )
    if shown:
        return shown
    fault = "is in MIG mode, but has no instances"
    return (replace(take_snapshot(card, card), used=None, fault=fault),)


def _health(history: _DeviceHistory, fault: str, pending_fault: str) -> tuple[str, tuple[str, ...]]:
    """Return why no job may run on a responding GPU, and the warnings for its owner."""
    errors = history.snapshots[0].ecc_uncorrected
    if errors is not None:
        before, history.errors = history.errors, errors
        if before is not None and errors > before:
            history.new_errors += errors - before
    added = (
        f"{pluralize(history.new_errors, 'uncorrected memory error')} since the scheduler started"
    )
    faults = [*map(fault_of, sorted(history.xids)), fault, added if history.new_errors else ""]
    warnings = [*map(warning_of, sorted(history.xids)), pending_fault]
    if errors and not history.new_errors:
        new_errors = pluralize(errors, "uncorrected memory error")
        warnings.append(f"{new_errors} since the driver was loaded")
    return "; ".join(filter(None, faults)), tuple(filter(None, warnings))


def _without_readings(gpu: GpuSnapshot, fault: str) -> GpuSnapshot:
    return GpuSnapshot(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        total=gpu.total,
        used=None,
        mig=gpu.mig,
        fault=fault,
        shares_host_memory=gpu.shares_host_memory,
    )
