"""What the GPUs of this machine say of themselves, through the driver's library NVML."""

import contextlib
import ctypes
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pynvml

from launcher.errors import counted
from launcher.gpu.nvml_device import Card, Refused, divided, measured, why, worn
from launcher.gpu.snapshot import GpuSnapshot
from launcher.gpu.xid_errors import FALLEN, fault_of, warning_of

logger = logging.getLogger(__name__)

RETRY_S = 30.0  # between two tries to reach a driver that is not there
RENEW_S = 120.0  # likewise for a card: one that may not be used by us is gone for ever
UNLISTED = "the driver does not list it any more"
LOST = why(pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST))
MOST_EVENTS = 64  # taken in at one look; a card that fails may flood us
_UNNAMED = "#"  # begins what stands for the UUID of a card that never reported it


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
                card.silent = card.silent or "it does not tell its UUID"
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
        warnings = (f"the driver does not answer: {self.absent}",)
        return tuple(replace(_silenced(gpu, fault), warnings=warnings) for gpu in history.shown)

    def _lost(self, history: _CardHistory, silence: str) -> tuple[GpuSnapshot, ...]:
        fault = fault_of(FALLEN) if FALLEN in history.xids else f"does not answer: {silence}"
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
    fault = "is divided (MIG), and no instance was made"
    return (replace(measured(card, card), used=None, fault=fault),)


def _health(history: _CardHistory, broken: str, pending: str) -> tuple[str, tuple[str, ...]]:
    """Return why nothing may run on a card that answers, and what its owner should know."""
    errors = history.shown[0].ecc_uncorrected
    if errors is not None:
        before, history.errors = history.errors, errors
        if before is not None and errors > before:
            history.added += errors - before
    added = f"{counted(history.added, 'uncorrected memory error')} while it was watched"
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
