"""State of one GPU at one instant, as a value and as JSON.

`launcher.queue.gpu.nvml` queries the driver.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import NamedTuple

from launcher.system.files import Json
from launcher.system.stored_fields import Unreadable, read_texts, restore_known_fields

_MOST = 1 << 60  # no amount of a GPU comes near

# NVML's compute modes, if they are not the default 0
ONE_PROCESS = frozenset({1, 3})  # only one process, or thread, may create a context at a time
PROHIBITED = 2  # none may


class GpuProcess(NamedTuple):
    """A process that holds memory of a GPU."""

    pid: int  # PID of the process as NVML reports it: in a container the PID may be unknown to us
    used: int | None = None  # bytes; None: not reported by the driver
    user: str | None = None  # a login name, or the uid if the process has none; None if unknown
    command: str | None = None  # the program's short name
    # share of the last second in which the process kept the GPU busy, 0 to 1
    sm: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuSnapshot:
    """One GPU, or one MIG instance, at one instant. None stands for a value that is not reported."""

    uuid: str
    index: int  # in PCI order, as in cuda:N
    name: str
    total: int  # bytes; 0: unknown, and nothing fits
    used: int | None  # bytes, by whomever; None: then nothing starts here
    mig: int | None = None  # index of the MIG instance if the GPU is divided
    fault: str = ""  # why no job may start here and running jobs are evicted
    warnings: tuple[str, ...] = ()  # warnings for the owner, which do not prevent jobs
    processes: tuple[GpuProcess, ...] | None = None
    utilisation: float | None = None  # share of the last second in which the GPU worked, 0 to 1
    reports_load: bool = True  # whether the driver reports the utilization per process
    compute_mode: int | None = None  # NVML's: 0 is shared by all, 1 and 3 by none, 2 is closed
    power_w: float | None = None
    power_limit_w: float | None = None
    temperature_c: int | None = None
    ecc_uncorrected: int | None = None  # errors since the driver was loaded
    driver: str = ""  # the version of the GPU's driver; '': not known
    # unified memory: `total` and `used` are those of the machine's main memory, by whatever uses it
    shares_host_memory: bool = False
    # the driver does not list the GPU any more, and another has its number
    is_replaced: bool = False
    # another GPU has, or had, the same number since the scheduler started
    is_ambiguous: bool = False

    @property
    def number(self) -> str:
        """`cuda:0`, or `cuda:0:1` for an instance of a divided GPU."""
        return f"cuda:{self.index}" if self.mig is None else f"cuda:{self.index}:{self.mig}"

    @property
    def label(self) -> str:
        """Display name: its number, with its UUID if the number could mean another GPU."""
        return _with_uuid(self.number, self.uuid) if self.is_ambiguous else self.number

    def label_for(self, device: str) -> str:
        """Return the display name for a job with this `device` setting."""
        return label_for(device, self.label, self.uuid)

    @property
    def fingerprint(self) -> str:
        """The model, memory and, if known, driver, which determine the usage and the duration of a job."""
        name = f"{self.name}, {self.total >> 20} MiB"
        return f"{name}, driver {self.driver}" if self.driver else name


def label_for(device: str, label: str, uuid: str) -> str:
    """Return the display name of a GPU for a job, with the UUID if the job was queued with another number.

    Args:
        device: `device` setting of the job.
        label: Display name of the GPU.
        uuid: UUID of the GPU.
    """
    is_other = device.startswith("cuda:") and not f"{label}:".startswith(f"{device}:")
    return _with_uuid(label, uuid) if is_other and "(" not in label else label


def _with_uuid(label: str, uuid: str) -> str:
    return f"{label} ({short_uuid(uuid)})"


def short_uuid(uuid: str) -> str:
    """Return the first part of a UUID, as `--device` accepts it: `GPU-8f6d1234`."""
    return "-".join(uuid.split("-")[:2])


def gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    """Return a GPU for JSON."""
    record: dict[str, Json] = asdict(gpu)
    if gpu.processes is not None:
        record["processes"] = [process._asdict() for process in gpu.processes]
    return record


def read_gpu(record: object) -> GpuSnapshot:
    """Return the GPU of a record. Fields of newer launchers are ignored.

    Raises:
        Unreadable: The record is invalid. The message names the impossible field.
    """
    values = dict(record) if isinstance(record, dict) else {}
    values["warnings"] = read_texts(values.get("warnings", []), "'warnings' of a GPU")
    if isinstance(listed := values.get("processes"), list):
        values["processes"] = tuple(_read_process(process) for process in listed)
    gpu = restore_known_fields(GpuSnapshot, values, "a GPU")
    _refuse_impossible(gpu, GpuSnapshot.__annotations__)
    return gpu


def _read_process(record: object) -> GpuProcess:
    process = restore_known_fields(GpuProcess, record, "a process of a GPU")
    _refuse_impossible(process, GpuProcess._fields)
    return process


def _refuse_impossible(part: GpuSnapshot | GpuProcess, names: Iterable[str]) -> None:
    """Refuse numbers that no GPU has, also NaN, which JSON of Python may contain."""
    for name in names:
        value = getattr(part, name)
        least = -_MOST if name == "temperature_c" else 0
        if isinstance(value, int | float) and not least <= value < _MOST:
            raise Unreadable(f"{name!r} of a GPU cannot be {value!r}")
