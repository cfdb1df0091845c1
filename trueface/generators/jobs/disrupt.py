"""The entry function of `disrupt`."""

import time
from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.generators.jobs.purify import purifier_of
from trueface.generators.made_folders import (
    PerImageRNG,
    digest_of,
    image_names,
    load_image_batch,
    output_folder,
    partners,
)
from trueface.generators.purification.disruption import (
    NO_PERTURBATION,
    PerturbationNorms,
    disrupt_images,
    disruption_labels,
    perturbation_norms,
)
from trueface.generators.purification.disruption_settings import (
    DisruptSettings,
    eps_to_levels,
    largest_stored_change,
)
from trueface.generators.purification.purifier import Purifier
from trueface.generators.purification.registry import parse_purifier
from trueface.generators.translation.detector_set import original_of
from trueface.generators.translation.translator import (
    COLOURS,
    Translator,
    flip_each_attribute,
    labels_of,
    load_translator,
)
from trueface.jobs.job_data import checkpoint_of, output_folder_of_job
from trueface.jobs.setup import entry, run_context
from trueface.runtime.errors import DataError


@entry(DisruptSettings)
def disrupt(job: Job, settings: DisruptSettings) -> Mapping[str, Json]:
    """Perturb the images of the job's folder; write them with their settings.

    A stopped job leaves no files; the next attempt starts again.

    Raises:
        DataError: an image has another size than the translator's.
        JobError: stopped, or a gradient that is not finite.
    """
    source, levels, size = job.path(settings.source), eps_to_levels(settings.eps), NO_PERTURBATION
    names, original = image_names(source, limit=settings.limit), original_of(source, job.path)
    translator = load_translator(checkpoint_of(job, settings.translator), job.device)
    purifier = _purifier(job, settings, translator)
    _, own = labels_of(original, partners(original, names), translator.labels)
    every = disruption_labels(own, flip_each_attribute(own, translator.labels), settings.over)
    started = time.perf_counter()
    with output_folder(output_folder_of_job(job)) as writer:
        for part in run_context(job).batches(len(names), settings.batch_size):
            images = load_image_batch(source, names[part], size=translator.size)
            disrupted = disrupt_images(
                translator,
                images.to(job.device),
                every[:, part].to(job.device),
                settings,
                PerImageRNG(names[part], settings.seed),
                purifier=purifier,
                stop=job.stop,
            ).cpu()
            size += perturbation_norms(disrupted, images, levels)
            writer.write(names[part], disrupted)
        if size.linf > settings.eps + 1e-6:
            raise DataError(f"a pixel changed by {size.linf:.5f}, more than eps {settings.eps:g}")
        seconds = (time.perf_counter() - started) / len(names)
        measured: dict[str, Json] = {
            "images": len(names),
            **_size_facts(size, settings),
            "gradient": "" if purifier is None else purifier.gradient,
            "seconds": seconds,
        }
        writer.write_output_record(
            {
                "kind": "disrupt",
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "source_digest": digest_of(source, names),
                "seed": settings.seed,
                **measured,
            }
        )
    return measured


def _purifier(job: Job, settings: DisruptSettings, translator: Translator) -> Purifier | None:
    """Return what an adaptive attack goes through; None where it is none.

    Raises:
        JobError: its model learned images of another shape than the translator.
    """
    if not settings.purifier or settings.attack == "random":
        return None
    name = parse_purifier(settings.purifier)
    purifier = purifier_of(job, name, diffuser=settings.diffuser, denoiser=settings.denoiser)
    if purifier.size not in {0, translator.size} or purifier.channels not in {0, COLOURS}:
        raise JobError(
            f"{settings.translator} was trained on colour images of {translator.size} pixels, but the "
            f"model of {name.text} on {purifier.channels} channels of {purifier.size} pixels. Use models "
            "of the same images."
        )
    return purifier


def _size_facts(size: PerturbationNorms, settings: DisruptSettings) -> dict[str, Json]:
    return {
        "linf": size.linf,
        "rms": size.rms,
        "at_bound": size.at_bound / size.pixels,
        "eps": settings.eps,
        "eps_levels": eps_to_levels(settings.eps),
        "bound": largest_stored_change(settings.eps),
    }
