"""Rows of the answers of `trueface predict`: columns, a table, or JSON."""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from launcher.api import Json
from trueface.cli.text_tables import escape_unprintable
from trueface.data.folders import Missing

if TYPE_CHECKING:  # torch takes seconds to import
    from trueface.prediction.predictor import Prediction, Predictor

LONGEST = 60  # columns of a path in the table, beyond which a row is wider


class PredictionRows(ABC):
    """Where answers go."""

    def begin(self) -> None:  # noqa: B027  # few have any
        """Write what comes before the rows."""

    @abstractmethod
    def row(self, answer: "Prediction") -> None:
        """Write a row."""

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:  # noqa: B027
        """Write the lines after the rows; problems are also written to stderr."""


class TabbedRows(PredictionRows):
    """Four columns for programs, without a header: path, logit, probability, verdict."""

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        path = escape_unprintable(str(answer.path))
        click.echo(f"{path}\t{answer.logit:.9g}\t{answer.probability:.6g}\t{answer.verdict}")


class TableRows(PredictionRows):
    """A table for people; paths are as wide as the longest one of these files."""

    def __init__(self, files: Sequence[Path]) -> None:
        longest = max((len(escape_unprintable(str(file))) for file in files), default=0)
        self._width = min(longest, LONGEST)

    def begin(self) -> None:
        """Write the header."""
        click.echo(f"{'path':<{self._width}}  {'logit':>8}  fake %  verdict")

    def row(self, answer: "Prediction") -> None:
        """Write a row, with the reasons why the image is unlike the training images."""
        path = escape_unprintable(str(answer.path))
        line = f"{path:<{self._width}}  {answer.logit:8.3f}  {100 * answer.probability:6.1f}"
        unlike = ", ".join(each.reason for each in answer.unlike)
        remark = f" (unlike the training: {unlike})" if unlike else ""
        click.echo(f"{line}  {answer.verdict}{remark}")


class JsonRows(PredictionRows):
    """One JSON object (schema 1), written as the rows come.

    Args:
        facts: of the model.
        training_sizes: of the training images.
    """

    def __init__(self, facts: Mapping[str, Json], training_sizes: Json) -> None:
        self._facts, self._sizes, self._separator = facts, training_sizes, "\n"

    def begin(self) -> None:
        """Write the object as far as the rows."""
        head = json.dumps({"schema": 1, **self._facts})
        click.echo(f'{head[:-1]}, "images": [', nl=False)

    def row(self, answer: "Prediction") -> None:
        """Write a row."""
        click.echo(self._separator + json.dumps(prediction_row(answer)), nl=False)
        self._separator = ",\n"

    def end(self, bad: Sequence[Missing], passed_over: Mapping[str, int]) -> None:
        """Write the rest of the object."""
        rest: dict[str, Json] = {
            "training_sizes": self._sizes,
            "passed_over": dict(passed_over),
            "bad": [{"path": str(file.path), "reason": file.reason} for file in bad],
        }
        click.echo(("" if self._separator == "\n" else "\n") + "], " + json.dumps(rest)[1:])


def prediction_row(answer: "Prediction") -> dict[str, Json]:
    """Return a row of the JSON object."""
    return {
        "path": str(answer.path),
        "logit": answer.logit,
        "probability": answer.probability,
        "verdict": answer.verdict,
        "abstained": answer.is_far or not answer.sure,
        "size_unlike_training": any(each.reason == "size" for each in answer.unlike),
        "unlike": [{"reason": each.reason, "text": each.text} for each in answer.unlike],
    }


def model_facts(model_path: Path, predictor: "Predictor") -> dict[str, Json]:
    """Return what the JSON object says of the model."""
    selection, calibration = predictor.selection, predictor.calibration
    return {
        "checkpoint": str(model_path),
        "calibrated": predictor.calibrated is not None,
        # by which a logit still has to be divided, to be that of the probability
        "temperature": 1.0 if calibration.in_logits else calibration.temperature,
        # by which it was divided already
        "temperature_in_logits": calibration.temperature if calibration.in_logits else 1.0,
        "threshold": calibration.threshold,
        "abstain": None if selection is None else {
            "rate": selection.rate,
            "bound": selection.bound,
            "answered_of_validation": selection.coverage,
            "validation_images": selection.images,
        },
    }  # fmt: skip


def rows_for(
    files: Sequence[Path], model_path: Path, predictor: "Predictor", *, as_json: bool
) -> PredictionRows:
    """Return the writer of predictions: JSON on request, a table on a terminal, otherwise columns."""
    if as_json:
        sizes = predictor.learnt.sizes
        return JsonRows(
            model_facts(model_path, predictor), None if sizes is None else sizes.as_json()
        )
    return TableRows(files) if sys.stdout.isatty() else TabbedRows()
