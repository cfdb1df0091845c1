"""The entry function of `translate`."""

import time
from collections.abc import Mapping
from pathlib import Path

from launcher.api import Job, Json
from trueface.data.made_folders import digest_of, made_folder
from trueface.jobs.setup import checkpoint_of, entry, made_folder_of, watch_of
from trueface.translation.detector_set import (
    counted,
    lists_of,
    original_of,
    pairs_of,
    write_pairs,
)
from trueface.translation.settings import TranslateSettings
from trueface.translation.translator import load_translator


@entry(TranslateSettings)
def translate(job: Job, settings: TranslateSettings) -> Mapping[str, Json]:
    """Make the data root of the job's settings; a stop leaves nothing behind."""
    started = time.monotonic()
    source = job.path(settings.source)
    real = job.path(settings.real) if settings.real else original_of(source, job.path)
    translator = load_translator(checkpoint_of(job, settings.translator), job.device)
    pairs = pairs_of(source, real, settings, translator.labels)
    with made_folder(made_folder_of(job)) as made:
        write_pairs(made, pairs, translator, settings, watch_of(job))
        facts: dict[str, Json] = {
            "images": len(pairs.names),
            "lists": {name: len(keys) for name, keys in lists_of(pairs.names, settings).items()},
            "flipped": dict(counted(pairs)),
        }
        made.record(
            {
                "kind": "translate",
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "source_digest": digest_of(source, pairs.names),
                "real": _named(job, real),
                "seed": settings.seed,
                **facts,
            }
        )
    return {**facts, "seconds": time.monotonic() - started}


def _named(job: Job, folder: Path) -> str:
    """Return a folder as a setting names it: relative to the project, where it lies there."""
    inside = folder.is_relative_to(job.folder)
    return str(folder.relative_to(job.folder) if inside else folder)
