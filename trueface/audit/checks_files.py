"""Findings on evidence that should be there and is not, or that cannot be read."""

from collections.abc import Iterator

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, Outcome
from trueface.audit.run_facts import Model


@check("damaged-file", "files that cannot be read")
def damaged_files(model: Model) -> Iterator[Outcome]:
    """Find files of a model that are there and cannot be read."""
    for file, trouble in model.damaged:
        yield Finding(
            severity=FAULT,
            sentence=f"{file} cannot be read, and what it told was not checked",
            advice="bring it back from a copy, or do again what wrote it",
            evidence={"file": file, "reason": trouble},
        )


@check("missing-weights", "weights that were tested and are gone")
def gone_weights(model: Model) -> Iterator[Outcome]:
    """Find a model that was to be kept and tested, and whose weights are gone."""
    kept = model.settings.get("save_weights")
    if not model.settings and model.weights_written is None:
        reason = "no provenance.json tells whether the weights were to be kept"
        yield Gap(reason=reason)
    if kept is True and model.weights_written is None and (model.tests or model.scoreless):
        yield Finding(
            severity=WARNING,  # the figures stay right, but cannot be reproduced
            sentence="the weights were to be kept, were tested, and are gone",
            advice="bring checkpoints/best.pt back, or train again",
            evidence={"tests": len(model.tests) + len(model.scoreless)},
        )
