"""Findings on what tells the classes apart before any pixel is looked at.

How well one property of the headers alone tells fake from real is measured on images that did not
make the rule: of a property with many values, two samples of one class differ in nearly all.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Look, Model

LEAST = 20  # headers of a class; fewer tell nothing
TELLING = 0.65  # balanced accuracy of the property alone; 200 fair images a class reach 0.60
DECIDING = 0.9  # a detector needs nothing else
SHOWN = 4  # values a class in the evidence


def differ(model: Model, what: str, value: Callable[[Look], str]) -> Iterator[Outcome]:
    """Find a property of image files that tells the class of a training image.

    Args:
        model: with a survey of its training files.
        what: the property in words.
        value: the property; "" of an image that has none.
    """
    survey = model.survey
    if survey is None:
        yield Gap(reason=model.survey_trouble)
        return
    values = [(look.label, value(look)) for look in survey.looks]
    by_class = [[text for label, text in values if label == class_ and text] for class_ in (0, 1)]
    if min(map(len, by_class)) < LEAST:
        counts = f"{len(by_class[0])} real and {len(by_class[1])} fake headers"
        yield Gap(reason=f"{counts}; {LEAST} of each are needed")
        return
    accuracy = told_apart(by_class[0], by_class[1])
    if accuracy < TELLING:
        return
    yield Finding(
        severity=FAULT if accuracy >= DECIDING else WARNING,
        sentence=f"{what} alone tells fake from real images in {accuracy:.0%} of the cases",
        advice="bring both classes into one form before the training, or the model learns the form",
        evidence={
            "balanced accuracy": round(accuracy, 3),
            "real": _counts(by_class[0]),
            "fake": _counts(by_class[1]),
        },
    )


@check("class-differs-in-format", "a class in another file format")
def in_format(model: Model) -> Iterator[Outcome]:
    """Find a class in another file format."""
    yield from differ(model, "the file format", lambda look: look.format)


@check("class-differs-in-size", "a class of another image size")
def in_size(model: Model) -> Iterator[Outcome]:
    """Find a class of another image size."""
    yield from differ(model, "the image size", lambda look: look.size)


@check("class-differs-in-jpeg-tables", "a class with other JPEG tables")
def in_tables(model: Model) -> Iterator[Outcome]:
    """Find a class compressed with other JPEG tables."""
    survey = model.survey
    if survey is not None and len({look.label for look in survey.looks if look.tables}) < 2:
        reason = "one class or both have no JPEG files"  # they differ in format, if at all
        yield NotApplicable(reason=reason)
        return
    yield from differ(model, "the JPEG quantisation", lambda look: look.tables)


def told_apart(reals: Sequence[str], fakes: Sequence[str]) -> float:
    """Return the balanced accuracy of the best guess by value, each half judged by the other."""
    right = [0.0, 0.0]
    for half in (0, 1):
        seen = [Counter(side[half::2]) for side in (reals, fakes)]
        sizes = [max(len(side[half::2]), 1) for side in (reals, fakes)]
        for label, side in enumerate((reals, fakes)):
            judged = side[1 - half :: 2]
            for value in judged:
                shares = [seen[label][value] / sizes[label] for label in (0, 1)]
                if shares[0] == shares[1]:
                    right[label] += 0.5 / len(side)
                elif shares[label] > shares[1 - label]:
                    right[label] += 1 / len(side)
    return sum(right) / 2


def _counts(values: Sequence[str]) -> str:
    counts = Counter(values)
    # equal counts in the order of their values, whatever the order of the sample
    common = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{count} × {value}" for value, count in common[:SHOWN]]
    rest = len(values) - sum(count for _, count in common[:SHOWN])
    return ", ".join([*shown, f"{rest} others"] if rest else shown)
