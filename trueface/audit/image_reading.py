"""Facts on the image files of a run, and on the tables of attributes in its settings.

The work is limited: a few hundred headers per class, and file contents until a time limit. Files of
different sizes cannot be equal, so only files of equal size are read.
"""

import os
import re
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trueface.audit.run_facts import AuditedTest, FileSurvey, GroupFacts, GroupTest, read_mapping
from trueface.data.attribute_table import AttributeCounts, group_indices, sorted_group_names
from trueface.data.attributes import Attributes, attribute_files
from trueface.data.image_headers import Header, sample_headers
from trueface.data.index import Image
from trueface.data.splits.equal_files import Contradiction, LabelledFile, contradictions
from trueface.data.video_headers import VideoSurvey, survey_data_root
from trueface.evaluation.dependent_rows import DependentRows
from trueface.evaluation.estimates import SourcedScores
from trueface.evaluation.group_columns import DEFAULT_GROUP_COLUMNS
from trueface.evaluation.group_rates import GAP, count_by_group, group_gaps, permutation_baselines
from trueface.predictions.predictions import Predictions, merge
from trueface.runtime.errors import DataError, UsageError
from trueface.runtime.files import Json, file_sha256
from trueface.runtime.rng import seeded_python_rng

SEED = 42  # seed of the order in which test files are compared

_CLASS_FOLDER = re.compile(r"/(?:real|fake)/", re.IGNORECASE)

Copies = tuple[tuple[str, str], ...]  # (training file, test file)
Place = tuple[tuple[Path, ...], Path]  # tables of attributes, and the data root of their paths


@dataclass(slots=True, kw_only=True)
class Surveyor:
    """Reads image files until its time limit. Each dataset is read once."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _spent: float = 0.0
    _digests: dict[str, str] = field(default_factory=dict)
    _looked: dict[str, tuple[tuple[Header, ...], tuple[str, ...]]] = field(default_factory=dict)
    _videos: dict[str, VideoSurvey] = field(default_factory=dict)
    _sizes: dict[str, Mapping[int, Sequence[str]]] = field(default_factory=dict)
    _contradictions: dict[str, tuple[tuple[Contradiction, ...], bool]] = field(default_factory=dict)
    _repeated: dict[tuple[str, ...], Copies] = field(default_factory=dict)
    _compared: dict[tuple[str, tuple[str, ...]], tuple[Copies, int]] = field(default_factory=dict)

    def survey(
        self,
        name: str,
        training_labels: Mapping[str, int],
        test_files: Sequence[str],
        root: Path | None = None,
    ) -> FileSurvey:
        """Return the facts of the files.

        Args:
            name: name of the training set. Its facts are computed once and reused.
            training_labels: label of each training file.
            test_files: test files.
            root: data root of the training files, which has the traits of their videos.
        """
        if name not in self._looked:
            self._looked[name] = sample_headers(training_labels)
        looks, unreadable = self._looked[name]
        if name not in self._videos:
            self._videos[name] = (
                VideoSurvey() if root is None else survey_data_root(root, training_labels)
            )
        pair = name, tuple(test_files)
        if pair not in self._compared:
            began = self.clock()
            self._compared[pair] = self._find_copies(name, training_labels, test_files)
            self._spent += self.clock() - began
        copies, left = self._compared[pair]
        if name not in self._contradictions:
            began = self.clock()
            self._contradictions[name] = self._find_contradictions(name, training_labels)
            self._spent += self.clock() - began
        contradicting, all_compared = self._contradictions[name]
        return FileSurvey(
            looks,
            len(unreadable),
            copies,
            len(training_labels),
            len(test_files),
            left,
            contradicting,
            all_compared,
            self._videos[name],
            self._find_repeats(tuple(test_files)),
        )

    def _find_contradictions(
        self, name: str, training_labels: Mapping[str, int]
    ) -> tuple[tuple[Contradiction, ...], bool]:
        """Return training files with equal content in both classes, and whether all files were compared."""
        until = self.clock() + self.seconds - self._spent
        if name not in self._sizes:
            return (), False
        files = (
            LabelledFile(file, size, training_labels[file])
            for size, of_size in self._sizes[name].items()
            for file in of_size
        )
        found = contradictions(files, digest=self._digest, is_over=lambda: self.clock() > until)
        return tuple(found), self.clock() <= until

    def _find_copies(
        self, name: str, training_labels: Mapping[str, int], test_files: Sequence[str]
    ) -> tuple[Copies, int]:
        """Return pairs of equal files, and the number of test files that were not compared."""
        until = self.clock() + self.seconds - self._spent
        if name not in self._sizes:
            sizes: dict[int, list[str]] = defaultdict(list)
            for file in training_labels:
                if self.clock() > until:
                    return (), len(test_files)
                sizes[_size(file)].append(file)
            sizes.pop(-1, None)
            self._sizes[name] = sizes
        by_size = self._sizes[name]
        pairs: list[tuple[str, str]] = []
        # in random order, so that the files compared within the time limit are a random sample
        order = seeded_python_rng(SEED).sample(list(test_files), len(test_files))
        for position, file in enumerate(order):
            if self.clock() > until:
                return tuple(sorted(pairs)), len(order) - position
            for other in by_size.get(_size(file), ()):
                if other != file and self._digest(other) == self._digest(file):
                    pairs.append((other, file))
                    break
        return tuple(sorted(pairs)), 0

    def _find_repeats(self, test_files: tuple[str, ...]) -> Copies:
        """Return each test file that is a copy of an earlier one, after that one, as far as time allows."""
        if test_files not in self._repeated:
            began = self.clock()
            until = began + self.seconds - self._spent
            sizes: dict[int, list[str]] = defaultdict(list)
            for file in test_files:
                sizes[_size(file)].append(file)
            sizes.pop(-1, None)
            pairs: list[tuple[str, str]] = []
            for of_size in sizes.values():
                first: dict[str, str] = {}
                for file in of_size if len(of_size) > 1 else ():
                    if self.clock() > until:
                        break
                    earlier = first.setdefault(self._digest(file), file)
                    if _name_in_class(earlier) != _name_in_class(file):  # else re-shared copies
                        pairs.append((earlier, file))
            self._repeated[test_files] = tuple(pairs)
            self._spent += self.clock() - began
        return self._repeated[test_files]

    def _digest(self, file: str) -> str:
        if file not in self._digests:
            try:
                self._digests[file] = file_sha256(file)
            except OSError:
                self._digests[file] = f"unreadable {file}"  # equal to no other
        return self._digests[file]


def _name_in_class(file: str) -> str:
    """Return the path of an image in Real/ or Fake/ without its suffix: the name of all its copies."""
    return _CLASS_FOLDER.split(file)[-1].rpartition(".")[0]


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116  # a Path for each of 200,000 files takes longer
    except OSError:
        return -1


@dataclass(slots=True, kw_only=True)
class GroupReader:
    """Reads the groups of models. Each table of attributes is read once."""

    data_root: Path | None = None  # replaces the data roots in the settings of the runs
    _read: dict[Place, Attributes] = field(default_factory=dict, init=False)

    def groups(
        self,
        project: Path,
        provenance: Mapping[str, Json],
        images: Sequence[Image],
        tests: Sequence[AuditedTest],
    ) -> GroupFacts | None:
        """Return the groups of a model's images, or None if no settings name attributes.

        Args:
            project: folder that paths in settings are relative to.
            provenance: provenance of the training.
            images: images of the training, with paths relative to its data root.
            tests: tests of unchanged images.
        """
        settings, data_root = read_mapping(provenance, "settings"), provenance.get("data_root")
        trained = self._place(project, settings, data_root)
        tested = [(test, self._find_test_place(project, test, trained)) for test in tests]
        if trained is None:
            # the settings of a test may name attributes that the training does not use
            root = self._root(project, data_root)
            trained = next(
                (tables for _, tables in tested if tables is not None and tables[1] == root), None
            )
        places = [
            tables for tables in (trained, *(tables for _, tables in tested)) if tables is not None
        ]
        if not places:
            return None
        asked = settings.get("groups_by")
        columns = (
            *DEFAULT_GROUP_COLUMNS,
            *([asked] if isinstance(asked, str) and asked not in DEFAULT_GROUP_COLUMNS else []),
        )
        train, why = self._count_training_groups(trained, images, columns)
        measured, troubles = self._count_test_groups(tested, columns)
        files = dict.fromkeys(str(file) for files, _ in places for file in files)
        return GroupFacts(
            files=tuple(files),
            train=train,
            tests=tuple(measured),
            train_trouble=why,
            test_trouble="; ".join(dict.fromkeys(troubles)),
        )

    def _count_training_groups(
        self, tables: Place | None, images: Sequence[Image], columns: Sequence[str]
    ) -> tuple[dict[str, AttributeCounts], str]:
        if tables is None:
            return {}, "the training images have no table of attributes"
        if not images:
            return {}, "the training images are unknown. Give --data-root and --split-path."
        paths = [image.file.removeprefix(f"{tables[1]}/") for image in images]
        labels = [image.label for image in images]
        groups, trouble = self._columns(tables, paths, columns)
        return {
            by: AttributeCounts.from_groups(attribute_groups, labels)
            for by, attribute_groups in groups.items()
        }, trouble

    def _count_test_groups(
        self, tests: Sequence[tuple[AuditedTest, Place | None]], columns: Sequence[str]
    ) -> tuple[list[GroupTest], list[str]]:
        """Return one joint test per tables and modifiers, because a gap needs both classes."""
        together: dict[tuple[Place, frozenset[str]], list[tuple[str, Predictions]]] = {}
        for test, tables_and_root in tests:
            if tables_and_root is not None and test.scores is not None and test.scores.names_images:
                tables = together.setdefault((tables_and_root, test.modifiers), [])
                tables.append((test.data, test.scores))
        measured: list[GroupTest] = []
        troubles: list[str] = []
        for (tables_and_root, _), tables in together.items():
            data = "&".join(name for name, _ in tables)
            scores = merge(table for _, table in tables)
            groups, trouble = self._columns(tables_and_root, scores.ids, columns)
            troubles += [f"{data}: {trouble}"] if trouble else []
            measured += [
                GroupTest(
                    data,
                    by,
                    AttributeCounts.from_groups(attribute_groups, scores.labels.tolist()),
                    *fpr_gap(scores, attribute_groups),
                )
                for by, attribute_groups in groups.items()
            ]
        return measured, troubles

    def _columns(
        self, tables: Place, paths: Sequence[str], columns: Sequence[str]
    ) -> tuple[dict[str, tuple[str | None, ...]], str]:
        """Return the groups of some images by column, and the reason if they cannot be read."""
        try:
            if tables not in self._read:
                self._read[tables] = Attributes(*tables)
            table = self._read[tables]
            there = [by for by in columns if by in table.columns]
            return {by: table.values(by, paths, missing="skip") for by in there}, ""
        except (DataError, UsageError, OSError) as error:
            return {}, f"cannot read attributes: {error}"

    def _find_test_place(
        self, project: Path, test: AuditedTest, training_place: Place | None
    ) -> Place | None:
        data_root = test.settings.get("data_root")
        own = self._place(project, test.settings, data_root)
        if own is not None or training_place is None:
            return own
        return (
            training_place if self._root(project, data_root) in {None, training_place[1]} else None
        )

    def _place(self, project: Path, settings: Mapping[str, Json], data_root: Json) -> Place | None:
        tables, root = settings.get("attributes"), self._root(project, data_root)
        if not isinstance(tables, str) or not tables or root is None:
            return None
        return attribute_files(tables, lambda text: project / Path(text).expanduser()), root

    def _root(self, project: Path, data_root: Json) -> Path | None:
        if self.data_root is not None:
            return self.data_root
        return project / Path(data_root).expanduser() if isinstance(data_root, str) else None


def fpr_gap(scores: Predictions, groups: Sequence[str | None]) -> tuple[float | None, float | None]:
    """Return the FPR gap over the images that have a group, and its floor, each None if undefined."""
    rows = [row for row, group in enumerate(groups) if group is not None]
    known = [groups[row] for row in rows]
    logits = scores.margin[rows]
    if not rows or not np.isfinite(logits).all():
        return None, None
    names = sorted_group_names(known)
    numbers = np.array(group_indices(known, names), np.int64)
    fake, called = scores.labels[rows] == 1, logits > 0
    counts = count_by_group(fake, called, numbers, len(names))
    gap = float(group_gaps(counts)[GAP])
    if not np.isfinite(gap):
        return None, None
    keys = SourcedScores.from_predictions(scores.rows(np.array(rows))).unit_keys
    dependent = DependentRows.find(keys, fake, called, numbers)
    floor = permutation_baselines(counts, dependent=dependent).get(GAP)
    return gap, None if floor is None else floor.p95
