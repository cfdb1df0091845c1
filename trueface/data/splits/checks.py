"""Whether a split is sound: what its lists hold, and what leaks from one into another.

A leak is a key in two lists, an image whose very pixels stand in two lists, a group of images
that was to stay together, and, where it is asked for, a picture that is nearly the same as one of
another list. The same number under two methods is none: it is another picture.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from trueface.data.index import Image, Survey
from trueface.data.splits import near_duplicates
from trueface.data.splits.groups import torn
from trueface.data.splits.matching import match, method_of, short_key
from trueface.data.splits.near_duplicates import Look, Near

SCHEMA = 1
SHOWN = 3  # examples in a table


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFacts:
    """What one list holds."""

    keys: int
    repeated: int  # keys that stand in it more than once
    real: int  # images on disk
    fake: int
    renamed: int  # of these, found by the first characters of their name only
    missing: tuple[str, ...]  # keys without a file, though the folder of their method is there
    elsewhere: int  # keys of methods that were not looked for, or have no folder
    methods: Mapping[str, int]  # images of each


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """What the images of a split show."""

    looked_at: int
    unreadable: tuple[tuple[str, str], ...]  # file, reason
    same: tuple[tuple[str, ...], ...]  # "train:FFHQ/00001" …: equal pixels in several lists
    repeated: int  # images whose pixels are those of an earlier image of the same list
    near: tuple[Near, ...] | None  # nearly equal ones in two lists; None: not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """What was found out about a split."""

    lists: Mapping[str, ListFacts]
    shared: Mapping[str, tuple[str, ...]]  # keys in several lists, and these
    torn: Mapping[str, tuple[str, ...]] | None  # groups in several lists; None: no groups given
    unlisted: int  # images on disk that are in no list
    pictures: Pictures | None  # None: not looked at

    @property
    def leaks(self) -> int:
        """How many keys, groups, pictures and pairs of similar pictures are in several lists."""
        same = len(self.pictures.same) + len(self.pictures.near or ()) if self.pictures else 0
        return len(self.shared) + len(self.torn or ()) + same

    def as_json(self) -> dict[str, Any]:
        """Return all fields as JSON."""
        return {"schema": SCHEMA, "leaks": self.leaks, **asdict(self)}

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Yield the cells of a table of the lists, then of one of findings with their examples."""
        yield ("list", "keys", "real", "fake", "missing", "elsewhere", "repeated", "renamed")
        for name, facts in self.lists.items():
            numbers = (facts.keys, facts.real, facts.fake, len(facts.missing), facts.elsewhere)
            yield (name, *map(str, (*numbers, facts.repeated, facts.renamed)))
        for what, examples in self._findings():
            shown = ", ".join(examples[:SHOWN]) + (", …" if len(examples) > SHOWN else "")
            yield (what, str(len(examples)), *([shown] if shown else []))
        if self.pictures is not None:
            yield ("same pixels within a list", str(self.pictures.repeated))
        yield ("images in no list", str(self.unlisted))

    def _findings(self) -> Iterator[tuple[str, list[str]]]:
        yield "leak: key in several lists", _placed(self.shared)
        if self.torn is not None:
            yield "leak: group in several lists", _placed(self.torn)
        if self.pictures is not None:
            yield "leak: same pixels in several lists", [" = ".join(n) for n in self.pictures.same]
            if self.pictures.near is not None:
                yield "leak: nearly the same in two lists", [*map(_alike, self.pictures.near)]
            unreadable = [f"{file} ({reason})" for file, reason in self.pictures.unreadable]
            yield "unreadable files", unreadable
        missing = [f"{name}:{key}" for name, facts in self.lists.items() for key in facts.missing]
        yield "keys without a file", missing


def examine(
    lists: Mapping[str, Sequence[str]],
    on_disk: Survey,
    *,
    groups: Mapping[str, str] | None = None,
    content: bool = True,
    similar: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Soundness:
    """Examine a split.

    Args:
        lists: the lists in its files, by name.
        on_disk: the images in the data root.
        groups: key → group, of keys that must be in one list.
        content: decode every image, to find identical ones.
        similar: also find near-duplicates.
        progress: called with the number of images that were decoded since the last call.
    """
    images, keys = on_disk.images, {name: frozenset(members) for name, members in lists.items()}
    chosen: dict[str, tuple[Image, ...]] = {}
    facts: dict[str, ListFacts] = {}
    unlisted = len(images)
    for name, members in keys.items():
        others = frozenset().union(*(keys[other] for other in keys if other != name))
        selection = match(images, members, others)
        chosen[name], unlisted = selection.images, selection.unknown
        facts[name] = _facts(lists[name], selection.images, selection.renamed, on_disk)
    pictures = _look(chosen, similar=similar, progress=progress) if content else None
    return Soundness(
        lists=facts,
        shared=_shared(keys),
        torn=None if groups is None else torn(groups, keys),
        unlisted=unlisted,
        pictures=pictures,
    )


def _facts(
    members: Sequence[str], images: Sequence[Image], renamed: int, on_disk: Survey
) -> ListFacts:
    keys = set(members)
    lacking = keys - {image.key for image in images}
    lacking -= {short_key(image.key) for image in images if image.key not in keys}
    methods = frozenset().union(*on_disk.methods.values())
    missing = {key for key in lacking if method_of(key) in methods}
    fakes = sum(image.label for image in images)
    return ListFacts(
        keys=len(keys),
        repeated=len(members) - len(keys),
        real=len(images) - fakes,
        fake=fakes,
        renamed=renamed,
        missing=tuple(sorted(missing)),
        elsewhere=len(lacking) - len(missing),
        methods=dict(Counter(image.method for image in images)),
    )


def _shared(keys: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    where: dict[str, list[str]] = defaultdict(list)
    for (name, members), (other, others) in combinations(keys.items(), 2):
        for key in sorted(set(members).intersection(others)):
            where[key] += (list_name for list_name in (name, other) if list_name not in where[key])
    return {key: tuple(names) for key, names in where.items()}


def _look(
    chosen: Mapping[str, Sequence[Image]],
    *,
    similar: bool,
    progress: Callable[[int], object] | None,
) -> Pictures:
    """Decode each image of the lists once; an image in two lists is reported as a shared key."""
    place: dict[str, tuple[str, Image]] = {}
    for name, images in chosen.items():
        for image in images:
            place.setdefault(image.file, (name, image))
    read = zip(place, near_duplicates.looks(list(place), progress=progress), strict=True)
    good: dict[str, Look] = {}
    bad: list[tuple[str, str]] = []
    for file, look in read:
        if isinstance(look, str):
            bad.append((file, look))
        else:
            good[file] = look
    equal = near_duplicates.same(good)
    across = [files for files in equal if len({place[file][0] for file in files}) > 1]
    within = sum(count - 1 for files in equal for count in _by_list(files, place).values())
    return Pictures(
        looked_at=len(place),
        unreadable=tuple(bad),
        same=tuple(tuple(_list_and_key(file, place) for file in files) for files in across),
        repeated=within,
        near=tuple(_near(good, place)) if similar else None,
    )


def _by_list(files: Sequence[str], place: Mapping[str, tuple[str, Image]]) -> Counter[str]:
    return Counter(place[file][0] for file in files)


def _near(good: Mapping[str, Look], place: Mapping[str, tuple[str, Image]]) -> Iterator[Near]:
    lists: dict[str, dict[str, Look]] = defaultdict(dict)
    for file, look in good.items():
        lists[place[file][0]][file] = look
    for members, others in combinations(lists.values(), 2):
        for pair in near_duplicates.near(members, others):
            yield pair._replace(
                name=_list_and_key(pair.name, place), other=_list_and_key(pair.other, place)
            )


def _alike(pair: Near) -> str:
    return f"{pair.name} ~ {pair.other} ({pair.correlation:.2f}{', mirrored' * pair.mirrored})"


def _list_and_key(file: str, place: Mapping[str, tuple[str, Image]]) -> str:
    name, image = place[file]
    return f"{name}:{image.key}"


def _placed(lists_of: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{item} in {' and '.join(names)}" for item, names in lists_of.items()]
