"""The card of a model as Markdown: training, tests, failures and abstention."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.corruptions.registry import NONE
from trueface.data.image_formats import LearnedFormats
from trueface.data.image_headers import LearnedSizes
from trueface.evaluation.estimate import Estimate, Interval
from trueface.evaluation.estimates import SourcedScores, share_of
from trueface.evaluation.operating_threshold import Calibration
from trueface.prediction.model_folder import TESTS
from trueface.prediction.predictor import FAR, Reason, select
from trueface.prediction.reference import Reference
from trueface.predictions.csv_tables import read_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import UsageError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import data_of_test, tested
from trueface.runtime.image_files import FORMATS, PIXELS

MEASURES = {
    "balanced_accuracy": "balanced accuracy at 0.5",
    "balanced_accuracy_at_threshold": "balanced accuracy at the threshold",
    "auc": "AUC",
    "tpr_at_1fpr": "TPR at 1 % FPR",
}
RATES = (0.01, 0.05, 0.1, 0.2)  # error rates for which the card lists the coverage
WEAK = 0.7  # balanced accuracy or fraction of correct answers, below which a test is a failure
NOT_FOR = """\
- **Evidence about a person or a single image.** A prediction is a statistical statement about images like
  those of the tests, with the error rates above. Do not base a decision about a person on it.
- **Generators, cameras and processing that were not tested.** The model may miss all images of an untested
  generator. Screenshots, strong compression or resizing alone can change the predicted class.
  `trueface predict` reports images that differ from the training images, but it cannot detect every
  unknown kind.
- **Adversaries.** Invisible changes of one grey level can change the predicted class.
- **Moderation without human review**, and measuring how common fakes are."""


class ModelTest(NamedTuple):
    """A test of a model, as planned."""

    data: str  # data ID
    condition: str = ""  # as in an ID: "corrupt=jpeg50"; "" for a test without a condition
    corrupt: str = NONE  # chain of corruptions
    attack: str = NONE

    @property
    def name(self) -> str:
        """The name of the test among the tests of the model."""
        return tested(self.data, self.condition)

    @property
    def treatment(self) -> str:
        """The transforms of the images, in words."""
        steps = [
            *([self.corrupt] if self.corrupt != NONE else []),
            *([f"attack {self.attack}"] if self.attack != NONE else []),
        ]
        return " and ".join(steps) or "unchanged"


class SourceErrors(NamedTuple):
    """The accuracy of a model on the images of one source in one test."""

    test: ModelTest
    source: str  # "fake StyleGAN2"
    # fraction of correct answers at validation's threshold, with 95 % interval
    right: Estimate
    images: int


class CardContents(NamedTuple):
    """The contents of a model card."""

    name: str
    arch: str
    licence: str
    provenance: Mapping[str, Json]
    tests: Sequence[Mapping[str, Json]]  # rows from `evaluation.results.table`
    conditions: Mapping[str, ModelTest]  # one test of each condition in these rows
    sources: Sequence[SourceErrors]
    reference: Reference | None  # None if the checkpoint is older and has none


def card(facts: CardContents) -> str:
    """Return the card as Markdown."""
    parts = (
        _head(facts), _training_section(facts), _tests(facts), _failures(facts), _refusals(facts),
        ("## Do not use it for", "", NOT_FOR), _usage_section(),
    )  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(facts: CardContents) -> Iterator[str]:
    provenance = facts.provenance
    yield f"# {facts.name}: a detector of generated images"
    yield ""
    yield f"- network: `{facts.arch}`"
    yield f"- licence of the weights: {facts.licence}"
    versions = provenance.get("versions")
    if isinstance(versions, Mapping):
        yield f"- made with: {', '.join(f'{name} {value}' for name, value in versions.items())}"
    calibration = Calibration.read(provenance.get("calibration"))
    if calibration is None:
        yield "- calibration: none. An image is classified as fake above logit 0"
        return
    inside = " (already applied to its logits)" if calibration.in_logits else ""
    limit = calibration.probability(calibration.threshold)
    yield (
        f"- calibration on validation: temperature {calibration.temperature:.3g}{inside}. An image is classified as "
        f"fake above logit {calibration.threshold:.3g} (probability {limit:.3f})"
    )


def _training_section(facts: CardContents) -> Iterator[str]:
    provenance = facts.provenance
    yield "## Training data"
    yield ""
    yield f"- data: `{provenance.get('images')}`"
    for name, title in (("train", "training"), ("val", "validation")):
        yield f"- {title}: {_count(provenance.get(f'{name}_images'))} images{_format_source_counts(provenance, name)}"
    flipped = provenance.get("flipped_train")
    if isinstance(flipped, int) and flipped:
        yield f"- **{flipped:,} training labels are flipped**"
    sizes = LearnedSizes.from_json(provenance.get("image_sizes"))
    yield f"- shorter side: {sizes or 'unknown'}"
    yield f"- file formats: {LearnedFormats.from_json(provenance.get('image_formats')) or 'unknown'}"
    settings = provenance.get("settings")
    if isinstance(settings, Mapping):
        side, fitted = settings.get("resize_size"), settings.get("decode") == "fitted"
        resized = f" after resizing its shorter side to {side} pixels" if fitted else ""
        yield f"- input: the central {side} x {side} pixels of an image{resized}"
    ridge = provenance.get("ridge")
    copies = ridge.get("copies") if isinstance(ridge, Mapping) else None
    if isinstance(copies, list):
        names = ", ".join(map(str, copies)) or "none"
        yield f"- changed copies of each training image: {names}"


def _format_source_counts(provenance: Mapping[str, Json], name: str) -> str:
    sources = provenance.get(f"{name}_sources")
    if not isinstance(sources, Mapping):
        return ""
    return f" ({', '.join(f'{_count(count)} {source}' for source, count in sources.items())})"


def _tests(facts: CardContents) -> Iterator[str]:
    rows = facts.tests
    yield "## Test results"
    yield ""
    if not rows:
        yield "The model was not tested, so its errors are unknown."
        return
    shown = {key: title for key, title in MEASURES.items() if any(row.get(key) for row in rows)}
    yield "The test images were used neither for training nor for selecting the model. 95 % intervals are in brackets."
    yield ""
    doubtful = any(row.get("verdict") for row in rows)
    titles = [*shown.values(), *(["verdict"] if doubtful else [])]
    yield f"| test | images | number | {' | '.join(titles)} |"
    yield f"|---|---|---|{'---|' * len(titles)}"
    for row in rows:
        cells = [_measure(row.get(key)) for key in shown]
        cells += [str(row.get("verdict") or "")] if doubtful else []
        yield f"| {_describe_row(facts, row)} | {_count(row.get('n'))} | {' | '.join(cells)} |"
    if doubtful:
        yield ""
        yield "A row with a verdict does not show how well the model works."
    remarks = dict.fromkeys(str(row["few_sources"]) for row in rows if row.get("few_sources"))
    for remark in remarks:
        yield ""
        yield f"Note: the intervals are based on few sources ({remark}) and mean little for other generators and cameras."


def _describe_row(facts: CardContents, row: Mapping[str, Json]) -> str:
    """Return the cells that describe a test: its data, and the transforms of the images."""
    test = facts.conditions.get(str(row.get("condition") or ""))
    data = data_of_test(str(row.get("data")))
    return f"`{data}` | {'unknown' if test is None else test.treatment}"


def _failures(facts: CardContents) -> Iterator[str]:
    yield "## Errors by source"
    yield ""
    if not facts.sources:
        yield "Unknown, because no test saved its scores."
        return
    yield "Worst first, at the validation threshold."
    yield ""
    yield "| test | images | source | accuracy | errors | |"
    yield "|---|---|---|---|---|---|"
    for each in sorted(facts.sources, key=lambda each: each.right.value):
        wrong = round((1 - each.right.value) * each.images)
        mark = "**fails**" if each.right.value < WEAK else ""
        yield (
            f"| `{each.test.data}` | {each.test.treatment} | {each.source} | {_percent(each.right)} | "
            f"{wrong:,} of {each.images:,} | {mark} |"
        )
    for row in facts.tests:
        if _balanced_accuracy(row) < WEAK:
            yield ""
            yield f"**Do not use it on images like those of this test:** {_describe_row(facts, row)}."
    yield from _untested_conditions(facts)


def _untested_conditions(facts: CardContents) -> Iterator[str]:
    done = [facts.conditions.get(str(row.get("condition") or "")) for row in facts.tests]
    tests = [test for test in done if test is not None]
    if all(test.corrupt == NONE for test in tests):
        yield ""
        yield (
            "The model was not tested on compressed, resized, blurred or noisy images, so its error rate on them is "
            "unknown."
        )
    if all(test.attack == NONE for test in tests):
        yield ""
        yield "The model was not tested against adversarial attacks. Expect that it fails under attack."


def _refusals(facts: CardContents) -> Iterator[str]:
    yield "## Rejected images and abstention"
    yield ""
    yield (
        f"- Error: truncated or damaged files, files that are not {', '.join(FORMATS[:-1])} or {FORMATS[-1]}, and "
        f"images with more than {PIXELS:,} pixels."
    )
    sizes = LearnedSizes.from_json(facts.provenance.get("image_sizes"))
    formats = LearnedFormats.from_json(facts.provenance.get("image_formats"))
    reference = facts.reference
    known: dict[Reason, tuple[str, bool]] = {
        "size": ("size", sizes is not None),
        "features": ("features", reference is not None and reference.features is not None),
        "format": ("file format", formats is not None),
        "orientation": ("orientation", True),  # known from the file alone
    }
    watched = [(reason in FAR, name) for reason, (name, is_known) in known.items() if is_known]
    if far := " or ".join(name for is_far, name in watched if is_far):
        yield f"- Verdict `unlike` instead of a class: images that differ from the training images in {far}."
    near = " or ".join(name for is_far, name in watched if not is_far)
    yield f"- Prediction with a warning: images that differ from the training images in {near}."
    if len(watched) == 1:
        yield "- Nothing else is checked, because the checkpoint does not describe its training images."
    if reference is None or not len(reference.labels):
        yield "- The model cannot abstain, because the checkpoint contains no validation scores."
        return
    yield (
        f"- `--abstain RATE` limits the error rate. By the {len(reference.labels):,} validation images:"
    )
    yield ""
    yield "| highest error rate of the predictions | predicted |"
    yield "|---|---|"
    calibration = Calibration.read(facts.provenance.get("calibration")) or Calibration()
    for share in RATES:
        yield f"| {100 * share:g} % | {_coverage_text(reference, share, calibration.threshold)} |"
    yield ""
    yield "With 95 % confidence, and only for images from the same distribution as the validation images."


def _coverage_text(reference: Reference, rate: float, threshold: float) -> str:
    try:
        selection = select(reference.labels, reference.logits, threshold=threshold, rate=rate)
    except UsageError:
        return "not possible"
    return f"{100 * selection.coverage:.0f} %"


def _usage_section() -> Iterator[str]:
    yield "## How to use it"
    yield ""
    yield "```sh"
    yield "trueface predict photo.jpg --model-folder FOLDER"
    yield "trueface predict photos --model-folder FOLDER --abstain 0.1 --json"
    yield "```"


def failed_tests(folder: Path) -> list[str]:
    """Return the tests that the card of a model folder lists as failures, with their balanced accuracies."""
    content = read_json(folder / TESTS) or {}
    tests = content.get("tests")
    rows = [row for row in tests if isinstance(row, Mapping)] if isinstance(tests, list) else []
    accuracies = [(row.get("data"), _balanced_accuracy(row)) for row in rows]
    return [f"{data} {100 * value:.1f} %" for data, value in accuracies if value < WEAK]


def _balanced_accuracy(row: Mapping[str, Json]) -> float:
    return _value(row.get("balanced_accuracy_at_threshold") or row.get("balanced_accuracy"))


def _measure(measure: Json) -> str:
    match measure:
        case {
            "value": int() | float() as value,
            "low": int() | float() as low,
            "high": int() | float() as high,
        }:
            return Estimate(value=value, interval=Interval(low, high)).text(".3f")
        case {"value": int() | float() as value, "why": str() as why}:
            return Estimate(value=value, why=why).text(".3f")
    return "–"


def _percent(measure: Estimate) -> str:
    shown = measure.scale(100)
    return f"{shown.value:.1f} % ({shown.ends_text('.1f')})"


def _value(measure: Json) -> float:
    value = measure.get("value") if isinstance(measure, Mapping) else None
    return float(value) if isinstance(value, float | int) else 1.0


def _count(value: Json) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"


def source_errors(
    folder: Path, model: str, tests: Sequence[ModelTest], *, threshold: float
) -> list[SourceErrors]:
    """Return the accuracy of a model on each source of its tests.

    Args:
        folder: folder of the model.
        model: ID of the model.
        tests: tests of the model. Tests without a score file are left out.
        threshold: logit above which an image is called fake.

    Raises:
        DataError: a score file cannot be read.
    """
    return [
        errors
        for test in tests
        if (path := paths.scores(folder, model, test.name)).is_file()
        for errors in _count_test(test, read_csv(path), threshold)
    ]


def _count_test(test: ModelTest, scores: Predictions, threshold: float) -> Iterator[SourceErrors]:
    right = (scores.margin > threshold) == (scores.labels == 1)
    units = np.array(SourcedScores.from_predictions(scores).unit_keys)
    sources = np.array([_source(*each) for each in zip(scores.labels, scores.subsets, strict=True)])
    for source in dict.fromkeys(sources.tolist()):
        rows = sources == source
        yield SourceErrors(
            test=test,
            source=source,
            right=share_of(right[rows], units[rows].tolist()),
            images=int(rows.sum()),
        )


def _source(label: int, subset: str) -> str:
    folder = "" if subset in {"realFlat", "fakeFlat"} else f" {subset}"
    return f"{'fake' if label else 'real'}{folder}"
