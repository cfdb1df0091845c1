"""The card of a model, in Markdown: what it learned from, how good it is, where it fails, what it is not for.

The form follows M. Mitchell et al., "Model Cards for Model Reporting", arXiv 1810.03993. Every number
comes from the files of the run; what nothing says is called unknown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from trueface.corruptions.grammar import NONE
from trueface.data.decoding import PIXELS
from trueface.data.folders import FORMATS
from trueface.data.image_headers import Learned
from trueface.evaluation.intervals import Measure, unvaried
from trueface.evaluation.operating_threshold import Calibration
from trueface.evaluation.score_tables import Scores, read_scores
from trueface.prediction.image_formats import LearnedFormats
from trueface.prediction.reference import Reference
from trueface.prediction.selective import select
from trueface.runtime import paths
from trueface.runtime.errors import UsageError
from trueface.runtime.files import Json
from trueface.runtime.ids import data_of_test, tested

MEASURES = {
    "balanced_accuracy": "balanced accuracy at .5",
    "balanced_accuracy_at_threshold": "at the threshold",
    "auc": "AUC",
    "tpr_at_1fpr": "fakes found at 1 % of reals called fake",
}
RATES = (0.01, 0.05, 0.1, 0.2)  # of errors, for which the card says how much would be answered
WEAK = 0.7  # balanced accuracy or fraction right, below which the card calls it a failure

NOT_FOR = """\
- **No evidence about a person or a single image.** An answer is a statement about images like those
  of its tests, with the error rates above; no decision about a person may rest on it.
- **Not for other generators, cameras and processing than were tested.** A generator that is not in
  the list of tests may not be recognised at all, and screenshots, strong compression or resizing may
  be called fake or real for that alone. `trueface predict` warns of images that are unlike the
  training's; without a warning an image may still be of an unknown kind.
- **Not against an adversary.** Changes of one grey level that nobody sees can turn an answer over.
- **Not for moderation without people who look again**, nor for measuring how common fakes are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTest:
    """A test as a plan has it."""

    data: str  # data ID
    condition: str = ""  # as in an ID: "corrupt=jpeg50"; "" of a plain test
    corrupt: str = NONE  # chain of corruptions
    attack: str = NONE

    @property
    def name(self) -> str:
        """Its name among the tests of its model."""
        return tested(self.data, self.condition)

    @property
    def treatment(self) -> str:
        """What was done to its images, in words."""
        steps = [
            *([self.corrupt] if self.corrupt != NONE else []),
            *([f"attack {self.attack}"] if self.attack != NONE else []),
        ]
        return " and ".join(steps) or "as they are"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceErrors:
    """How a model does on the images of one source in one test."""

    test: ModelTest
    source: str  # "fake StyleGAN2"
    right: Measure  # fraction, by validation's threshold, with its 95 % interval
    images: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What a card is made of."""

    name: str
    arch: str
    licence: str
    provenance: Mapping[str, Json]
    tests: Sequence[Mapping[str, Json]]  # rows of `evaluation.results.table`
    conditions: Mapping[str, ModelTest]  # any test of each condition of these rows
    sources: Sequence[SourceErrors]
    reference: Reference | None  # None: of an older checkpoint


def card(facts: Facts) -> str:
    """Return the card as Markdown."""
    parts = (
        _head(facts), _training(facts), _tests(facts), _failures(facts), _refusals(facts),
        ("## What it is not for", "", NOT_FOR), _use(),
    )  # fmt: skip
    return "\n\n".join("\n".join(lines) for lines in parts) + "\n"


def _head(facts: Facts) -> Iterator[str]:
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
        yield "- calibration: none; called fake above logit 0"
        return
    inside = ", in its logits already" if calibration.in_logits else ""
    limit = calibration.probability(calibration.threshold)
    yield (
        f"- calibration by validation: temperature {calibration.temperature:.3g}{inside}; called fake "
        f"above logit {calibration.threshold:.3g}, probability {limit:.3f}"
    )


def _training(facts: Facts) -> Iterator[str]:
    provenance = facts.provenance
    yield "## What it was trained on"
    yield ""
    yield f"- data: `{provenance.get('images')}`"
    for name, title in (("train", "training"), ("val", "validation")):
        yield f"- {title}: {_count(provenance.get(f'{name}_images'))} images{_of(provenance, name)}"
    flipped = provenance.get("flipped_train")
    if isinstance(flipped, int) and flipped:
        yield f"- **{flipped:,} labels of the training are flipped**"
    sizes = Learned.from_json(provenance.get("image_sizes"))
    yield f"- shorter side: {sizes or 'unknown'}"
    yield f"- file formats: {LearnedFormats.from_json(provenance.get('image_formats')) or 'unknown'}"
    settings = provenance.get("settings")
    if isinstance(settings, Mapping):
        yield f"- it sees the central {settings.get('resize_size')} pixels of an image"
    ridge = provenance.get("ridge")
    copies = ridge.get("copies") if isinstance(ridge, Mapping) else None
    if isinstance(copies, list):
        names = ", ".join(map(str, copies)) or "none"
        yield f"- copies of each image that it learned as well: {names}"


def _of(provenance: Mapping[str, Json], name: str) -> str:
    sources = provenance.get(f"{name}_sources")
    if not isinstance(sources, Mapping):
        return ""
    return f" ({', '.join(f'{_count(count)} {source}' for source, count in sources.items())})"


def _tests(facts: Facts) -> Iterator[str]:
    rows = facts.tests
    yield "## How good it is"
    yield ""
    if not rows:
        yield "It was not tested: nothing is known about its errors."
        return
    shown = {key: title for key, title in MEASURES.items() if any(row.get(key) for row in rows)}
    yield "Images that it neither learned from nor was chosen by; 95 % intervals in brackets."
    yield ""
    yield f"| test | images were | number | {' | '.join(shown.values())} |"
    yield f"|---|---|---|{'---|' * len(shown)}"
    for row in rows:
        cells = (_measure(row.get(key)) for key in shown)
        yield f"| {_of_row(facts, row)} | {_count(row.get('n'))} | {' | '.join(cells)} |"
    remarks = dict.fromkeys(str(row["few_sources"]) for row in rows if row.get("few_sources"))
    for remark in remarks:
        yield ""
        yield f"Note: {remark}: the intervals say little about other generators and cameras."


def _of_row(facts: Facts, row: Mapping[str, Json]) -> str:
    """Return the cells that name a test: its data, and what was done to the images."""
    test = facts.conditions.get(str(row.get("condition") or ""))
    data = data_of_test(str(row.get("data")))
    return f"`{data}` | {'unknown' if test is None else test.treatment}"


def _failures(facts: Facts) -> Iterator[str]:
    yield "## Where it fails, and how often"
    yield ""
    if not facts.sources:
        yield "Unknown: no test kept its scores."
        return
    yield "The worst first; by validation's threshold."
    yield ""
    yield "| test | images were | source | called rightly | errors | |"
    yield "|---|---|---|---|---|---|"
    for each in sorted(facts.sources, key=lambda each: each.right.value):
        wrong = round((1 - each.right.value) * each.images)
        mark = "**fails**" if each.right.value < WEAK else ""
        yield (
            f"| `{each.test.data}` | {each.test.treatment} | {each.source} | {_percent(each.right)} | "
            f"{wrong:,} of {each.images:,} | {mark} |"
        )
    for row in facts.tests:
        if _value(row.get("balanced_accuracy_at_threshold") or row.get("balanced_accuracy")) < WEAK:
            yield ""
            yield f"**Do not use it on images as in this test:** {_of_row(facts, row)}."
    yield from _untested(facts)


def _untested(facts: Facts) -> Iterator[str]:
    done = [facts.conditions.get(str(row.get("condition") or "")) for row in facts.tests]
    tests = [test for test in done if test is not None]
    if all(test.corrupt == NONE for test in tests):
        yield ""
        yield (
            "It was not tested on images that were compressed, resized, blurred or noisy: how often it "
            "fails there is unknown."
        )
    if all(test.attack == NONE for test in tests):
        yield ""
        yield "It was not tested against an attacker: expect that it fails there."


def _refusals(facts: Facts) -> Iterator[str]:
    yield "## What it refuses, and when it abstains"
    yield ""
    yield (
        f"- No answer, and an error: files that are cut off or damaged, that are no "
        f"{', '.join(FORMATS[:-1])} or {FORMATS[-1]}, or have more than {PIXELS:,} pixels."
    )
    sizes = Learned.from_json(facts.provenance.get("image_sizes"))
    formats = LearnedFormats.from_json(facts.provenance.get("image_formats"))
    reference = facts.reference
    watched = [
        *(["size"] if sizes else []),
        *(["file format"] if formats else []),
        *(["features"] if reference is not None and reference.features is not None else []),
    ]
    yield (
        f"- An answer with a warning: images unlike the training's in {' or '.join(watched)}."
        if watched
        else "- It warns of nothing: the checkpoint does not say what it learned from."
    )
    if reference is None or not len(reference.labels):
        yield "- It cannot abstain: the checkpoint keeps no answers to validation."
        return
    yield (
        f"- It abstains on request, `--abstain RATE`. By the {len(reference.labels):,} images of "
        "validation:"
    )
    yield ""
    yield "| errors among answers, at most | answered |"
    yield "|---|---|"
    calibration = Calibration.read(facts.provenance.get("calibration")) or Calibration()
    for rate in RATES:
        yield f"| {100 * rate:g} % | {_answered(reference, rate, calibration.threshold)} |"
    yield ""
    yield "With 95 % confidence, for images that are drawn as those of validation were, and no others."


def _answered(reference: Reference, rate: float, threshold: float) -> str:
    try:
        selection = select(reference.labels, reference.logits, threshold=threshold, rate=rate)
    except UsageError:
        return "cannot be shown: refused"
    return f"{100 * selection.coverage:.0f} %"


def _use() -> Iterator[str]:
    yield "## To use it"
    yield ""
    yield "```sh"
    yield "trueface predict photo.jpg --model-folder FOLDER"
    yield "trueface predict photos --model-folder FOLDER --abstain 0.1 --json"
    yield "```"


def _measure(measure: Json) -> str:
    if not isinstance(measure, Mapping):
        return "–"
    value, low, high = (measure.get(key) for key in ("value", "low", "high"))
    if not all(isinstance(each, float | int) for each in (value, low, high)):
        return "–"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _percent(measure: Measure) -> str:
    low, high = 100 * measure.low, 100 * measure.high
    return f"{100 * measure.value:.1f} % [{low:.1f}, {high:.1f}]"


def _value(measure: Json) -> float:
    value = measure.get("value") if isinstance(measure, Mapping) else None
    return float(value) if isinstance(value, float | int) else 1.0


def _count(value: Json) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"


def source_errors(
    folder: Path, model: str, tests: Sequence[ModelTest], *, threshold: float
) -> list[SourceErrors]:
    """Return how often a model is right about each source of its tests.

    Args:
        folder: of the model.
        model: its ID.
        tests: of it; those without a score file are left out.
        threshold: in logits, above which an image is called fake.

    Raises:
        DataError: a score file cannot be read.
    """
    return [
        errors
        for test in tests
        if (path := paths.scores(folder, model, test.name)).is_file()
        for errors in _of_test(test, read_scores(path), threshold)
    ]


def _of_test(test: ModelTest, scores: Scores, threshold: float) -> Iterator[SourceErrors]:
    right = (scores.logits > threshold) == (scores.labels == 1)
    sources = np.array([_source(*each) for each in zip(scores.labels, scores.subsets, strict=True)])
    for source in dict.fromkeys(sources.tolist()):
        chosen = right[sources == source]
        yield SourceErrors(
            test=test,
            source=source,
            right=unvaried(float(chosen.mean()), len(chosen)),
            images=len(chosen),
        )


def _source(label: int, subset: str) -> str:
    folder = "" if subset in {"realFlat", "fakeFlat"} else f" {subset}"
    return f"{'fake' if label else 'real'}{folder}"
