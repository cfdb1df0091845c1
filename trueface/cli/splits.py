"""`trueface splits`: divide images into three lists, make a split smaller, check one for leaks."""

import json
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from launcher.api import JobError, UsageError, parse_data
from trueface.cli.run_job import own_words
from trueface.data.folder_names import LAYOUTS
from trueface.data.index import Image, Survey, survey
from trueface.data.splits.groups import joined, read_groups
from trueface.data.splits.make_splits import SHARES, Lists, make_splits, subsample
from trueface.data.splits.matching import match, short_key
from trueface.data.splits.splits import NAMES, digest, read_lists, split_files, write_splits
from trueface.data.vocabulary import BUILT_IN, Vocabulary
from trueface.jobs.flags import read_word_flags
from trueface.runtime.errors import DataError

SCHEMA = 1
PIXELS, SIMILAR = "pixels", "similar"  # rules of --group-by that look at the images


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a command line asks for; see its help."""

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
    as_json: bool
    subsets: tuple[str, ...]
    modifiers: tuple[str, ...]


@click.command()
@click.argument("data_root", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder or .json file to write.")
@click.option("--seed", default=42, show_default=True, help="Seed of every random draw.")
@click.option("--data", help="Data ID of the images.  [default: all unshared images]")
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default="auto",
    help="Folder layout of DATA_ROOT.",
)
@click.option(
    "--shares",
    metavar="TRAIN,VAL",
    help="Fractions for training and validation; the rest is for testing.  [default: 0.8,0.1]",
)
@click.option(
    "--stratify/--no-stratify",
    default=True,
    help="Split each folder by these fractions, or all images together.  [default: stratify]",
)
@click.option(
    "--group-by",
    metavar="REGEX|FILE|pixels|similar",
    multiple=True,
    help="Keep groups of images in one list: by the (group) of a regular expression in the keys; by a .csv "
    "or .json file of key and group; by equal pixels, or by pictures that are nearly the same, for "
    "which every image is decoded. May be given again.",
)
@click.option(
    "--subsample",
    metavar="N|SHARE",
    help="Keep N images of each folder, or a fraction such as 0.1.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Start from the lists of this split; with DATA_ROOT, from those of its images that exist there.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing split in OUT.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    help="Check this split for leaks and write nothing. The exit code is 1 if there are any.",
)
@click.option(
    "--content/--no-content",
    default=True,
    help="With --check: decode every image to find identical ones, or not.  [default: content]",
)
@click.option(
    "--similar",
    is_flag=True,
    help="With --check: also find near-duplicates (saved again, resized, brightened, mirrored, "
    "cropped by 3 %).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@own_words
def splits(**given: Any) -> None:
    """Split the images below DATA_ROOT into train.json, val.json and test.json.

    By default 80, 10 and 10 % of each folder; shared copies of an image go into the same list.

    \b
    trueface splits data --out splits --group-by '/prompt([0-9]+)_'
    trueface splits --from splits --subsample 100 --out splits_subsampled
    trueface splits data --check splits
    """  # noqa: D301  # click keeps the lines after a real backspace as they are
    wish = Wish(**given)
    if wish.check is None:
        _make(wish)
    else:
        _check(wish, wish.check)


def _make(wish: Wish) -> None:
    if wish.out is None:
        raise UsageError("--out is needed: a folder for the lists, or a .json file for all three")
    lists = _divided(wish) if wish.source is None else _taken(wish, wish.source)
    if wish.subsample is not None:
        lists = subsample(lists, wanted=_wanted(wish.subsample), seed=wish.seed)
    for name in (name for name, keys in lists.items() if not keys):
        click.echo(f"warning: the list {name} is empty", err=True)
    if _holds(wish.out, lists, force=wish.force):
        click.echo(f"{wish.out} holds this split already", err=True)
    else:
        write_splits(wish.out, lists)
    counts = {name: len(keys) for name, keys in lists.items()}
    if wish.as_json:
        click.echo(json.dumps({"schema": SCHEMA, **counts}))
    for name, count in counts.items() if not wish.as_json else ():
        click.echo(f"{name}\t{count}")


def _check(wish: Wish, split_path: Path) -> None:
    if wish.out is not None or wish.source is not None or wish.subsample is not None:
        raise UsageError("--check only looks: leave --out, --from and --subsample out")
    on_disk, lists = _survey(wish), read_lists(split_path)
    if not lists:
        raise DataError(f"no lists in {split_path}: looked for {', '.join(NAMES)}")
    # torch takes seconds to import; a split is made without it
    from trueface.data.splits.checks import examine

    keys = {key for members in lists.values() for key in members}
    similar = wish.similar or SIMILAR in wish.group_by
    content = wish.content or similar or PIXELS in wish.group_by
    with _progress(len(on_disk.images) if content else 0) as progress:
        sound = examine(
            lists,
            on_disk,
            groups=_groups(wish.group_by, keys),
            content=content,
            similar=similar,
            progress=progress,
        )
    if wish.as_json:
        click.echo(json.dumps(sound.as_json(), ensure_ascii=False))
    for cells in sound.rows() if not wish.as_json else ():
        click.echo("\t".join(cells))
    if sound.leaks:
        raise JobError(
            f"{sound.leaks} leaks from one list of {split_path} into another; a split made anew "
            "with --group-by keeps together what its rules bind (pixels: equal images; similar: "
            "also nearly equal ones)"
        )


def _survey(wish: Wish) -> Survey:
    if wish.data_root is None:
        raise UsageError("DATA_ROOT is needed: the folder with the images")
    words = read_word_flags(wish.subsets, wish.modifiers)
    vocabulary = BUILT_IN.with_words(words).with_layout(wish.layout)
    data = wish.data or _unshared(wish.data_root, vocabulary)
    wanted = vocabulary.as_named(parse_data(data))
    on_disk = survey(wish.data_root, wanted, vocabulary)
    click.echo(f"{len(on_disk.images)} images found of {data}", err=True)
    for remark in on_disk.remarks:
        click.echo(f"warning: {remark}", err=True)
    return on_disk


def _divided(wish: Wish) -> Lists:
    images = _there(_survey(wish).images)
    groups = None
    if wish.group_by:
        keys = {image.key for image in images}
        groups = _groups(wish.group_by, keys) or {}
        if not {PIXELS, SIMILAR}.isdisjoint(wish.group_by):
            # as above
            from trueface.data.splits.near_duplicates import bound

            with _progress(len(images)) as progress:
                bindings = bound(images, progress, similar=SIMILAR in wish.group_by)
            groups = joined(groups, bindings)
        click.echo(
            f"{len(set(groups.values()))} groups of {len(groups)} keys; "
            f"{len(keys) - len(groups)} keys of none",
            err=True,
        )
    shares = SHARES if wish.shares is None else _shares(wish.shares)
    return make_splits(images, seed=wish.seed, shares=shares, stratify=wish.stratify, groups=groups)


def _there(images: Sequence[Image]) -> Sequence[Image]:
    """Return the images but for links that lead nowhere; say what is left out, and what lacks."""
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


def _groups(given: Sequence[str], keys: Collection[str]) -> dict[str, str] | None:
    """Return groups by all rules but those that look at images; None where there is no other.

    What two rules call alike are two groups, unless some key is in both.
    """
    rules = [rule for rule in given if rule not in {PIXELS, SIMILAR}]
    if len(rules) < 2:
        return read_groups(rules[0], keys) if rules else None
    many = ((rule, read_groups(rule, keys)) for rule in rules)
    return joined(
        *({key: f"{rule} {group}" for key, group in by_key.items()} for rule, by_key in many)
    )


@contextmanager
def _progress(images: int) -> Iterator[Callable[[int], None]]:
    """Give what to tell the number of images that were read, for a bar on a terminal."""
    with click.progressbar(
        length=images,
        label="reading images",
        file=sys.stderr,
        hidden=not (images and sys.stderr.isatty()),
    ) as bar:
        yield bar.update


def _taken(wish: Wish, source: Path) -> Lists:
    """Return the lists of a split, or what of them is on disk."""
    if wish.shares is not None or wish.group_by or not wish.stratify:
        raise UsageError("--from keeps lists as they are: no --shares, --group-by, --no-stratify")
    lists = {name: tuple(dict.fromkeys(keys)) for name, keys in read_lists(source).items()}
    if not lists:
        raise DataError(f"no lists in {source}: looked for {', '.join(NAMES)}")
    if wish.data_root is None:
        return lists
    images, there = _survey(wish).images, {}
    for name, keys in lists.items():
        others = frozenset(key for other in lists if other != name for key in lists[other])
        chosen = match(images, frozenset(keys), others).images
        whole, members = {image.key for image in chosen}, frozenset(keys)
        # a file of its own name stands for no other key
        named = whole | {short_key(key) for key in whole - members}
        there[name] = tuple(key for key in keys if key in named)
    return there


def _shares(text: str) -> tuple[float, float]:
    try:
        train, val = (float(Fraction(fraction)) for fraction in text.split(","))
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(f"--shares {text!r}: write it as 0.8,0.1") from error
    return train, val


def _wanted(text: str) -> int | Fraction:
    try:
        return int(text) if text.isdecimal() else Fraction(text)
    except (ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"--subsample {text!r}: a number of images such as 100, or a share such as 0.1"
        ) from error


def _holds(out: Path, lists: Lists, *, force: bool) -> bool:
    """Tell whether these very lists are there already; refuse another split, unless forced."""
    files = [file for file in split_files(out) if file.exists()]
    if not files:
        return False
    try:
        there = {name: digest(keys) for name, keys in read_lists(out).items()}
    except DataError:
        there = {}
    same = there == {name: digest(keys) for name, keys in lists.items()}
    if not (same or force):
        raise UsageError(
            f"{out} holds another split ({', '.join(file.name for file in files)}); "
            "--force replaces it, or name another --out"
        )
    return same


def _unshared(data_root: Path, vocabulary: Vocabulary) -> str:
    """Return the data ID of all images of the first modifier that is there, unshared first."""
    for modifier in ("pre", "none", "fb", "tl", "tw"):
        folders = vocabulary.folders(modifier) if modifier != "none" else ("Real", "Fake")
        if any((data_root / folder).is_dir() for folder in folders):
            return f"all:{modifier}"
    return "all:pre"
