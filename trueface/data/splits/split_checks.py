"""Checks a split: the content of its lists, and leaks from one into another.

A leak is a key in two lists, an image whose exact pixels are in two lists, or a group of images
that was divided. On request it is also a picture that is nearly the same as one of another list.
The same number under two methods is not a leak: it is another picture. See `near_duplicates` for
equal and nearly equal pictures.

Reports contain counts and the first examples.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any

from trueface.data.attribute_table import CLASSES
from trueface.data.image_keys import MatchedImages, match_lists, method_of, short_key
from trueface.data.index import Image, ImageSurvey
from trueface.data.splits.near_duplicates import (
    ImageAppearance,
    NearDuplicate,
    find_equal_pictures,
    find_near_duplicates,
    read_appearances,
)
from trueface.data.splits.splitting import groups_in_several_lists

SCHEMA = 1
SHOWN = 3  # examples in a table
# keys without an image, keys of images in no list → keys that no folder has
FindStray = Callable[[Collection[str], Iterable[str]], Iterable[str]]
MEMBERS = 4  # equal pictures of an example: one of each list, and one more


@dataclass(frozen=True, slots=True, kw_only=True)
class ListFacts:
    """The content of one list."""

    keys: int
    repeated: int  # keys that are in it more than once
    real: int  # images on disk
    fake: int
    renamed: int  # images of these that were found only by the first characters of their name
    # keys without a file, though the folder of their method is there; keys of an unknown folder
    missing: tuple[str, ...]
    elsewhere: int  # keys of methods that were not looked for, or have no folder
    methods: Mapping[str, int]  # images of each


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFindings:
    """Findings about the images of a split."""

    looked_at: int
    unreadable: tuple[tuple[str, str], ...]  # file, reason
    same: tuple[tuple[str, ...], ...]  # "train:FFHQ/00001" …: equal pixels in several lists
    repeated: int  # images whose pixels are those of an earlier image of the same list
    # "train:FFHQ/00001 (real)" …: equal pixels that are real and fake; in one list or in several
    contradictory: tuple[tuple[str, ...], ...]
    near: tuple[NearDuplicate, ...] | None  # nearly equal ones in two lists; None: not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitReport:
    """All findings about a split."""

    lists: Mapping[str, ListFacts]
    shared: Mapping[str, tuple[str, ...]]  # keys in several lists, and these
    torn: Mapping[str, tuple[str, ...]] | None  # groups in several lists; None: no groups given
    unlisted: int  # images on disk that are in no list
    pictures: PictureFindings | None  # None: not looked at

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
        for finding, examples in self._findings():
            shown = ", ".join(examples[:SHOWN]) + (", …" if len(examples) > SHOWN else "")
            yield (finding, str(len(examples)), *([shown] if shown else []))
        if self.pictures is not None:
            yield ("same pixels within a list", str(self.pictures.repeated))
        yield ("images in no list", str(self.unlisted))

    def _findings(self) -> Iterator[tuple[str, list[str]]]:
        yield "leak: key in several lists", _format_keys_with_lists(self.shared)
        if self.torn is not None:
            yield "leak: group in several lists", _format_keys_with_lists(self.torn)
        if self.pictures is not None:
            yield "leak: same pixels in several lists", [*map(_describe_equal, self.pictures.same)]
            yield "same pixels, real and fake", [*map(_join_labelled, self.pictures.contradictory)]
            if self.pictures.near is not None:
                yield (
                    "leak: nearly the same in two lists",
                    [*map(_describe_pair, self.pictures.near)],
                )
            unreadable = [f"{file} ({reason})" for file, reason in self.pictures.unreadable]
            yield "unreadable files", unreadable
        missing = [f"{name}:{key}" for name, facts in self.lists.items() for key in facts.missing]
        yield "keys without a file", missing


def examine(
    lists: Mapping[str, Sequence[str]],
    on_disk: ImageSurvey,
    *,
    groups: Mapping[str, str] | None = None,
    content: bool = True,
    similar: bool = False,
    progress: Callable[[int], object] | None = None,
    find_stray: FindStray = lambda *_: [],
) -> SplitReport:
    """Examine a split.

    Args:
        lists: the lists in its files, by name.
        on_disk: the images in the data root.
        groups: key → group, of keys that must be in one list.
        content: decode every image, to find identical ones.
        similar: also find near-duplicates.
        progress: called with the number of images that were decoded since the last call.
        find_stray: see `stray_keys`. Such keys count as missing.
    """
    found = match_lists(on_disk.images, lists)
    listed = frozenset().union(*lists.values())
    chosen = {name: each.images for name, each in found.items()}
    pictures = _examine_pictures(chosen, similar=similar, progress=progress) if content else None
    return SplitReport(
        lists={
            name: _facts_of_list(
                lists[name],
                each,
                on_disk,
                lambda lacking: find_stray(
                    lacking, (i.key for i in on_disk.images if i.key not in listed)
                ),
            )
            for name, each in found.items()
        },
        shared=_find_shared_keys(lists),
        torn=None if groups is None else groups_in_several_lists(groups, lists),
        # the number is the same for all lists
        unlisted=min((each.unknown for each in found.values()), default=len(on_disk.images)),
        pictures=pictures,
    )


def _facts_of_list(
    list_keys: Sequence[str],
    matched_images: MatchedImages,
    on_disk: ImageSurvey,
    find_stray: Callable[[Collection[str]], Iterable[str]],
) -> ListFacts:
    keys, images = set(list_keys), matched_images.images
    lacking = keys - {image.key for image in images}
    lacking -= {short_key(image.key) for image in images if image.key not in keys}
    methods = frozenset().union(*on_disk.methods.values())
    missing = {key for key in lacking if method_of(key) in methods}.union(find_stray(lacking))
    fakes = sum(image.label for image in images)
    return ListFacts(
        keys=len(keys),
        repeated=len(list_keys) - len(keys),
        real=len(images) - fakes,
        fake=fakes,
        renamed=matched_images.renamed,
        missing=tuple(sorted(missing)),
        elsewhere=len(lacking) - len(missing),
        methods=dict(Counter(image.method for image in images)),
    )


def _find_shared_keys(keys: Mapping[str, Collection[str]]) -> dict[str, tuple[str, ...]]:
    where: dict[str, list[str]] = defaultdict(list)
    for (name, members), (other, others) in combinations(keys.items(), 2):
        for key in sorted(set(members).intersection(others)):
            where[key] += (list_name for list_name in (name, other) if list_name not in where[key])
    return {key: tuple(names) for key, names in where.items()}


def _examine_pictures(
    images_by_list: Mapping[str, Sequence[Image]],
    *,
    similar: bool,
    progress: Callable[[int], object] | None,
) -> PictureFindings:
    """Decode each image of the lists once; an image in two lists is reported as a shared key."""
    list_and_image: dict[str, tuple[str, Image]] = {}
    for name, images in images_by_list.items():
        for image in images:
            list_and_image.setdefault(image.file, (name, image))
    read = zip(
        list_and_image, read_appearances(list(list_and_image), progress=progress), strict=True
    )
    good: dict[str, ImageAppearance] = {}
    bad: list[tuple[str, str]] = []
    for file, look in read:
        if isinstance(look, str):
            bad.append((file, look))
        else:
            good[file] = look
    equal = find_equal_pictures(good)
    lists_of = [{list_and_image[file][0] for file in files} for files in equal]
    within = sum(len(files) - len(lists) for files, lists in zip(equal, lists_of, strict=True))
    return PictureFindings(
        looked_at=len(list_and_image),
        unreadable=tuple(bad),
        same=tuple(
            tuple(_list_and_key(file, list_and_image) for file in files)
            for files, lists in zip(equal, lists_of, strict=True)
            if len(lists) > 1
        ),
        repeated=within,
        contradictory=tuple(_find_contradictory_files(equal, list_and_image)),
        near=tuple(_find_near_duplicates_in_lists(good, list_and_image)) if similar else None,
    )


def _find_contradictory_files(
    equal: Iterable[Sequence[str]], list_and_image: Mapping[str, tuple[str, Image]]
) -> Iterator[tuple[str, ...]]:
    """Yield the files of equal pixels that have both labels; a real and a fake one come first."""
    for files in equal:
        by_label = {list_and_image[file][1].label: file for file in reversed(files)}
        if len(by_label) > 1:
            first = dict.fromkeys(by_label[label] for label in sorted(by_label))
            yield tuple(
                f"{_list_and_key(file, list_and_image)} ({CLASSES[list_and_image[file][1].label]})"
                for file in dict.fromkeys((*first, *files))
            )


def _find_near_duplicates_in_lists(
    good: Mapping[str, ImageAppearance], list_and_image: Mapping[str, tuple[str, Image]]
) -> Iterator[NearDuplicate]:
    lists: dict[str, dict[str, ImageAppearance]] = defaultdict(dict)
    for file, look in good.items():
        lists[list_and_image[file][0]][file] = look
    for members, others in combinations(lists.values(), 2):
        for pair in find_near_duplicates(members, others):
            yield pair._replace(
                name=_list_and_key(pair.name, list_and_image),
                other=_list_and_key(pair.other, list_and_image),
            )


def _describe_pair(pair: NearDuplicate) -> str:
    return f"{pair.name} ~ {pair.other} ({pair.correlation:.2f}{', mirrored' * pair.mirrored})"


def _describe_equal(names: Sequence[str]) -> str:
    """Return equal pictures in words; of many their number, and the first ones of every list."""
    if len(names) <= MEMBERS:
        return " = ".join(names)
    first = {name.partition(":")[0]: name for name in reversed(names)}
    shown = list(dict.fromkeys((names[0], *reversed(first.values()), *names)))[:MEMBERS]
    return f"{' = '.join(shown)} = … ({len(names)} images)"


def _join_labelled(names: Sequence[str]) -> str:
    """Return equal pictures of both classes in words; of many a real one, a fake one, their number."""
    more = f" = … ({len(names)} images)" if len(names) > MEMBERS else ""
    return f"{' = '.join(names[: 2 if more else MEMBERS])}{more}"


def _list_and_key(file: str, list_and_image: Mapping[str, tuple[str, Image]]) -> str:
    name, image = list_and_image[file]
    return f"{name}:{image.key}"


def _format_keys_with_lists(lists_of: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{item} in {' and '.join(names)}" for item, names in lists_of.items()]
