"""The destination of each image of a data set in a data root, and its groups.

Images that show the same video, prompt or person are in one split. The folders of sources have
words for data IDs.

The splits of an imported set are the published ones, then those of an earlier import. The rest is
drawn.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from trueface.data.imports.registry import FAKE, REAL, ImportedImage, is_video
from trueface.data.index import Image
from trueface.data.splits.split_files import NAMES
from trueface.data.splits.splitting import (
    SHARES,
    Lists,
    groups_in_several_lists,
    make_splits,
    merge_groups,
)
from trueface.data.vocabulary import FLAT, MODIFIERS, SUBSET_UNIONS, SUBSETS
from trueface.runtime.errors import DataError

_BUILT_IN = {folder: word for word, folder in SUBSETS.items()}
_TAKEN = frozenset({*SUBSETS, *FLAT, *SUBSET_UNIONS, "all"})
# a separate last word only: "Photoreal" is a name
_ENDS = re.compile(r"(^|[-_. ])(real|fake)$", re.IGNORECASE)
_STARTS = re.compile(r"^(real|0_real)(?=[-_. A-Z]|$)[-_. ]?")
_BAD = re.compile(r"[^A-Za-z0-9_.+-]+")


MOST = 0.6  # share of the images in one group above which no split could be made
CLASS_FOLDERS = {REAL: "Real", FAKE: "Fake"}
STRICTEST = ("test", "val", "train")  # order in which one of several lists that name an image wins
SHOWN = 3  # sources in a remark, pairs of files in an error


def folder_of(source: str, label: int, fakes: Collection[str]) -> str:
    """Return the folder of a source below Real/ or Fake/, with a name that is valid in IDs.

    A word of an ID names a folder in both. Photographs of a source that also has fakes get a
    separate folder.

    Args:
        source: its name in the data set.
        label: of its images.
        fakes: sources that have fake images.
    """
    name = "".join(c if c.isprintable() and c not in ",/" else "_" for c in source).strip()
    name = "_" + name[1:] if name.startswith(".") else name or "images"
    return f"real{_capital(name)}" if label == REAL and source in fakes else name


def assign_words(
    sources: Iterable[tuple[str, int]], taken_words: Mapping[str, str]
) -> dict[str, str]:
    """Return the word of each folder that needs one; those of TrueFace's folders have theirs.

    Args:
        sources: folders, and the label of their images.
        taken_words: folder → word, as an earlier import gave them; these stay.
    """
    given = dict(taken_words)
    used = {*_TAKEN, *given.values()}
    for folder, label in sources:
        if folder in _BUILT_IN and _BUILT_IN[folder].startswith("real") is (label == REAL):
            continue
        if folder not in given:
            word = _word(folder, label)
            while word in used:
                word = _next_word(word)
            given[folder] = word
            used.add(word)
    return given


def vocabulary_word(folder: str, assigned_words: Mapping[str, str]) -> str:
    """Return the word of a folder, the laboratory's own or the one that `assign_words` gave."""
    return assigned_words.get(folder) or _BUILT_IN[folder]


def _word(folder: str, label: int) -> str:
    name = _BAD.sub("-", folder).strip("-_.+") or "images"
    if label == REAL:  # `real` at the beginning is what makes a subset one of real images
        short = _STARTS.sub("", _ENDS.sub("", name)) or ("" if name.casefold() == "real" else name)
        return f"real{_capital(short) or 'Images'}"
    short = _ENDS.sub("", name) or name
    return (
        short if not short.startswith("real") and short not in _TAKEN else f"fake{_capital(short)}"
    )


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _next_word(word: str) -> str:
    match = re.fullmatch(r"(.*?)(\d*)", word)
    stem, number = match.groups() if match else (word, "")
    return f"{stem}{int(number or 1) + 1}"


def groups_from_ties(
    ties: Mapping[str, tuple[str, ...]], sizes: Mapping[str, int]
) -> tuple[dict[str, str], str]:
    """Return the group of each unit (a video, or an image), and a remark.

    Units with any common tie are in one group. If such chains contain most of the images, as in
    face swaps between all people, only the first tie of each unit counts. For a swap, that is the
    person whose video it is.

    Args:
        ties: names that each unit has in common with others.
        sizes: the number of images of each unit.

    Returns:
        Unit → group, for units with a tie or with several images; the remark is "" or says that
        only first ties count.
    """
    whole = _join_ties(ties)
    counts = Counter[str]()
    for unit, group in whole.items():
        counts[group] += sizes[unit]
    total = sum(sizes.values())
    several = any(len(names) > 1 for names in ties.values())
    if several and counts and max(counts.values()) > MOST * total:
        percent = 100 * max(counts.values()) / total
        first = {unit: names[:1] for unit, names in ties.items()}
        return _join_ties(first), (
            f"{percent:.0f} % of the images are linked by shared people. Groups follow the person "
            "whose video it is, so a person used in a swap can be in several lists."
        )
    return whole, ""


def _join_ties(ties: Mapping[str, Sequence[str]]) -> dict[str, str]:
    most = max(map(len, ties.values()), default=0)
    maps = [
        {unit: names[at] for unit, names in ties.items() if at < len(names)} for at in range(most)
    ]
    return merge_groups(*maps) if maps else {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """A data set in TrueFace's shape."""

    files: Mapping[str, str]  # path below the data root → image file
    images: tuple[Image, ...]  # the same, as a survey would find them
    sources: Mapping[str, int]  # folder below Real/ or Fake/ → label
    modifiers: tuple[str, ...]  # words of the set's own, each the name of its folder
    groups: Mapping[str, str]  # key → what must stay in one list
    published: Mapping[str, str]  # key → list
    video_folders: frozenset[str]  # sources whose folders are videos
    remarks: tuple[str, ...]

    def without_files(self, files: Iterable[str]) -> "Arrangement":
        """Return the arrangement without image files that do not exist.

        Raises:
            DataError: nothing is left.
        """
        left_out = frozenset(files)
        if not left_out:
            return self
        kept = {path: file for path, file in self.files.items() if file not in left_out}
        images = tuple(image for image in self.images if image.file in kept)
        if not images:
            raise DataError(f"none of the {len(self.images)} images exist, such as {min(left_out)}")
        keys = {image.key for image in images}
        sources = {image.method for image in images}
        return replace(
            self,
            files=kept,
            images=images,
            sources={source: label for source, label in self.sources.items() if source in sources},
            groups={key: group for key, group in self.groups.items() if key in keys},
            published={key: name for key, name in self.published.items() if key in keys},
        )


def arrange(imported_images: Iterable[ImportedImage]) -> Arrangement:
    """Return where images go; an image may come again, with further lists.

    Raises:
        DataError: no image, none of a class named by its label, or two files for one place.
    """
    came = list(dict.fromkeys(imported_images))
    if not came:
        raise DataError("the folder has no images in this layout")
    fakes = {each.source for each in came if each.label == FAKE}
    folders = {
        (each.source, each.label): folder_of(each.source, each.label, fakes) for each in came
    }
    files, images = dict[str, str](), dict[str, Image]()
    clashes = dict[tuple[str, str], str]()  # two files → the place of both
    lists: dict[str, set[str]] = defaultdict(set)
    ties, units = dict[str, tuple[str, ...]](), dict[str, str]()  # key → video, or itself
    for each in came:
        image = _place_image(each, folders[each.source, each.label])
        if files.setdefault(image.file, each.file) != each.file:
            pair = (_or_video(files[image.file]), _or_video(each.file))
            clashes.setdefault(pair, image.file)
        images[image.file] = image
        lists[image.key].update(each.lists)
        # a video by its whole path: other sources may have one of the same name
        unit = units[image.key] = image.key.rpartition("/")[0] if each.is_frame else image.key
        ties[unit] = tuple(dict.fromkeys((*ties.get(unit, ()), *each.ties)))
    if clashes:
        _refuse_clashes(clashes)
    tied, remark = groups_from_ties(ties, Counter(units.values()))
    return Arrangement(
        files=files,
        images=tuple(images.values()),
        sources=dict(sorted((folder, label) for (_, label), folder in folders.items())),
        modifiers=tuple(sorted({each.modifier for each in came} - MODIFIERS.keys())),
        groups={
            key: tied.get(unit, unit) for key, unit in units.items() if unit in tied or unit != key
        },
        published={key: min(names, key=STRICTEST.index) for key, names in lists.items() if names},
        video_folders=frozenset(folders[each.source, each.label] for each in came if each.is_frame),
        remarks=tuple(filter(None, (remark, _repeated_remark(lists)))),
    )


def _refuse_clashes(clashes: Mapping[tuple[str, str], str]) -> None:
    """Raise an error for files that would have the same place."""
    shown = [
        f"{first} and {second} would both become {path}"
        for (first, second), path in list(clashes.items())[:SHOWN]
    ]
    if len(clashes) == 1:
        raise DataError(f"{shown[0]}. Give one of them another name or source.")
    raise DataError(
        f"{len(clashes)} pairs of files: {'; '.join(shown)}{'; …' * (len(clashes) > SHOWN)}. Give one "
        "of each pair another name or source."
    )


def _or_video(file: str) -> str:
    """Return the path of a file in messages: of a frame, that of its video."""
    above = file.rpartition("/")[0]
    return above if is_video(above.rpartition("/")[2]) else file


def _place_image(image: ImportedImage, folder: str) -> Image:
    """Return an image as a survey of the data root would find it; its path begins there."""
    below = "/".join(part if part[0] != "." else f"_{part[1:]}" for part in image.below.split("/"))
    top = MODIFIERS[image.modifier][0] if image.modifier in MODIFIERS else image.modifier
    path = f"{top}/{CLASS_FOLDERS[image.label]}/{folder}/{below}"
    key = f"{folder}/{below.rpartition('.')[0]}".replace("\\", "/")
    return Image(path, key, image.label, folder, image.modifier)


def _repeated_remark(lists: Mapping[str, Collection[str]]) -> str:
    """Return a remark on images that several published lists name; "" if there are none."""
    many = [key for key, names in lists.items() if len(names) > 1]
    if not many:
        return ""
    return (
        f"{len(many)} images are in several of the published lists, such as {many[0]}. Each one "
        "stays in a single list: test if possible, otherwise val."
    )


def make_import_lists(
    arrangement: Arrangement,
    groups: Mapping[str, str],
    *,
    earlier_lists: Mapping[str, Iterable[str]],
    use_published: bool = True,
    shares: tuple[float, float] = SHARES,
    seed: int = 42,
) -> tuple[Lists, list[str]]:
    """Return the three splits, and remarks.

    Args:
        arrangement: of all images that are in the data root now.
        groups: of all keys, those of earlier imports too.
        earlier_lists: the splits of an earlier import. Their keys do not move.
        use_published: keep the published splits of the data set. Otherwise all are drawn.
        shares: of training and validation among the drawn keys.
        seed: of the draw.
    """
    keys = {image.key: image for image in arrangement.images}
    list_of_key = {key: name for name in NAMES for key in earlier_lists.get(name, ())}
    remarks = []
    if use_published and arrangement.published:
        own = {key: name for key, name in arrangement.published.items() if key not in list_of_key}
        remarks += _complete_lists(own, keys, arrangement.published, groups, shares, seed)
        list_of_key |= own
    _add_keys_of_listed_groups(list_of_key, keys, groups)
    rest = [image for key, image in keys.items() if key not in list_of_key]
    if rest:
        list_of_key |= _draw_lists(rest, groups, shares, seed)
    lists = {
        name: tuple(sorted(k for k, at in list_of_key.items() if at == name)) for name in NAMES
    }
    if split := groups_in_several_lists(groups, lists):
        group, names = next(iter(split.items()))
        remarks.append(
            f"{len(split)} groups (a person, a prompt, a video) are in several lists, such as "
            f"{group} in {' and '.join(names)}. --redraw draws lists that keep groups together."
        )
    return lists, remarks


def _complete_lists(
    drawn_lists: dict[str, str],
    keys: Mapping[str, Image],
    published_lists: Mapping[str, str],
    groups: Mapping[str, str],
    shares: tuple[float, float],
    seed: int,
) -> list[str]:
    """Give each source with two published lists its third; change `drawn_lists`, return remarks."""
    names: dict[str, set[str]] = defaultdict(set)
    for key, name in published_lists.items():
        names[keys[key].method].add(name)
    untested = {source for source, has in names.items() if "val" in has and "test" not in has}
    drawn_lists.update(
        (key, "test")
        for key, name in drawn_lists.items()
        if name == "val" and keys[key].method in untested
    )
    unchecked = {
        source for source, has in names.items()
        if "train" in has and ("val" not in has or source in untested)
    }  # fmt: skip
    learning = [
        keys[key]
        for key, name in drawn_lists.items()
        if name == "train" and keys[key].method in unchecked and sum(shares) > 0
    ]
    if learning:
        train = round(shares[0] / sum(shares), 6)
        drawn_lists |= _draw_lists(learning, groups, (train, round(1 - train, 6)), seed)
    drawn = sum(drawn_lists[image.key] == "val" for image in learning)
    return [
        *(
            [f"{_shorten_names(untested)}: the published validation list is used as the test list"]
            if untested
            else []
        ),
        *(
            [
                f"{_shorten_names(unchecked)}: no published validation list is left, so {drawn} of "
                f"{len(learning)} training images are used for validation"
            ]
            if learning
            else []
        ),
    ]


def _shorten_names(sources: set[str]) -> str:
    names = sorted(sources)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if names[SHOWN:] else "")


def _add_keys_of_listed_groups(
    list_of_key: dict[str, str], keys: Mapping[str, Image], groups: Mapping[str, str]
) -> None:
    """Put keys into the split of other keys of their group."""
    of_group: dict[str, str] = {}
    for key, name in list_of_key.items():
        group = groups.get(key)
        if group is not None:
            first = of_group.setdefault(group, name)
            of_group[group] = min(first, name, key=STRICTEST.index)
    for key in keys:
        if key not in list_of_key and (name := of_group.get(groups.get(key, ""), "")):
            list_of_key[key] = name


def _draw_lists(
    images: Iterable[Image], groups: Mapping[str, str], shares: tuple[float, float], seed: int
) -> dict[str, str]:
    lists = make_splits(images, seed=seed, shares=shares, groups=groups or None)
    return {key: name for name, keys in lists.items() for key in keys}
