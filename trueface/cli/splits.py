"""`trueface splits`: divide images into three lists, make a split smaller, check one for leaks."""

import json
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import click

from launcher.api import JobError, UsageError, parse_data
from trueface.cli.setting_options import custom_word_options
from trueface.data.attribute_table import CLASSES, FEW, GROUPS_BY, AttributeCounts
from trueface.data.attributes import Attributes, OnMissing, attribute_files
from trueface.data.image_keys import match_lists, short_key
from trueface.data.index import Image, ImageSurvey, dangling_links, describe_links, survey
from trueface.data.splits.split_files import (
    NAMES,
    keys_digest,
    read_lists,
    split_files,
    write_splits,
)
from trueface.data.splits.splitting import (
    SHARES,
    Grouping,
    Lists,
    describe_lacking_classes,
    describe_lacking_sources,
    make_splits,
    merge_groups,
    read_groups,
    subsample,
)
from trueface.data.splits.stray_keys import stray_keys
from trueface.data.vocabulary import BUILT_IN, LAYOUTS, DataIdResolver
from trueface.jobs.flags import read_word_flags
from trueface.runtime import logs
from trueface.runtime.errors import DataError

# rules of --group-by that decode the images
PIXELS = "pixels"
SIMILAR = "similar"


class SplitRequest(NamedTuple):
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


def survey_images(request: SplitRequest) -> ImageSurvey:
    """Return the images of the request's data ID, with what there is to remark on stderr.

    Images behind links that lead nowhere are left out.

    Raises:
        UsageError: no data root is given.
    """
    data_root, vocabulary = _root_and_vocabulary(request)
    data = request.data or _find_first_data_id(data_root, vocabulary)
    test_data = vocabulary.test_data_id(parse_data(data))
    on_disk = survey(data_root, test_data, vocabulary)
    click.echo(f"found {len(on_disk.images)} images of {data}", err=True)
    for remark in on_disk.remarks:
        click.echo(f"warning: {remark}", err=True)
    dangling = dangling_links((image.file for image in on_disk.images), on_disk.links)
    if not dangling:
        return on_disk
    click.echo(
        f"warning: skipped {len(dangling)} images that are broken links, such as "
        f"{describe_links(dangling)}",
        err=True,
    )
    return on_disk.without_files(frozenset(dangling))


def _root_and_vocabulary(request: SplitRequest) -> tuple[Path, DataIdResolver]:
    if request.data_root is None:
        raise UsageError("DATA_ROOT is required: the folder with the images")
    words = read_word_flags(request.subsets, request.modifiers, request.data_root)
    return request.data_root, BUILT_IN.with_words(words).with_layout(request.layout)


def divide_images(request: SplitRequest, grouping: Grouping | None) -> tuple[Lists, ImageSurvey]:
    """Return the images on disk divided into the three lists, and these images.

    Args:
        request: the requested split.
        grouping: of the images, where --attributes names a table.

    Raises:
        UsageError: options that do not go together.
        DataError: attributes that cannot be read, or images without a row in them.
    """
    if request.balance and not (grouping and request.stratify):
        raise UsageError(
            "--balance cells requires --attributes FILE and cannot be combined with --no-stratify"
        )
    on_disk = survey_images(request)
    images = on_disk.images
    _warn_of_empty_classes(images)
    cells = grouping.groups_with_classes(images) if grouping and request.balance else None
    shares = SHARES if request.shares is None else shares_of(request.shares)
    groups = None
    if request.group_by:
        keys = {image.key for image in images}
        groups = groups_by_rules(request.group_by, keys) or {}
        if not {PIXELS, SIMILAR}.isdisjoint(request.group_by):
            # torch takes seconds to import; a split by names alone is made without it
            from trueface.data.splits.near_duplicates import group_equal_pictures

            with progress_bar(len(images)) as progress:
                bindings = group_equal_pictures(
                    images, progress, similar=SIMILAR in request.group_by
                )
            groups = merge_groups(groups, bindings)
        click.echo(
            f"{len(set(groups.values()))} groups of {len(groups)} keys; "
            f"{len(keys) - len(groups)} keys without a group",
            err=True,
        )
        _warn_of_large_group(groups, keys, shares)
    lists = make_splits(
        images,
        seed=request.seed,
        shares=shares,
        stratify=request.stratify,
        groups=groups,
        cells=cells,
    )
    return lists, on_disk


def _warn_of_empty_classes(images: Sequence[Image]) -> None:
    for label, word in ((0, "real"), (1, "fake")):
        if not any(image.label == label for image in images):
            click.echo(
                f"warning: no {word} images. A detector needs both classes for its training.",
                err=True,
            )


def _warn_of_lacking(
    lists: Mapping[str, Collection[str]], images: Sequence[Image], *, do_shares_help: bool
) -> None:
    for sentence in chain(
        describe_lacking_classes(lists, images, do_shares_help=do_shares_help),
        describe_lacking_sources(lists, images),
    ):
        click.echo(f"warning: {sentence}", err=True)


def groups_by_rules(rule_words: Sequence[str], keys: Collection[str]) -> dict[str, str] | None:
    """Return the groups by all rules that read only keys, or None if there is no such rule."""
    rules = [rule for rule in rule_words if rule not in {PIXELS, SIMILAR}]
    return read_groups(rules, keys) if rules else None


def _warn_of_large_group(
    groups: Mapping[str, str], keys: Collection[str], shares: tuple[float, float]
) -> None:
    """Warn if a group is larger than every list should be."""
    group, count = max(Counter(groups.values()).items(), key=itemgetter(1), default=("", 0))
    if count > max(*shares, 1 - sum(shares)) * len(keys):
        click.echo(
            f"warning: group {group} has {count} of {len(keys)} keys, more than the largest list should "
            "have. A rule may join images that have nothing in common.",
            err=True,
        )


@contextmanager
def progress_bar(images: int, label: str = "reading images") -> Iterator[Callable[[int], None]]:
    """Draw a progress bar on a terminal; yield the function to call with the images read."""
    with click.progressbar(
        length=images,
        label=label,
        file=sys.stderr,
        hidden=not (images and sys.stderr.isatty()),
    ) as bar:
        yield bar.update


def lists_from_split(request: SplitRequest, source: Path) -> tuple[Lists, ImageSurvey | None]:
    """Return the lists of a split; with a data root, only their keys with a file, and its images."""
    divides = request.shares is not None or request.group_by or request.balance
    if divides or not request.stratify:
        raise UsageError(
            "--from keeps the lists as they are. Leave out --shares, --group-by, --balance and --no-stratify."
        )
    lists = {name: tuple(dict.fromkeys(keys)) for name, keys in read_lists(source).items()}
    if not lists:
        raise DataError(
            f"no lists found in {source}. Expected {', '.join(f'{name}.json' for name in NAMES)}"
        )
    if request.data_root is None:
        return lists, None
    on_disk = survey_images(request)
    there = {}
    for name, found in match_lists(on_disk.images, lists).items():
        keys, whole = lists[name], {image.key for image in found.images}
        members = frozenset(keys)
        # a file with an exact key matches no other key
        named = whole | {short_key(key) for key in whole - members}
        there[name] = tuple(key for key in keys if key in named)
    return there, on_disk


def grouping_of(request: SplitRequest) -> Grouping | None:
    """Read the attributes that a request names; None where it names none.

    Raises:
        UsageError: no data root is given.
        DataError: a table has a fault; the message has file and line.
    """
    if not request.attributes:
        return None
    if request.data_root is None:
        raise UsageError("--attributes requires DATA_ROOT, the folder with the images")
    with logs.log_to_stderr():
        attributes = Attributes(attribute_files(request.attributes, Path), request.data_root)
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
        raise UsageError(f"--shares {text!r}: expected two fractions, such as 0.8,0.1") from error
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
            f"--subsample {text!r}: expected a number of images such as 100, or a fraction such as 0.1"
        ) from error


def _find_first_data_id(data_root: Path, vocabulary: DataIdResolver) -> str:
    """Return the data ID of all images of the first modifier with a folder, unshared first."""
    for modifier in ("pre", "none", "fb", "tl", "tw"):
        folders = vocabulary.folders(modifier) if modifier != "none" else ("Real", "Fake")
        if any((data_root / folder).is_dir() for folder in folders):
            return f"all:{modifier}"
    return "all:pre"


SCHEMA = 1


@click.command()
@click.argument("data_root", type=click.Path(path_type=Path), required=False)
@click.option("--out", type=click.Path(path_type=Path), help="Folder or .json file to write.")
@click.option("--seed", default=42, show_default=True, help="Seed of every random draw.")
@click.option("--data", help="Data ID of the images.  [default: all original images]")
@click.option(
    "--layout",
    type=click.Choice(list(LAYOUTS)),
    default="auto",
    show_default=True,
    help="Folder layout of DATA_ROOT.",
)
@click.option(
    "--shares",
    metavar="TRAIN,VAL",
    help="Fractions for training and validation. The rest is for the test.  [default: 0.8,0.1]",
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
    help="Keep the images of a group in one list. REGEX has parentheses around the name of the group in a "
    "key. FILE is a .csv or .json file of key and group. pixels joins equal images, similar also nearly "
    "equal ones; both decode every image. Repeat the option to combine rules: images that share a group of "
    "any rule stay together. Equal names are one group, unless the parentheses have names, as in "
    "(?P<camera>[0-9]+).",
)
@click.option(
    "--subsample",
    metavar="N|FRACTION",
    help="Keep N images of each folder, or a fraction such as 0.1.",
)
@click.option(
    "--from",
    "source",
    type=click.Path(path_type=Path),
    help="Start from the lists of this split. With DATA_ROOT, keep only the images that exist there.",
)
@click.option("--force", is_flag=True, help="Overwrite an existing split in OUT.")
@click.option(
    "--check",
    type=click.Path(path_type=Path),
    help="Check this split for leaks and write nothing. The exit code is 1 if leaks are found.",
)
@click.option(
    "--content/--no-content",
    default=True,
    help="With --check: decode every image to find identical images.  [default: content]",
)
@click.option(
    "--similar",
    is_flag=True,
    help="With --check: also find near-duplicates (saved again, resized, brightened, mirrored, "
    "cropped by 3 %).",
)
@click.option(
    "--attributes",
    metavar="FILE[,FILE]",
    default="",
    help="CSV files with the group of people of each image. The images of each group and class are "
    "counted, and small groups are listed.",
)
@click.option(
    "--groups-by",
    metavar="COLUMN",
    default=GROUPS_BY,
    show_default=True,
    help="Column of the groups in --attributes: intersec, gender, race, or your own.",
)
@click.option(
    "--missing-attributes",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="With --attributes: stop at an image without a row, or use the group unknown for it.",
)
@click.option(
    "--balance",
    type=click.Choice(["cells"]),
    help="With --attributes: split each subgroup (group × class) by these fractions, folder by folder.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@custom_word_options
def splits(**option_values: Any) -> None:
    """Split images into training, validation and test lists.

    The images are in DATA_ROOT. By default the lists get 80, 10 and 10 % of each folder. Re-shared
    copies of an image are in the same list.

    \b
    Examples:
      trueface splits data --out splits --group-by '/prompt([0-9]+)_'
      trueface splits faces --out splits --group-by '/([0-9]{3})(?:_([0-9]{3}))?/'
      trueface splits --from splits --subsample 100 --out splits_subsampled
      trueface splits data --check splits
    """
    request = SplitRequest(**option_values)
    if request.check is None:
        _make(request)
    else:
        _check_split(request, request.check)


def _make(request: SplitRequest) -> None:
    if request.out is None:
        raise UsageError("--out is required: a folder for the lists, or a .json file for all three")
    grouping = grouping_of(request)
    on_disk: ImageSurvey | None = None
    if request.source is None:
        lists, on_disk = divide_images(request, grouping)
    else:
        lists, on_disk = lists_from_split(request, request.source)
    if request.subsample is not None:
        lists = subsample(lists, amount=subsample_size(request.subsample), seed=request.seed)
    cells = _cells(grouping, lists, on_disk)
    for name in (name for name, keys in lists.items() if not keys):
        click.echo(f"warning: the list {name} is empty", err=True)
    if on_disk is not None:
        _warn_of_lacking(lists, on_disk.images, do_shares_help=not request.group_by)
    if _has_same_lists(request.out, lists, force=request.force):
        click.echo(f"{request.out} already contains this split", err=True)
    else:
        write_splits(request.out, lists)
    counts = {name: len(keys) for name, keys in lists.items()}
    if request.as_json:
        click.echo(json.dumps({"schema": SCHEMA, **counts, **_as_json(cells)}, ensure_ascii=False))
        return
    for name, count in counts.items():
        click.echo(f"{name}\t{count}")
    _print_group_counts(cells)


def _check_split(request: SplitRequest, split_path: Path) -> None:
    if request.out is not None or request.source is not None or request.subsample is not None:
        raise UsageError("--check writes nothing. Leave out --out, --from and --subsample.")
    data_root, vocabulary = _root_and_vocabulary(request)
    on_disk, lists = survey_images(request), read_lists(split_path)
    if not lists:
        raise DataError(
            f"no lists found in {split_path}. Expected {', '.join(f'{name}.json' for name in NAMES)}"
        )
    _warn_of_lacking(lists, on_disk.images, do_shares_help=False)
    # torch takes seconds to import; a split is made without it
    from trueface.data.splits.split_checks import examine

    cells = _cells(grouping_of(request), lists, on_disk)
    keys = {key for members in lists.values() for key in members}
    similar = request.similar or SIMILAR in request.group_by
    content = request.content or similar or PIXELS in request.group_by
    with progress_bar(len(on_disk.images) if content else 0) as progress:
        sound = examine(
            lists,
            on_disk,
            groups=groups_by_rules(request.group_by, keys),
            content=content,
            similar=similar,
            progress=progress,
            find_stray=partial(stray_keys, data_root=data_root, vocabulary=vocabulary),
        )
    if request.as_json:
        click.echo(json.dumps({**sound.as_json(), **_as_json(cells)}, ensure_ascii=False))
    else:
        for row in sound.rows():
            click.echo("\t".join(row))
        _print_group_counts(cells)
    if sound.leaks:
        raise JobError(
            f"{sound.leaks} leaks between the lists of {split_path}. Make a new split with --group-by: "
            "pixels keeps equal images in one list, similar also nearly equal images."
        )


def _cells(
    grouping: Grouping | None, lists: Mapping[str, Collection[str]], on_disk: ImageSurvey | None
) -> dict[str, AttributeCounts] | None:
    """Return the images of each list by group and class; warn of groups with few."""
    if grouping is None or on_disk is None:
        return None
    cells = grouping.count_lists(lists, on_disk.images)
    for name, of_list in cells.items():
        if few := of_list.small_groups:
            shown = ", ".join(
                f"{group} ({real} real, {fake} fake)" for group, (real, fake) in few.items()
            )
            click.echo(f"warning: fewer than {FEW} images of a class in {name}: {shown}", err=True)
    return cells


def _as_json(cells: Mapping[str, AttributeCounts] | None) -> dict[str, Any]:
    if cells is None:
        return {}
    counts = {
        name: {group: dict(zip(CLASSES, pair, strict=True)) for group, pair in each.counts.items()}
        for name, each in cells.items()
    }
    return {"groups": counts, "few": {name: [*each.small_groups] for name, each in cells.items()}}


def _print_group_counts(cells: Mapping[str, AttributeCounts] | None) -> None:
    if cells is None:
        return
    click.echo("\t".join(("list", "group", *CLASSES)))
    for name, each in cells.items():
        for group, pair in each.counts.items():
            click.echo("\t".join((name, group, *map(str, pair))))


def _has_same_lists(out_folder: Path, lists: Lists, *, force: bool) -> bool:
    """Return whether `out_folder` holds the same lists; refuse another split, unless forced."""
    files = [file for file in split_files(out_folder) if file.exists()]
    if not files:
        return False
    try:
        there = {name: keys_digest(keys) for name, keys in read_lists(out_folder).items()}
    except DataError:
        there = {}
    same = there == {name: keys_digest(keys) for name, keys in lists.items()}
    if not (same or force):
        raise UsageError(
            f"{out_folder} holds another split ({', '.join(file.name for file in files)}); "
            "--force replaces it, or name another --out"
        )
    return same
