"""A folder of images, purified: read, purified and written batch by batch."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from trueface.data.made.folders import (
    ImageNoise,
    digest_of,
    image_names,
    made_folder,
    read_images,
    shape_of,
)
from trueface.purification.purifier import Purifier
from trueface.runtime.errors import DataError, JobError
from trueface.runtime.files import Json

Progress = Callable[..., None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Purification:
    """A purification: from which folder, how, and what is kept of it in `made.json`."""

    source: Path
    source_text: str  # as the setting has it
    purifier: Purifier
    settings: Mapping[str, Json]
    seed: int
    limit: int = 0
    batch_size: int = 32
    device: str = "cpu"


def purify_folder(
    work: Purification, place: Path, *, progress: Progress, stop: threading.Event
) -> dict[str, Json]:
    """Write purified images, each under its name as PNG, and `made.json`; return what it says.

    The images of one batch are in memory at a time. `seconds` and `cpu_seconds` are those of the
    purifier alone, an image, without reading and writing; `net_calls` are calls of networks an image.

    Raises:
        DataError: the source holds no images, one that cannot be read or has another size, or
            colours that its models do not know.
        JobError: stopped; nothing is left behind.
    """
    names = image_names(work.source, limit=work.limit)
    channels, height, width = shape_of(work.source, names[0])
    size = work.purifier.size or (height, width)
    channels = work.purifier.channels or channels
    if channels == 1:
        _refuse_colours(work, names)
    wall_s = cpu_s = 0.0
    with made_folder(place) as made, torch.no_grad():
        for start in range(0, len(names), work.batch_size):
            if stop.is_set():
                raise JobError(f"stopped after {start} of {len(names)} images; nothing was written")
            batch = names[start : start + work.batch_size]
            images = read_images(work.source, batch, size=size, channels=channels).to(work.device)
            wall, cpu = time.perf_counter(), time.process_time()
            purified = work.purifier(images, ImageNoise(batch, work.seed), stop=stop)
            purified = purified.cpu()  # waits for the device
            wall_s, cpu_s = wall_s + time.perf_counter() - wall, cpu_s + time.process_time() - cpu
            made.write(batch, purified)
            progress(step=start + len(batch), total=len(names))
        facts: dict[str, Json] = {
            "kind": "purify",
            "settings": dict(work.settings),
            "purifier": work.purifier.name.label(),
            "source": work.source_text,
            "source_digest": digest_of(work.source, names),
            "seed": work.seed,
            "images": len(names),
            "net_calls": work.purifier.net_calls,
            "seconds": wall_s / len(names),
            "cpu_seconds": cpu_s / len(names),
        }
        made.record(facts)
    return facts


def _refuse_colours(work: Purification, names: Sequence[str]) -> None:
    """Refuse colours where all is purified as grey, which would take them away."""
    coloured = next((name for name in names if shape_of(work.source, name)[0] > 1), None)
    if coloured is None:
        return
    if work.purifier.channels:
        raise DataError(
            f"{work.source / coloured} has colours, and the models of {work.purifier.name.text} learned "
            "grey images: take models of colour images"
        )
    raise DataError(
        f"{work.source / coloured} has colours, and {names[0]} is grey: write all images of the folder "
        "in the same mode"
    )
