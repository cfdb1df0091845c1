"""Measures of edited diffusers: the entry functions of `erased` and `revise`."""

from collections.abc import Mapping

import torch
from torch import Tensor

from launcher.api import Job, Json
from trueface.generators.diffusion.diffuser import Diffuser, load_diffuser
from trueface.generators.erasing import study
from trueface.generators.erasing.measuring import (
    EvaluatedDiffuser,
    EvaluationSpec,
    check_comparable,
    erasure_json,
    evaluate_erasure,
    write_sheet,
)
from trueface.generators.erasing.nudity import NudityDetector, load_nudity_detector
from trueface.generators.erasing.published_measures import published_measures
from trueface.generators.erasing.recognition import (
    ConceptClassifier,
    class_folder,
    concept_images,
    held_out_accuracy,
    load_concept_classifier,
    rate,
    real_images,
)
from trueface.generators.erasing.recovery import RecoveryAttack
from trueface.generators.erasing.registry import ErasedSettings, ReviseSettings
from trueface.generators.erasing.samples import Revision, Sampling, revise_images, rms, round_trip
from trueface.generators.made_folders import digest_of, image_names, output_folder, round_to_levels
from trueface.jobs.job_data import checkpoint_of, output_folder_of_job
from trueface.jobs.setup import entry, run_context
from trueface.runtime import paths
from trueface.runtime.errors import JobError
from trueface.runtime.files import file_sha256, read_json, write_json
from trueface.runtime.timer import now

# rates of images recognised as the concept: real images, revised images, and the teacher's round trip
BEFORE, AFTER, REFERENCE = "rate_before", "rate_after", "rate_round_trip"


@entry(ErasedSettings)
def measure_erased_diffuser(job: Job, settings: ErasedSettings) -> Mapping[str, Json]:
    """Measure a diffuser that forgot a concept; write `metrics.json` and `samples.png` into its folder.

    A stop leaves nothing behind but the curves of floor and ceiling, which the next attempt finds.

    Raises:
        JobError: the teacher cannot generate a class, the models do not fit together, or stopped.
    """
    began = now()
    models = {model: _load_probed(job, model) for model in _diffusers(settings)}
    teacher = models[settings.teacher]
    recogniser = _recogniser(job, settings.classifier)
    classifier = file_sha256(checkpoint_of(job, settings.classifier))
    question, digest = _question(job, settings, teacher.diffuser, classifier)
    real = held_out_accuracy(
        job.path(settings.data_root), teacher.diffuser.class_names, teacher.diffuser, recogniser
    )
    detector = _nudity_detector(settings, teacher.diffuser)
    published = published_measures(
        job.path(settings.inception) if settings.inception else None,
        job.path(settings.clip) if settings.clip else None,
        job.device,
    )
    measured = evaluate_erasure(
        models[settings.diffuser],
        teacher,
        models.get(settings.never),
        recogniser,
        question,
        run_context(job),
        published,
        detector,
    )
    results: dict[str, Json] = {
        **_describe_measurement(job, settings, teacher.diffuser),
        "classifier_accuracy": None if real is None else real.json_record,
        **erasure_json(measured, recogniser),
        **({} if detector is None else {"detector": detector.json_record}),
    }
    with output_folder(output_folder_of_job(job)) as writer:
        rows, columns = write_sheet(writer.root / study.SHEET, measured.samples)
        tiles: Json = {"rows": rows, "columns": columns, "size": teacher.diffuser.size}
        write_json(writer.root / paths.METRICS, {**results, "tiles": tiles})
        writer.write_output_record(
            {
                "kind": job.kind,
                "settings": settings.model_dump(mode="json"),
                "source": settings.data_root,
                "source_digest": digest,
                "seed": settings.seed,
                "seconds": now() - began,
            }
        )
    kept = study.ErasureRecord(facts=results)
    shown = ("erased", "anchor", "others", "ssim", "null_drift")
    numbers: dict[str, Json] = {name: kept.number(name) for name in shown}
    return {
        **numbers,
        "recovery": kept.rate_at_largest_budget("recovery"),
        "verdict": results["verdict"],
    }


def _nudity_detector(settings: ErasedSettings, teacher: Diffuser) -> NudityDetector | None:
    if not settings.detector:
        return None
    if not teacher.network.cross_attentions():
        raise JobError(
            f"detector: nudenet needs a text-to-image model, but {settings.teacher} draws classes. Leave out "
            "detector."
        )
    return load_nudity_detector(settings.nudity_classes, settings.nudity_score)


def _diffusers(settings: ErasedSettings) -> tuple[str, ...]:
    named = (settings.diffuser, settings.teacher, settings.never)
    return tuple(dict.fromkeys(model for model in named if model))


def _load_probed(job: Job, model: str) -> EvaluatedDiffuser:
    folder = job.model_folder(model)
    checkpoint_path = paths.checkpoint(folder)
    return EvaluatedDiffuser(
        diffuser=load_diffuser(checkpoint_path, job.device),
        folder=folder,
        digest=file_sha256(checkpoint_path),
    )


def _question(
    job: Job, settings: ErasedSettings, teacher: Diffuser, classifier: str
) -> tuple[EvaluationSpec, str]:
    """Return the evaluation settings, and the digest of the real images that the attack uses."""
    teacher.label(settings.concept)  # checked before the class folder is read
    root, most = job.path(settings.data_root), settings.recover_images[-1]
    images, names = concept_images(root, settings.concept, most, teacher, settings.seed)
    digest = digest_of(class_folder(root, settings.concept), names)
    attack = RecoveryAttack(
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
    question = EvaluationSpec(
        concept=settings.concept,
        anchor=settings.anchor,
        least_teacher_rate=settings.least_teacher_rate,
        attack=attack,
        images=images,
        follows_from=(sorted(decisive.items()), digest, classifier, job.device.partition(":")[0]),
    )
    return question, digest


def _describe_measurement(job: Job, settings: ErasedSettings, teacher: Diffuser) -> dict[str, Json]:
    """Return the models and settings of a measurement, for its record."""
    took = read_json(paths.erasing(job.model_folder(settings.diffuser))) or {}
    return {
        "schema": study.SCHEMA,
        "method": study.method_label(settings.diffuser, settings.teacher),
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


@entry(ReviseSettings)
def revise(job: Job, settings: ReviseSettings) -> Mapping[str, Json]:
    """Sample the source's images again under one concept by the edited diffuser; write them under their names.

    Raises:
        DataError: the source has no images, or some of another size than the diffuser's.
        JobError: null or guidance without a null token, or stopped; nothing was written then.
    """
    edited = load_diffuser(checkpoint_of(job, settings.diffuser), job.device)
    teacher = None
    if settings.teacher:
        teacher = load_diffuser(checkpoint_of(job, settings.teacher), job.device)
    if teacher is not None:
        check_comparable(edited, teacher)
    inverter = teacher if teacher is not None and settings.inverted_by == "teacher" else edited
    recogniser = _recogniser(job, settings.classifier) if settings.classifier else None
    revision = Revision(
        inverted_as=inverter.label(settings.inverted_as) if settings.inverted_as else None,
        drawn_as=edited.label(settings.drawn_as),
        steps=settings.steps,
        guidance=settings.guidance,
    )
    root = job.path(settings.source)
    names = image_names(root, limit=settings.limit)
    measured = _ErrorTotals(recogniser, settings.drawn_as)
    seconds = 0.0
    with output_folder(output_folder_of_job(job)) as writer:
        for rows in run_context(job).batches(len(names), settings.batch_size):
            batch = names[rows]
            images = real_images(root, batch, edited)
            began = now()
            drawn = round_to_levels(revise_images(images, edited, inverter, revision))
            seconds += now() - began
            writer.write(batch, drawn)
            measured.add("rms", AFTER, images, drawn)
            measured.add("", BEFORE, images, images)
            if teacher is not None:
                back = round_trip(images, teacher, revision.inverted_as, settings.steps)
                measured.add("rms_round_trip", REFERENCE, images, round_to_levels(back))
        numbers: dict[str, Json] = {
            "images": len(names),
            **measured.average_measures(),
            "seconds": seconds / len(names),
        }
        writer.write_output_record(
            {
                "kind": job.kind,
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "source_digest": digest_of(root, names),
                "seed": None,  # deterministic: no random numbers
                **numbers,
            }
        )
    return numbers


class _ErrorTotals:
    """Errors and answers of all batches."""

    def __init__(self, recogniser: ConceptClassifier | None, concept: str) -> None:
        self._recogniser = recogniser
        self._number = -1 if recogniser is None else recogniser.number(concept)
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, error: str, rate_name: str, images: Tensor, source_images: Tensor) -> None:
        """Add a batch: its distance to the source under `error` ("" for none) and its recognised images."""
        if error:
            self._parts.setdefault(error, []).append(rms(images, source_images))
        if self._recogniser is not None:
            hits = self._recogniser.predict_classes(source_images) == self._number
            self._parts.setdefault(rate_name, []).append(hits)

    def average_measures(self) -> dict[str, Json]:
        """Return the mean of each measure; rates with their intervals."""
        whole = {name: torch.cat(parts) for name, parts in self._parts.items()}
        return {
            name: rate(values).json_record if values.dtype == torch.bool else float(values.mean())
            for name, values in whole.items()
        }


def _recogniser(job: Job, model: str) -> ConceptClassifier:
    return load_concept_classifier(checkpoint_of(job, model), text=model, device=job.device)
