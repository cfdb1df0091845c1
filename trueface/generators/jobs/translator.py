"""The entry functions of `translator` and `translate`: from a job to a generator, from images to fakes and reals."""

import json
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from launcher.api import Job, Json, write_atomic
from trueface.generators.image_sets import picture_folder
from trueface.generators.made_folders import (
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    save_picture,
)
from trueface.generators.translation import training
from trueface.generators.translation.detector_set import (
    count_changed,
    lists_of,
    original_of,
    pairs_of,
    write_pairs,
)
from trueface.generators.translation.settings import TranslateSettings, TranslatorSettings
from trueface.generators.translation.translator import (
    Translator,
    flip_each_attribute,
    freeze_for_inference,
    labels_of,
    load_foreign,
    load_translator,
    refuse_shared,
    save_translator,
)
from trueface.jobs.job_data import checkpoint_of, folder_of, output_folder_of_job
from trueface.jobs.setup import entry, job_provenance, run_context, write_facts
from trueface.models import assembly
from trueface.runtime import paths
from trueface.runtime.digests import sha256_hex
from trueface.runtime.stepping import RunFingerprint, values_fingerprint

SHOWN = 8  # images in the picture of translations
PICTURE = "translated.png"  # rows: images, then each attribute flipped


@entry(TranslatorSettings)
def train_translator(job: Job, settings: TranslatorSettings) -> Mapping[str, Json]:
    """Train or adopt the job's translator; write it with its history and a picture of translated images."""
    paths.make_folder(folder_of(job), job.model or "")
    return _adopt(job, settings) if settings.weights else _train(job, settings)


def _train(job: Job, settings: TranslatorSettings) -> Mapping[str, Json]:
    root = job.path(settings.data_root)
    images_folder = picture_folder(root, job.data or "")
    refuse_shared(root)
    names = image_names(images_folder)
    labels, rows = labels_of(images_folder, names, settings.label_names)
    facts: dict[str, Json] = {
        "labels": list(labels),
        "images": len(names),
        "images_sha256": digest_of(images_folder, names),
        "labels_sha256": sha256_hex(json.dumps(rows.tolist())),
    }
    source = job_provenance(job, settings, **facts)
    pictures = training.LabelledImages(images_folder, names, rows, settings.size)
    folder = folder_of(job)
    started = time.monotonic()
    generator, history = training.train_translator(
        pictures,
        settings,
        watch=run_context(job, settings.precision),
        resume_path=paths.resume(folder),
        claim=_training_fingerprint(source, settings),
    )
    seconds = time.monotonic() - started
    translator = freeze_for_inference(generator, labels, settings.size, job.device)
    first = names[:SHOWN]
    write_atomic(paths.history(folder), training.losses_text(history))
    _picture(
        folder,
        translator,
        load_image_batch(images_folder, first, size=settings.size),
        rows[: len(first)],
    )
    last = {name: value for name, value in history[-1].items() if name != "step"}
    return _keep(job, translator, source, {"steps": settings.num_steps, **last, "seconds": seconds})


def _adopt(job: Job, settings: TranslatorSettings) -> Mapping[str, Json]:
    path = job.path(settings.weights)
    labels = settings.label_names
    if labels is None:  # the table's
        folder = picture_folder(job.path(settings.data_root), job.data or "")
        labels, _ = labels_of(folder, ())
    generator = load_foreign(path, len(labels))
    facts: dict[str, Json] = {
        "labels": list(labels),
        "weights_sha256": assembly.fingerprint(str(path), None),
    }
    translator = freeze_for_inference(generator, labels, settings.size, job.device)
    return _keep(
        job, translator, job_provenance(job, settings, **facts), {"steps": 0, "seconds": 0.0}
    )


def _keep(
    job: Job, translator: Translator, source: Mapping[str, Json], result: Mapping[str, Json]
) -> Mapping[str, Json]:
    """Write the translator; remove the state of its training."""
    folder = folder_of(job)
    shape = translator.generator.shape
    whole: dict[str, Json] = {
        "labels": list(translator.labels),
        "width": shape.width,
        "blocks": shape.blocks,
        **result,
    }
    write_facts(folder, source, whole)
    save_translator(paths.checkpoint(folder), translator, source)
    paths.resume(folder).unlink(missing_ok=True)
    return whole


def _picture(folder: Path, translator: Translator, images: Tensor, labels: Tensor) -> None:
    """Write images in a row, and below them their translations, a row for each attribute."""
    given = images.to(next(translator.generator.parameters()).device)
    with torch.no_grad():
        rows = [
            given,
            *(translator(given, each) for each in flip_each_attribute(labels, translator.labels)),
        ]
    save_picture(folder / PICTURE, torch.cat([torch.cat(list(row.cpu()), 2) for row in rows], 1))


def _training_fingerprint(
    source: Mapping[str, Json], settings: TranslatorSettings
) -> RunFingerprint:
    """Return the identity of this training, which its saved state carries."""
    values = settings.decisive(settings.model_dump(mode="json"))
    made_of = {
        "settings": {name: value for name, value in values.items() if name != "data_root"},
        **{key: source[key] for key in ("labels", "images_sha256", "labels_sha256")},
    }
    conditions = {key: source[key] for key in ("device", "threads", "versions", "code")}
    return RunFingerprint(values_fingerprint(made_of), conditions)


@entry(TranslateSettings)
def translate(job: Job, settings: TranslateSettings) -> Mapping[str, Json]:
    """Make the data root of the job's settings; a stop leaves nothing behind."""
    started = time.monotonic()
    source = job.path(settings.source)
    real = job.path(settings.real) if settings.real else original_of(source, job.path)
    translator = load_translator(checkpoint_of(job, settings.translator), job.device)
    pairs = pairs_of(source, real, settings, translator.labels)
    with output_folder(output_folder_of_job(job)) as writer:
        write_pairs(writer, pairs, translator, settings, run_context(job))
        facts: dict[str, Json] = {
            "images": len(pairs.names),
            "lists": {name: len(keys) for name, keys in lists_of(pairs.names, settings).items()},
            "flipped": dict(count_changed(pairs)),
        }
        writer.write_output_record(
            {
                "kind": "translate",
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "source_digest": digest_of(source, pairs.names),
                "real": _folder_setting(job, real),
                "seed": settings.seed,
                **facts,
            }
        )
    return {**facts, "seconds": time.monotonic() - started}


def _folder_setting(job: Job, folder: Path) -> str:
    """Return a folder as a setting names it: relative to the project folder if it is inside it."""
    inside = folder.is_relative_to(job.folder)
    return str(folder.relative_to(job.folder) if inside else folder)
