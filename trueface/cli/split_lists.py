"""The lists that `trueface splits` makes: divided anew, or taken from another split."""

import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import click

from launcher.api import UsageError, parse_data
from trueface.data.attributes.attributes import Attributes, OnMissing, attribute_files
from trueface.data.index import Image, Survey, survey
from trueface.data.splits.groups import joined, read_groups
from trueface.data.splits.make_splits import SHARES, Grouping, Lists, make_splits
from trueface.data.splits.matching import match, short_key
from trueface.data.splits.splits import NAMES, read_lists
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.jobs.flags import read_word_flags
from trueface.runtime import logs
from trueface.runtime.errors import DataError

# rules of --group-by that decode the images
PIXELS = "pixels"
SIMILAR = "similar"


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitRequest:
    """The arguments of a command line; see its help."""

    data_root: Path | None
    out: Path | None
    seed: int
    data: str | None
    layout: str
    shares: str | None
    stratify: bool
    group_by: tuple[str, ...]
    subsample: str | None
    source: Path | None
    force: bool
    check: Path | None
    content: bool
    similar: bool
    attributes: str
    groups_by: str
    missing_attributes: OnMissing
    balance: str | None
    as_json: bool
    subsets: tuple[str, ...]
    modifiers: tuple[str, ...]


def survey_images(request: SplitRequest) -> Survey:
    """Return the images of the request's data ID, with what there is to remark on stderr.

    Raises:
        UsageError: no data root is given.
    """
    if request.data_root is None:
        raise UsageError("DATA_ROOT is needed: the folder with the images")
    words = read_word_flags(request.subsets, request.modifiers, request.data_root)
    vocabulary = BUILT_IN.with_words(words).with_layout(request.layout)
    data = request.data or _unshared(request.data_root, vocabulary)
    wanted = vocabulary.as_named(parse_data(data))
    on_disk = survey(request.data_root, wanted, vocabulary)
    click.echo(f"{len(on_disk.images)} images found of {data}", err=True)
    for remark in on_disk.remarks:
        click.echo(f"warning: {remark}", err=True)
    return on_disk


def divided(request: SplitRequest, grouping: Grouping | None) -> tuple[Lists, Survey]:
    """Return the images on disk divided into the three lists, and these images.

    Args:
        request: what was asked for.
        grouping: of the images, where --attributes names a table.

    Raises:
        UsageError: options that do not go together.
        DataError: attributes that cannot be read, or images without a row in them.
    """
    if request.balance and not (grouping and request.stratify):
        raise UsageError(
            "--balance cells needs --attributes FILE, and does not go with --no-stratify"
        )
    on_disk = survey_images(request)
    images = _there(on_disk.images)
    cells = grouping.cells_of_keys(images) if grouping and request.balance else None
    groups = None
    if request.group_by:
        keys = {image.key for image in images}
        groups = groups_by_rules(request.group_by, keys) or {}
        if not {PIXELS, SIMILAR}.isdisjoint(request.group_by):
            # torch takes seconds to import; a split by names alone is made without it
            from trueface.data.splits.near_duplicates import bound

            with progress_bar(len(images)) as progress:
                bindings = bound(images, progress, similar=SIMILAR in request.group_by)
            groups = joined(groups, bindings)
        click.echo(
            f"{len(set(groups.values()))} groups of {len(groups)} keys; "
            f"{len(keys) - len(groups)} keys of none",
            err=True,
        )
    shares = SHARES if request.shares is None else shares_of(request.shares)
    lists = make_splits(
        images,
        seed=request.seed,
        shares=shares,
        stratify=request.stratify,
        groups=groups,
        cells=cells,
    )
    return lists, on_disk


def _there(images: Sequence[Image]) -> Sequence[Image]:
    """Return the images without dangling links; warn of those, and of a class without images."""
    # os.path, as a Path for each of 200,000 takes longer than to look at its file
    there = [image for image in images if os.path.exists(image.file)]  # noqa: PTH110
    if left_out := len(images) - len(there):
        first = next(image.file for image in images if not os.path.exists(image.file))  # noqa: PTH110
        click.echo(
            f"warning: {left_out} images left out, links that lead nowhere, such as {first}",
            err=True,
        )
    for label, word in ((0, "real"), (1, "fake")):
        if not any(image.label == label for image in there):
            click.echo(
                f"warning: no {word} image: a detector cannot be trained on this split alone",
                err=True,
            )
    return there


def groups_by_rules(given: Sequence[str], keys: Collection[str]) -> dict[str, str] | None:
    """Return the groups by all rules that read keys only; None if there is no such rule.

    Groups of two rules with the same name stay apart, unless a key is in both.
    """
    rules = [rule for rule in given if rule not in {PIXELS, SIMILAR}]
    if len(rules) < 2:
        return read_groups(rules[0], keys) if rules else None
    many = ((rule, read_groups(rule, keys)) for rule in rules)
    return joined(
        *({key: f"{rule} {group}" for key, group in by_key.items()} for rule, by_key in many)
    )


@contextmanager
def progress_bar(images: int) -> Iterator[Callable[[int], None]]:
    """Draw a progress bar on a terminal; yield the function to call with the images read."""
    with click.progressbar(
        length=images,
        label="reading images",
        file=sys.stderr,
        hidden=not (images and sys.stderr.isatty()),
    ) as bar:
        yield bar.update


def taken(request: SplitRequest, source: Path) -> tuple[Lists, Survey | None]:
    """Return the lists of a split; with a data root, only their keys with a file, and its images."""
    divides = request.shares is not None or request.group_by or request.balance
    if divides or not request.stratify:
        raise UsageError(
            "--from keeps lists as they are: no --shares, --group-by, --balance, --no-stratify"
        )
    lists = {name: tuple(dict.fromkeys(keys)) for name, keys in read_lists(source).items()}
    if not lists:
        raise DataError(f"no lists in {source}: looked for {', '.join(NAMES)}")
    if request.data_root is None:
        return lists, None
    on_disk = survey_images(request)
    images, there = on_disk.images, {}
    for name, keys in lists.items():
        others = frozenset(key for other in lists if other != name for key in lists[other])
        chosen = match(images, frozenset(keys), others).images
        whole, members = {image.key for image in chosen}, frozenset(keys)
        # a file of its own name stands for no other key
        named = whole | {short_key(key) for key in whole - members}
        there[name] = tuple(key for key in keys if key in named)
    return there, on_disk


def grouping_of(request: SplitRequest) -> Grouping | None:
    """Read the attributes that a request names; None where it names none.

    Raises:
        UsageError: no data root is given.
        DataError: what is wrong in a table, with file and line.
    """
    if not request.attributes:
        return None
    if request.data_root is None:
        raise UsageError("--attributes needs DATA_ROOT: the folder with the images")
    with logs.shown():
        attributes = Attributes.read(attribute_files(request.attributes, Path), request.data_root)
    return Grouping(
        attributes=attributes,
        data_root=request.data_root,
        by=request.groups_by,
        missing=request.missing_attributes,
    )


def shares_of(text: str) -> tuple[float, float]:
    """Return the fractions for training and validation.

    Raises:
        UsageError: `text` is not written as 0.8,0.1.
    """
    try:
        train, val = (float(Fraction(fraction)) for fraction in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--shares {text!r}: write it as 0.8,0.1") from error
    return train, val


def subsample_size(text: str) -> int | Fraction:
    """Return a number of images, or a fraction of each folder.

    Raises:
        UsageError: neither can be read from `text`.
    """
    try:
        return int(text) if text.isdecimal() else Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"--subsample {text!r}: a number of images such as 100, or a fraction such as 0.1"
        ) from error


def _unshared(data_root: Path, vocabulary: Vocabulary) -> str:
    """Return the data ID of all images of the first modifier with a folder, unshared first."""
    for modifier in ("pre", "none", "fb", "tl", "tw"):
        folders = vocabulary.folders(modifier) if modifier != "none" else ("Real", "Fake")
        if any((data_root / folder).is_dir() for folder in folders):
            return f"all:{modifier}"
    return "all:pre"
