"""All measures of an erasing: models and images in, one record out. No file is read or written here but curves."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from trueface.diffusion.diffuser import Diffuser
from trueface.erasing.measures.kept_curves import kept_curve
from trueface.erasing.measures.likeness import Likeness, likeness
from trueface.erasing.measures.null_drift import null_drift
from trueface.erasing.measures.rates import Rates, rates, refuse_weak_teacher
from trueface.erasing.measures.recognition import Recogniser
from trueface.erasing.measures.recovery import Attack, Curve, Recognised, recovery
from trueface.erasing.measures.samples import OTHER_STREAM, drawable, drawn_classes, noise_of
from trueface.runtime.errors import JobError
from trueface.runtime.progress import Watch

DRIFT_SAMPLES = 8  # of each class, along whose paths the null prediction is compared
PARTS = 5  # of the progress


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Probed:
    """A diffuser, and what tells it apart from others where curves are kept."""

    diffuser: Diffuser
    folder: Path | None = None  # of the model, where curves are kept; None: nowhere
    digest: str = ""  # of its checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of an erasing."""

    concept: str
    anchor: str  # "": none
    least_teacher_rate: float
    attack: Attack  # with the sampling of all samples
    images: Tensor  # real ones of the concept, in the order in which the attack takes them
    follows_from: tuple[
        object, ...
    ] = ()  # the attack, the images and the classifier, for kept curves

    @property
    def samples(self) -> int:
        """Of each class."""
        return self.attack.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured."""

    student: Rates
    teacher: Rates
    likeness: Likeness  # on all classes but the concept
    null_drift: float | None  # None: a model has no null token, or diverges along the paths
    diverged: float  # share of the student's samples that are no images
    curve: Curve
    floor: Curve | None
    ceiling: Curve
    samples: Tensor  # the student's, K×n×C×H×W


def measure(
    student: Probed,
    teacher: Probed,
    never: Probed | None,
    recogniser: Recogniser,
    question: Question,
    watch: Watch,
) -> Measured:
    """Measure a model that forgot a concept beside its teacher.

    Raises:
        JobError: the teacher cannot draw a class; models of different classes or sizes; stopped.
        UnknownName: a class that the models do not know.
    """
    refuse_others(student.diffuser, teacher.diffuser)
    names, sampling = teacher.diffuser.class_names, question.attack.sampling
    concept = teacher.diffuser.label(question.concept)
    if question.anchor:
        teacher.diffuser.label(question.anchor)
    number = [recogniser.number(name) for name in names]
    labels = list(range(len(names)))
    others = [label for label in labels if label != concept]

    of_teacher = drawn_classes(teacher.diffuser, labels, question.samples, sampling)
    answers, teacher_features = recogniser.seen(of_teacher.flatten(0, 1))
    teacher_rates = _rates(answers, names, recogniser, question)
    refuse_weak_teacher(teacher_rates, question.least_teacher_rate)
    watch.progress(step=1, total=PARTS)

    of_student, diverged = drawable(
        drawn_classes(student.diffuser, labels, question.samples, sampling).flatten(0, 1)
    )
    answers, student_features = recogniser.seen(of_student)
    of_student = of_student.reshape(of_teacher.shape)
    again = drawn_classes(teacher.diffuser, others, question.samples, sampling, stream=OTHER_STREAM)
    rows = torch.tensor(others)

    def kept(features: Tensor) -> Tensor:
        return features.reshape(len(labels), question.samples, -1)[rows].flatten(0, 1)

    alike = likeness(
        of_student[rows].flatten(0, 1),
        of_teacher[rows].flatten(0, 1),
        kept(student_features),
        kept(teacher_features),
        recogniser.seen(again.flatten(0, 1))[1],
    )
    watch.progress(step=2, total=PARTS)

    drift = _drift(student.diffuser, teacher.diffuser, question)

    def recognised(images: Tensor) -> Tensor:
        return recogniser.answers(images) == number[concept]

    curves = _curves(student, teacher, never, question, recognised, watch)
    return Measured(
        student=_rates(answers, names, recogniser, question),
        teacher=teacher_rates,
        likeness=alike,
        null_drift=drift,
        diverged=diverged,
        curve=curves["student"],
        floor=curves.get("never"),
        ceiling=curves["teacher"],
        samples=of_student,
    )


def refuse_others(student: Diffuser, teacher: Diffuser) -> None:
    """Refuse two models that cannot be compared sample by sample.

    Raises:
        JobError: their images or classes differ.
    """
    for what, mine, its in (
        ("side", student.size, teacher.size),
        ("channels", student.channels, teacher.channels),
        ("classes", student.class_names, teacher.class_names),
    ):
        if mine != its:
            raise JobError(
                f"the {what} of the measured model and of its teacher differ, {mine} and {its}: name the "
                "teacher that it was made of"
            )


def _rates(
    answers: Tensor, names: tuple[str, ...], recogniser: Recogniser, question: Question
) -> Rates:
    table = answers.reshape(len(names), question.samples)
    return rates(table, names, recogniser.names, question.concept, question.anchor)


def _drift(student: Diffuser, teacher: Diffuser, question: Question) -> float | None:
    if not (student.has_null and teacher.has_null):
        return None
    sampling, n = question.attack.sampling, min(DRIFT_SAMPLES, question.samples)
    noise = torch.cat([noise_of(teacher, name, n, sampling.seed) for name in teacher.class_names])
    labels = torch.arange(len(teacher.class_names)).repeat_interleave(n)
    drift = null_drift(student, teacher, noise, labels, sampling)
    return drift if math.isfinite(drift) else None


def _curves(
    student: Probed,
    teacher: Probed,
    never: Probed | None,
    question: Question,
    recognised: Recognised,
    watch: Watch,
) -> Mapping[str, Curve]:
    curves = {}
    probed = {"student": student, "teacher": teacher, "never": never}
    for part, (name, model) in enumerate(probed.items()):
        if model is None:
            continue

        def make(diffuser: Diffuser = model.diffuser) -> Curve:
            return recovery(
                diffuser, question.concept, question.images, recognised, question.attack
            )

        # the floor and the ceiling serve every method of a study; a method's own curve serves it once
        shared = name != "student" or model is teacher or model is never
        folder = model.folder if shared else None
        curves[name] = kept_curve(folder, (model.digest, *question.follows_from), make)
        watch.progress(step=3 + part, total=PARTS)
    return curves
