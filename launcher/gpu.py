"""What the GPUs of this machine say of themselves at one instant, through NVML."""

import logging
from dataclasses import dataclass

import pynvml

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSnapshot:
    """One GPU at one instant; memory in bytes."""

    uuid: str
    index: int  # in PCI order, as in cuda:N
    name: str
    total: int
    used: int | None  # None: the driver did not answer; then nothing starts here


class Nvml:
    """The driver's management library; a machine without it has no GPUs."""

    def __init__(self) -> None:
        """Load the library, where there is one."""
        try:
            pynvml.nvmlInit()
            self.present = True
        except pynvml.NVMLError as error:
            logger.info("no GPU is used: NVML says %s", error)
            self.present = False

    def snapshot(self) -> tuple[GpuSnapshot, ...]:
        """Return every GPU as it is now, in PCI order."""
        if not self.present:
            return ()
        try:
            count = pynvml.nvmlDeviceGetCount()
        except pynvml.NVMLError as error:  # the driver is being replaced, or has lost its cards
            logger.warning("no GPU can be seen: NVML says %s", error)
            return ()
        found = []
        for index in range(count):
            try:
                handle = pynvml.nvmlDeviceGetHandleByIndex(index)
                uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
            except pynvml.NVMLError as error:
                logger.warning("cuda:%d is left out: %s", index, error)
                continue
            total, used = _memory(handle)
            found.append(GpuSnapshot(uuid=uuid, index=index, name=name, total=total, used=used))
        return tuple(found)


def _memory(handle: object) -> tuple[int, int | None]:
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return 0, None
    return int(memory.total), int(memory.used)
