"""Whether a split is sound: what its lists hold, and what leaks from one into another.

A leak is a key in two lists, an image whose very pixels stand in two lists, a group of images
that was to stay together, and, where it is asked for, a picture that is nearly the same as one of
another list. The same number under two methods is none: it is another picture.

Equal pixels are exact: a SHA-256 of size and decoded RGB pixels. It costs the decoding of every image:
on one core about 2 ms for a JPEG of 256 pixels, 10 ms for one of 1024, 50 ms for a PNG of 1024.

Nearly equal pictures are found by thumbnails in two steps. Pairs whose 16 x 16 thumbnails correlate, straight or
mirrored, are candidates; of a candidate, the brightness steps of the 32 x 32 thumbnails must
correlate, too, after one of the two was cropped by up to 6 % on any side. So copies saved anew,
made smaller, brightened, mirrored or cropped by 3 % are recognised. It is a hint and no proof.
"""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import cache
from itertools import combinations, product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import PIL.Image
from numpy.typing import NDArray

from trueface.data.attribute_table import CLASSES
from trueface.data.decoding import decode
from trueface.data.index import Image, ImageSurvey
from trueface.data.splits import MatchedImages, match_lists, method_of, short_key
from trueface.data.splitting import joined, torn
from trueface.runtime.errors import BadImageError

SIDE = 32  # pixels of a thumbnail
COARSE = 16  # of the smaller one that chooses candidates
# The thresholds were chosen on 8,500 real images (faces, CIFAR-10) whose closest pairs were looked
# at: copies cropped by 3 % reach .82 (photographs of 256 pixels) or .77 (32 pixels), two pictures
# of different people at most .78.
CANDIDATE = 0.8  # correlation of the smaller thumbnails
NEAR = 0.79  # correlation of brightness steps
SAME_SMALL = 0.985  # of the smaller thumbnails, where no finer detail need agree: tiny copies
CROPS = (0.03, 0.06)  # of each side, at nine places
BLOCK = 1 << 22  # pairs compared at a time: 16 MiB
PAIRS = 1 << 12  # candidates compared at a time: 16 MiB
BATCH = 1024  # images handed to the threads at a time

Thumbnail = NDArray[np.uint8]  # (SIDE, SIDE), brightness
Floats = NDArray[np.float32]


class Look(NamedTuple):
    """What an image looks like; a NamedTuple, as there are as many as images."""

    pixels: bytes  # SHA-256
    thumbnail: Thumbnail


class Near(NamedTuple):
    """Two images that show nearly the same."""

    name: str
    other: str
    correlation: float  # of brightness steps, or of small thumbnails, whichever is larger
    mirrored: bool


def looks(
    files: Sequence[str],
    *,
    threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Look | str]:
    """Yield what each image looks like, or why it cannot be decoded, in the order of `files`.

    Args:
        files: paths of images.
        threads: that decode at the same time; None: one for each core that we may use.
        progress: called with the number of images that were read since the last call.
    """
    with ThreadPoolExecutor(threads or len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(files), BATCH):
            batch = files[start : start + BATCH]
            yield from pool.map(look, batch)
            if progress is not None:
                progress(len(batch))


def look(file: str) -> Look | str:
    """Decode one image as a network gets it; return what it looks like, or why it has no pixels."""
    try:
        pixels = decode(Path(file)).permute(1, 2, 0).contiguous().numpy()  # (H, W, 3)
    except BadImageError as error:
        return error.reason
    height, width, _ = pixels.shape
    digest = hashlib.sha256(f"{width}x{height}\n".encode())
    digest.update(pixels.data)
    grey = PIL.Image.fromarray(pixels).convert("L")
    thumbnail = np.asarray(grey.resize((SIDE, SIDE), PIL.Image.Resampling.BOX))
    return Look(digest.digest(), thumbnail)


def bound(
    images: Sequence[Image],
    progress: Callable[[int], object] | None = None,
    *,
    similar: bool = False,
) -> dict[str, str]:
    """Return a group for each key whose pixels another key has, too; see `imports.arrangement`.

    What cannot be decoded has none.

    Args:
        images: of any modifiers.
        progress: called with the number of images that were read since the last call.
        similar: also bind keys whose images are nearly the same.
    """
    read = zip(images, looks([image.file for image in images], progress=progress), strict=True)
    good = {image.name: look for image, look in read if isinstance(look, Look)}
    keys = {image.name: image.key for image in images}
    together = [(f"pixels of {keys[names[0]]}", names) for names in same(good)]
    # within a modifier only: the copies of an image have one key anyhow
    by_modifier: dict[str, dict[str, Look]] = defaultdict(dict)
    for name, one_look in good.items() if similar else ():
        by_modifier[name.partition(":")[0]][name] = one_look
    for members in by_modifier.values():
        together += [(f"like {keys[pair.name]}", [*pair[:2]]) for pair in near(members)]
    # each is a rule of its own: a key has one group in a rule, and may be like many
    return joined(*({keys[name]: group for name in names} for group, names in together))


def same(looked: Mapping[str, Look]) -> list[list[str]]:
    """Return the names of images with the very same pixels, together; only where there are several."""
    names_of: dict[bytes, list[str]] = defaultdict(list)
    for name, look in looked.items():
        names_of[look.pixels].append(name)
    return [names for names in names_of.values() if len(names) > 1]


def near(looked: Mapping[str, Look], beside: Mapping[str, Look] | None = None) -> Iterator[Near]:
    """Yield pairs of pictures that are nearly the same, not quite; every pair is looked at.

    Args:
        looked: pictures, one of each pair.
        beside: the other one of each pair; None: it is of the same pictures, and each pair comes once.
    """
    looks = list(looked.items())
    others = looks if beside is None else list(beside.items())
    if not (looks and others):
        return
    right = _coarse(others)  # (M, COARSE²)
    rows = max(1, BLOCK // len(others))
    for start in range(0, len(looks), rows):
        chosen = looks[start : start + rows]
        left = _coarse(chosen)
        pairs_near: dict[tuple[str, str], Near] = {}  # what is its own mirror image is near twice
        for mirrored in (False, True):
            alike = (_mirrored(left) if mirrored else left) @ right.T
            at, other_at = np.nonzero(alike >= CANDIDATE)
            if beside is None:
                later = other_at > at + start
                at, other_at = at[later], other_at[later]
            for first in range(0, len(at), PAIRS):
                places = at[first : first + PAIRS], other_at[first : first + PAIRS]
                pairs = [(chosen[a], others[b]) for a, b in zip(*places, strict=True)]
                for pair in _checked(pairs, alike[places], mirrored=mirrored):
                    previous = pairs_near.get(pair[:2])
                    if previous is None or previous.correlation < pair.correlation:
                        pairs_near[pair[:2]] = pair
        yield from pairs_near.values()


def _checked(
    pairs: Sequence[tuple[tuple[str, Look], tuple[str, Look]]], small: Floats, *, mirrored: bool
) -> Iterator[Near]:
    """Yield the candidates that are nearly the same; `small` holds their coarse correlations."""
    left = np.stack([look.thumbnail for (_, look), _ in pairs]).astype(np.float32)
    right = np.stack([look.thumbnail for _, (_, look) in pairs]).astype(np.float32)
    if mirrored:
        left = left[:, :, ::-1]
    fine = _steps_correlation(left, right)
    for ((name, look), (other, other_look)), detail, rough in zip(pairs, fine, small, strict=True):
        if (detail >= NEAR or rough >= SAME_SMALL) and look.pixels != other_look.pixels:
            yield Near(name, other, round(float(max(detail, rough)), 3), mirrored)


def _coarse(items: Sequence[tuple[str, Look]]) -> Floats:
    """Return small thumbnails as vectors of mean 0 and length 1, (N, COARSE²); flat ones are 0."""
    stack = np.stack([look.thumbnail for _, look in items]).astype(np.float32)
    by = SIDE // COARSE
    small = stack.reshape(-1, COARSE, by, COARSE, by).mean(axis=(2, 4)).reshape(len(stack), -1)
    return _unit(small - small.mean(axis=1, keepdims=True))


def _mirrored(coarse: Floats) -> Floats:
    return coarse.reshape(-1, COARSE, COARSE)[:, :, ::-1].reshape(len(coarse), -1)


def _steps_correlation(left: Floats, right: Floats) -> Floats:
    """Return how the brightness steps of pairs correlate at the best crop of either; (N,).

    Args:
        left: (N, SIDE, SIDE).
        right: as many.
    """
    straight, other = _steps(left), _steps(right)
    best: Floats = (straight * other).sum(axis=1)
    for down, across in _croppings():
        for cropped, whole in ((left, other), (right, straight)):
            view: Floats = np.matmul(np.matmul(down, cropped), across.T)
            best = np.maximum(best, (_steps(view) * whole).sum(axis=1))
    return best


def _steps(thumbnails: Floats) -> Floats:
    """Return the differences between neighbours as vectors of length 1; flat ones are 0."""
    count = len(thumbnails)
    down = (thumbnails[:, 1:, :] - thumbnails[:, :-1, :]).reshape(count, -1)
    across = (thumbnails[:, :, 1:] - thumbnails[:, :, :-1]).reshape(count, -1)
    return _unit(np.concatenate([down, across], axis=1))


def _unit(vectors: Floats) -> Floats:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 1e-6)
    return unit


@cache
def _croppings() -> tuple[tuple[Floats, Floats], ...]:
    """Return matrices that crop a thumbnail, for rows and columns: M @ thumbnail @ N.T."""
    places = (0.0, 0.5, 1.0)
    return tuple(
        (_crop(part, down), _crop(part, across))
        for part, down, across in product(CROPS, places, places)
    )


def _crop(part: float, place: float) -> Floats:
    """Return what cuts a part of SIDE samples off, at `place` in 0 … 1, and stretches the rest."""
    first, length = place * part * SIDE, (1 - part) * SIDE
    at = np.clip(first + length * (np.arange(SIDE) + 0.5) / SIDE - 0.5, 0, SIDE - 1)
    low = np.minimum(at.astype(int), SIDE - 2)
    matrix = np.zeros((SIDE, SIDE), dtype=np.float32)
    matrix[np.arange(SIDE), low] = 1 - (at - low)
    matrix[np.arange(SIDE), low + 1] += at - low
    return matrix


SCHEMA = 1
SHOWN = 3  # examples in a table
MEMBERS = 4  # equal pictures of an example: one of each list, and one more


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
class PictureFindings:
    """What the images of a split show."""

    looked_at: int
    unreadable: tuple[tuple[str, str], ...]  # file, reason
    same: tuple[tuple[str, ...], ...]  # "train:FFHQ/00001" …: equal pixels in several lists
    repeated: int  # images whose pixels are those of an earlier image of the same list
    # "train:FFHQ/00001 (real)" …: equal pixels that are real and fake; in one list or in several
    contradictory: tuple[tuple[str, ...], ...]
    near: tuple[Near, ...] | None  # nearly equal ones in two lists; None: not asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Soundness:
    """What was found out about a split."""

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
            yield "leak: same pixels in several lists", [*map(_equal, self.pictures.same)]
            yield "same pixels, real and fake", [*map(_labelled, self.pictures.contradictory)]
            if self.pictures.near is not None:
                yield "leak: nearly the same in two lists", [*map(_alike, self.pictures.near)]
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
    found = match_lists(on_disk.images, lists)
    chosen = {name: each.images for name, each in found.items()}
    pictures = _look(chosen, similar=similar, progress=progress) if content else None
    return Soundness(
        lists={name: _facts(lists[name], each, on_disk) for name, each in found.items()},
        shared=_shared(lists),
        torn=None if groups is None else torn(groups, lists),
        # of all lists the same
        unlisted=min((each.unknown for each in found.values()), default=len(on_disk.images)),
        pictures=pictures,
    )


def _facts(members: Sequence[str], found: MatchedImages, on_disk: ImageSurvey) -> ListFacts:
    keys, images = set(members), found.images
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
        renamed=found.renamed,
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
) -> PictureFindings:
    """Decode each image of the lists once; an image in two lists is reported as a shared key."""
    place: dict[str, tuple[str, Image]] = {}
    for name, images in chosen.items():
        for image in images:
            place.setdefault(image.file, (name, image))
    read = zip(place, looks(list(place), progress=progress), strict=True)
    good: dict[str, Look] = {}
    bad: list[tuple[str, str]] = []
    for file, look in read:
        if isinstance(look, str):
            bad.append((file, look))
        else:
            good[file] = look
    equal = same(good)
    lists_of = [{place[file][0] for file in files} for files in equal]
    within = sum(len(files) - len(lists) for files, lists in zip(equal, lists_of, strict=True))
    return PictureFindings(
        looked_at=len(place),
        unreadable=tuple(bad),
        same=tuple(
            tuple(_list_and_key(file, place) for file in files)
            for files, lists in zip(equal, lists_of, strict=True)
            if len(lists) > 1
        ),
        repeated=within,
        contradictory=tuple(_contradictory(equal, place)),
        near=tuple(_near_in_lists(good, place)) if similar else None,
    )


def _contradictory(
    equal: Iterable[Sequence[str]], place: Mapping[str, tuple[str, Image]]
) -> Iterator[tuple[str, ...]]:
    """Yield the files of equal pixels that have both labels; a real and a fake one come first."""
    for files in equal:
        by_label = {place[file][1].label: file for file in reversed(files)}
        if len(by_label) > 1:
            first = dict.fromkeys(by_label[label] for label in sorted(by_label))
            yield tuple(
                f"{_list_and_key(file, place)} ({CLASSES[place[file][1].label]})"
                for file in dict.fromkeys((*first, *files))
            )


def _near_in_lists(
    good: Mapping[str, Look], place: Mapping[str, tuple[str, Image]]
) -> Iterator[Near]:
    lists: dict[str, dict[str, Look]] = defaultdict(dict)
    for file, look in good.items():
        lists[place[file][0]][file] = look
    for members, others in combinations(lists.values(), 2):
        for pair in near(members, others):
            yield pair._replace(
                name=_list_and_key(pair.name, place), other=_list_and_key(pair.other, place)
            )


def _alike(pair: Near) -> str:
    return f"{pair.name} ~ {pair.other} ({pair.correlation:.2f}{', mirrored' * pair.mirrored})"


def _equal(names: Sequence[str]) -> str:
    """Return equal pictures in words; of many their number, and the first ones of every list."""
    if len(names) <= MEMBERS:
        return " = ".join(names)
    first = {name.partition(":")[0]: name for name in reversed(names)}
    shown = list(dict.fromkeys((names[0], *reversed(first.values()), *names)))[:MEMBERS]
    return f"{' = '.join(shown)} = … ({len(names)} images)"


def _labelled(names: Sequence[str]) -> str:
    """Return equal pictures of both classes in words; of many a real one, a fake one, their number."""
    more = f" = … ({len(names)} images)" if len(names) > MEMBERS else ""
    return f"{' = '.join(names[: 2 if more else MEMBERS])}{more}"


def _list_and_key(file: str, place: Mapping[str, tuple[str, Image]]) -> str:
    name, image = place[file]
    return f"{name}:{image.key}"


def _placed(lists_of: Mapping[str, Sequence[str]]) -> list[str]:
    return [f"{item} in {' and '.join(names)}" for item, names in lists_of.items()]
