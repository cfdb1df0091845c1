"""Findings on what tells the classes apart before any pixel is looked at."""

from collections.abc import Iterator

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, NotApplicable, Outcome
from trueface.audit.run_facts import Model
from trueface.data.image_headers import (
    DECIDING,
    FORMAT,
    LEAST,
    SIZE,
    TABLES,
    Property,
    by_class,
    shortcut,
)


def differ(model: Model, what: Property) -> Iterator[Outcome]:
    """Find a property of image files that tells the class of a training image.

    Args:
        model: with a survey of its training files.
        what: the property.
    """
    survey = model.survey
    if survey is None:
        yield Gap(reason=model.survey_trouble)
        return
    real, fake = by_class(survey.looks, what)
    if min(len(real), len(fake)) < LEAST:
        counts = f"{len(real)} real and {len(fake)} fake headers"
        yield Gap(reason=f"{counts}; {LEAST} of each are needed")
        return
    tells = shortcut(survey.looks, what)
    if tells is None:
        return
    yield Finding(
        severity=FAULT if tells.accuracy >= DECIDING else WARNING,
        sentence=tells.sentence,
        advice="bring both classes into one form before the training, or the model learns the form",
        evidence={
            "balanced accuracy": round(tells.accuracy, 3),
            "real": tells.real,
            "fake": tells.fake,
        },
    )


@check("class-differs-in-format", "a class in another file format")
def in_format(model: Model) -> Iterator[Outcome]:
    """Find a class in another file format."""
    yield from differ(model, FORMAT)


@check("class-differs-in-size", "a class of another image size")
def in_size(model: Model) -> Iterator[Outcome]:
    """Find a class of another image size."""
    yield from differ(model, SIZE)


@check("class-differs-in-jpeg-tables", "a class with other JPEG tables")
def in_tables(model: Model) -> Iterator[Outcome]:
    """Find a class compressed with other JPEG tables."""
    survey = model.survey
    if survey is not None and len({look.label for look in survey.looks if look.tables}) < 2:
        reason = "one class or both have no JPEG files"  # they differ in format, if at all
        yield NotApplicable(reason=reason)
        return
    yield from differ(model, TABLES)
