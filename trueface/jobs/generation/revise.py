"""The entry function of `revise`: real images inverted, drawn anew by an edited diffuser, and written."""

from collections.abc import Mapping

import torch
from torch import Tensor

from launcher.api import Job, Json
from trueface.data.made_folders import digest_of, image_names, made_folder, rounded
from trueface.diffusion.checkpoint import load_diffuser
from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.measures.measuring import refuse_others
from trueface.erasing.measures.recognition import Recogniser, load_recogniser, rate, real_images
from trueface.erasing.measures.samples import Revision, revised, rms, round_trip
from trueface.erasing.measures.settings import ReviseSettings
from trueface.jobs.setup import checkpoint_of, entry, made_folder_of, watch_of
from trueface.runtime.timer import now

# what is recognised as the concept: real images, those drawn anew, and the teacher's round trip
BEFORE, AFTER, REFERENCE = "rate_before", "rate_after", "rate_round_trip"


@entry(ReviseSettings)
def revise(job: Job, settings: ReviseSettings) -> Mapping[str, Json]:
    """Draw the source's images anew under one name by the edited diffuser; write them under their names.

    Raises:
        DataError: the source has no images, or some of another size than the diffuser's.
        JobError: null or guidance without a null token, or stopped; nothing was written then.
    """
    edited = _diffuser(job, settings.diffuser)
    teacher = _diffuser(job, settings.teacher) if settings.teacher else None
    if teacher is not None:
        refuse_others(edited, teacher)
    inverter = teacher if teacher is not None and settings.inverted_by == "teacher" else edited
    recogniser = _recogniser(job, settings)
    revision = Revision(
        inverted_as=inverter.label(settings.inverted_as) if settings.inverted_as else None,
        drawn_as=edited.label(settings.drawn_as),
        steps=settings.steps,
        guidance=settings.guidance,
    )
    root = job.path(settings.source)
    names = image_names(root, limit=settings.limit)
    measured = _Sums(recogniser, settings.drawn_as)
    seconds = 0.0
    with made_folder(made_folder_of(job)) as made:
        for rows in watch_of(job).batches(len(names), settings.batch_size):
            batch = names[rows]
            images = real_images(root, batch, edited)
            began = now()
            drawn = rounded(revised(images, edited, inverter, revision))
            seconds += now() - began
            made.write(batch, drawn)
            measured.add("rms", AFTER, images, drawn)
            measured.add("", BEFORE, images, images)
            if teacher is not None:
                back = round_trip(images, teacher, revision.inverted_as, settings.steps)
                measured.add("rms_round_trip", REFERENCE, images, rounded(back))
        numbers: dict[str, Json] = {
            "images": len(names),
            **measured.means(),
            "seconds": seconds / len(names),
        }
        made.record(
            {
                "kind": job.kind,
                "settings": settings.model_dump(mode="json"),
                "source": settings.source,
                "source_digest": digest_of(root, names),
                "seed": None,  # nothing is drawn by chance
                **numbers,
            }
        )
    return numbers


class _Sums:
    """Errors and answers of all batches."""

    def __init__(self, recogniser: Recogniser | None, concept: str) -> None:
        self._recogniser = recogniser
        self._number = -1 if recogniser is None else recogniser.number(concept)
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, error: str, rate_name: str, images: Tensor, drawn: Tensor) -> None:
        """Add a batch: its distance to the source by name, "" for none, and what is recognised."""
        if error:
            self._parts.setdefault(error, []).append(rms(images, drawn))
        if self._recogniser is not None:
            hits = self._recogniser.answers(drawn) == self._number
            self._parts.setdefault(rate_name, []).append(hits)

    def means(self) -> dict[str, Json]:
        """Return the mean of each measure; rates with their intervals."""
        whole = {name: torch.cat(parts) for name, parts in self._parts.items()}
        return {
            name: rate(values).record if values.dtype == torch.bool else float(values.mean())
            for name, values in whole.items()
        }


def _diffuser(job: Job, model: str) -> Diffuser:
    return load_diffuser(checkpoint_of(job, model), job.device)


def _recogniser(job: Job, settings: ReviseSettings) -> Recogniser | None:
    if not settings.classifier:
        return None
    place = checkpoint_of(job, settings.classifier)
    return load_recogniser(place, text=settings.classifier, device=job.device)
