"""How keys are divided into the three lists of a split, and how a split is made smaller.

Keys are sorted before they are shuffled, so that the result depends on the keys and the seed alone.
Keys of one group are never in two lists. All copies of an image have one key, and groups may
contain more, such as the images of one prompt or of one identity (see `imports.arrangement`).

A rule determines the groups of keys. It is a regular expression with parentheses around each name,
such as `/prompt([0-9]+)_`, or a table. A table is a CSV file of key and group, or a JSON object key
→ group.

Cells are the groups and classes of keys, counted by list.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

from trueface.data.attribute_table import CLASSES, UNKNOWN, AttributeCounts
from trueface.data.attributes import Attributes, OnMissing, paths_below
from trueface.data.group_names import unify_names
from trueface.data.image_keys import match_lists, method_of
from trueface.data.index import Image
from trueface.data.splits.split_files import NAMES
from trueface.data.tables import open_table, parse_rows, read_csv
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json
from trueface.runtime.rng import python_rng, seeded_python_rng

TABLES = frozenset({".csv", ".json"})


class _RuleGroups(NamedTuple):
    """The groups that one pair of parentheses, or one table, names."""

    kind: str  # the name of the parentheses; "" if they have none, and for tables
    by_key: Mapping[str, str]


def read_groups(rules: Sequence[str], keys: Collection[str]) -> dict[str, str]:
    """Return the group of each key that has one; keys that share a group of any rule are together.

    Equal names mean the same group, whichever rule they come from. Parentheses with a name, such as
    `(?P<camera>[0-9]+)`, have names of their own.

    Args:
        rules: each a regular expression with parentheses around each name of a group, or the path
        of
            a .csv or .json file.
        keys: of the images at hand.

    Raises:
        DataError: a rule cannot be read, or fits no key.
    """
    every = [part for rule in rules for part in _read_rule(rule, keys)]
    if len({part.kind for part in every}) > 1:  # one kind alone keeps its names as they are
        every = [_with_kind(part) for part in every]
    return merge_groups(*(part.by_key for part in every))


def _read_rule(rule: str, keys: Collection[str]) -> list[_RuleGroups]:
    if Path(rule).suffix in TABLES:
        parts = [_RuleGroups("", _groups_from_table(Path(rule), keys))]
    else:
        parts = _groups_by_expression(rule, keys)
    if not any(part.by_key for part in parts):
        shown = f", such as {min(keys)}" if keys else ""
        raise DataError(f"{rule} finds no group for any of {len(keys)} keys{shown}")
    return parts


def _with_kind(part: _RuleGroups) -> _RuleGroups:
    if not part.kind:
        return part
    return part._replace(by_key={key: f"{part.kind} {name}" for key, name in part.by_key.items()})


def merge_groups(*groupings: Mapping[str, str]) -> dict[str, str]:
    """Return groups by several rules as groups by one: what any rule binds stays together.

    Groups of one name are one group. A joined group is called by the least of its names.
    """
    above: dict[str, str] = {}

    def top(group: str) -> str:
        while above.setdefault(group, group) != group:
            above[group] = group = above[above[group]]  # halves the way for the next time
        return group

    for groups in groupings:
        for key, group in groups.items():
            # a key that an earlier rule has bound binds its group to this one
            ends = sorted((top(group), top(f"key {key}")))
            above[ends[1]] = ends[0]
    keys = {key: None for groups in groupings for key in groups}
    names: dict[str, str] = {}
    for groups in groupings:
        for group in groups.values():
            names[top(group)] = min(names.get(top(group), group), group)
    return {key: names[top(f"key {key}")] for key in keys}


def groups_in_several_lists(
    groups: Mapping[str, str], lists: Mapping[str, Collection[str]]
) -> dict[str, tuple[str, ...]]:
    """Return the groups that have keys in several lists, with the names of the lists."""
    lists_of: dict[str, list[str]] = defaultdict(list)
    for name, keys in lists.items():
        for group in sorted({groups[key] for key in keys if key in groups}):
            lists_of[group].append(name)
    return {group: tuple(names) for group, names in lists_of.items() if len(names) > 1}


def _groups_by_expression(rule: str, keys: Collection[str]) -> list[_RuleGroups]:
    try:
        expression = re.compile(rule)
    except re.error as error:
        raise DataError(f"{rule!r} is not a regular expression: {error}") from error
    if not expression.groups:
        raise DataError(
            f"{rule!r} has no parentheses. Put them around the group in a key, such as '([0-9]+)$'."
        )
    kinds = {number: kind for kind, number in expression.groupindex.items()}
    matches = {key: match for key in keys if (match := expression.search(key))}
    return [
        _RuleGroups(
            kinds.get(number, ""),
            {key: name for key, match in matches.items() if (name := match[number]) is not None},
        )
        for number in range(1, expression.groups + 1)
    ]


def _groups_from_table(path: Path, keys: Collection[str]) -> dict[str, str]:
    rows = _json_rows(path) if path.suffix == ".json" else _csv_rows(path)
    rows = {key.replace("\\", "/"): group for key, group in rows.items()}
    _refuse_other_case(path, rows, keys)
    groups = unify_names(rows.values())
    return {key: groups[rows[key]] for key in keys if rows.get(key) in groups}


def _refuse_other_case(path: Path, rows: Collection[str], keys: Collection[str]) -> None:
    """Refuse rows whose keys differ from those of images in upper and lower case only."""
    lacking = {key.casefold(): key for key in keys if key not in rows}
    strangers = set(rows).difference(keys) if lacking else set()
    other = {row: lacking[row.casefold()] for row in strangers if row.casefold() in lacking}
    if other:
        row, key = min(other.items())
        raise DataError(
            f"{path} has {len(other)} keys in another case, such as {row}. Write {key}."
        )


def _json_rows(path: Path) -> dict[str, str]:
    try:
        with open_table(path) as text:
            content = json.load(text, object_pairs_hook=_unite)
        if not isinstance(content, dict):
            raise ValueError("expected an object with a group for each key")  # noqa: TRY004, TRY301  # of the file, not of our code
    except ValueError as error:
        raise DataError(f"cannot read {path}: {error}") from error
    content = {key: group for key, group in content.items() if group is not None}
    bad = [key for key, group in content.items() if not isinstance(group, str | int)]
    if bad:
        raise DataError(
            f"cannot read {path}: the group of {bad[0]} is not a string or a whole number"
        )
    return {key: str(group) for key, group in content.items()}


def _unite(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    """Return an object of JSON, whose keys may not have two values."""
    united = dict[str, Json]()
    for key, group in pairs:
        if key in united and united[key] != group:
            raise ValueError(f"{key} has a second group, {group}")
        united[key] = group
    return united


def _csv_rows(path: Path) -> dict[str, str]:
    rows: dict[str, str] = {}

    def parse(_: int, cells: list[str]) -> None:
        key, group = (*cells, "")[:2]
        if not key or not group:
            raise ValueError("the row does not have a key and a group")
        if rows.setdefault(key, group) != group:
            raise ValueError(f"{key} has a second group, {group}")

    parse_rows(path, read_csv(path), parse)
    return rows


SHARES = (0.8, 0.1)  # training, validation; the rest is for testing, as in the published splits

Lists = dict[str, tuple[str, ...]]


def make_splits(
    images: Iterable[Image],
    *,
    seed: int,
    shares: tuple[float, float] = SHARES,
    stratify: bool = True,
    groups: Mapping[str, str] | None = None,
    cells: Mapping[str, str] | None = None,
) -> Lists:
    """Divide the keys of images into the three lists.

    Args:
        images: under any modifiers.
        seed: of the shuffle.
        shares: of training and validation, both in [0, 1] with a sum of at most 1.
        stratify: take the same fractions of each folder. Otherwise shuffle all together, as the
            original did: `random.Random(seed).shuffle(sorted keys)`.
        groups: key → group, for keys that must stay together. Every other key is a separate group.
            Shares are then met to within a group, and each list has a group of each class if there
            are enough. A folder that is one group as a whole, such as
            that of a video, cannot be divided: it counts for the folder above it.
        cells: key → cell, such as a group of people and a class. Each cell is divided by these
            fractions, and within it each folder as far as possible.

    Raises:
        DataError: invalid shares.
    """
    train, val = (Fraction(str(share)) for share in shares)
    if not (0 <= train <= 1 and 0 <= val <= 1 and train + val <= 1):
        raise DataError(
            f"shares {shares[0]} and {shares[1]}: expected two fractions from 0 to 1 whose sum is "
            "at most 1"
        )
    images = tuple(images)
    strata = _strata({image.key for image in images}, stratify=stratify)
    if cells is not None:
        strata = _sort_keys_by_cell(strata, cells, seed)
    elif groups and stratify:
        strata = _divisible(strata, groups)
    bounds = (train, train + val)
    if groups:
        labels = defaultdict[str, set[int]](set)
        for image in images:
            labels[image.key].add(image.label)
        lists = _divide_groups(strata, groups, bounds, seed, labels)
    else:
        lists = {name: [] for name in NAMES}
        for folder, keys in strata.items():
            if cells is None:  # else they are in an order of their own
                rng = python_rng(f"splits/{seed}/{folder}") if stratify else seeded_python_rng(seed)
                rng.shuffle(keys)
            for name, chosen in _cut_at_bounds(keys, bounds).items():
                lists[name] += chosen
    # in the order of their folders, and sorted in each, as files are listed
    return {name: tuple(_sort_keys(keys)) for name, keys in lists.items()}


def subsample(lists: Mapping[str, Sequence[str]], *, amount: int | Fraction, seed: int) -> Lists:
    """Return a smaller split: in each folder some of the keys of each list, none moved to another.

    With one seed a smaller one holds nothing that a larger one lacks.

    Args:
        lists: of the split.
        amount: number of keys of each folder, taken from the lists in proportion, or a fraction in
            (0, 1] of each folder of each list.
        seed: of the draw.

    Raises:
        DataError: a share or number that cannot be.
    """
    if amount <= 0 or (isinstance(amount, Fraction) and amount > 1):
        raise DataError(
            f"cannot take {amount} of each folder. Give a number of at least 1, or a fraction up "
            "to 1."
        )
    ranked: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for name, keys in lists.items():
        for folder, members in _strata(set(keys), stratify=True).items():
            # by this rank the first of a folder are of all lists alike, however many are taken
            ranked[folder] += _rank_keys(members, name, f"subsample/{seed}/{name}/{folder}")
    kept: dict[str, list[str]] = {name: [] for name in lists}
    for members_of_all in ranked.values():
        if isinstance(amount, Fraction):
            chosen = [member for member in members_of_all if member[0] < amount]
        else:
            chosen = sorted(members_of_all)[:amount]
        for _, name, key in chosen:
            kept[name].append(key)
    return {name: tuple(_sort_keys(keys)) for name, keys in kept.items()}


def _strata(keys: Collection[str], *, stratify: bool) -> dict[str, list[str]]:
    """Return keys by folder, both sorted; all under "" if they are to be one."""
    if not stratify:
        return {"": sorted(keys)}
    folders: dict[str, list[str]] = defaultdict(list)
    for key in sorted(keys):
        folders[key.rpartition("/")[0]].append(key)
    return {folder: folders[folder] for folder in sorted(folders)}


def _sort_keys_by_cell(
    strata: Mapping[str, list[str]], cells: Mapping[str, str], seed: int
) -> dict[str, list[str]]:
    """Return keys by cell, sorted by it; any share of the first of a cell is that share of each folder."""
    ranked: dict[str, list[tuple[float, str, str]]] = defaultdict(list)
    for folder, keys in strata.items():
        of_cell: dict[str, list[str]] = defaultdict(list)
        for key in keys:
            of_cell[cells[key]].append(key)
        for cell, members in of_cell.items():
            ranked[cell] += _rank_keys(members, folder, f"splits/{seed}/{folder}/{cell}")
    return {cell: [key for _, _, key in sorted(ranked[cell])] for cell in sorted(ranked)}


def _rank_keys(keys: list[str], holder: str, stream: str) -> Iterator[tuple[float, str, str]]:
    """Yield keys in a random order with the share of them that comes before each, and their holder."""
    python_rng(stream).shuffle(keys)
    return (((position + 0.5) / len(keys), holder, key) for position, key in enumerate(keys))


def _divisible(strata: Mapping[str, list[str]], groups: Mapping[str, str]) -> dict[str, list[str]]:
    """Return folders with those that are one group joined to the folder above them."""
    joined: dict[str, list[str]] = defaultdict(list)
    for folder, keys in strata.items():
        first = groups.get(keys[0])
        whole = first is not None and all(groups.get(key) == first for key in keys)
        joined[folder.rpartition("/")[0] if whole and "/" in folder else folder] += keys
    return {folder: sorted(joined[folder]) for folder in sorted(joined)}


def _sort_keys(keys: Iterable[str]) -> list[str]:
    return sorted(keys, key=lambda key: (key.rpartition("/")[0], key))


def _cut_at_bounds(
    keys: Sequence[str], bounds: tuple[Fraction, Fraction]
) -> dict[str, Sequence[str]]:
    first, second = (int(len(keys) * bound) for bound in bounds)
    return dict(zip(NAMES, (keys[:first], keys[first:second], keys[second:]), strict=True))


def _divide_groups(
    strata: Mapping[str, Sequence[str]],
    groups: Mapping[str, str],
    bounds: tuple[Fraction, Fraction],
    seed: int,
    labels: Mapping[str, Collection[int]],
) -> dict[str, list[str]]:
    """Give whole groups, in an order drawn by the seed, to the list that lacks most of their folders."""
    members: dict[tuple[bool, str], list[tuple[str, str]]] = defaultdict(list)
    lacking = {name: Counter[str]() for name in NAMES}
    for folder, keys in strata.items():
        for key in keys:
            members[key in groups, groups.get(key, key)].append((folder, key))
        for name, part in _cut_at_bounds(keys, bounds).items():
            lacking[name][folder] = len(part)
    list_names = {name for name, count in lacking.items() if count.total()}
    fits = min((need for count in lacking.values() if (need := count.total())), default=0)
    order = sorted(members)
    python_rng(f"splits/{seed}/groups").shuffle(order)
    # groups too large for the smallest list go first, while the largest can still take them
    order.sort(key=lambda group: -len(members[group]) if len(members[group]) > fits else 0)
    given: dict[str, list[tuple[bool, str]]] = {name: [] for name in NAMES}
    for group in order:
        folders = Counter(folder for folder, _ in members[group])
        name = max(
            NAMES,
            key=lambda name: sum(lacking[name][folder] * n for folder, n in folders.items()),
        )
        given[name].append(group)
        lacking[name].subtract(folders)
    classes = {
        group: frozenset().union(*(labels[key] for _, key in members[group])) for group in order
    }
    _fill_classes(given, [name for name in NAMES if name in list_names], classes)
    return {name: [key for group in given[name] for _, key in members[group]] for name in NAMES}


def describe_lacking_classes(
    lists: Mapping[str, Collection[str]], images: Iterable[Image], *, do_shares_help: bool
) -> Iterator[str]:
    """Yield a sentence for each list without a class that the images have. Empty lists are left out.

    Args:
        lists: the lists of keys, by name.
        images: those that were divided.
        do_shares_help: whether other shares may give the list this class. With groups they cannot,
            because then each list gets a group of each class if there are enough.
    """
    remedy = "images" if do_shares_help else "images or groups"
    also = ", or use other shares" * do_shares_help
    by_label: dict[int, set[str]] = defaultdict(set)
    for image in images:
        by_label[image.label].add(image.key)
    for name, keys in lists.items():
        lacking = [label for label, of_label in by_label.items() if of_label.isdisjoint(keys)]
        if len(lacking) == 1 and keys:
            yield (
                f"the list {name} has no {CLASSES[lacking[0]]} images. Add {remedy} of this class{also}."
            )


def describe_lacking_sources(
    lists: Mapping[str, Collection[str]], images: Iterable[Image]
) -> Iterator[str]:
    """Yield a sentence for each list without some of the image sources. Empty lists are left out."""
    sources = {image.method for image in images}
    for name, keys in lists.items():
        lacking = sorted(sources.difference(map(method_of, keys)))
        if keys and lacking:
            yield (
                f"the list {name} has no images of {len(lacking)} of {len(sources)} sources, such as "
                f"{lacking[0] or 'images without a folder'}"
            )


Group = tuple[bool, str]  # whether it has a name; the name, or its only key


def _fill_classes(
    groups_by_list: Mapping[str, list[Group]],
    list_names: Sequence[str],
    classes: Mapping[Group, frozenset[int]],
) -> None:
    """Move groups so that each list that should have images has a group of each class, if possible.

    Groups may be large and few. The training list has the first group of a class, validation the second.
    """
    for name in list_names:
        for label in sorted(frozenset().union(*classes.values())):
            if any(label in classes[group] for group in groups_by_list[name]):
                continue
            spare = {other: _spare(groups_by_list[other], label, classes) for other in NAMES}
            donor = max(
                filter(spare.get, NAMES), key=lambda other: len(groups_by_list[other]), default=""
            )
            group = spare[donor][-1] if donor else None
            for other in NAMES[: NAMES.index(name) : -1]:
                if group is None:
                    donor = other
                    group = next(
                        (each for each in groups_by_list[other] if label in classes[each]), None
                    )
            if group is not None:
                groups_by_list[donor].remove(group)
                groups_by_list[name].append(group)


def _spare(
    groups: Sequence[Group], label: int, classes: Mapping[Group, frozenset[int]]
) -> list[Group]:
    """Return the groups of a class without which a list still has one of each of their classes."""
    counts = Counter(each for group in groups for each in classes[group])
    return [
        group
        for group in groups
        if label in classes[group] and all(counts[each] > 1 for each in classes[group])
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Grouping:
    """By which attribute images are grouped."""

    attributes: Attributes
    data_root: Path  # data root of the images, as their files begin
    by: str  # column of the attributes
    missing: OnMissing  # a key without a group: stop, or call it `UNKNOWN`

    def groups_of_keys(self, images: Sequence[Image]) -> dict[str, str]:
        """Return the group of each key: copies of an image share its row.

        Raises:
            UnknownName: there is no such column.
            DataError: keys without a group, where that shall stop.
        """
        paths = paths_below(images, self.data_root)
        known: dict[str, str | None] = {}
        for image, group in zip(images, self.attributes.lookup_groups(self.by, paths), strict=True):
            known[image.key] = known.get(image.key) or group
        if self.missing == "stop":
            pairs = zip(images, paths, strict=True)
            lacking = [path for image, path in pairs if known[image.key] is None]
            self.attributes.values(self.by, lacking, missing="stop")
        return {key: group or UNKNOWN for key, group in known.items()}

    def groups_with_classes(self, images: Sequence[Image]) -> dict[str, str]:
        """Return the group of each key with the classes of its images: "male-white fake"."""
        groups, labels = self.groups_of_keys(images), defaultdict[str, set[int]](set)
        for image in images:
            labels[image.key].add(image.label)
        return {
            key: f"{groups[key]} {'+'.join(CLASSES[label] for label in sorted(of_key))}"
            for key, of_key in labels.items()
        }

    def count_lists(
        self, lists: Mapping[str, Collection[str]], images: Sequence[Image]
    ) -> dict[str, AttributeCounts]:
        """Return how many images of each group and class lists have; copies of one count once.

        Raises:
            UnknownName, DataError: as `groups_of_keys`.
        """
        chosen = {name: each.images for name, each in match_lists(images, lists).items()}
        groups = self.groups_of_keys([image for of_list in chosen.values() for image in of_list])
        cells: dict[str, AttributeCounts] = {}
        for name, of_list in chosen.items():
            once = dict.fromkeys((image.key, image.label) for image in of_list)
            cells[name] = AttributeCounts.from_groups(
                [groups[key] for key, _ in once], [label for _, label in once]
            )
        return cells
