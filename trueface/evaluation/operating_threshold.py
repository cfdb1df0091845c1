"""The temperature and the threshold of a detector, fitted on validation logits.

Both are single numbers, fitted on images that nothing was learned from, and never on a test. The
decision at probability 0.5 (logit 0) stays beside the one at the threshold.
"""

import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.calibration_size import FEWEST
from trueface.runtime.files import Json

# not from `evaluation.arrays`: a training does not depend on the code of intervals
Floats = NDArray[np.float64]
Labels = NDArray[np.int8 | np.int64]

LEAST, MOST = 1e-3, 1e3  # bounds of the slope, in the inverse of the logits' root mean square
PLACES = 513  # quantiles of the logits that are tried as a threshold
FLAT = 0.04  # largest logit, of either sign, with which a probability is 0.49 to 0.51
FALSE_ALARMS = 0.1  # largest fraction of the reals of one view, where there are several

log = logging.getLogger(__name__)


class Calibration(NamedTuple):
    """Temperature and threshold of a detector.

    Attributes:
        temperature: what its logits are divided by; 1 leaves them.
        threshold: in logits as the detector gives them: values above are called fake.
        in_logits: whether the detector's logits are divided by the temperature already.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    in_logits: bool = False

    @classmethod
    def read(cls, record: Json) -> "Calibration | None":
        """Return the calibration in a provenance or a test's file. None if there is no valid one."""
        if not isinstance(record, Mapping):
            return None
        temperature, threshold = record.get("temperature"), record.get("threshold")
        if not isinstance(temperature, float | int) or not isinstance(threshold, float | int):
            return None
        return cls(
            temperature=float(temperature),
            threshold=float(threshold),
            in_logits=record.get("in_logits") is True,
        )

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {
            "temperature": self.temperature,
            "threshold": self.threshold,
            "in_logits": self.in_logits,
        }

    def fold_temperature(self) -> "Calibration":
        """Return the calibration of a detector whose weights were divided by the temperature."""
        return self._replace(threshold=self.threshold / self.temperature, in_logits=True)

    def undo_temperature(self, logits: Floats) -> Floats:
        """Return logits (N,) without the temperature."""
        return logits * self.temperature if self.in_logits else logits

    def apply_temperature(self, logits: Floats) -> Floats:
        """Return logits (N,) divided by the temperature."""
        return logits if self.in_logits else logits / self.temperature

    def probability(self, logit: float) -> float:
        """Return the probability of a fake, in 0 … 1, for one logit of the detector."""
        scaled = float(self.apply_temperature(np.array(logit)))
        if scaled < 0:  # else exp could overflow
            return math.exp(scaled) / (1 + math.exp(scaled))
        return 1 / (1 + math.exp(-scaled))


def fit_calibration(labels: Labels, logits: Floats, views: Sequence[int] = ()) -> Calibration:
    """Return temperature and threshold for logits (N,) of validation images, labels (N,) 1 fake.

    With fewer than two images of a class both are left as they are: 1 and 0.

    Args:
        labels: of all views.
        logits: one per label.
        views: number of rows of each view of the images, one after the other, if there are several. Views
            are changed in one way each. If the best threshold for all views together is too low, it is raised
            until at most `FALSE_ALARMS` of the reals of each view are called fake.
    """
    if min(np.count_nonzero(labels == label) for label in (0, 1)) < FEWEST:
        return Calibration()
    threshold = best_threshold(labels, logits)
    if len(views) > 1:
        ends = np.cumsum(views)[:-1]
        of_reals = zip(np.split(labels == 0, ends), np.split(logits, ends), strict=True)
        reals = [own[real] for real, own in of_reals if real.any()]
        threshold = max(threshold, *(float(np.quantile(own, 1 - FALSE_ALARMS)) for own in reals))
    temperature = fit_temperature(labels, logits)
    if np.ptp(logits) and np.abs(logits).max() < FLAT * temperature:
        log.warning(
            "temperature=%.4g state=every probability is about 0.5 reason=the validation logits do not order the "
            "classes, or few of them are far from all others advice=train longer, or check the validation list",
            temperature,
        )
    return Calibration(temperature=temperature, threshold=threshold)


def fit_temperature(labels: Labels, logits: Floats) -> float:
    """Return the temperature with the smallest cross entropy; the classes count alike.

    Source: C. Guo et al., arXiv 1706.04599, section 4.2; the targets are those of J. Platt, 1999,
        section 2.2, so that logits without an error get a finite temperature. Logits that order the
        classes wrongly get a very large one: a probability of a half. Constant logits say nothing
        about a temperature, and get 1.
    """
    if np.ptp(logits) == 0:
        return 1.0
    # half a second to import, which a prediction needs not
    from scipy.optimize import minimize_scalar

    fake = labels == 1
    counts = np.where(fake, np.count_nonzero(fake), np.count_nonzero(~fake))
    targets = np.where(fake, (counts + 1) / (counts + 2), 1 / (counts + 2))
    unit = float(np.sqrt(np.mean(np.square(logits)))) or 1.0

    def loss(power: float) -> float:
        scaled = np.exp(power) / unit * logits
        losses = np.logaddexp(0.0, scaled) - targets * scaled
        return float(np.sum(losses / counts))

    bounds = (np.log(LEAST), np.log(MOST))
    best = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-6})
    return float(unit / np.exp(best.x))


def best_threshold(labels: Labels, logits: Floats) -> float:
    """Return the logit above which calling fake gives the best smoothed balanced accuracy.

    The rates of both classes are kernel estimates. With 200 validation images, many distant thresholds have
    nearly the best counted accuracy. Which one is highest is chance, and on other images it is worse than the
    optimum of the smoothed rates. With many images both are equal.

    Source: B. Silverman, "Density Estimation for Statistics and Data Analysis", 1986, section 3.4.2
        (the bandwidth), A. Azzalini, Biometrika 68(1), 1981 (smoothed distribution functions).
    """
    places = np.unique(np.quantile(logits, np.linspace(0, 1, PLACES)))
    reals, fakes = (_smoothed_cdf(places, logits[labels == label]) for label in (0, 1))
    merit = reals - fakes
    best = np.flatnonzero(merit >= merit.max() - 1e-9)
    return float(np.median(places[best]))


def most_accurate_threshold(fake: NDArray[np.bool_], logits: Floats) -> float:
    """Return the threshold with the best accuracy on these logits (N,), nothing smoothed.

    It is in the middle between two neighbouring logits, or 0.5 beyond all. Of several equally good thresholds
    the one nearest to 0 is returned.
    """
    order = np.argsort(logits, kind="stable")
    ordered = logits[order]
    # with i images below the threshold: the reals among these and the fakes above are right
    below = np.concatenate([[0], np.cumsum(~fake[order])])
    above = np.concatenate([[0], np.cumsum(fake[order][::-1])])[::-1]
    ends = np.concatenate([[ordered[0] - 1], ordered, [ordered[-1] + 1]])
    between = (ends[:-1] + ends[1:]) / 2
    possible = np.concatenate([[True], np.diff(ordered) > 0, [True]])
    correct = np.where(possible, below + above, -1)
    best = np.flatnonzero(correct == correct.max())
    return float(between[best[np.abs(between[best]).argmin()]])


def _smoothed_cdf(places: Floats, logits: Floats) -> Floats:
    """Return the fraction of a class below each threshold, smoothed by a Gaussian kernel."""
    from scipy.special import ndtr

    quarter, three = np.percentile(logits, (25, 75))
    spread = min(float(logits.std()), float(three - quarter) / 1.34)
    width = 1.06 * spread * len(logits) ** -0.2 or np.finfo(np.float64).tiny
    below: Floats = np.array([ndtr((point - logits) / width).mean() for point in places])
    return below
