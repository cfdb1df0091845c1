"""Runs whose jobs are done, with their results and their files in folders."""

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from launcher.queue.jobs.job import Spec
from launcher.queue.jobs.params import PARAMS
from launcher.queue.jobs.states import Done
from launcher.queue.store.queue import Store
from launcher.system.files import Json
from tests.build import a_spec, enqueue, finished

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><circle r="4"/></svg>'


def done(
    store: Store, *specs: Spec, run: str, root: Path, result: Mapping[str, Json] | None = None
) -> list[int]:
    """Queue jobs, and let them be done with a result."""
    numbers = enqueue(store, *specs, run=run, root=root)
    for job in numbers:
        outcome = Done(at=2.0, result=result or {})
        finished(store, job, outcome)
    return numbers


def a_training(
    store: Store,
    root: Path,
    run: str,
    *,
    settings: Mapping[str, Json],
    result: Mapping[str, Json] | None = None,
    swept: bool = False,
) -> int:
    """Let a program of a run be done that returned numbers; its settings are options, or values of a sweep."""
    words = [f"--{name}={value}" for name, value in settings.items()]
    name = f"command/{'-'.join(map(str, settings.values()))}"
    values = {PARAMS: dict(settings)} if swept else {}
    spec = a_spec("train.py", *words, name=name, run=run, root=str(root), settings=values)
    (number,) = done(store, spec, run=run, root=root, result=result)
    return number


def a_png(width: int = 8, height: int = 8) -> bytes:
    """Return a red picture."""
    rows = (b"\x00" + b"\xff\x00\x00" * width) * height
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    )
