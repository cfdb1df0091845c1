"""One model on one set of images in several qualities: what tables, pages and JSON show."""

from collections.abc import Mapping
from dataclasses import dataclass

from trueface.evaluation.bootstrap import Difference, Measure
from trueface.runtime.files import Json

SUMMARIES = ("mean", "worst", "pooled")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a model does in one quality."""

    name: str
    reals: int
    fakes: int
    auc: Measure | None  # None: images of one class
    accuracy: Measure  # 0 … 1, at a probability of a half, Wilson's interval
    real_score: float | None  # mean probability of a fake over the reals; None: there is none
    fake_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A method beside the reference: its mean over seeds, by the same images."""

    model: str  # the reference
    seeds: int  # of the method
    summaries: Mapping[str, Difference]  # by mean, worst, pooled
    qualities: Mapping[str, Difference]

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {
            "model": self.model,
            "seeds": self.seeds,
            **{name: each.record for name, each in self.summaries.items()},
            "qualities": {name: each.record for name, each in self.qualities.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """A model and a set of images."""

    model: str
    data: str
    pooled_sets: bool  # several sets of fakes
    qualities: tuple[Quality, ...]
    summaries: Mapping[str, Measure | None]  # AUC by mean, worst, pooled
    worst_quality: str  # "" where there is no AUC
    left_out: int  # images that were not scored in every quality
    against: Against | None = None
    why_not: str = ""  # why there is no difference to the reference

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON: AUC and accuracy in 0 … 1."""
        summaries = {
            key: value
            for name in SUMMARIES
            for key, value in _bounds(name, self.summaries[name]).items()
        }
        return {
            "model": self.model,
            "data": self.data,
            "pooled_sets": self.pooled_sets,
            "qualities": [
                {
                    "quality": each.name,
                    "n_real": each.reals,
                    "n_fake": each.fakes,
                    **_bounds("auc", each.auc),
                    **_bounds("acc", each.accuracy),
                    "mean_real": each.real_score,
                    "mean_fake": each.fake_score,
                }
                for each in self.qualities
            ],
            **summaries,
            "worst_quality": self.worst_quality or None,
            "left_out": self.left_out,
            "against": None if self.against is None else self.against.record,
            "why_not": self.why_not,
        }


def _bounds(name: str, measure: Measure | None) -> dict[str, Json]:
    if measure is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}
