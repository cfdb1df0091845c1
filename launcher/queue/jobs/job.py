"""The specification of a job, as planned and stored."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from launcher.queue.jobs.params import params_of
from launcher.system.files import Json
from launcher.system.lazy_regex import compile_lazily
from launcher.system.secret_arguments import is_secret_option

CPU = "cpu"
MOST_GPUS = 64  # GPUs that a job may request
LONGEST_BACKOFF_S = 3600.0  # seconds up to which the pause before a retry doubles
MOST_RUN_NAME = 100  # bytes
LONGEST_NOTE = 10_000  # characters
UUIDS, NUMBERS = "uuids", "numbers"
GPU_IDS = (UUIDS, NUMBERS)  # ways in which CUDA_VISIBLE_DEVICES can name GPUs
RERUNS = ("again", "never")  # reactions to a lost or stopped attempt
SEPARATE = "separate"
STDERR_FILES = ("log", SEPARATE)  # standard error goes into the log, or into a file of its own
NOTIFY_ON = ("end", "failure")  # when a message reports the end of a job
PROGRAM = "command"
PROGRAM_RUN = "add"  # the run of programs without the name of a run
FUNCTION_RUN = "functions"  # the run of functions without the name of a run
FUNCTION = (
    "function"  # the kind of jobs that call a function of Python: `launcher.experiments.functions`
)
# setting of a function: the arguments that are numbers, booleans or short texts
_ARGUMENTS = "arguments"


_UUID_PREFIXES = "GPU-", "MIG-"
# MIG-GPU-…/1/0 of older drivers
_UUID = compile_lazily(r"(?:GPU|MIG)-[0-9A-Za-z][0-9A-Za-z/-]{3,95}")


def run_name_fault(name: str) -> str | None:
    """Return why `name` cannot be the name of a run, which is one folder below runs/; None if it can."""
    if not name:
        return "is empty"
    if "/" in name or "\\" in name or name in (".", ".."):
        return "contains '/' or '\\', or is '.' or '..'"
    if name[0] in "-." or name != name.strip():
        return "begins with '-', '.' or a space, or ends with a space"
    if not name.isprintable():
        return "contains an unprintable character"
    if len(name.encode(errors="replace")) > MOST_RUN_NAME:
        return f"is longer than {MOST_RUN_NAME} bytes"
    return None


def is_device(text: str) -> bool:
    """Return whether a text is a device of a job: auto, cpu, cuda, or a GPU such as cuda:1 or GPU-5f….

    A UUID may be shortened, as in CUDA_VISIBLE_DEVICES.
    """
    name, *numbers = text.split(":")
    if text in {"auto", CPU, "cuda"} or _UUID.fullmatch(text):
        return True
    return name == "cuda" and 1 <= len(numbers) <= 2 and all(map(_is_number, numbers))


def is_gpu_uuid(device: str) -> bool:
    """Return whether a device is the UUID of a GPU or of a MIG instance, or the beginning of one."""
    return device.startswith(_UUID_PREFIXES)


def names_one_gpu(device: str) -> bool:
    """Return whether a device is one certain GPU, by its number or its UUID."""
    return device.startswith(("cuda:", *_UUID_PREFIXES))


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and str(int(text[:4])) == text


class Resources(NamedTuple):
    """The resource request of a job."""

    cpus: int = 1
    vram: int | None = None  # bytes reserved on each of the job's GPUs; None: not given
    device: str = "auto"  # "auto", "cpu", "cuda", "cuda:N", "cuda:N:M" or a UUID
    accelerated: bool = False  # "auto" prefers a GPU if the machine has one
    ram: int | None = None  # bytes of main memory to reserve; None: not given
    gpus: int = 1  # number of GPUs if the job works on GPUs; it gets all of them or none
    exclusive: bool = False  # the job shares its GPUs with no other job
    gpu_ids: str = UUIDS  # form of the job's GPUs in CUDA_VISIBLE_DEVICES: one of GPU_IDS
    # in a lane: the GPU that `device` meant by its number when the job was queued; numbers change with the hardware
    gpu_uuid: str = ""

    def to_json(self) -> dict[str, Json]:
        """Return the request as JSON; `gpu_ids` and `gpu_uuid` only if they are set."""
        record = self._asdict()
        if self.gpu_ids == UUIDS:
            del record["gpu_ids"]
        if not self.gpu_uuid:
            del record["gpu_uuid"]
        return record

    @property
    def may_need_gpu(self) -> bool:
        """Whether it works on GPUs if the machine has some."""
        return self.works_on_gpu(machine_has_gpu=True)

    def works_on_gpu(self, *, machine_has_gpu: bool, gpu_is_visible: bool | None = None) -> bool:
        """Return whether it works on GPUs of a machine: it requests GPUs, or prefers them and one is available.

        Args:
            machine_has_gpu: Whether the machine has GPUs.
            gpu_is_visible: Whether its owner's CUDA_VISIBLE_DEVICES shows one of them. None stands for
                `machine_has_gpu`.
        """
        if self.device != "auto":
            return self.device != CPU
        if self.vram is not None or self.gpus > 1:
            return machine_has_gpu
        return self.accelerated and (machine_has_gpu if gpu_is_visible is None else gpu_is_visible)


class Terms(NamedTuple):
    """The terms of a job: start time, retries, limits, group, backends and event files."""

    group: str = ""  # jobs of a group share its limit; empty: none
    not_before: float | None = None  # seconds since 1970
    retries: int = 0  # after a failure
    backoff_s: float = 10.0  # pause before the first retry; doubles each time
    time_limit_s: float | None = None  # counted from the start of the job's program
    warn_s: float = 0.0  # seconds before the limit at which the job's program gets `warn_signal`
    warn_signal: str = "SIGTERM"
    grace_s: float = 30.0  # from SIGTERM to SIGKILL; a training needs seconds to write a checkpoint
    rerun: str = "again"  # after a lost or stopped attempt: one of RERUNS
    on: tuple[str, ...] = ()  # backends, the preferred one first; empty: this machine
    tensorboard: str = (
        # folder of the program's event files, relative to the folder of the program; empty: none
        ""
    )
    # whether the job's end is reported by a message: one of NOTIFY_ON; empty: no
    notify_on: str = ""
    stderr: str = "log"  # target of the job's standard error: one of STDERR_FILES
    # failures after which the jobs that were queued with it are held; 0: never; None: not given
    max_failures: int | None = None
    metrics: str = ""  # file of numbers that the job's program writes, or a pattern; empty: none
    numbers: tuple[str, ...] = ()  # names of printed numbers that count, whatever they are
    note: str = ""  # note with which the job is queued; `launcher note` changes only the queue's

    def with_files(self, files: Mapping[str, str]) -> "Terms":
        """Return the terms with other values of `tensorboard` and `metrics`, by name."""
        return self._replace(
            tensorboard=files.get("tensorboard", self.tensorboard),
            metrics=files.get("metrics", self.metrics),
        )


SWEEP_BATCH, FILE_BATCH, CALLS_BATCH = "sweep", "file", "calls"  # --sweep, --from, submit_many
BATCHES = (SWEEP_BATCH, FILE_BATCH, CALLS_BATCH)


class Spec(NamedTuple):
    """The complete specification of a job: a worker needs nothing else."""

    name: str
    kind: str
    role: str
    run: str
    root: str  # absolute; results are in <root>/runs/<run>
    entry: str = ""  # "module:function" of a worker; empty for a program
    preload: tuple[str, ...] = ()
    argv: tuple[str, ...] = ()  # the program, or the command line equivalent to the entry
    model: str | None = None
    base: str | None = None
    data: str | None = None
    images: str | None = None
    settings: Mapping[str, Any] = {}
    words: Mapping[str, Any] = {}  # user-defined words of the job's data
    needs: tuple[str, ...] = ()  # names of jobs of the same run that must be done first
    # names of jobs of the same run that must have ended first, done or not
    after_any: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()  # absolute paths
    sources: Mapping[str, str] = {}  # module → digest of the module's text
    log_link: str | None = None  # absolute path under which the log also appears
    resources: Resources = Resources()
    terms: Terms = Terms()
    priority: int = 0
    hash: str = ""
    signature: str = (
        ""  # jobs with the same signature are expected to need the same memory and time
    )
    batch: str = (
        # one of BATCHES if the job was queued with others: equal jobs of a later batch replace it
        ""
    )
    # the end of the folder's name, after the number of an added program
    folder_suffix: str = ""

    @property
    def params(self) -> Mapping[str, Any]:
        """The parameters: those of the sweep and command line of a program, or the arguments of a function."""
        return stored_params(self.kind, self.settings, self.argv)

    @property
    def run_folder(self) -> Path:
        """The folder of the run's results."""
        return Path(self.root) / "runs" / self.run

    def to_json(self) -> dict[str, Json]:
        """Return the spec as JSON."""
        parts = {"resources": self.resources.to_json(), "terms": self.terms._asdict()}
        return {**self._asdict(), **parts}


def stored_params(kind: str, settings: Mapping[str, Any], argv: Sequence[str]) -> Mapping[str, Any]:
    """Return the stored parameters of a program or function; empty for a job of a plugin package.

    Args:
        kind: Job type.
        settings: Settings of the job.
        argv: Command line.
    """
    if kind == PROGRAM:
        return params_of(settings, argv)
    arguments = settings.get(_ARGUMENTS) if kind == FUNCTION else None
    if not isinstance(arguments, dict):
        return {}
    return {
        name: value
        for name, value in arguments.items()
        if not (isinstance(value, str) and is_secret_option(name, value))
    }
