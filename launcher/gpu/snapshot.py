"""One GPU at one instant, as a value and as JSON, and the resources that schedulers of one machine reserve, by their names.

Who asks the driver is `launcher.gpu.nvml`. Screens never do while a scheduler lives: what that saw last is in gpus.json.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from types import NoneType
from typing import Any, NamedTuple, get_args, get_origin

from launcher.accounts import OWN_HOME
from launcher.system.files import Json, read_json, write_json
from launcher.system.paths import Home

_MOST = 1 << 60  # no amount of a GPU comes near
_IN_JSON: dict[Any, Any] = {
    tuple: list,
    float: int | float,
}  # how what a field holds is written there


# NVML's compute modes, if they are not the default 0
ONE_PROCESS = frozenset({1, 3})  # only one process, or thread, may create a context at a time
PROHIBITED = 2  # none may


class GpuProcess(NamedTuple):
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
    reports_load: bool = True  # the driver tells how busy each process keeps it
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


def gpu_record(gpu: GpuSnapshot) -> dict[str, Json]:
    """Return a GPU for JSON."""
    record: dict[str, Json] = asdict(gpu)
    if gpu.processes is not None:
        record["processes"] = [process._asdict() for process in gpu.processes]
    return record


def read_gpu(record: object) -> GpuSnapshot:
    """Return the GPU of a record; what a newer launcher tells beyond that is left out.

    Raises:
        ValueError: it is none; which field holds what cannot be is said.
    """
    values = _checked(record, GpuSnapshot)
    values["warnings"] = tuple(_texts(values.get("warnings", [])))
    processes = values.get("processes")
    try:
        if processes is not None:
            held = (GpuProcess(**_checked(process, GpuProcess)) for process in processes)
            values["processes"] = tuple(held)
        return GpuSnapshot(**values)
    except TypeError as error:  # one that must be there is not
        raise ValueError(str(error)) from None


def _checked(record: object, kind: type[GpuSnapshot | GpuProcess]) -> dict[str, Any]:
    """Return a record's values where each is of its field's kind; unknown ones are left out."""
    if not isinstance(record, dict):
        raise ValueError(f"expected an object, got {record!r}")  # noqa: TRY004  # of a file
    values = {name: value for name, value in record.items() if name in kind.__annotations__}
    for name, value in values.items():
        hint = kind.__annotations__[name]
        if value is None and NoneType in get_args(hint):
            continue
        (told, *_) = get_args(hint | None)
        held = get_origin(told) or told
        right = isinstance(value, _IN_JSON.get(held, held)) and isinstance(value, bool) == (
            held is bool
        )
        if right and held in {int, float}:
            least = -_MOST if name == "temperature_c" else 0
            right = least <= value < _MOST  # and so no NaN, which JSON of Python may hold
        if not right:
            raise ValueError(f"{name} cannot be {value!r}")
    return values


def _texts(values: Iterable[object]) -> Iterable[str]:
    for value in values:
        if not isinstance(value, str):
            raise ValueError(f"a warning cannot be {value!r}")  # noqa: TRY004  # of a file
        yield value


SHOW_EVERY_S = 2.0  # screens may show the GPUs so late

logger = logging.getLogger(__name__)


class SeenGpus(NamedTuple):
    """Every GPU of a machine at one moment."""

    at: float  # seconds since 1970
    gpus: tuple[GpuSnapshot, ...]
    trouble: str = ""  # why other users' schedulers and ours cannot know each other's reservations


class GpusFile:
    """The file as the scheduler writes it, now and then."""

    def __init__(self, home: Home) -> None:
        """Begin without having written it."""
        self._home = home
        self._at = 0.0  # when it was written, monotonic
        self.trouble = ""  # that it states

    def write_soon(self) -> None:
        """Write it at the next chance, however new it is: a GPU has failed, or works again."""
        self._at = 0.0

    def write(
        self, gpus: Sequence[GpuSnapshot], trouble: str, attempts: Sequence[Json] = ()
    ) -> None:
        """Write what was seen where that is due; a full disk stops nothing.

        Args:
            gpus: at the newest look; none: there was none yet.
            trouble: why others cannot know what we reserve; empty: they can.
            attempts: what is known of those that run, for a scheduler that takes over.
        """
        if not gpus and not trouble and not self.trouble:
            return
        late = time.monotonic() >= self._at + SHOW_EVERY_S
        if not late and trouble == self.trouble:
            return
        self._at, self.trouble = time.monotonic(), trouble
        try:
            look = SeenGpus(at=time.time(), gpus=tuple(gpus), trouble=trouble)
            write_look(self._home, look, attempts)
        except OSError as error:
            logger.warning("gpus.json trouble=%r", str(error))


def write_look(home: Home, look: SeenGpus, attempts: Sequence[Json] = ()) -> None:
    """Write the file.

    Raises:
        OSError: the disk is full.
    """
    gpus: list[Json] = [gpu_record(gpu) for gpu in look.gpus]
    record: dict[str, Json] = {
        "schema": 1,
        "at": look.at,
        "gpus": gpus,
        "trouble": look.trouble,
        "attempts": [*attempts],
    }
    write_json(home.gpus, record, mode=0o600, durable=False)


def seen_gpus(home: Home) -> SeenGpus | None:
    """Return the GPUs as the scheduler last saw them; None: it never did, or a newer launcher wrote it down."""
    try:
        record = read_json(home.gpus)
    except OSError:
        return None
    match record:
        case {"schema": 1, "at": int() | float() as at, "gpus": list(gpus), **more}:
            trouble = more.get("trouble")
            try:
                seen = tuple(map(read_gpu, gpus))
            except ValueError:
                return None
            return SeenGpus(
                at=float(at), gpus=seen, trouble=trouble if isinstance(trouble, str) else ""
            )
    return None


def attempts_seen(home: Home) -> list[Json]:
    """Return what the scheduler last knew of the attempts that ran; none if it told nothing."""
    try:
        record = read_json(home.gpus)
    except OSError:
        return []
    attempts = (record or {}).get("attempts")
    return attempts if isinstance(attempts, list) else []


LONGEST_NAME = 96  # characters of a resource's name, as files are read


# resources of the machine that schedulers reserve, beside memory of a GPU, which goes by its UUID alone
MEMORY = "memory"  # bytes of main memory


CORES = "cores"  # how many; with the mask of those that its home may use, in hexadecimal digits


JOBS = "jobs"  # how many jobs there are on a GPU, with its UUID


ALONE = "alone"  # how many of them are exclusive, likewise


def resource(kind: str, of: str) -> str:
    """Return the name of a resource of which there are several, such as jobs on one GPU."""
    return f"{kind}:{of}"


def core_resource(mask: int) -> str:
    """Return the name of the cores in a mask; the same for all where a machine has too many for a name."""
    name = resource(CORES, f"{mask:x}")
    return name if len(name) <= LONGEST_NAME else CORES


def is_cores(name: str) -> bool:
    """Tell whether a resource is cores."""
    return name.partition(":")[0] == CORES


def shares_cores(name: str, mask: int) -> bool:
    """Tell whether cores of this name may be the same as those in a mask."""
    kind, _, of = name.partition(":")
    if kind != CORES:
        return False
    try:
        return not of or bool(int(of, 16) & mask)
    except ValueError:
        return True


class ForeignReservation(NamedTuple):
    """What another home's scheduler has reserved of one resource; of a GPU's memory, what is not in use yet."""

    user: str
    device: str  # the resource: a GPU's UUID, or one of the names above
    amount: int  # bytes, or how many
    inside: bool = False  # its home shares the quota that limits ours, of cores or of memory
    folder: str = ""  # of the queue that reserved it; "" if an earlier version published it

    @property
    def queue(self) -> str:
        """The queue that reserved it, for messages."""
        user = self.user.removeprefix(OWN_HOME)
        if not self.folder:
            return f"another queue of user {user}"
        return f"the queue {self.folder} of user {user}"


def labels_of(home: Home) -> dict[str, str]:
    """Return what people call each GPU, by its UUID."""
    look = seen_gpus(home)
    return {} if look is None else {gpu.uuid: gpu.label for gpu in look.gpus}
