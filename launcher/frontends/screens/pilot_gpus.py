"""The GPUs of pilots, as their newest messages describe them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.frontends.screens.gpu_view import GpuView, gpu_job_of
from launcher.queue.backends.pilot_folder import PilotFolder, attempt_name
from launcher.queue.backends.pilot_messages import (
    Heartbeat,
    PilotMessage,
    Registered,
    decode_message,
)
from launcher.queue.backends.pilot_records import PilotRecords
from launcher.queue.backends.pilot_status import PilotStatus
from launcher.queue.gpu.snapshot import GpuSnapshot
from launcher.queue.home.paths import Home
from launcher.queue.store.rows import Claim
from launcher.queue.workers.memory_share import read_report

FIRST_BYTES = 1 << 16  # bytes of its first messages, among which is its registration
LAST_BYTES = 1 << 17  # at the end of the file, with its newest heartbeat with GPUs


class PilotGpus(NamedTuple):
    """The GPUs that a pilot has reported, and their usage by attempts."""

    gpus: tuple[GpuSnapshot, ...] = ()
    used: Mapping[str, Mapping[str, int]] = {}  # attempt → UUID → bytes


def pilot_gpu_views(home: Home, pilots: PilotStatus, claims: Sequence[Claim]) -> list[GpuView]:
    """Return the GPUs of all pilots that have some, each with the jobs of ours on it.

    Args:
        home: whose.
        pilots: pilots as they are now.
        claims: our attempts that have not ended.
    """
    nodes, tokens = pilots.nodes, {pilot.token for pilot in pilots.pilots if pilot.gpus}
    if not tokens:
        return []
    gauges = []
    for record in PilotRecords(home).read():
        if record.token not in tokens:
            continue
        ours = [claim for claim in claims if claim.pilot == record.token]
        seen = read_pilot_gpus(record.pilot_folder)
        for gpu in seen.gpus:
            guests = tuple(
                gpu_job_of(
                    claim,
                    read_report(home.attempt(*claim.key)),
                    reported_index=seen.used.get(attempt_name(claim.job, claim.number), {}).get(
                        gpu.uuid
                    ),
                )
                for claim in ours
                if gpu.uuid in claim.gpus
            )
            gauges.append(GpuView(gpu=gpu, node=nodes[record.token], jobs=guests))
    return gauges


def read_pilot_gpus(folder: PilotFolder) -> PilotGpus:
    """Return the last GPUs that a pilot reported; none if its file cannot be read now."""
    gpus: tuple[GpuSnapshot, ...] = ()
    used: Mapping[str, Mapping[str, int]] = {}
    for news in _read_messages(folder.messages_file):
        match news:
            case Registered(gpus=had):
                gpus = gpus or had
            case Heartbeat(gpus=now, used=took) if now:
                gpus, used = now, took
    return PilotGpus(gpus=gpus, used=used)


def _read_messages(path: Path) -> Iterator[PilotMessage]:
    """Yield the first and the last messages of a pilot."""
    try:
        with path.open("rb") as file:
            begin = file.read(FIRST_BYTES)
            file.seek(max(len(begin), file.seek(0, 2) - LAST_BYTES))
            end = file.read(LAST_BYTES)
    except OSError:
        return
    for told in (begin + end).split(b"\n"):  # a line cut where the two meet is not a message
        news = decode_message(told) if told else None
        if news is not None:
            yield news
