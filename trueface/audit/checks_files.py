"""Findings on evidence that should be there and is not, or that cannot be read."""

from collections.abc import Iterator

from trueface.audit.finding import FAULT, WARNING, Finding, Gap, Told
from trueface.audit.run_facts import Model


def damaged_files(model: Model) -> Iterator[Told]:
    """Find files of a model that are there and cannot be read."""
    for file, trouble in model.damaged:
        yield Finding(
            severity=FAULT,
            code="damaged-file",
            model=model.name,
            sentence=f"{file} cannot be read, and what it told was not checked",
            advice="bring it back from a copy, or do again what wrote it",
            evidence={"file": file, "reason": trouble},
        )


def gone_scores(model: Model) -> Iterator[Told]:
    """Find tests that left metrics, and whose scores are gone."""
    if model.scoreless:
        yield Finding(
            severity=FAULT,
            code="missing-scores",
            model=model.name,
            sentence="tests left metrics, and their score files are gone",
            advice="bring the files back, or test again: nothing tells what the metrics were made of",
            evidence={
                "tests without scores": len(model.scoreless),
                "such as": model.scoreless[0],
            },
        )


def gone_weights(model: Model) -> Iterator[Told]:
    """Find a model that was to be kept and tested, and whose weights are gone."""
    code, kept = "missing-weights", model.settings.get("save_weights")
    if not model.settings and model.weights_written is None:
        reason = "no provenance.json tells whether the weights were to be kept"
        yield Gap(code=code, model=model.name, reason=reason)
    if kept is True and model.weights_written is None and (model.tests or model.scoreless):
        yield Finding(
            severity=WARNING,  # the figures stay right; nobody can repeat them
            code=code,
            model=model.name,
            sentence="the weights were to be kept, were tested, and are gone",
            advice="bring checkpoints/best.pt back, or train again",
            evidence={"tests": len(model.tests) + len(model.scoreless)},
        )
