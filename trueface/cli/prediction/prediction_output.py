"""Predictions on a screen, in a pipe, or as JSON, each row as soon as it is there."""

import json
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from launcher.api import Json
from trueface.cli.text_tables import shown
from trueface.data.folder_cache import listed
from trueface.data.image_files import Missing

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.prediction.predictor import Prediction, Predictor

NAMED = 3  # images that a warning names
LONGEST = 60  # columns of a path in the table, beyond which a row is wider


class Rows(Protocol):
    """Where answers go."""

    def begin(self) -> None:
        """Write what comes before the rows."""

    def row(self, answer: "Prediction") -> None:
        """Write a row."""

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write what comes after the rows."""


@dataclass(frozen=True, slots=True)
class TabbedRows:
    """Four columns for programs: path, logit, probability, verdict."""

    def begin(self) -> None:
        """Write nothing: there is no header."""

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        path = shown(str(answer.path))
        click.echo(f"{path}\t{answer.logit:.9g}\t{answer.probability:.6g}\t{answer.verdict}")

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write nothing: what is bad stands on stderr."""


@dataclass(frozen=True, slots=True)
class TableRows:
    """A table for people; paths are as wide as the longest one."""

    width: int

    @classmethod
    def of(cls, files: Sequence[Path]) -> "TableRows":
        """Return a table for these files."""
        longest = max((len(shown(str(file))) for file in files), default=0)
        return cls(min(longest, LONGEST))

    def begin(self) -> None:
        """Write the header."""
        click.echo(f"{'path':<{self.width}}  {'logit':>8}  fake %  verdict")

    def row(self, answer: "Prediction") -> None:
        """Write a row, with what the image is unlike the training's in."""
        path = shown(str(answer.path))
        line = f"{path:<{self.width}}  {answer.logit:8.3f}  {100 * answer.probability:6.1f}"
        unlike = ", ".join(each.reason for each in answer.unlike)
        remark = f" (unlike the training: {unlike})" if unlike else ""
        click.echo(f"{line}  {answer.verdict}{remark}")

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write nothing."""


@dataclass(frozen=True, slots=True)
class JsonRows:
    """One JSON object (schema 1), written as the rows come."""

    facts: Mapping[str, Json]  # of the model
    training_sizes: Json
    rows: list[int] = field(default_factory=lambda: [0])

    def begin(self) -> None:
        """Write the object as far as the rows."""
        head = json.dumps({"schema": 1, **self.facts})
        click.echo(f'{head[:-1]}, "images": [', nl=False)

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        click.echo(("," if self.rows[0] else "") + "\n" + json.dumps(row_of(answer)), nl=False)
        self.rows[0] += 1

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write the rest of the object."""
        rest: dict[str, Json] = {
            "training_sizes": self.training_sizes,
            "passed_over": dict(passed_over),
            "bad": [{"path": str(file.path), "reason": file.reason} for file in bad],
        }
        click.echo(("\n" if self.rows[0] else "") + "], " + json.dumps(rest)[1:])


def row_of(answer: "Prediction") -> dict[str, Json]:
    """Return a row of the JSON object."""
    return {
        "path": str(answer.path),
        "logit": answer.logit,
        "probability": answer.probability,
        "verdict": answer.verdict,
        "abstained": not answer.sure,
        "size_unlike_training": any(each.reason == "size" for each in answer.unlike),
        "unlike": [{"reason": each.reason, "text": each.text} for each in answer.unlike],
    }


def facts_of(place: Path, predictor: "Predictor") -> dict[str, Json]:
    """Return what the JSON object says of the model."""
    selection, calibration = predictor.selection, predictor.calibration
    return {
        "checkpoint": str(place),
        "calibrated": predictor.calibrated is not None,
        # by which a logit still has to be divided, to be that of the probability
        "temperature": 1.0 if calibration.in_logits else calibration.temperature,
        "threshold": calibration.threshold,
        "abstain": None if selection is None else {
            "rate": selection.rate,
            "bound": selection.bound,
            "answered_of_validation": selection.coverage,
            "validation_images": selection.images,
        },
    }  # fmt: skip


def rows_for(files: Sequence[Path], place: Path, predictor: "Predictor", *, as_json: bool) -> Rows:
    """Return where answers go: JSON on request, a table on a terminal, else columns."""
    if as_json:
        sizes = predictor.learnt.sizes
        return JsonRows(facts_of(place, predictor), None if sizes is None else sizes.as_json())
    return TableRows.of(files) if sys.stdout.isatty() else TabbedRows()


@dataclass(slots=True)
class Remarks:
    """What is said of all answers together, on stderr."""

    answers: int = 0
    unsure: int = 0
    unlike: Counter[str] = field(default_factory=Counter)  # by reason
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, answer: "Prediction") -> None:
        """Count an answer."""
        self.answers += 1
        self.unsure += not answer.sure
        for each in answer.unlike:
            self.unlike[each.reason] += 1
            named = self.examples.setdefault(each.reason, [])
            if len(named) < NAMED:
                named.append(f"{shown(str(answer.path))}: {each.text}")

    def lines(self, *, crop: int) -> Iterable[str]:
        """Yield what there is to say; `crop` is the side of what the network sees, in pixels."""
        for reason, count in self.unlike.items():
            advice = ADVICE.get(reason, "").format(crop=crop)
            yield (
                f"warning: {count} of {self.answers} images have other {PLURAL[reason]} than those of "
                f"the training, so their answers say little{advice}"
            )
            yield from (f"  {example}" for example in self.examples[reason])
            if count > NAMED:
                yield f"  and {count - NAMED} more"
        if self.unsure:
            yield f"note: no answer for {self.unsure} of {self.answers} images, which are unsure"


PLURAL = {
    "size": "sizes",
    "format": "formats",
    "orientation": "orientations",
    "features": "features",
}
ADVICE = {
    "size": "; the network sees the middle {crop} x {crop} pixels only: resize them as the training's were",
    "orientation": "; turn their pixels as the flag in the file says",
}


def passed_over_line(passed_over: Mapping[str, int]) -> str:
    """Return the note on files that were no images by their names."""
    return f"note: passed over, as no images by their names: {listed(passed_over)}"
