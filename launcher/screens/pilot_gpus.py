"""The GPUs of pilots, as their newest messages describe them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from launcher.backends.pilot_folder import PilotFolder, name_of
from launcher.backends.pilot_messages import Beat, Hello, News, read_news
from launcher.backends.pilot_records import PilotRecords
from launcher.backends.pilots_file import Pilots
from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.gpu_view import Gauge, guest_of
from launcher.store.rows import Claim
from launcher.system.paths import Home
from launcher.workers.memory_share import read_report

FIRST_BYTES = 1 << 16  # of its news, in which a pilot says hello
LAST_BYTES = 1 << 17  # in which its newest beat with GPUs lies


class Seen(NamedTuple):
    """What a pilot has told of its GPUs."""

    gpus: tuple[GpuSnapshot, ...] = ()
    used: Mapping[str, Mapping[str, int]] = {}  # attempt → UUID → bytes


def pilot_gauges(home: Home, pilots: Pilots, claims: Sequence[Claim]) -> list[Gauge]:
    """Return the GPUs of all pilots that have some, each with the jobs of ours on it.

    Args:
        home: whose.
        pilots: as they are now.
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
        seen = seen_gpus(record.pilot_folder)
        for gpu in seen.gpus:
            guests = tuple(
                guest_of(
                    claim,
                    read_report(home.attempt(*claim.key)),
                    reported=seen.used.get(name_of(claim.job, claim.number), {}).get(gpu.uuid),
                )
                for claim in ours
                if gpu.uuid in claim.gpus
            )
            gauges.append(Gauge(gpu=gpu, node=nodes[record.token], guests=guests))
    return gauges


def seen_gpus(folder: PilotFolder) -> Seen:
    """Return what a pilot has told last; nothing where its file cannot be read now."""
    gpus: tuple[GpuSnapshot, ...] = ()
    used: Mapping[str, Mapping[str, int]] = {}
    for news in _news(folder.news):
        match news:
            case Hello(gpus=had):
                gpus = gpus or had
            case Beat(gpus=now, used=took) if now:
                gpus, used = now, took
    return Seen(gpus=gpus, used=used)


def _news(path: Path) -> Iterator[News]:
    """Give a pilot's first and last news."""
    try:
        with path.open("rb") as file:
            begin = file.read(FIRST_BYTES)
            file.seek(max(len(begin), file.seek(0, 2) - LAST_BYTES))
            end = file.read(LAST_BYTES)
    except OSError:
        return
    for told in (begin + end).split(b"\n"):  # where the two meet a line may be cut: it is no news
        news = read_news(told) if told else None
        if news is not None:
            yield news
