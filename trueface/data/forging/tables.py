"""What a forged set says of its images: tables in the columns of seed 002, lists, words for data IDs.

<root>/faces.csv                         all images; spe_label 0 real, 1 to 5 the type
<root>/csv/realtrain.csv, faketrain.csv  the seed's own five tables, where the faces have groups
<root>/csv/realval.csv, fakeval.csv, test.csv
<root>/splits/train.json, val.json, test.json
<root>/dataset.yaml                      to be included in a task file
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from trueface.data.attributes.schemes import EIGHT, GENDERS, RACES
from trueface.data.attributes.table import FORGERY, INTERSEC, LABEL, PATH, SIGNS, SPLIT
from trueface.data.forging.faces import Face
from trueface.data.forging.plan import REAL_FOLDER, ForgingPlan
from trueface.data.forging.registry import SPECS
from trueface.data.forging.settings import TABLE
from trueface.data.imports.root_files import DATASET
from trueface.data.splits.splits import write_splits
from trueface.runtime.files import write_atomic

SEED_TABLES = "csv"
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
        (folder / SEED_TABLES).mkdir()
        for name in ("train", "val"):
            for word, label, held in (("real", "0", plain), ("fake", "1", seeds)):
                chosen = [row for row in rows if (row[SPLIT], row[LABEL]) == (name, label)]
                write_atomic(folder / SEED_TABLES / f"{word}{name}.csv", _text(held, chosen))
        tested = [row for row in rows if row[SPLIT] == "test"]
        write_atomic(folder / SEED_TABLES / "test.csv", _text(plain, tested))
    write_splits(folder / "splits", plan.lists)
    write_atomic(folder / DATASET, _dataset(root, plan))


def columns_of(plan: ForgingPlan) -> tuple[str, ...]:
    """Return the columns of the table of all images: the seed's, list, and the faces' own."""
    groups = (*SIGNS, INTERSEC) if plan.table.has_groups else ()
    return (PATH, LABEL, *groups, FORGERY, SPLIT, *plan.table.further)


def _rows(plan: ForgingPlan) -> Iterator[dict[str, str]]:
    for pair in plan.pairs:
        groups = _numbers(pair.face) if plan.table.has_groups else {}
        facts = {**pair.face.columns, **groups, SPLIT: pair.face.split}
        for path, number in pair.images:
            yield {**facts, PATH: path, LABEL: str(int(number > 0)), FORGERY: str(number)}


def _numbers(face: Face) -> dict[str, str]:
    """Return the seed's columns of a face's groups, numbered as eight intersections."""
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


def _dataset(root: Path, plan: ForgingPlan) -> str:
    there = {pair.spec.name for pair in plan.pairs if pair.keeps_fake}
    fakes = [SPECS[name] for name in SPECS if name in there]
    every = [REAL_FOLDER, *(spec.folder for spec in fakes)]
    lines = [
        "# Written by trueface forge. In a task file:",
        f"#   include: {_yaml(str(root / DATASET))}",
        f"defaults: {{data_root: {_yaml(str(root))}, split_path: {_yaml(str(root / 'splits'))}}}",
        "subsets:",
        f"  {WORD}: [{', '.join(map(_yaml, every))}]",
        f"  {REAL_WORD}: [{_yaml(REAL_FOLDER)}]  # real",
    ]
    lines += [f"  {WORD}-{spec.name}: [{_yaml(spec.folder)}]  # fake" for spec in fakes]
    return "\n".join(lines) + "\n"


def _yaml(text: str) -> str:
    """Return a text as YAML that a task file does not fill in."""
    return json.dumps(text.replace("${", "$${"), ensure_ascii=False)
