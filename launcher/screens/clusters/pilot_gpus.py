"""The GPUs of pilots as their newest beats tell, read from the files in which they say it."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from launcher.backends.messages import Beat, Hello, News, read_news
from launcher.backends.pilot_folder import PilotFolder, name_of
from launcher.backends.pilot_records import PilotRecords
from launcher.gpu.snapshot import GpuSnapshot
from launcher.screens.clusters.pilots_now import Pilots
from launcher.screens.gpu_view import Gauge, Guest
from launcher.store.rows import Claim
from launcher.system.paths import Home
from launcher.workers.job import read_report

FIRST_BYTES = 1 << 16  # of its news, in which a pilot says hello
LAST_BYTES = 1 << 17  # in which its newest beat with GPUs lies


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a pilot has told of its GPUs."""

    gpus: tuple[GpuSnapshot, ...] = ()
    used: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # attempt → UUID → bytes


def pilot_gauges(home: Home, pilots: Pilots, claims: Sequence[Claim]) -> list[Gauge]:
    """Return the GPUs of all pilots that have some, each with the jobs of ours on it.

    Args:
        home: whose.
        pilots: as they are now.
        claims: our attempts that have not ended.
    """
    tokens = {pilot.token: pilot.node or pilot.backend for pilot in pilots.pilots if pilot.gpus}
    if not tokens:
        return []
    gauges = []
    for record in PilotRecords(home).read():
        if record.token not in tokens:
            continue
        ours = [claim for claim in claims if claim.pilot == record.token]
        seen = seen_gpus(record.pilot_folder)
        gauges += [_gauge(gpu, tokens[record.token], ours, seen, home) for gpu in seen.gpus]
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
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        size = os.fstat(descriptor).st_size
        begin = os.pread(descriptor, FIRST_BYTES, 0)
        rest = max(len(begin), size - LAST_BYTES)
        end = os.pread(descriptor, LAST_BYTES, rest) if size > len(begin) else b""
    except OSError:
        return
    finally:
        os.close(descriptor)
    for line in (begin + end).split(b"\n"):  # where the two meet a line may be cut: it is no news
        news = read_news(line) if line else None
        if news is not None:
            yield news


def _gauge(gpu: GpuSnapshot, node: str, claims: Sequence[Claim], seen: Seen, home: Home) -> Gauge:
    guests = []
    for claim in claims:
        if gpu.uuid not in claim.gpus:
            continue
        report = read_report(home.attempt(claim.job, claim.number))
        by_driver = seen.used.get(name_of(claim.job, claim.number), {}).get(gpu.uuid)
        guests.append(
            Guest(
                job=claim.job,
                name=claim.spec.name,
                promised=claim.reservation,
                exclusive=claim.exclusive,
                reported=by_driver or (None if report is None else report.used),
                peak=None if report is None else report.most,
            )
        )
    return Gauge(gpu=gpu, node=node, guests=tuple(guests))
