"""Student's t distribution: the quantiles of two-sided intervals."""

import math
from functools import lru_cache

_HALVINGS = 80  # halvings of an angle: finer than the resolution of a float


def probability_within(angle: float, freedom: int) -> float:
    """Return the probability that |T| is at most tan(angle) times the root of the degrees of freedom.

    Args:
        angle: Angle in [0, π/2].
        freedom: Degrees of freedom, at least 1.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
    """
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = freedom % 2
    term = sine * cosine if odd else sine
    total = 0.0
    # the terms with the powers of the cosine up to freedom - 2
    for power in range(1 if odd else 0, freedom - 1, 2):
        total += term
        term *= cosine * cosine * (power + 1) / (power + 2)
    return 2 / math.pi * (angle + total) if odd else total


@lru_cache(maxsize=1024)
def t_quantile(freedom: int, confidence: float) -> float:
    """Return the t for which |T| ≤ t has a given probability: the quantile of a two-sided interval.

    Args:
        freedom: Degrees of freedom, at least 1.
        confidence: Probability in (0, 1), such as 0.95.
    """
    low, high = 0.0, math.pi / 2
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if probability_within(middle, freedom) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan((low + high) / 2)
