"""How a model of a run did in its tests, source by source, by the threshold of its validation."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from trueface.evaluation.bounded_intervals import unvaried
from trueface.evaluation.score_tables import Scores, read_scores
from trueface.prediction.card import SourceErrors
from trueface.prediction.model_test import ModelTest
from trueface.runtime import paths


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
