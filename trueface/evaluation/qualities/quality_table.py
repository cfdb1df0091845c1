"""The answers of one model to the same images in several qualities, and their areas under resamples."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.bootstrap import Floats, resamples
from trueface.evaluation.calibration import Labels
from trueface.evaluation.score_tables import Scores

RAW = "raw"  # the name of images as they are


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityTable:
    """N images in Q qualities."""

    paths: tuple[str, ...]  # sorted
    keys: tuple[str, ...]
    labels: Labels  # (N,) 1 fake
    qualities: tuple[str, ...]
    logits: Floats  # (Q, N)
    left_out: int  # images that were not scored in every quality

    @classmethod
    def of(cls, tables: Mapping[str, Scores]) -> "QualityTable | None":
        """Return the images that every table has; None where there is none.

        Args:
            tables: by quality.
        """
        common = set.intersection(*(set(scores.paths) for scores in tables.values()))
        every = set.union(*(set(scores.paths) for scores in tables.values()))
        if not common:
            return None
        paths = tuple(sorted(common))
        first = next(iter(tables.values()))
        places = [
            dict(zip(scores.paths, range(len(scores)), strict=True)) for scores in tables.values()
        ]
        rows = [np.array([place[path] for path in paths], np.intp) for place in places]
        return cls(
            paths=paths,
            keys=tuple(first.keys[row] for row in rows[0]),
            labels=first.labels[rows[0]],
            qualities=tuple(tables),
            logits=np.stack(
                [scores.logits[of] for scores, of in zip(tables.values(), rows, strict=True)]
            ),
            left_out=len(every) - len(common),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Areas:
    """The AUC in each quality, and of all qualities together; NaN of images of one class."""

    values: Floats  # (Q,)
    spread: Floats  # (Q, R) under each resample of the images
    pooled: float
    pooled_spread: Floats  # (R,)

    @classmethod
    def of(cls, table: QualityTable, *, seed: int = 0) -> "Areas":
        """Measure a table; the same images have the same resamples in every quality and model."""
        fake = table.labels == 1
        weights = resamples(table.keys, table.labels, seed)
        count = len(table.qualities)
        if fake.all() or not fake.any():
            nothing = np.full((count, len(weights)), np.nan)
            return cls(
                values=nothing[:, 0], spread=nothing, pooled=np.nan, pooled_spread=nothing[0]
            )
        every, all_fake = table.logits.ravel(), np.tile(fake, count)
        return cls(
            values=np.array([_area(fake, logits) for logits in table.logits]),
            spread=np.stack(
                [curves.resampled(curves.area, fake, logits, weights) for logits in table.logits]
            ),
            pooled=_area(all_fake, every),
            pooled_spread=curves.resampled(
                curves.area, all_fake, every, np.tile(weights, (1, count))
            ),
        )

    @property
    def summaries(self) -> Mapping[str, tuple[float, Floats]]:
        """Mean and worst over qualities, and all pooled: value and resamples (R,)."""
        return {
            "mean": (float(self.values.mean()), self.spread.mean(0)),
            "worst": (float(self.values.min()), self.spread.min(0)),
            "pooled": (self.pooled, self.pooled_spread),
        }


def quality_of(condition: str, corrupt: str) -> str | None:
    """Return the quality of a test; None where it was done under more than a corruption.

    Args:
        condition: of the test: "", "corrupt=jpeg50".
        corrupt: the chain of corruptions as the test's settings have it; "" where they are not known.
    """
    if not condition:
        return RAW
    name, _, value = condition.partition("=")
    if name != "corrupt" or "," in value:
        return None
    return corrupt or value


def _area(fake: NDArray[np.bool_], logits: Floats) -> float:
    return float(curves.area(curves.plain_curve(fake, logits))[0])
