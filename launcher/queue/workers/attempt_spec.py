"""A scheduler's order to a supervisor to run an attempt, as a file in the attempt's folder.

The scheduler writes orders into attempts' folders; it writes that of the next attempt before it is claimed.
"""

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from launcher.provenance.snapshots.reference import read_reference
from launcher.queue.home.paths import LOG, SPEC, Attempt, Home
from launcher.queue.jobs.context import Context, entry_context, read_context
from launcher.queue.jobs.job import CPU, NUMBERS, Spec
from launcher.queue.jobs.stored_specs import read_spec
from launcher.system.environment import HOME_VARIABLE
from launcher.system.files import write_whole
from launcher.system.log_setting import DEFAULT_LIMIT

if TYPE_CHECKING:
    from launcher.provenance.snapshots.attempts import CodeCopy


class AttemptSpec(NamedTuple):
    """A scheduler's order to a supervisor."""

    spec: Spec
    context: Context  # with the folder and the variables of the job's own entry
    job: int
    number: int
    device: str  # "cpu", or the UUIDs of GPUs with commas between
    cpus: int
    vram: int | None = None  # bytes on each GPU; None: not shared with our other jobs
    # name of the staging folder of an earlier attempt, from which this one continues
    earlier_stage: str = ""
    project: str = ""  # the folder in which the job was queued
    # variables that name the queue which runs it
    queue_variables: Mapping[str, str] = MappingProxyType({})
    gpu_numbers: tuple[int, ...] = ()  # GPU numbers in PCI bus order, if the job requests numbers
    log_limit: int = DEFAULT_LIMIT  # bytes of the job's log, 0 for no limit

    @property
    def gpus(self) -> tuple[str, ...]:
        """The UUIDs of its GPUs; none where it works on the CPU."""
        return () if self.device == CPU else tuple(self.device.split(","))

    @property
    def code_copy(self) -> "CodeCopy | None":
        """The snapshot from which its code comes; None if it comes from the working folder."""
        if not self.context.snapshot:
            return None
        from launcher.provenance.snapshots.attempts import CodeCopy  # few jobs have a copy

        reference = read_reference(self.context.snapshot)
        home = self.queue_variables.get(HOME_VARIABLE)
        return None if reference is None or home is None else CodeCopy(home, reference)

    @property
    def visible_gpus(self) -> str:
        """CUDA_VISIBLE_DEVICES of its program."""
        if self.spec.resources.gpu_ids == NUMBERS:
            return ",".join(map(str, self.gpu_numbers))
        return ",".join(self.gpus)

    @property
    def lacks_gpu_numbers(self) -> bool:
        """Whether the job requests numbers of its GPUs and the scheduler knew none."""
        wanted = len(self.gpus) if self.spec.resources.gpu_ids == NUMBERS else 0
        return len(self.gpu_numbers) < wanted


def attempt_spec_text(
    *,
    job: int,
    attempt_number: int,
    device: str,
    cpus: int,
    vram: int | None = None,
    earlier_stage: str = "",
    queue_variables: Mapping[str, str] = MappingProxyType({}),
    gpu_numbers: Sequence[int] = (),
    log_limit: int = DEFAULT_LIMIT,
    spec_text: str,
    context_text: str,
) -> str:
    """Return the order as it is written to spec.json; spec and context are JSON already."""
    head = {"schema": 1, "job": job, "number": attempt_number, "device": device, "cpus": cpus}
    head |= {} if vram is None else {"vram": vram}
    head |= {"left": earlier_stage} if earlier_stage else {}
    head |= {"queue": dict(queue_variables)} if queue_variables else {}
    head |= {"gpu_numbers": list(gpu_numbers)} if gpu_numbers else {}
    head |= {} if log_limit == DEFAULT_LIMIT else {"log_limit": log_limit}
    # spliced, not parsed and printed again: this is done for every attempt
    return f'{json.dumps(head)[:-1]}, "spec": {spec_text}, "context": {context_text}}}\n'


def read_attempt_spec(text: bytes) -> AttemptSpec:
    """Return the order that a scheduler wrote; it is the first line of the file.

    Raises:
        ValueError: the text is not an order, or was cut off.
    """
    record = json.loads(text.partition(b"\n")[0])
    vram = record.get("vram") if isinstance(record, dict) else None
    left = record.get("left") if isinstance(record, dict) else None
    queue = record.get("queue") if isinstance(record, dict) else None
    numbers = record.get("gpu_numbers") if isinstance(record, dict) else None
    log_limit = record.get("log_limit") if isinstance(record, dict) else None
    match record:
        case {
            "spec": dict(spec),
            "context": dict(context),
            "job": int(job),
            "number": int(number),
            "device": str(device),
            "cpus": int(cpus),
        }:
            own, surroundings = read_spec(spec), read_context(context)
            return AttemptSpec(
                spec=own,
                context=entry_context(own, surroundings),
                job=job,
                number=number,
                device=device,
                cpus=cpus,
                vram=vram if type(vram) is int else None,
                earlier_stage=left if isinstance(left, str) else "",
                project=surroundings.folder,
                queue_variables=queue if isinstance(queue, dict) else {},
                gpu_numbers=tuple(numbers) if isinstance(numbers, list) else (),
                log_limit=log_limit if type(log_limit) is int else DEFAULT_LIMIT,
            )
    raise ValueError("the message does not contain a job")


def read_job_spec(text: bytes) -> dict[str, Any]:
    """Return the record of the spec in an order.

    Raises:
        ValueError: the text is not an order, or was cut off.
    """
    record = json.loads(text.partition(b"\n")[0])
    match record:
        case {"spec": dict(spec)}:
            return spec
    raise ValueError("the message does not contain a job")


class _PreparedSpec(NamedTuple):
    """An order that is written, of an attempt that is not claimed yet."""

    job: int
    number: int
    attempt: Attempt
    text: str
    inode: int


class AttemptSpecWriter:
    """Write the order of each attempt that is claimed, and one ahead when there is nothing else to do.

    An order that is written ahead is not a commitment. Its folder looks like the remains of a failed transaction,
    and is used or replaced when the attempt is claimed.
    """

    def __init__(self, home: Home) -> None:
        """Begin without an order that is written ahead."""
        self._home = home
        self._prepared: _PreparedSpec | None = None

    def prepared_number(self, job: int) -> int:
        """Return the number of a job's attempt whose order was written ahead and is unchanged; 0 if there is none."""
        prepared = self._prepared
        if prepared is None or prepared.job != job or _inode(prepared.attempt) != prepared.inode:
            return 0
        return prepared.number

    def prepare(self, job: int, attempt_number: int, text: str) -> Attempt:
        """Write an order ahead, beside an empty log: a file less to make when its program starts.

        Args:
            job: its number.
            attempt_number: number of the attempt, which no process can have begun.
            text: the order.

        Raises:
            OSError: the disk is full.

        Returns the attempt.
        """
        self._prepared, attempt = None, self._home.attempt(job, attempt_number)
        inode = _write(attempt, text)
        write_whole(attempt.path_text(LOG), "")
        self._prepared = _PreparedSpec(
            job=job, number=attempt_number, attempt=attempt, text=text, inode=inode
        )
        return attempt

    def write(self, job: int, attempt_number: int, text: str) -> None:
        """Write an order, unless it is there; the remains of a transaction that failed are replaced.

        Raises:
            OSError: the disk is full.
        """
        prepared, ahead = self._prepared, self.prepared_number(job)
        if prepared is not None and prepared.job == job:
            self._prepared = None  # the attempt owns the folder now
        if ahead != attempt_number or prepared is None or prepared.text != text:
            _write(self._home.attempt(job, attempt_number), text)

    def discard(self) -> None:
        """Delete the order that was written ahead; a folder with other files in it stays."""
        prepared, self._prepared = self._prepared, None
        if prepared is None:
            return
        if _inode(prepared.attempt) != prepared.inode:
            return  # the attempt's name leads to a pilot's folder now
        with contextlib.suppress(OSError):
            if is_unused(prepared.attempt):
                prepared.attempt.log.unlink(missing_ok=True)
                prepared.attempt.spec.unlink()
                prepared.attempt.folder.rmdir()


def is_unused(attempt: Attempt) -> bool:
    """Return whether a folder contains only files that are written ahead: an order, and an empty log.

    Raises:
        OSError: there is no such folder, or it cannot be read.
    """
    names = set(os.listdir(attempt.folder))  # noqa: PTH208  # done for every attempt
    if attempt.log.name in names:
        names.remove(attempt.log.name)
        if attempt.log.lstat().st_size:
            return False
    return names <= {attempt.spec.name}


def _write(attempt: Attempt, text: str) -> int:
    """Write an order into its folder; return its inode."""
    try:
        attempt.folder.mkdir(mode=0o700, parents=True)
    except FileExistsError:
        if attempt.folder.is_symlink():  # to a pilot, from a transaction that came to nothing
            attempt.folder.unlink()
            attempt.folder.mkdir(mode=0o700)
    write_whole(attempt.path_text(SPEC), text)
    return _inode(attempt)


def _inode(attempt: Attempt) -> int:
    """Return the inode of an attempt's order, 0 where there is none."""
    try:
        return os.stat(attempt.path_text(SPEC)).st_ino  # noqa: PTH116  # done for every attempt
    except OSError:
        return 0
