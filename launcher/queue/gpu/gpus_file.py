"""The file gpus.json: GPUs and attempts of a machine as its scheduler last sampled them.

Screens read this file and do not query the driver while a scheduler is alive.
"""

import time
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from launcher.queue.gpu.snapshot import GpuSnapshot, gpu_record, read_gpu
from launcher.queue.home.paths import Home
from launcher.queue.jobs.job import is_gpu_uuid
from launcher.system.files import Json, read_json, write_json
from launcher.system.processes import boot_id

SHOW_EVERY_S = 2.0  # screens may show the GPUs so late


class GpuStatus(NamedTuple):
    """Every GPU of a machine at one moment."""

    at: float  # seconds since 1970
    gpus: tuple[GpuSnapshot, ...]
    error: str = ""  # why other users' schedulers and ours cannot know each other's reservations


class GpusFile:
    """The file as the scheduler writes it, now and then."""

    def __init__(self, home: Home) -> None:
        """Begin without having written it."""
        self._home = home
        self._at = 0.0  # when the file was written, monotonic
        self.error = ""  # error that the file states

    def force_write(self) -> None:
        """Write it at the next chance, however new it is: a GPU has failed, or works again."""
        self._at = 0.0

    def write(
        self, gpus: Sequence[GpuSnapshot], sharing_error: str, attempts: Sequence[Json] = ()
    ) -> None:
        """Write the newest reading if that is due. A full disk is not an error.

        Args:
            gpus: GPUs of the newest reading. Empty before the first one.
            sharing_error: Why others cannot read our reservations. Empty if they can.
            attempts: Measurements of running attempts, for the next scheduler.
        """
        if not gpus and not sharing_error and not self.error:
            return
        late = time.monotonic() >= self._at + SHOW_EVERY_S
        if not late and sharing_error == self.error:
            return
        self._at, self.error = time.monotonic(), sharing_error
        try:
            look = GpuStatus(at=time.time(), gpus=tuple(gpus), error=sharing_error)
            write_gpu_status(self._home, look, attempts)
        except OSError as error:
            import logging  # 2 ms; commands only read this file

            logging.getLogger(__name__).warning("gpus.json trouble=%r", str(error))


def write_gpu_status(home: Home, status: GpuStatus, attempts: Sequence[Json] = ()) -> None:
    """Write the file.

    Raises:
        OSError: the disk is full.
    """
    gpus: list[Json] = [gpu_record(gpu) for gpu in status.gpus]
    record: dict[str, Json] = {
        "schema": 1,
        "at": status.at,
        "gpus": gpus,
        "trouble": status.error,
        "boot": boot_id(),
        "numbers": {**gpu_numbers(status.gpus)},
        "attempts": [*attempts],
    }
    write_json(home.gpus, record, mode=0o600, durable=False)


def gpu_numbers(gpus: Iterable[GpuSnapshot]) -> dict[str, str]:
    """Return the number of each GPU, such as cuda:1 → its UUID. A GPU that works precedes one that has gone."""
    ordered = sorted(gpus, key=lambda gpu: not gpu.fault)
    return {gpu.number: gpu.uuid for gpu in ordered if is_gpu_uuid(gpu.uuid)}


def read_gpu_status(home: Home) -> GpuStatus | None:
    """Return the GPUs of the scheduler's last reading, None if there is none or its format is newer."""
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
            return GpuStatus(
                at=float(at), gpus=seen, error=trouble if isinstance(trouble, str) else ""
            )
    return None


def read_known_attempts(home: Home) -> list[Json]:
    """Return the last measurements of running attempts. Empty if there are none."""
    try:
        record = read_json(home.gpus)
    except OSError:
        return []
    attempts = (record or {}).get("attempts")
    return attempts if isinstance(attempts, list) else []


def gpu_labels(home: Home) -> dict[str, str]:
    """Return what people call each GPU, by its UUID."""
    look = read_gpu_status(home)
    return {} if look is None else {gpu.uuid: gpu.label for gpu in look.gpus}
