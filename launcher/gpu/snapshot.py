"""One GPU at one instant, as a value; who asks the driver is `launcher.gpu.nvml`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuProcess:
    """A process that holds memory of a GPU."""

    pid: int  # as NVML reports it: in a container it may be unknown to us
    used: int | None = None  # bytes; None: the driver does not tell
    user: str | None = None  # a login name, or the uid where it has none; None: not known
    command: str | None = None  # the program's short name
    sm: float | None = None  # share of the last second in which it kept the GPU busy, 0 to 1


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSnapshot:
    """One GPU, or one MIG instance, at one instant. None is what the driver does not tell."""

    uuid: str
    index: int  # in PCI order, as in cuda:N
    name: str
    total: int  # bytes; 0: unknown, and nothing fits
    used: int | None  # bytes, by whomever; None: then nothing starts here
    mig: int | None = None  # which instance of the card, where that is divided
    fault: str = ""  # why nothing may start here, and what runs here is moved
    warnings: tuple[str, ...] = ()  # what its owner should know, and does not keep jobs away
    processes: tuple[GpuProcess, ...] | None = None
    utilisation: float | None = None  # share of the last second in which it worked, 0 to 1
    compute_mode: int | None = None  # NVML's: 0 is shared by all, 1 and 3 by none, 2 is closed
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    ecc_uncorrected: int | None = None  # errors since the driver was loaded
    driver: str = ""  # the version of its driver; '': not known

    @property
    def label(self) -> str:
        """What people call it: `cuda:0`, or `cuda:0:1` for an instance of a divided card."""
        return f"cuda:{self.index}" if self.mig is None else f"cuda:{self.index}:{self.mig}"

    @property
    def fingerprint(self) -> str:
        """What decides how much and how long a job takes here: model, memory, and driver where it is known."""
        name = f"{self.name}, {self.total >> 20} MiB"
        return f"{name}, driver {self.driver}" if self.driver else name
