"""Groups of an imported set: images that show the same video, prompt or person share a list."""

from collections import Counter
from collections.abc import Mapping, Sequence

from trueface.data.splits.groups import joined

MOST = 0.6  # of the images in one group: beyond it no split could be made


def groups_of(
    ties: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]
) -> tuple[dict[str, str], str]:
    """Return the group of each unit (a video, or an image), and a remark.

    Units with any tie in common are of one group. Where such chains hold most of the images, as
    in face swaps of everybody with everybody, only the first tie of each counts: of a swap, the
    person whose video it is.

    Args:
        ties: what each unit has in common with others.
        sizes: the images of each unit.

    Returns:
        Unit → group, for units with a tie or with several images; the remark is "" or says that
        only first ties count.
    """
    whole = _joined(ties)
    counts = Counter[str]()
    for unit, group in whole.items():
        counts[group] += sizes[unit]
    total = sum(sizes.values())
    several = any(len(names) > 1 for names in ties.values())
    if several and counts and max(counts.values()) > MOST * total:
        percent = 100 * max(counts.values()) / total
        first = {unit: names[:1] for unit, names in ties.items()}
        return _joined(first), (
            f"{percent:.0f} % of the images are bound to each other by the people that they "
            "share; groups are made by the person whose video it is, so that a person lent to a "
            "swap may stand in several lists"
        )
    return whole, ""


def _joined(ties: Mapping[str, Sequence[str]]) -> dict[str, str]:
    most = max(map(len, ties.values()), default=0)
    maps = [
        {unit: names[at] for unit, names in ties.items() if at < len(names)} for at in range(most)
    ]
    return joined(*maps) if maps else {}
