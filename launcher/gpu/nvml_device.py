"""One GPU or MIG instance behind the driver's handle, and the questions that are put to it.

Every question may be refused: by an old driver, a container, a missing permission, a dying card.
What is refused, and what cannot be true, is None.
"""

import os
import pwd
import time
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import pynvml

from launcher.gpu.snapshot import GpuProcess, GpuSnapshot

_DEAD = {pynvml.NVML_ERROR_GPU_IS_LOST, pynvml.NVML_ERROR_RESET_REQUIRED}
_MOST_TOTAL = 1 << 50  # bytes; more is no memory but a mistake
_MOST_ERRORS = 1 << 40
_MOST_MW = 10_000_000
_HOTTEST_C = 200
_MOST_MODE = 3
_RECENT_US = 1_500_000  # a process is counted busy by what it did in so long; we look once a second
_PIDS = 1 << 22  # PID_MAX_LIMIT of Linux on 64 bits; a list with a larger one is scrambled
_PLAINLY = {
    pynvml.NVML_ERROR_LIBRARY_NOT_FOUND: "libnvidia-ml.so.1, of NVIDIA's driver, is not found",
    pynvml.NVML_ERROR_DRIVER_NOT_LOADED: "NVIDIA's driver is not loaded",
    pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "NVIDIA's driver was updated; reboot to load it",
}

Refused = (pynvml.NVMLError, UnicodeDecodeError)  # a name may come as garbage


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
                if isinstance(error, pynvml.NVMLError) and error.value in _DEAD:
                    self.silent = why(error)
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
    whole = part.mig is None  # what a card draws is not to be counted once for each instance
    return GpuSnapshot(
        uuid=part.uuid,
        index=card.index,
        mig=part.mig,
        name=part.ask(pynvml.nvmlDeviceGetName) or "unknown",
        total=total or 0,
        used=_possible(memory.used, total) if total else None,
        processes=_processes(part, total),
        utilisation=None if busy is None else busy / 100,
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
        return _login(os.stat(f"/proc/{pid}").st_uid)  # noqa: PTH116  # done for each at every look
    except OSError:
        return None


@lru_cache(maxsize=256)
def _login(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _command(pid: int) -> str | None:
    try:
        name = Path(f"/proc/{pid}/comm").read_bytes()
    except OSError:
        return None
    return name.decode(errors="replace").rstrip("\n")
