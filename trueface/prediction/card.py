"""The card of a model, in Markdown: what it learned from, how good it is, where it fails, what it is not for.

The form follows M. Mitchell et al., "Model Cards for Model Reporting", arXiv 1810.03993. Every number
comes from the files of the run; what nothing says is called unknown.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from trueface.data.image_sizes import Learned
from trueface.evaluation.bootstrap import Measure
from trueface.prediction.image_formats import LearnedFormats
from trueface.runtime.files import Json

MEASURES = {
    "balanced_accuracy": "balanced accuracy at .5",
    "balanced_accuracy_at_threshold": "at the threshold",
    "auc": "AUC",
    "tpr_at_1fpr": "fakes found at 1 % of reals called fake",
}
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
class SourceErrors:
    """How a model does on the images of one source in one test."""

    test: str  # data ID
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
    sources: Sequence[SourceErrors]


def card(facts: Facts) -> str:
    """Return the card as Markdown."""
    parts = (
        _head(facts), _training(facts), _tests(facts.tests), _failures(facts), ("## What it is not for", "", NOT_FOR),
        _use(),
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
    calibration = provenance.get("calibration")
    if isinstance(calibration, Mapping):
        yield (
            f"- calibration by validation: temperature {_number(calibration.get('temperature'))}, "
            f"called fake above logit {_number(calibration.get('threshold'))}"
        )
    else:
        yield "- calibration: none; called fake above logit 0"


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


def _tests(rows: Sequence[Mapping[str, Json]]) -> Iterator[str]:
    yield "## How good it is"
    yield ""
    if not rows:
        yield "It was not tested: nothing is known about its errors."
        return
    shown = {key: title for key, title in MEASURES.items() if any(row.get(key) for row in rows)}
    yield "Images that it neither learned from nor was chosen by; 95 % intervals in brackets."
    yield ""
    yield f"| test | images | {' | '.join(shown.values())} |"
    yield f"|---|---|{'---|' * len(shown)}"
    for row in rows:
        cells = (_measure(row.get(key)) for key in shown)
        yield f"| `{row.get('data')}` | {_count(row.get('n'))} | {' | '.join(cells)} |"
    remarks = dict.fromkeys(str(row["few_sources"]) for row in rows if row.get("few_sources"))
    for remark in remarks:
        yield ""
        yield f"Note: {remark}."


def _failures(facts: Facts) -> Iterator[str]:
    yield "## Where it fails, and how often"
    yield ""
    if not facts.sources:
        yield "Unknown: no test kept its scores."
        return
    yield "The worst first; by validation's threshold."
    yield ""
    yield "| test | source | called rightly | errors | |"
    yield "|---|---|---|---|---|"
    for each in sorted(facts.sources, key=lambda each: each.right.value):
        wrong = round((1 - each.right.value) * each.images)
        mark = "**fails**" if each.right.value < WEAK else ""
        yield (
            f"| `{each.test}` | {each.source} | {100 * each.right.value:.1f} % "
            f"[{100 * each.right.low:.1f}, {100 * each.right.high:.1f}] | {wrong} of {each.images} | "
            f"{mark} |"
        )
    weak = [row for row in facts.tests if _value(row.get("balanced_accuracy")) < WEAK]
    for row in weak:
        yield ""
        yield (
            f"On `{row.get('data')}` its balanced accuracy is "
            f"{_measure(row.get('balanced_accuracy'))}: do not use it there."
        )
    changed = [row for row in facts.tests if "@corrupt=" in str(row.get("data"))]
    if not changed:
        yield ""
        yield "It was not tested on images that were compressed, resized, blurred or noisy."


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


def _value(measure: Json) -> float:
    value = measure.get("value") if isinstance(measure, Mapping) else None
    return float(value) if isinstance(value, float | int) else 1.0


def _number(value: Json) -> str:
    return f"{value:.3g}" if isinstance(value, float | int) else "unknown"


def _count(value: Json) -> str:
    return f"{value:,}" if isinstance(value, int) else "an unknown number of"
