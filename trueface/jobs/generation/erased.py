"""The entry function of `erased`: reads models and images, measures, writes a folder."""

from collections.abc import Mapping

from launcher.api import Job, Json
from trueface.data.made_folders import digest_of, made_folder
from trueface.diffusion.checkpoint import load_diffuser
from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.measures import record
from trueface.erasing.measures.measuring import Probed, Question, facts, measure, write_sheet
from trueface.erasing.measures.recognition import (
    class_folder,
    concept_images,
    held_out_accuracy,
    load_recogniser,
)
from trueface.erasing.measures.recovery import Attack
from trueface.erasing.measures.samples import Sampling
from trueface.erasing.measures.settings import ErasedSettings
from trueface.jobs.setup import checkpoint_of, entry, made_folder_of, watch_of
from trueface.runtime import paths
from trueface.runtime.files import file_sha256, read_json, write_json
from trueface.runtime.timer import now


@entry(ErasedSettings)
def erased(job: Job, settings: ErasedSettings) -> Mapping[str, Json]:
    """Measure a diffuser that forgot a concept; write `metrics.json` and `samples.png` into its folder.

    A stop leaves nothing behind but the curves of floor and ceiling, which the next attempt finds.

    Raises:
        JobError: the teacher cannot draw a class, the models do not belong together, or stopped.
    """
    began = now()
    models = {model: _probed(job, model) for model in _diffusers(settings)}
    teacher = models[settings.teacher]
    place = checkpoint_of(job, settings.classifier)
    recogniser = load_recogniser(place, text=settings.classifier, device=job.device)
    question, digest = _question(job, settings, teacher.diffuser, file_sha256(place))
    real = held_out_accuracy(
        job.path(settings.data_root), teacher.diffuser.class_names, teacher.diffuser, recogniser
    )
    measured = measure(
        models[settings.diffuser],
        teacher,
        models.get(settings.never),
        recogniser,
        question,
        watch_of(job),
    )
    results: dict[str, Json] = {
        **_described(job, settings, teacher.diffuser),
        "classifier_accuracy": None if real is None else real.record,
        **facts(measured, recogniser),
    }
    with made_folder(made_folder_of(job)) as made:
        rows, columns = write_sheet(made.root / record.SHEET, measured.samples)
        tiles: Json = {"rows": rows, "columns": columns, "size": teacher.diffuser.size}
        write_json(made.root / paths.METRICS, {**results, "tiles": tiles})
        made.record(
            {
                "kind": job.kind,
                "settings": settings.model_dump(mode="json"),
                "source": settings.data_root,
                "source_digest": digest,
                "seed": settings.seed,
                "seconds": now() - began,
            }
        )
    kept = record.Record(facts=results)
    shown = ("erased", "anchor", "others", "ssim", "null_drift")
    numbers: dict[str, Json] = {name: kept.number(name) for name in shown}
    return {**numbers, "recovery": kept.most("recovery"), "verdict": results["verdict"]}


def _diffusers(settings: ErasedSettings) -> tuple[str, ...]:
    named = (settings.diffuser, settings.teacher, settings.never)
    return tuple(dict.fromkeys(model for model in named if model))


def _probed(job: Job, model: str) -> Probed:
    folder = job.model_folder(model)
    place = paths.checkpoint(folder)
    return Probed(
        diffuser=load_diffuser(place, job.device), folder=folder, digest=file_sha256(place)
    )


def _question(
    job: Job, settings: ErasedSettings, teacher: Diffuser, classifier: str
) -> tuple[Question, str]:
    """Return what is asked, and the digest of the real images that the attack takes."""
    teacher.label(settings.concept)  # said before a folder of this name is looked for
    root, most = job.path(settings.data_root), settings.recover_images[-1]
    images, names = concept_images(root, settings.concept, most, teacher, settings.seed)
    digest = digest_of(class_folder(root, settings.concept), names)
    attack = Attack(
        images=settings.recover_images,
        steps=settings.recover_steps,
        lr=settings.recover_lr,
        batch=settings.recover_batch,
        samples=settings.samples,
        sampling=Sampling(
            steps=settings.sample_steps,
            guidance=settings.guidance,
            seed=settings.seed,
            batch_size=settings.batch_size,
            stop=job.stop,
        ),
    )
    decisive = {
        name: value
        for name, value in settings.model_dump(mode="json").items()
        if name.startswith("recover_")
        or name in {"concept", "samples", "sample_steps", "guidance", "seed"}
    }
    question = Question(
        concept=settings.concept,
        anchor=settings.anchor,
        least_teacher_rate=settings.least_teacher_rate,
        attack=attack,
        images=images,
        follows_from=(sorted(decisive.items()), digest, classifier, job.device.partition(":")[0]),
    )
    return question, digest


def _described(job: Job, settings: ErasedSettings, teacher: Diffuser) -> dict[str, Json]:
    """Return what was measured, and with what."""
    took = read_json(paths.erasing(job.model_folder(settings.diffuser))) or {}
    return {
        "schema": record.SCHEMA,
        "method": record.method_label(settings.diffuser, settings.teacher),
        "diffuser": settings.diffuser,
        "teacher": settings.teacher,
        "never": settings.never,
        "classifier": settings.classifier,
        "concept": settings.concept,
        "anchor": settings.anchor,
        "seed": settings.seed,
        "samples": settings.samples,
        "class_names": list(teacher.class_names),
        "seconds": took.get("seconds"),
    }
