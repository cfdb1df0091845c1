"""All measures of an erasing: models and images in, one record out. Reads only curves; writes a sample sheet."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

from trueface.generators.diffusion.diffuser import Diffuser
from trueface.generators.erasing.nudity import NudityDetector
from trueface.generators.erasing.published_measures import PublishedMeasures
from trueface.generators.erasing.recognition import (
    ConceptClassifier,
    Rate,
    Rates,
    rates,
    refuse_weak_teacher,
)
from trueface.generators.erasing.recovery import (
    Curve,
    Recognised,
    RecoveryAttack,
    load_or_make_curve,
    recovery,
)
from trueface.generators.erasing.samples import (
    OTHER_STREAM,
    Sampling,
    noise_of,
    replace_nan_images,
    sample_classes,
    sample_images,
)
from trueface.generators.erasing.study import RULE, judge_erasure
from trueface.generators.image_measures import frechet_distance, ssim
from trueface.generators.made_folders import save_picture
from trueface.runtime.errors import JobError
from trueface.runtime.files import Json
from trueface.runtime.progress import RunContext

AT_ONCE = 32  # pairs whose SSIM takes a dozen copies in double precision: gigabytes of 512 pixels


DRIFT_SAMPLES = 8  # samples of each class, along whose paths the null prediction is compared
PARTS = 5  # parts of the progress
COLUMNS = 4  # samples of each class; the page of erasing expects as many


@dataclass(frozen=True, slots=True, kw_only=True)
class Likeness:
    """Similarity of samples with equal noise; 1, 0 and 0 if nothing has changed."""

    ssim: float  # mean over pairs
    feature_distance: float  # Euclidean, mean over pairs
    frechet: float  # distance of both sets of features
    frechet_floor: float  # distance of two sets of teacher samples with different noise
    n: int  # pairs


def likeness(
    student: Tensor,
    teacher: Tensor,
    student_features: Tensor,
    teacher_features: Tensor,
    other_features: Tensor,
) -> Likeness:
    """Compare samples with those of the teacher that began from the same noise.

    Args:
        student: N×C×H×W in [-1, 1].
        teacher: its partners.
        student_features: N×F, of the classifier.
        teacher_features: N×F, of the teacher's samples.
        other_features: M×F, of the teacher's samples from other noise.
    """
    apart = (student_features - teacher_features).double().norm(dim=1)
    pairs = zip(torch.split(student, AT_ONCE), torch.split(teacher, AT_ONCE), strict=True)
    return Likeness(
        ssim=float(torch.cat([ssim(*pair) for pair in pairs]).mean()),
        feature_distance=float(apart.mean()),
        frechet=frechet_distance(student_features, teacher_features),
        frechet_floor=frechet_distance(other_features, teacher_features),
        n=len(student),
    )


def null_drift(
    student: Diffuser, teacher: Diffuser, noise: Tensor, labels: Tensor, sampling: Sampling
) -> float:
    """Return E |eps_student(z, null) - eps_teacher(z, null)|², mean over pixels; noise has variance 1.

    z are the noisy images on the teacher's sampling trajectories: every step of every sample
    counts alike. It is what the penalty of All-but-One holds down (arXiv 2312.12807).

    Args:
        student: the model that is measured.
        teacher: the model it was made from.
        noise: N×C×H×W, where the teacher begins.
        labels: (N,) classes to sample.
        sampling: settings of the sampler.

    Raises:
        JobError: stopped, or a model has no null token.
    """
    sums: list[float] = []
    counts: list[int] = []

    def add_distance(t: int, z: Tensor) -> None:
        apart = student.eps(z, t, student.null(len(z))) - teacher.eps(z, t, teacher.null(len(z)))
        sums.append(float(apart.double().square().sum()))
        counts.append(apart.numel())

    with torch.no_grad():
        sample_images(teacher, noise, teacher.embed(labels), sampling, step_hook=add_distance)
    return sum(sums) / sum(counts)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EvaluatedDiffuser:
    """A diffuser, and the cache folder and key of its curves."""

    diffuser: Diffuser
    folder: Path | None = None  # folder of the model, where curves are kept; None: nowhere
    digest: str = ""  # digest of its checkpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSpec:
    """Concept, anchor and settings of an evaluation."""

    concept: str
    anchor: str  # "": none
    least_teacher_rate: float
    attack: RecoveryAttack  # with the sampling of all samples
    images: Tensor  # real ones of the concept, in the order in which the attack takes them
    # the attack, the images and the classifier, for kept curves
    follows_from: tuple[object, ...] = ()

    @property
    def samples(self) -> int:
        """Of each class."""
        return self.attack.samples


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredErasure:
    """All measures of an erasing."""

    student: Rates
    teacher: Rates
    likeness: Likeness  # on all classes but the concept
    published: Mapping[str, float]  # fid, kid and clip_score, as far as they are requested
    null_drift: float | None  # None: a model has no null token, or diverges along the trajectories
    diverged: float  # share of the student's samples that are not finite
    curve: Curve
    floor: Curve  # (): not measured
    ceiling: Curve
    samples: Tensor  # the student's, K×n×C×H×W
    nudity: Rate | None = (
        None  # share of the concept's samples that show nudity; None: not measured
    )


def evaluate_erasure(
    student: EvaluatedDiffuser,
    teacher: EvaluatedDiffuser,
    never_trained: EvaluatedDiffuser | None,
    recogniser: ConceptClassifier,
    question: EvaluationSpec,
    watch: RunContext,
    published_measures: PublishedMeasures | None = None,
    detector: NudityDetector | None = None,
) -> MeasuredErasure:
    """Compare a model with an erased concept with its teacher.

    Raises:
        JobError: the teacher cannot generate a class, models differ in classes or sizes, or stopped.
        UnknownName: a class that the models do not know.
    """
    check_comparable(student.diffuser, teacher.diffuser)
    if never_trained is not None:
        check_same_image_format(
            never_trained.diffuser, teacher.diffuser, "the diffuser trained without the concept"
        )
    names, sampling = teacher.diffuser.class_names, question.attack.sampling
    concept = teacher.diffuser.label(question.concept)
    if question.anchor:
        teacher.diffuser.label(question.anchor)
    number = [recogniser.number(name) for name in names]
    labels = list(range(len(names)))
    others = [label for label in labels if label != concept]

    of_teacher = sample_classes(teacher.diffuser, labels, question.samples, sampling)
    predicted, teacher_features = recogniser.predict_with_features(of_teacher.flatten(0, 1))
    teacher_rates = _rates(predicted, names, recogniser, question)
    refuse_weak_teacher(teacher_rates, question.least_teacher_rate)
    watch.progress(step=1, total=PARTS)

    of_student, diverged = replace_nan_images(
        sample_classes(student.diffuser, labels, question.samples, sampling).flatten(0, 1)
    )
    predicted, student_features = recogniser.predict_with_features(of_student)
    of_student = of_student.reshape(of_teacher.shape)
    again = sample_classes(
        teacher.diffuser, others, question.samples, sampling, stream=OTHER_STREAM
    )
    rows = torch.tensor(others)

    def features_of_other_concepts(features: Tensor) -> Tensor:
        return features.reshape(len(labels), question.samples, -1)[rows].flatten(0, 1)

    alike = likeness(
        of_student[rows].flatten(0, 1),
        of_teacher[rows].flatten(0, 1),
        features_of_other_concepts(student_features),
        features_of_other_concepts(teacher_features),
        recogniser.predict_with_features(again.flatten(0, 1))[1],
    )
    further = (published_measures or PublishedMeasures()).compute_published(
        of_student[rows].flatten(0, 1),
        of_teacher[rows].flatten(0, 1),
        [names[label] for label in others for _ in range(question.samples)],
        sampling.seed,
        watch,
    )
    nudity = None if detector is None else detector.share(of_student[concept], watch)
    watch.progress(step=2, total=PARTS)

    drift = _drift(student.diffuser, teacher.diffuser, question)

    def shows_concept(images: Tensor) -> Tensor:
        return recogniser.predict_classes(images) == number[concept]

    curves = _curves(student, teacher, never_trained, question, shows_concept, watch)
    return MeasuredErasure(
        student=_rates(predicted, names, recogniser, question),
        teacher=teacher_rates,
        likeness=alike,
        published=further,
        null_drift=drift,
        diverged=diverged,
        curve=curves["student"],
        floor=curves.get("never", ()),
        ceiling=curves["teacher"],
        samples=of_student,
        nudity=nudity,
    )


def check_comparable(student: Diffuser, teacher: Diffuser) -> None:
    """Refuse two models that cannot be compared sample by sample.

    Raises:
        JobError: their images or classes differ.
    """
    check_same_image_format(student, teacher, "the measured diffuser")
    if student.class_names != teacher.class_names:
        _refuse("classes", "the measured diffuser", student.class_names, teacher.class_names)


def check_same_image_format(model: Diffuser, teacher: Diffuser, name: str) -> None:
    """Refuse a model of other images than the teacher's.

    Raises:
        JobError: their sides or channels differ.
    """
    if model.size != teacher.size:
        _refuse("side", name, model.size, teacher.size)
    if model.channels != teacher.channels:
        _refuse("channels", name, model.channels, teacher.channels)


def _refuse(noun: str, name: str, own_value: object, other_value: object) -> NoReturn:
    raise JobError(
        f"the {noun} of {name} ({own_value}) and of the teacher ({other_value}) differ. Name the teacher from which "
        "it was made, or one with the same settings."
    )


def _rates(
    predicted_classes: Tensor,
    names: tuple[str, ...],
    recogniser: ConceptClassifier,
    question: EvaluationSpec,
) -> Rates:
    table = predicted_classes.reshape(len(names), question.samples)
    return rates(table, names, recogniser.names, question.concept, question.anchor)


def _drift(student: Diffuser, teacher: Diffuser, question: EvaluationSpec) -> float | None:
    if not (student.has_null and teacher.has_null):
        return None
    sampling, n = question.attack.sampling, min(DRIFT_SAMPLES, question.samples)
    noise = torch.cat([noise_of(teacher, name, n, sampling.seed) for name in teacher.class_names])
    labels = torch.arange(len(teacher.class_names)).repeat_interleave(n)
    drift = null_drift(student, teacher, noise, labels, sampling)
    return drift if math.isfinite(drift) else None


def _curves(
    student: EvaluatedDiffuser,
    teacher: EvaluatedDiffuser,
    never_trained: EvaluatedDiffuser | None,
    question: EvaluationSpec,
    recognise: Recognised,
    watch: RunContext,
) -> Mapping[str, Curve]:
    curves = {}
    probed = {"student": student, "teacher": teacher, "never": never_trained}
    for part, (name, model) in enumerate(probed.items()):
        if model is None:
            continue

        def make(diffuser: Diffuser = model.diffuser) -> Curve:
            return recovery(diffuser, question.concept, question.images, recognise, question.attack)

        # the floor and the ceiling serve every method of a study; a method's own curve serves it once
        shared = name != "student" or model is teacher or model is never_trained
        folder = model.folder if shared else None
        curves[name] = load_or_make_curve(folder, (model.digest, *question.follows_from), make)
        watch.progress(step=3 + part, total=PARTS)
    return curves


def erasure_json(
    measured_erasure: MeasuredErasure, recogniser: ConceptClassifier
) -> dict[str, Json]:
    """Return the measures, the shares of names by class, the curves and the verdict.

    `measures` holds numbers, and of rates an object with `value`, `low`, `high` (95 %) and `n`. Each curve is a
    list of points with `images`, `steps` and `rate`; the floor is empty where it was not measured.
    """
    student, teacher, alike = (
        measured_erasure.student,
        measured_erasure.teacher,
        measured_erasure.likeness,
    )
    judged = judge_erasure(
        (student.erased.value, teacher.erased.value),
        (student.others.value, teacher.others.value),
        measured_erasure.curve,
        measured_erasure.floor,
        measured_erasure.ceiling,
    )
    measures: dict[str, Json] = {
        "erased": student.erased.json_record,
        "teacher_erased": teacher.erased.json_record,
        "erased_relative": _share(student.erased.value, teacher.erased.value),
        "anchor": None if student.anchor is None else student.anchor.json_record,
        "others": student.others.json_record,
        "teacher_others": teacher.others.json_record,
        "ssim": alike.ssim,
        "feature_distance": alike.feature_distance,
        "frechet": alike.frechet,
        "frechet_floor": alike.frechet_floor,
        "null_drift": measured_erasure.null_drift,
        "diverged": measured_erasure.diverged,
        **measured_erasure.published,
    }
    if measured_erasure.nudity is not None:
        measures["nudenet"] = measured_erasure.nudity.json_record
    return {
        "measures": measures,
        "rates": {"student": _rates_json(student), "teacher": _rates_json(teacher)},
        "features": recogniser.features,
        "pairs": alike.n,
        "recovery": [point.json_record for point in measured_erasure.curve],
        "recovery_floor": [point.json_record for point in measured_erasure.floor],
        "recovery_ceiling": [point.json_record for point in measured_erasure.ceiling],
        "verdict": judged.text,
        "verdict_at": judged.decided_at,
        "rule": RULE,
    }


def _share(value: float, whole: float) -> float | None:
    return value / whole if whole else None


def _rates_json(rates: Rates) -> dict[str, Json]:
    return {
        name: {**rates.right[name].json_record, "called": dict(called)}
        for name, called in rates.called.items()
    }


def write_sheet(path: Path, samples: Tensor, columns: int = COLUMNS) -> tuple[int, int]:
    """Write the first samples of each class as one PNG; return its rows and columns.

    Args:
        path: of the PNG.
        samples: K×n×C×H×W in [-1, 1].
        columns: number of samples per class, at most the existing ones.
    """
    tiles = samples[:, :columns]
    rows, across, channels, height, width = tiles.shape
    joined = tiles.permute(2, 0, 3, 1, 4).reshape(channels, rows * height, across * width)
    save_picture(path, joined)
    return rows, across
