"""How large a perturbation may be, in the grey levels of a file; no torch here.

An image is written as 8 bits a channel, so a change of it is a whole number of levels of 2/255 in units of
[-1, 1]: eps .05 is 6.4 levels, of which 6 may be used.
"""

LEVELS = 127.5  # grey levels in a unit of [-1, 1]
_SLACK = 1e-6  # of levels: 8 * 2/255 is a little below 8 levels in binary


def levels_of(eps: float) -> int:
    """Return how many whole grey levels a change of at most `eps` may have.

    Args:
        eps: in units of [-1, 1].

    Raises:
        ValueError: it is not within 0 … 1, or below one level.
    """
    if not 0 < eps <= 1:
        raise ValueError(
            f"eps {eps:g} is not above 0 and at most 1: it is in units of [-1, 1]; 8/255 of [0, 1] is 0.063"
        )
    levels = int(eps * LEVELS + _SLACK)
    if not levels:
        raise ValueError(
            f"eps {eps:g} is less than one grey level, {1 / LEVELS:.5f} in units of [-1, 1]: an image "
            "file cannot hold such a change"
        )
    return levels


def bound_of(eps: float) -> float:
    """Return the largest change that a file can hold within `eps`, in units of [-1, 1].

    Raises:
        ValueError: see `levels_of`.
    """
    return levels_of(eps) / LEVELS
