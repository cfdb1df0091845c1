"""State of this machine's GPUs, read from the driver through the library NVML.

A GPU or MIG instance is addressed by the driver's handle. Any query may be refused by an old driver, a container, a
missing permission or a failing card. A refused or impossible value is None.
"""

import contextlib
import ctypes
import logging
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pynvml

from launcher.errors import counted
from launcher.gpu.nvml_faults import FALLEN, fault_of, warning_of
from launcher.gpu.snapshot import GpuProcess, GpuSnapshot
from launcher.system.processes import login

_LIBRARY = "libnvidia-ml.so.1"
_UNSUPPORTED = {
    pynvml.NVML_ERROR_NOT_SUPPORTED,
    pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,
    pynvml.NVML_ERROR_NO_PERMISSION,
}
_DEAD = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}
_MOST_TOTAL = 1 << 50  # bytes; more is no memory but a mistake
_MOST_ERRORS = 1 << 40
_MOST_MW = 10_000_000
_HOTTEST_C = 200
_MOST_MODE = 3
_RECENT_US = 1_500_000  # a process is counted busy by what it did in so long; we look once a second
_PIDS = 1 << 22  # PID_MAX_LIMIT of Linux on 64 bits; a list with a larger one is scrambled
_PLAINLY = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: f"{_LIBRARY} is missing",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVIDIA's driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA's driver was updated. Reboot to load it",
}

Refused = (pynvml.NVMLError, UnicodeDecodeError)  # a name may come as garbage
logger = logging.getLogger(__name__)
RETRY_S = 30.0  # between two tries to reach a driver that is not there
RENEW_S = 120.0  # likewise for a card: one that may not be used by us is gone for ever
UNLISTED = "the driver does not list it any more"
MOST_EVENTS = 64  # taken in at one look; a card that fails may flood us
_UNNAMED = "#"  # begins what stands for the UUID of a card that never reported it


class Card:
    """A GPU or an instance of one; `silent` says why it does not answer any more, if so."""

    def __init__(
        self, index: int, handle: Any, *, mig: int | None = None, silent: str = ""
    ) -> None:
        """Ask who it is.

        Args:
            index: of the card in PCI order.
            handle: the driver's.
            mig: which instance of the card.
            silent: why it is not to be asked anything.
        """
        self.index, self.handle, self.mig = index, handle, mig
        self.silent = silent
        self.unsupported: set[Callable[..., Any]] = set()  # questions that it never answers
        self.uuid: str = self.ask(pynvml.nvmlDeviceGetUUID) or ""

    def ask(self, *questions: Callable[..., Any], about: tuple[object, ...] = ()) -> Any:
        """Return what the first question that is answered gives, None where all are refused.

        Args:
            questions: functions of pynvml for the same thing, the preferred one first.
            about: what they take beside the handle.
        """
        for question in questions:
            if self.silent:
                return None  # each question to a dead card may take long
            try:
                return question(self.handle, *about)
            except Refused as error:
                value = error.value if isinstance(error, pynvml.NVMLError) else None
                if value in _DEAD:
                    self.silent = why(error)
                elif value in _UNSUPPORTED:
                    self.unsupported.add(question)
        return None

    def instances(self) -> "Iterator[Card]":
        """Yield the MIG instances into which the card is divided."""
        for mig in range(self.ask(pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0):
            handle = self.ask(pynvml.nvmlDeviceGetMigDeviceHandleByIndex, about=(mig,))
            if handle is not None:  # most places are empty
                instance = Card(self.index, handle, mig=mig)
                self.silent = self.silent or instance.silent
                if instance.uuid:
                    yield instance


def has_library() -> bool:
    """Return whether the library of NVIDIA's driver is installed; the driver is not asked."""
    try:
        ctypes.CDLL(_LIBRARY)
    except OSError:
        return False
    return True


def why(error: pynvml.NVMLError) -> str:
    """Return what an error of the driver means."""
    return _PLAINLY.get(error.value) or str(error)


def divided(card: Card) -> bool:
    """Tell whether a card is in MIG mode: then only its instances can be used."""
    mode = card.ask(pynvml.nvmlDeviceGetMigMode)
    return mode is not None and mode[0] == pynvml.NVML_DEVICE_MIG_ENABLE


def measured(part: Card, card: Card) -> GpuSnapshot:
    """Return a GPU or an instance as it is now, without its faults.

    Args:
        part: what is measured.
        card: the GPU, which also answers for its instances; otherwise the same.
    """
    # version 1 counts what the driver keeps for itself as used, and so is used + free = total
    memory = part.ask(pynvml.nvmlDeviceGetMemoryInfo)
    total = _possible(memory and memory.total, _MOST_TOTAL)
    rates = part.ask(pynvml.nvmlDeviceGetUtilizationRates)
    busy = _possible(rates and rates.gpu, 100)
    processes = _processes(part, total)
    asked = pynvml.nvmlDeviceGetProcessUtilization not in part.unsupported
    whole = part.mig is None  # what a card draws is not to be counted once for each instance
    return GpuSnapshot(
        uuid=part.uuid,
        index=card.index,
        mig=part.mig,
        name=part.ask(pynvml.nvmlDeviceGetName) or "unknown",
        total=total or 0,
        used=_possible(memory.used, total) if total else None,
        processes=processes,
        utilisation=None if busy is None else busy / 100,
        reports_load=whole and processes is not None and asked,
        compute_mode=_possible(card.ask(pynvml.nvmlDeviceGetComputeMode), _MOST_MODE),
        power_w=_watts(card.ask(pynvml.nvmlDeviceGetPowerUsage)) if whole else None,
        power_limit_w=_watts(card.ask(pynvml.nvmlDeviceGetEnforcedPowerLimit)) if whole else None,
        temperature_c=_possible(
            card.ask(
                pynvml.nvmlDeviceGetTemperatureV,  # since 2025
                pynvml.nvmlDeviceGetTemperature,
                about=(pynvml.NVML_TEMPERATURE_GPU,),
            ),
            _HOTTEST_C,
        ),
        ecc_uncorrected=_possible(
            card.ask(
                pynvml.nvmlDeviceGetTotalEccErrors,
                about=(pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC),
            ),
            _MOST_ERRORS,
        ),
    )


def worn(card: Card) -> tuple[str, str]:
    """Return what is wrong with a card's memory for good, and what a reset would mend."""
    rows = card.ask(pynvml.nvmlDeviceGetRemappedRows)  # since Ampere
    if rows is not None:
        _, _, pending, failed = rows
        fault = "a bad row of memory could not be replaced" if failed else ""
        return fault, "a bad row of memory is to be replaced at the next reset" if pending else ""
    pending = card.ask(pynvml.nvmlDeviceGetRetiredPagesPendingStatus)  # before
    return "", "a page of memory is to be retired at the next reset" if pending == 1 else ""


def _possible(answer: Any, most: int | None) -> int | None:
    """Return a reported number, None where it cannot be true."""
    if answer is None or most is None or not 0 <= answer <= most:
        return None
    return int(answer)


def _watts(milliwatts: Any) -> float | None:
    value = _possible(milliwatts, _MOST_MW)
    return None if value is None else value / 1000


def _processes(part: Card, total: int | None) -> tuple[GpuProcess, ...] | None:
    """Return who holds memory, the largest first; None where the driver does not tell."""
    computing = part.ask(
        pynvml.nvmlDeviceGetComputeRunningProcesses_v3,
        pynvml.nvmlDeviceGetComputeRunningProcesses_v2,  # before 2022
    )
    if computing is None:
        return None
    drawing = part.ask(
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3,
        pynvml.nvmlDeviceGetGraphicsRunningProcesses_v2,
    )
    used: dict[int, int | None] = {}
    for process in (*computing, *(drawing or ())):
        if not 0 < process.pid <= _PIDS:
            return None
        amounts = [used.get(process.pid), _possible(process.usedGpuMemory, total)]
        used[process.pid] = max((amount for amount in amounts if amount is not None), default=None)
    busy = _busy(part)
    processes = [
        GpuProcess(pid=pid, used=amount, user=_user(pid), command=_command(pid), sm=busy.get(pid))
        for pid, amount in used.items()
    ]
    return tuple(sorted(processes, key=lambda process: (-(process.used or 0), process.pid)))


def _busy(part: Card) -> dict[int, float]:
    """Return by pid for which share of the last second processes kept a card busy, as far as it is told.

    The driver tells nothing of a process that did nothing, nor of instances, nor, on some cards, of any.
    """
    if part.mig is not None:
        return {}
    since = max(0, time.time_ns() // 1000 - _RECENT_US)  # by the clock of the driver's samples
    samples = part.ask(pynvml.nvmlDeviceGetProcessUtilization, about=(since,))
    newest: dict[int, tuple[int, float]] = {}
    for sample in samples or ():
        share = _possible(sample.smUtil, 100)
        if share is None or sample.timeStamp <= since:  # some drivers repeat old ones
            continue
        newest[sample.pid] = max(newest.get(sample.pid, (0, 0.0)), (sample.timeStamp, share / 100))
    return {pid: share for pid, (_, share) in newest.items()}


def _user(pid: int) -> str | None:
    """Return who runs a process; None when there is none, as for one of another container."""
    try:
        return login(os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116  # done for each at every look
    except OSError:
        return None


def _command(pid: int) -> str | None:
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return None
    return name.decode(errors="replace").rstrip("\n")


LOST = why(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))


@dataclass(slots=True, kw_only=True)
class _CardHistory:
    """What we remember of a card from look to look."""

    shown: tuple[GpuSnapshot, ...]  # as it last answered: itself, or its instances
    xids: set[int] = field(default_factory=set)
    errors: int | None = None  # of its memory, when we looked last
    added: int = 0  # errors since we look
    gone: bool = False
    away: bool = False  # it was lost, not only silent for a look: what answers then has been reset


class Nvml:
    """The driver's library; keep one for as long as faults are to be remembered.

    Use it from one thread at a time. A question may take for ever: see `launcher.gpu.monitor`.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Make a probe; the library is loaded at the first look.

        Args:
            clock: tells the time in seconds.
        """
        self.absent = ""  # why there is no driver to ask
        self._clock = clock
        self._open = False
        self._driver = ""  # its version
        self._tried: float | None = None
        self._histories: dict[str, _CardHistory] = {}  # by UUID of the card
        self._places: dict[int, str] = {}  # index → UUID of the card that was last seen there
        self._events: Any = None
        self._heard: dict[int, str] = {}  # address of a handle whose events we get → UUID

    def snapshot(self) -> tuple[GpuSnapshot, ...]:
        """Return every GPU as it is now, or the MIG instances of a divided one, in PCI order.

        One that was seen before and does not answer now is listed with a fault; where the driver as a whole
        does not answer, no card is to blame: nothing is known of them, and what runs there may run on.
        """
        self._reach()
        cards = self._cards()
        self._hear()
        parts_of = {card.uuid: self._look_at(card) for card in cards}
        parts_of |= {
            uuid: self._unseen(card)
            for uuid, card in self._histories.items()
            if uuid not in parts_of
        }
        gpus = (replace(gpu, driver=self._driver) for parts in parts_of.values() for gpu in parts)
        return tuple(sorted(gpus, key=lambda gpu: (gpu.index, gpu.mig or 0)))

    # --- the library

    def _reach(self) -> None:
        """Open the library where it is not, and anew from time to time while a card is gone."""
        if self._open and not any(history.gone for history in self._histories.values()):
            return
        now = self._clock()
        pause_s = RENEW_S if self._open else RETRY_S
        if self._tried is not None and now - self._tried < pause_s:
            return
        self._tried = now
        self._close()  # a card that was reset is shown only to who opens the library after that
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            self._refused(error)
            return
        self._open, self.absent = True, ""
        self._driver = _driver_version()
        with contextlib.suppress(pynvml.NVMLError):
            self._events = pynvml.nvmlEventSetCreate()

    def _refused(self, error: pynvml.NVMLError) -> None:
        if self.absent != why(error):  # logged once, not every half minute
            logger.info("no GPU is used: %s", why(error))
        self.absent = why(error)

    def _close(self) -> None:
        if not self._open:
            return
        if self._events is not None:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlEventSetFree(self._events)
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        self._open, self._events, self._heard = False, None, {}

    def _cards(self) -> list[Card]:
        """Return the cards that the driver lists, also those that do not answer."""
        if not self._open:
            return []
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:  # it is being replaced
            self._refused(error)
            self._close()
            return []
        cards: dict[str, Card] = {}
        for index in range(count):
            card = _card_at(index)
            if not card.uuid:
                card.silent = card.silent or "it does not report its UUID"
                seen = self._places.get(index)
                card.uuid = seen if seen and seen not in cards else f"{_UNNAMED}{index}"
            self._places[index] = card.uuid
            cards[card.uuid] = card
        for uuid in [
            uuid for uuid in self._histories if uuid.startswith(_UNNAMED) and uuid not in cards
        ]:
            del self._histories[uuid]  # it has reported its UUID now
        return list(cards.values())

    def _hear(self) -> None:
        """Take in what the driver has reported of the cards since the last look."""
        if self._events is None:
            return
        for _ in range(MOST_EVENTS):
            try:
                event = pynvml.nvmlEventSetWait_v2(self._events, 0)
            except pynvml.NVMLError:  # there is none, or the set is as dead as a card
                return
            heard = self._heard.get(_address(event.device))
            history = self._histories.get(heard or Card(0, event.device).uuid)
            if history is not None and event.eventType == pynvml.nvmlEventTypeXidCriticalError:
                logger.info("gpu=%s xid=%d", history.shown[0].uuid, event.eventData)
                history.xids.add(int(event.eventData))

    def _listen(self, card: Card) -> None:
        address = _address(card.handle)
        if self._events is None or self._heard.get(address) == card.uuid:
            return
        self._heard[address] = card.uuid  # also where it is refused: asking once is enough
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlDeviceRegisterEvents(
                card.handle, pynvml.nvmlEventTypeXidCriticalError, self._events
            )

    # --- one card

    def _look_at(self, card: Card) -> tuple[GpuSnapshot, ...]:
        parts = () if card.silent else _parts(card)
        broken, pending = worn(card)
        history = self._histories.get(card.uuid)
        if history is None:
            unknown = GpuSnapshot(
                uuid=card.uuid, index=card.index, name="unknown", total=0, used=None
            )
            history = self._histories[card.uuid] = _CardHistory(shown=parts or (unknown,))
        if card.silent:  # it may have died at the last question
            return self._lost(history, card.silent)
        history.shown = parts
        if history.gone:
            logger.info("gpu=%s answers again", card.uuid)
            history.gone = False
            if history.away:  # it was reset, or put back: what it had is over
                history.away = False
                history.xids.clear()
                history.added, history.errors = 0, None
        self._listen(card)
        fault, warnings = _health(history, broken, pending)
        return tuple(
            replace(gpu, fault="; ".join(filter(None, (gpu.fault, fault))), warnings=warnings)
            for gpu in parts
        )

    def _unseen(self, history: _CardHistory) -> tuple[GpuSnapshot, ...]:
        if not self.absent:
            return self._lost(history, UNLISTED)
        fault = fault_of(FALLEN) if history.gone else ""
        warnings = (f"the driver does not respond: {self.absent}",)
        return tuple(replace(_silenced(gpu, fault), warnings=warnings) for gpu in history.shown)

    def _lost(self, history: _CardHistory, silence: str) -> tuple[GpuSnapshot, ...]:
        fault = fault_of(FALLEN) if FALLEN in history.xids else f"does not respond: {silence}"
        history.away = history.away or FALLEN in history.xids or silence in {UNLISTED, LOST}
        if not history.gone:
            logger.info("gpu=%s fault=%r", history.shown[0].uuid, fault)
            history.gone = True
            self._tried = self._clock()
            self._heard = {
                address: uuid
                for address, uuid in self._heard.items()
                if self._histories.get(uuid) is not history
            }
        return tuple(_silenced(gpu, fault) for gpu in history.shown)


def _driver_version() -> str:
    """Return the version of the driver; '' where it does not tell."""
    try:
        return str(pynvml.nvmlSystemGetDriverVersion())
    except Refused:
        return ""


def _card_at(index: int) -> Card:
    try:
        return Card(index, pynvml.nvmlDeviceGetHandleByIndex(index))
    except pynvml.NVMLError as error:
        return Card(index, None, silent=why(error))


def _address(handle: Any) -> int:
    return ctypes.cast(handle, ctypes.c_void_p).value or 0


def _parts(card: Card) -> tuple[GpuSnapshot, ...]:
    """Return a card as it is now, or its instances where it is divided."""
    if not divided(card):
        return (measured(card, card),)
    instances = list(card.instances())
    shown = tuple(measured(instance, card) for instance in instances)
    card.silent = next((instance.silent for instance in instances if instance.silent), card.silent)
    if shown:
        return shown
    fault = "is in MIG mode, but has no instances"
    return (replace(measured(card, card), used=None, fault=fault),)


def _health(history: _CardHistory, broken: str, pending: str) -> tuple[str, tuple[str, ...]]:
    """Return why nothing may run on a card that answers, and what its owner should know."""
    errors = history.shown[0].ecc_uncorrected
    if errors is not None:
        before, history.errors = history.errors, errors
        if before is not None and errors > before:
            history.added += errors - before
    added = f"{counted(history.added, 'uncorrected memory error')} since the scheduler started"
    faults = [*map(fault_of, sorted(history.xids)), broken, added if history.added else ""]
    warnings = [*map(warning_of, sorted(history.xids)), pending]
    if errors and not history.added:
        new_errors = counted(errors, "uncorrected memory error")
        warnings.append(f"{new_errors} since the driver was loaded")
    return "; ".join(filter(None, faults)), tuple(filter(None, warnings))


def _silenced(gpu: GpuSnapshot, fault: str) -> GpuSnapshot:
    return GpuSnapshot(
        uuid=gpu.uuid,
        index=gpu.index,
        name=gpu.name,
        total=gpu.total,
        used=None,
        mig=gpu.mig,
        fault=fault,
    )
