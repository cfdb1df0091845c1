"""Reads the groups of a model's images, by the tables of attributes that its settings name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trueface.audit.reading import legacy_runs
from trueface.audit.reading.model_folders import data_of, model_name, score_paths
from trueface.audit.run_facts import Base, Groups, Record, Tested, TestedGroups, number
from trueface.data.attribute_table import Cells, named, numbered
from trueface.data.attributes import Attributes, attribute_files
from trueface.data.index import Image
from trueface.evaluation import score_tables
from trueface.evaluation.fairness.group_columns import USUAL
from trueface.evaluation.fairness.groups import count, floors, gaps
from trueface.evaluation.score_tables import Scores, merge
from trueface.poisoning.poison_record import fingerprint, read_record
from trueface.runtime import paths
from trueface.runtime.errors import DataError, RecordError, UsageError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name, parse_model

NONE = np.zeros(0)


def base_of(folder: Path, name: str, rate: float | None, tests: tuple[Tested, ...]) -> Base | None:
    """Return what the model before answered; None where nothing tells which it was.

    Args:
        folder: of the unlearned model.
        name: its ID.
        rate: fraction of flipped labels, by which the original system named its runs.
        tests: of the unlearned model.
    """
    before = _folder(folder, name, rate)
    if before is None:
        return None
    whose = model_name(before)
    files = {data_of(path, whose): path for path in score_paths(before)}
    if not files:
        return Base(name=whose, trouble=f"no scores of the model before in {before}: test it, too")
    equal, compared, sizes, trouble = [], 0, [], ""
    ours = {test.data: test.scores for test in tests}
    for data, path in files.items():
        try:
            then = score_tables.load(path)
        except DataError as error:
            trouble = str(error)
            continue
        sizes.append(np.abs(then.logits[np.isfinite(then.logits)]))
        now = ours.get(data)
        if now is not None and len(now):
            compared += 1
            if np.array_equal(np.sort(then.logits), np.sort(now.logits)):  # old rows are shuffled
                equal.append(data)
    return Base(
        name=whose,
        sizes=np.concatenate(sizes) if sizes else NONE,
        equal=tuple(equal),
        compared=compared,
        trouble=trouble or "the two models were not tested on the same data",
    )


def _folder(folder: Path, name: str, rate: float | None) -> Path | None:
    base = (read_json(paths.unlearning(folder)) or {}).get("base")
    if isinstance(base, str):
        return folder.parent / model_folder_name(base)
    if rate is None or not legacy_runs.is_old(folder):
        return None
    run = folder.parent.parent / f"{100 * rate:.0f}_poison"
    data = legacy_runs.data_of(folder) or name
    return run / data


@dataclass(frozen=True, slots=True, kw_only=True)
class Poisoned:
    """The flipped labels of a model, by its name and its records."""

    rate: float | None
    kind: str
    said_by: str
    unlearned: bool
    record: Record | None
    trouble: str  # why there is no record


def poisoned(folder: Path, name: str) -> Poisoned:
    """Return the facts on the flipped labels of the model in `folder`."""
    rate, kind, unlearned = _said(name)
    record, trouble = _record(folder)
    by = "the model's ID"
    if legacy_runs.is_old(folder):
        old = legacy_runs.said(folder)
        if rate is None:
            rate, by = old.rate, old.said_by
        unlearned = unlearned or old.unlearned
        if record is None:
            record, trouble = legacy_runs.record(folder, rate)
    elif rate is None and record is not None:  # the rate was a flag, and the ID does not tell it
        rate = number(read_json(paths.poison_record(folder)) or {}, "rate")
        kind, by = record.kind, "the poison record"
    return Poisoned(
        rate=rate, kind=kind, said_by=by, unlearned=unlearned, record=record, trouble=trouble
    )


def misplaced(record: Record | None, images: Sequence[Image]) -> int:
    """Return how many indices of a record are not the place of their key, or stand there twice."""
    if record is None or record.images_sha256 is None:
        return 0
    inside = {index for index in record.indices if 0 <= index < record.total}
    wrong = len(record.indices) - len(inside)
    if len(images) == record.total and fingerprint(images) == record.images_sha256:
        pairs = zip(record.indices, record.keys, strict=True)
        wrong = max(
            wrong, sum(not 0 <= at < len(images) or images[at].key != key for at, key in pairs)
        )
    return wrong


def _said(name: str) -> tuple[float | None, str, bool]:
    """Return the fraction of flipped labels, its kind and whether it was unlearned, by a model's ID."""
    try:
        last = parse_model(name).last
    except UsageError:
        return None, "", False
    if last.poison is None:
        return None, "", bool(last.methods)
    return last.poison.rate, last.poison.kind or "", bool(last.methods)


def _record(folder: Path) -> tuple[Record | None, str]:
    path = paths.poison_record(folder)
    if not path.exists():
        return None, ""
    try:
        written = read_record(path)
    except (RecordError, OSError) as error:
        return None, f"cannot read the poison record: {error}"
    record = Record(
        path=str(path),
        keys=tuple(key.partition(":")[2] for key in written.keys),
        total=written.total,
        kind=written.kind,
        images_sha256=written.split_sha256,
        classes=None,
        indices=written.indices,
    )
    return record, ""


Place = tuple[tuple[Path, ...], Path]  # tables of attributes, and the data root of their paths
GAP = "fpr_gap"


@dataclass(slots=True, kw_only=True)
class GroupReader:
    """Reads the groups of models; each table of attributes once."""

    data_root: Path | None = None  # in the place of those that the runs name
    _read: dict[Place, Attributes] = field(default_factory=dict, init=False)

    def groups(
        self,
        project: Path,
        provenance: Mapping[str, Json],
        images: Sequence[Image],
        tests: Sequence[Tested],
    ) -> Groups | None:
        """Return the groups of a model's images; None where nothing names attributes.

        Args:
            project: the folder that paths in settings are relative to.
            provenance: of the training.
            images: of the training, below its data root.
            tests: of images as they are.
        """
        settings = _settings(provenance)
        trained = self._place(project, settings, provenance.get("data_root"))
        tested = [(test, self._of_test(project, test, trained)) for test in tests]
        if trained is None:
            # a training without objectives for groups need not name what its tests do
            root = self._root(project, provenance.get("data_root"))
            trained = next((of for _, of in tested if of is not None and of[1] == root), None)
        places = [of for _, of in tested if of is not None]
        if trained is not None:
            places.insert(0, trained)
        if not places:
            return None
        asked = settings.get("groups_by")
        columns = (*USUAL, *([asked] if isinstance(asked, str) and asked not in USUAL else []))
        train, why = self._training(trained, images, columns)
        measured, troubles = self._tests(tested, columns)
        files = dict.fromkeys(str(file) for files, _ in places for file in files)
        return Groups(
            files=tuple(files),
            train=train,
            tests=tuple(measured),
            train_trouble=why,
            test_trouble="; ".join(dict.fromkeys(troubles)),
        )

    def _training(
        self, place: Place | None, images: Sequence[Image], columns: Sequence[str]
    ) -> tuple[dict[str, Cells], str]:
        if place is None:
            return {}, "no table of attributes is named for the training images"
        if not images:
            return {}, "the training images are not known; give --data-root and --split-path"
        root = f"{place[1]}/"
        paths = [image.file.removeprefix(root) for image in images]
        labels = [image.label for image in images]
        try:
            groups = self._columns(place, paths, columns)
        except (DataError, UsageError, OSError) as error:
            return {}, f"attributes cannot be read: {error}"
        return {by: Cells.of(of, labels) for by, of in groups.items()}, ""

    def _tests(
        self, tested: Sequence[tuple[Tested, Place | None]], columns: Sequence[str]
    ) -> tuple[list[TestedGroups], list[str]]:
        """Return the tests of each place and modifiers as one, as a gap needs no class alone."""
        together: dict[tuple[Place, frozenset[str]], list[tuple[str, Scores]]] = {}
        for test, place in tested:
            if place is not None and test.scores is not None and test.scores.names_images:
                tables = together.setdefault((place, test.modifiers), [])
                tables.append((test.data, test.scores))
        measured: list[TestedGroups] = []
        troubles: list[str] = []
        for (place, _), tables in together.items():
            data = "&".join(name for name, _ in tables)
            scores = merge(table for _, table in tables)
            try:
                groups = self._columns(place, scores.paths, columns)
            except (DataError, UsageError, OSError) as error:
                troubles.append(f"{data}: attributes cannot be read: {error}")
                continue
            measured += [_measured(data, by, scores, of) for by, of in groups.items()]
        return measured, troubles

    def _columns(
        self, place: Place, paths: Sequence[str], columns: Sequence[str]
    ) -> dict[str, tuple[str | None, ...]]:
        if place not in self._read:
            self._read[place] = Attributes.read(*place)
        table = self._read[place]
        return {
            by: table.values(by, paths, missing="skip") for by in columns if by in table.columns
        }

    def _of_test(self, project: Path, test: Tested, trained: Place | None) -> Place | None:
        settings = _settings(test.metrics)
        own = self._place(project, settings, settings.get("data_root"))
        if own is not None or trained is None:
            return own
        root = self._root(project, settings.get("data_root"))
        return trained if root in {None, trained[1]} else None

    def _place(self, project: Path, settings: Mapping[str, Json], data_root: Json) -> Place | None:
        named, root = settings.get("attributes"), self._root(project, data_root)
        if not isinstance(named, str) or not named or root is None:
            return None
        return attribute_files(named, lambda text: project / Path(text).expanduser()), root

    def _root(self, project: Path, data_root: Json) -> Path | None:
        if self.data_root is not None:
            return self.data_root
        return project / Path(data_root).expanduser() if isinstance(data_root, str) else None


def _measured(data: str, by: str, scores: Scores, groups: Sequence[str | None]) -> TestedGroups:
    cells = Cells.of(groups, scores.labels.tolist())
    gap, floor = _gap(scores, groups)
    return TestedGroups(data=data, by=by, cells=cells, gap=gap, floor=floor)


def _gap(scores: Scores, groups: Sequence[str | None]) -> tuple[float | None, float | None]:
    """Return the FPR gap over the images that have a group, and its floor."""
    rows = [row for row, group in enumerate(groups) if group is not None]
    known = [groups[row] for row in rows]
    logits = scores.logits[rows]
    if not rows or not np.isfinite(logits).all():
        return None, None
    names = named(known)
    numbers = np.array(numbered(known, names), np.int64)
    counts = count(scores.labels[rows] == 1, logits > 0, numbers, len(names))
    gap = float(gaps(counts)[GAP])
    if not np.isfinite(gap):
        return None, None
    floor = floors(counts).get(GAP)
    return gap, None if floor is None else floor.p95


def _settings(record: Mapping[str, Json]) -> Mapping[str, Json]:
    settings = record.get("settings")
    return settings if isinstance(settings, dict) else {}
