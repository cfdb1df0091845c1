"""The lists of an imported set: published ones, those of an earlier import, and the rest drawn."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from trueface.data.imports.arrangement import STRICTEST, Arrangement
from trueface.data.index import Image
from trueface.data.splits.groups import torn
from trueface.data.splits.make_splits import SHARES, Lists, make_splits
from trueface.data.splits.splits import NAMES

SHOWN = 3  # sources in a remark


def lists_of(
    arrangement: Arrangement,
    groups: Mapping[str, str],
    *,
    before: Mapping[str, Iterable[str]],
    published: bool = True,
    shares: tuple[float, float] = SHARES,
    seed: int = 42,
) -> tuple[Lists, list[str]]:
    """Return the three lists, and remarks.

    Args:
        arrangement: of all images that are in the data root now.
        groups: of all keys, those of earlier imports too.
        before: the lists of an earlier import; no key of theirs moves.
        published: keep the lists that the data set comes with; else all are drawn.
        shares: of training and validation among what is drawn.
        seed: of the draw.
    """
    keys = {image.key: image for image in arrangement.images}
    place = {key: name for name in NAMES for key in before.get(name, ())}
    remarks = []
    if published and arrangement.published:
        own = {key: name for key, name in arrangement.published.items() if key not in place}
        remarks += _completed(own, keys, arrangement.published, groups, shares, seed)
        place |= own
    _follow(place, keys, groups)
    rest = [image for key, image in keys.items() if key not in place]
    if rest:
        place |= _drawn(rest, groups, shares, seed)
    lists = {name: tuple(sorted(k for k, at in place.items() if at == name)) for name in NAMES}
    if split := torn(groups, lists):
        group, names = next(iter(split.items()))
        remarks.append(
            f"{len(split)} groups (a person, a prompt, a video) stand in several lists, such as "
            f"{group} in {' and '.join(names)}; --redraw makes lists that keep them together"
        )
    return lists, remarks


def _completed(
    own: dict[str, str],
    keys: Mapping[str, Image],
    published: Mapping[str, str],
    groups: Mapping[str, str],
    shares: tuple[float, float],
    seed: int,
) -> list[str]:
    """Give each source with two published lists its third; change `own`, return remarks."""
    names: dict[str, set[str]] = defaultdict(set)
    for key, name in published.items():
        names[keys[key].method].add(name)
    untested = {source for source, has in names.items() if "val" in has and "test" not in has}
    own.update(
        (key, "test") for key, name in own.items() if name == "val" and keys[key].method in untested
    )
    unchecked = {
        source for source, has in names.items()
        if "train" in has and ("val" not in has or source in untested)
    }  # fmt: skip
    learning = [
        keys[key]
        for key, name in own.items()
        if name == "train" and keys[key].method in unchecked and sum(shares) > 0
    ]
    if learning:
        train = round(shares[0] / sum(shares), 6)
        own |= _drawn(learning, groups, (train, round(1 - train, 6)), seed)
    drawn = sum(own[image.key] == "val" for image in learning)
    return [
        *(
            [f"{_listed(untested)}: the published validation list serves as the test list"]
            if untested
            else []
        ),
        *(
            [
                f"{_listed(unchecked)}: no published validation list is left; {drawn} of "
                f"{len(learning)} training images take its place"
            ]
            if learning
            else []
        ),
    ]


def _listed(sources: set[str]) -> str:
    names = sorted(sources)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")


def _follow(place: dict[str, str], keys: Mapping[str, Image], groups: Mapping[str, str]) -> None:
    """Put keys beside those of their group that have a list already."""
    of_group: dict[str, str] = {}
    for key, name in place.items():
        group = groups.get(key)
        if group is not None:
            first = of_group.setdefault(group, name)
            of_group[group] = min(first, name, key=STRICTEST.index)
    for key in keys:
        if key not in place and (name := of_group.get(groups.get(key, ""), "")):
            place[key] = name


def _drawn(
    images: Iterable[Image], groups: Mapping[str, str], shares: tuple[float, float], seed: int
) -> dict[str, str]:
    lists = make_splits(images, seed=seed, shares=shares, groups=groups or None)
    return {key: name for name, keys in lists.items() for key in keys}
