"""Every question that the launcher puts to NVML, and the shape of the answer.

python -m benchmarks.gpu.measurements.nvml_questions     print the answers of the first card as JSON
"""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pynvml

GPU = pynvml.NVML_TEMPERATURE_GPU
ECC = (pynvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED, pynvml.NVML_VOLATILE_ECC)
XID = pynvml.nvmlEventTypeXidCriticalError
NAMES = {
    getattr(pynvml, name): name.removeprefix("NVML_ERROR_")
    for name in dir(pynvml)
    if name.startswith("NVML_ERROR_")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Answer to a question. Its shape is compared, its value is only shown."""

    shape: str  # types, or the code of the error
    value: Any = None

    @property
    def refused(self) -> bool:
        """Whether it is an error."""
        return self.shape.startswith("error ")

    def __str__(self) -> str:
        """Return the shape with the value."""
        return self.shape if self.value is None else f"{self.shape} {self.value}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A function of NVML."""

    ask: Callable[[Any], Any]  # a question about the handle
    needed: bool = False  # without it the launcher knows too little of a card


def _no_such_card(_handle: Any) -> Any:
    return pynvml.nvmlDeviceGetHandleByIndex(pynvml.nvmlDeviceGetCount())


def _register(handle: Any) -> Any:
    events = pynvml.nvmlEventSetCreate()
    try:
        return pynvml.nvmlDeviceRegisterEvents(handle, XID, events)
    finally:
        pynvml.nvmlEventSetFree(events)


def _wait_for_nothing(handle: Any) -> Any:
    events = pynvml.nvmlEventSetCreate()
    try:
        pynvml.nvmlDeviceRegisterEvents(handle, XID, events)
        return pynvml.nvmlEventSetWait_v2(events, 0)
    finally:
        pynvml.nvmlEventSetFree(events)


QUESTIONS: Mapping[str, Question] = {
    "UUID": Question(ask=pynvml.nvmlDeviceGetUUID, needed=True),
    "name": Question(ask=pynvml.nvmlDeviceGetName, needed=True),
    "memory (version 1)": Question(ask=pynvml.nvmlDeviceGetMemoryInfo, needed=True),
    "utilisation": Question(ask=pynvml.nvmlDeviceGetUtilizationRates),
    "power": Question(ask=pynvml.nvmlDeviceGetPowerUsage),
    "power limit": Question(ask=pynvml.nvmlDeviceGetEnforcedPowerLimit),
    "temperature (since 2025)": Question(
        ask=lambda handle: pynvml.nvmlDeviceGetTemperatureV(handle, GPU)
    ),
    "temperature (before)": Question(
        ask=lambda handle: pynvml.nvmlDeviceGetTemperature(handle, GPU)
    ),
    "uncorrected ECC errors": Question(
        ask=lambda handle: pynvml.nvmlDeviceGetTotalEccErrors(handle, *ECC)
    ),
    "remapped rows": Question(ask=pynvml.nvmlDeviceGetRemappedRows),
    "retired pages pending": Question(ask=pynvml.nvmlDeviceGetRetiredPagesPendingStatus),
    "MIG mode": Question(ask=pynvml.nvmlDeviceGetMigMode),
    "most MIG instances": Question(ask=pynvml.nvmlDeviceGetMaxMigDeviceCount),
    "MIG instance 0 of an undivided card": Question(
        ask=lambda handle: pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, 0)
    ),
    "computing processes (version 3)": Question(
        ask=pynvml.nvmlDeviceGetComputeRunningProcesses_v3, needed=True
    ),
    "computing processes (version 2)": Question(ask=pynvml.nvmlDeviceGetComputeRunningProcesses_v2),
    "drawing processes (version 3)": Question(ask=pynvml.nvmlDeviceGetGraphicsRunningProcesses_v3),
    "registration for Xids": Question(ask=_register, needed=True),
    "waiting for an Xid that did not happen": Question(ask=_wait_for_nothing, needed=True),
    "a card that does not exist": Question(ask=_no_such_card, needed=True),
}


def answer(question: Question, handle: Any) -> Answer:
    """Put a question to a card."""
    try:
        value = question.ask(handle)
    except pynvml.NVMLError as error:
        return Answer(shape=f"error {error.value} {NAMES.get(error.value, '')}".strip())
    return Answer(shape=shape(value), value=shown(value))


def shape(value: Any) -> str:
    """Return the types of which an answer consists."""
    match value:
        case None:
            return "nothing"
        case list():
            return "list"
        case tuple():
            return f"({', '.join(map(shape, value))})"
    names = [name for name, *_ in getattr(value, "_fields_", ())]
    if names:
        return f"struct of {', '.join(names)}"
    return type(value).__name__


def shown(value: Any) -> Any:
    """Return an answer's value as a report shows it; None where the type says all."""
    match value:
        case int() | str():
            return value
        case list():
            return f"of {len(value)}"
        case tuple():
            return value
    names = [name for name, *_ in getattr(value, "_fields_", ())]
    return " ".join(str(getattr(value, name)) for name in names) or None


def answers() -> dict[str, Answer]:
    """Put every question to the first card of the driver that is loaded."""
    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(0)
        return {name: answer(question, handle) for name, question in QUESTIONS.items()}
    finally:
        pynvml.nvmlShutdown()


if __name__ == "__main__":
    json.dump({name: asdict(given) for name, given in answers().items()}, sys.stdout)
