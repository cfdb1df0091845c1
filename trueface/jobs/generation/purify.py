"""The entry functions of `denoiser`, `purify` and `disrupt`: perturbations of images, and what takes them out.

An attack may go through a purifier, too.
"""

import time
from collections.abc import Mapping

from launcher.api import Job, JobError, Json
from trueface.data.made_folders import (
    ImageNoise,
    digest_of,
    digest_of_images,
    image_names,
    load_images,
    made_folder,
    partners,
    read_images,
)
from trueface.data.vocabulary import picture_folder
from trueface.diffusion.diffuser import load_diffuser
from trueface.disruption.attack import NOTHING, Size, disrupt_images, label_sets, size_of
from trueface.disruption.settings import DisruptSettings, bound_of, levels_of
from trueface.jobs.setup import (
    checkpoint_of,
    entry,
    made_folder_of,
    source_of,
    watch_of,
    write_facts,
)
from trueface.purification.denoiser import load_denoiser, save_denoiser, train_denoiser
from trueface.purification.purifier import Purifier, make_purifier, purify_folder
from trueface.purification.registry import PurifierName, parse_purifier, refuse_untrained
from trueface.purification.settings import DenoiserSettings, PurifySettings
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.translation.detector_set import original_of
from trueface.translation.translator import COLOURS, Translator, flipped, labels_of, load_translator

CHANNELS = (1, 3)  # channels of images


@entry(DenoiserSettings)
def denoiser(job: Job, settings: DenoiserSettings) -> Mapping[str, Json]:
    """Train the job's denoiser; write it with what it was made of.

    A training that was stopped goes on where it was, to the same bits.
    """
    if job.model is None or job.data is None:
        raise JobError(f"{job.name} names no model to make; give its data, such as noisy:A")
    folder = job.model_folder(job.model)
    root = picture_folder(job.path(settings.data_root), job.data)
    images = load_images(root, size=settings.size, channels=settings.channels, cpus=job.cpus)
    watch = watch_of(job)
    trained = train_denoiser(images, settings, watch=watch, state=paths.resume(folder))
    facts = source_of(
        job,
        settings,
        data_root=str(job.path(settings.data_root)),
        train_images=len(images),
        train_images_sha256=digest_of_images(images),
    )
    save_denoiser(paths.checkpoint(folder), trained.denoiser, facts)
    result: dict[str, Json] = {"images": len(images), "loss": trained.loss}
    write_facts(folder, facts, result)
    paths.resume(folder).unlink(missing_ok=True)
    return result


def purifier_of(job: Job, name: PurifierName, *, diffuser: str, denoiser: str) -> Purifier:
    """Return a purifier on the job's device; a model that it does not need is not read.

    Args:
        job: that works with it.
        name: the purifier.
        diffuser: model ID; "": none.
        denoiser: likewise.

    Raises:
        JobError: it lacks a model, or the diffuser did not learn the steps that it names.
        CheckpointError: a model cannot be read.
    """
    given = {"diffuser": diffuser, "denoiser": denoiser}
    for setting in name.needs:
        if not given[setting]:
            raise JobError(f"purifier {name.text} needs a {setting}: give the ID of one")
    learned, denoising = None, None
    if "diffuser" in name.needs:
        learned = load_diffuser(checkpoint_of(job, diffuser), job.device)
        if reason := refuse_untrained(name, learned.t_max, diffuser):
            raise JobError(reason)
        if learned.channels not in CHANNELS:
            raise JobError(
                f"{diffuser} works on {learned.channels} channels, such as latents, and not on images; "
                "train a diffuser of images to purify them"
            )
    if "denoiser" in name.needs:
        denoising = load_denoiser(checkpoint_of(job, denoiser), job.device)
    return make_purifier(name, diffuser=learned, denoiser=denoising)


@entry(PurifySettings)
def purify(job: Job, settings: PurifySettings) -> Mapping[str, Json]:
    """Purify the job's folder of images; write it with what it took.

    A stop leaves nothing behind; the next attempt begins anew.
    """
    purifier = purifier_of(
        job,
        parse_purifier(settings.purifier),
        diffuser=settings.diffuser,
        denoiser=settings.denoiser,
    )
    source, place = job.path(settings.source), made_folder_of(job)
    facts = purify_folder(source, settings, purifier, place, watch_of(job))
    return {key: facts[key] for key in ("images", "net_calls", "seconds", "cpu_seconds")}


@entry(DisruptSettings)
def disrupt(job: Job, settings: DisruptSettings) -> Mapping[str, Json]:
    """Perturb the images of the job's folder; write them with what was done.

    A stop leaves nothing behind; the next attempt begins anew.

    Raises:
        DataError: an image has another size than the translator's.
        JobError: stopped, or a gradient that is not finite.
    """
    source, levels, size = job.path(settings.source), levels_of(settings.eps), NOTHING
    names, original = image_names(source, limit=settings.limit), original_of(source, job.path)
    translator = load_translator(checkpoint_of(job, settings.translator), job.device)
    purifier = _purifier(job, settings, translator)
    _, own = labels_of(original, partners(original, names), translator.labels)
    every = label_sets(own, flipped(own, translator.labels), settings.over)
    started = time.perf_counter()
    with made_folder(made_folder_of(job)) as made:
        for part in watch_of(job).batches(len(names), settings.batch_size):
            images = read_images(source, names[part], size=translator.size)
            disrupted = disrupt_images(
                translator,
                images.to(job.device),
                every[:, part].to(job.device),
                settings,
                ImageNoise(names[part], settings.seed),
                through=purifier,
                stop=job.stop,
            ).cpu()
            size += size_of(disrupted, images, levels)
            made.write(names[part], disrupted)
        if size.linf > settings.eps + 1e-6:
            raise DataError(f"a pixel moved by {size.linf:.5f}, more than eps {settings.eps:g}")
        seconds = (time.perf_counter() - started) / len(names)
        measured: dict[str, Json] = {
            "images": len(names),
            **_size_facts(size, settings),
            "gradient": "" if purifier is None else purifier.gradient,
            "seconds": seconds,
        }
        made.record(
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
        JobError: it lacks a model, or its model learned images of another shape than the translator.
    """
    if not settings.purifier or settings.attack == "random":
        return None
    name = parse_purifier(settings.purifier)
    purifier = purifier_of(job, name, diffuser=settings.diffuser, denoiser=settings.denoiser)
    if purifier.size not in {0, translator.size} or purifier.channels not in {0, COLOURS}:
        raise JobError(
            f"{settings.translator} learned colour images of {translator.size} pixels, and the model of "
            f"{name.text} {purifier.channels} channels of {purifier.size}: take models of the same images"
        )
    return purifier


def _size_facts(size: Size, settings: DisruptSettings) -> dict[str, Json]:
    return {
        "linf": size.linf,
        "rms": size.rms,
        "at_bound": size.at_bound / size.pixels,
        "eps": settings.eps,
        "eps_levels": levels_of(settings.eps),
        "bound": bound_of(settings.eps),
    }
