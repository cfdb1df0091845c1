"""`trueface splits`: divide images into three lists, make a split smaller, check one for leaks."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from launcher.api import JobError, UsageError
from trueface.cli.run_job import own_words
from trueface.cli.split_lists import (
    PIXELS,
    SIMILAR,
    SplitRequest,
    divided,
    grouping_of,
    groups_by_rules,
    progress_bar,
    subsample_size,
    survey_images,
    taken,
)
from trueface.data.attributes.cells import CLASSES, FEW, GROUPS_BY, Cells
from trueface.data.index import Survey
from trueface.data.splits.make_splits import Grouping, Lists, subsample
from trueface.data.splits.splits import NAMES, digest, read_lists, split_files, write_splits
from trueface.data.vocabulary import LAYOUTS
from trueface.runtime.errors import DataError

SCHEMA = 1


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
    metavar="N|FRACTION",
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
@click.option(
    "--attributes",
    metavar="FILE[,FILE]",
    default="",
    help="CSV files that say which group of people each image shows: the images of each group and class "
    "are counted, and groups of few are named.",
)
@click.option(
    "--groups-by",
    metavar="COLUMN",
    default=GROUPS_BY,
    show_default=True,
    help="With --attributes: intersec, gender, race, or a column of your own.",
)
@click.option(
    "--missing-attributes",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="With --attributes: stop at an image without a row, or count it as of a group unknown.",
)
@click.option(
    "--balance",
    type=click.Choice(["cells"]),
    help="With --attributes: split each group × class by these fractions, and each folder within it.",
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
    request = SplitRequest(**given)
    if request.check is None:
        _make(request)
    else:
        _check(request, request.check)


def _make(request: SplitRequest) -> None:
    if request.out is None:
        raise UsageError("--out is needed: a folder for the lists, or a .json file for all three")
    grouping = grouping_of(request)
    on_disk: Survey | None = None
    if request.source is None:
        lists, on_disk = divided(request, grouping)
    else:
        lists, on_disk = taken(request, request.source)
    if request.subsample is not None:
        lists = subsample(lists, wanted=subsample_size(request.subsample), seed=request.seed)
    cells = _cells(grouping, lists, on_disk)
    for name in (name for name, keys in lists.items() if not keys):
        click.echo(f"warning: the list {name} is empty", err=True)
    if _holds(request.out, lists, force=request.force):
        click.echo(f"{request.out} holds this split already", err=True)
    else:
        write_splits(request.out, lists)
    counts = {name: len(keys) for name, keys in lists.items()}
    if request.as_json:
        click.echo(json.dumps({"schema": SCHEMA, **counts, **_as_json(cells)}, ensure_ascii=False))
        return
    for name, count in counts.items():
        click.echo(f"{name}\t{count}")
    _show(cells)


def _check(request: SplitRequest, split_path: Path) -> None:
    if request.out is not None or request.source is not None or request.subsample is not None:
        raise UsageError("--check only looks: leave --out, --from and --subsample out")
    on_disk, lists = survey_images(request), read_lists(split_path)
    if not lists:
        raise DataError(f"no lists in {split_path}: looked for {', '.join(NAMES)}")
    # torch takes seconds to import; a split is made without it
    from trueface.data.splits.checks import examine

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
        )
    if request.as_json:
        click.echo(json.dumps({**sound.as_json(), **_as_json(cells)}, ensure_ascii=False))
    else:
        for row in sound.rows():
            click.echo("\t".join(row))
        _show(cells)
    if sound.leaks:
        raise JobError(
            f"{sound.leaks} leaks from one list of {split_path} into another; a split made anew "
            "with --group-by keeps together what its rules bind (pixels: equal images; similar: "
            "also nearly equal ones)"
        )


def _cells(
    grouping: Grouping | None, lists: Mapping[str, Collection[str]], on_disk: Survey | None
) -> dict[str, Cells] | None:
    """Return the images of each list by group and class; warn of groups with few."""
    if grouping is None or on_disk is None:
        return None
    cells = grouping.of_lists(lists, on_disk.images)
    for name, of_list in cells.items():
        if few := of_list.few:
            shown = ", ".join(
                f"{group} ({real} real, {fake} fake)" for group, (real, fake) in few.items()
            )
            click.echo(f"warning: fewer than {FEW} images of a class in {name}: {shown}", err=True)
    return cells


def _as_json(cells: Mapping[str, Cells] | None) -> dict[str, Any]:
    if cells is None:
        return {}
    counts = {
        name: {group: dict(zip(CLASSES, pair, strict=True)) for group, pair in each.counts.items()}
        for name, each in cells.items()
    }
    return {"groups": counts, "few": {name: [*each.few] for name, each in cells.items()}}


def _show(cells: Mapping[str, Cells] | None) -> None:
    if cells is None:
        return
    click.echo("\t".join(("list", "group", *CLASSES)))
    for name, each in cells.items():
        for group, pair in each.counts.items():
            click.echo("\t".join((name, group, *map(str, pair))))


def _holds(out: Path, lists: Lists, *, force: bool) -> bool:
    """Return whether `out` holds the same lists; refuse another split, unless forced."""
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
