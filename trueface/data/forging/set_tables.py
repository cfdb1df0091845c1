"""Tables, lists and words of a forged set."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trueface.data.attribute_table import (
    EIGHT,
    FORGERY,
    GENDERS,
    INTERSEC,
    LABEL,
    PATH,
    RACES,
    SIGNS,
    SPLIT,
)
from trueface.data.dataset_file import quote_yaml, write_dataset_file
from trueface.data.forging.faces import Face
from trueface.data.forging.plan import REAL_FOLDER, TABLE, ForgingPlan
from trueface.data.forging.registry import SPECS
from trueface.data.splits.split_files import write_splits
from trueface.runtime.files import write_atomic

AUTHORS_TABLES = "csv"
WORD = "forged"  # all images of the set
REAL_WORD = "realFaces"  # a word that begins with real: what trainings add where none is named


def write_tables(folder: Path, root: Path, plan: ForgingPlan) -> None:
    """Write tables, lists and words.

    Args:
        folder: to write in, which will be renamed to `root`.
        root: the data root, absolute.
        plan: what is in the set.
    """
    columns = columns_of(plan)
    rows = list(_rows(plan))
    write_atomic(folder / TABLE, _text(columns, rows))
    if plan.table.has_groups:
        seeds = [name for name in columns if name not in {SPLIT, *plan.table.further}]
        plain = [name for name in seeds if name != FORGERY]
        (folder / AUTHORS_TABLES).mkdir()
        for name in ("train", "val"):
            for word, label, held in (("real", "0", plain), ("fake", "1", seeds)):
                chosen = [row for row in rows if (row[SPLIT], row[LABEL]) == (name, label)]
                write_atomic(folder / AUTHORS_TABLES / f"{word}{name}.csv", _text(held, chosen))
        tested = [row for row in rows if row[SPLIT] == "test"]
        write_atomic(folder / AUTHORS_TABLES / "test.csv", _text(plain, tested))
    write_splits(folder / "splits", plan.lists)
    write_dataset_file(folder, root, root / "splits", "forge", _sections(plan))


def columns_of(plan: ForgingPlan) -> tuple[str, ...]:
    """Return the columns of the table of all images: those of Fairness-Generalization, `split`, further ones."""
    groups = (*SIGNS, INTERSEC) if plan.table.has_groups else ()
    return (PATH, LABEL, *groups, FORGERY, SPLIT, *plan.table.further)


def _rows(plan: ForgingPlan) -> Iterator[dict[str, str]]:
    for pair in plan.pairs:
        groups = _numbers(pair.face) if plan.table.has_groups else {}
        facts = {**pair.face.columns, **groups, SPLIT: pair.face.split}
        for path, number in pair.images:
            yield {**facts, PATH: path, LABEL: str(int(number > 0)), FORGERY: str(number)}


def _numbers(face: Face) -> dict[str, str]:
    """Return Fairness-Generalization's columns of a face's groups, with one of eight intersections."""
    gender, race = face.columns["gender"], face.columns["race"]
    signs = (gender == GENDERS[0], *(race == each for each in RACES[:-1]))
    numbers = {name: "1" if sign else "-1" for name, sign in zip(SIGNS, signs, strict=True)}
    return {**numbers, INTERSEC: str(EIGHT.index(face.group))}


def _text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    file = io.StringIO()
    writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (row[SPLIT], row[LABEL], row[PATH])))
    return file.getvalue()


def _sections(plan: ForgingPlan) -> Iterator[str]:
    """Yield the lines of dataset.yaml with the words of the set."""
    there = {pair.spec.name for pair in plan.pairs if pair.keeps_fake}
    fakes = [SPECS[name] for name in SPECS if name in there]
    every = [REAL_FOLDER, *(spec.folder for spec in fakes)]
    yield "subsets:"
    yield f"  {WORD}: [{', '.join(map(quote_yaml, every))}]"
    yield f"  {REAL_WORD}: [{quote_yaml(REAL_FOLDER)}]  # real"
    for spec in fakes:
        yield f"  {WORD}-{spec.name}: [{quote_yaml(spec.folder)}]  # fake"
