"""Reads a run folder, ours or the original system's, into the facts that an audit judges.

Bounded: a few hundred headers a class, and as many bytes as there is time for. Files of different
sizes cannot be equal, so that of large sets few are read.
"""

import contextlib
import csv
import json
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path

from trueface.audit.reading import legacy_runs
from trueface.audit.reading.model_folders import (
    data_of,
    found_folder,
    model_folders,
    model_name,
    score_paths,
)
from trueface.audit.reading.model_groups import GroupReader, base_of, misplaced, poisoned
from trueface.audit.run_facts import Lists, Model, Run, Survey, Tested
from trueface.data.image_headers import Header, sample_headers
from trueface.data.index import Image
from trueface.data.splits import NAMES, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, SUBSETS, UNSHARED, Vocabulary, names_real
from trueface.evaluation import score_tables
from trueface.poisoning.poison_record import read_record
from trueface.runtime import paths
from trueface.runtime.errors import DataError, RecordError, UsageError
from trueface.runtime.files import Json, file_sha256, read_json
from trueface.runtime.ids import data_of_test, parse_data, parse_model
from trueface.training import image_lists
from trueface.training.history import Epoch


def damaged(folder: Path, tests: tuple[Tested, ...]) -> Iterator[tuple[str, str]]:
    """Yield each file of a model that is there and cannot be read, and why (with its line)."""
    if trouble := _json_trouble(paths.provenance(folder)):
        yield "provenance.json", trouble
    path = paths.poison_record(folder)
    if trouble := _json_trouble(path):
        yield "poison.json", trouble
    elif path.exists():
        try:
            read_record(path)
        except RecordError as error:
            yield "poison.json", str(error)
    if trouble := read_history(paths.history(folder))[1]:
        yield "history.csv", trouble
    for test in tests:
        if test.scores is None:
            yield f"the score file of {test.data}", test.trouble


def read_history(path: Path) -> tuple[tuple[Epoch, ...], str]:
    """Return the epochs of a history up to the first line that is damaged, and what is wrong there."""
    epochs: list[Epoch] = []
    if not path.exists():
        return (), ""
    try:
        lines = path.read_text().splitlines()
        for row in csv.DictReader(lines):
            balanced = row["val_balanced_accuracy"]
            worst = row.get("val_worst_cell_accuracy")  # earlier versions had no such column
            epochs.append(
                Epoch(
                    epoch=int(row["epoch"]),
                    lr=float(row["lr"]),
                    loss=float(row["loss"]),
                    accuracy=float(row["accuracy"]),
                    val_loss=float(row["val_loss"]),
                    val_accuracy=float(row["val_accuracy"]),
                    val_balanced_accuracy=float(balanced) if balanced else None,
                    seconds=float(row["seconds"]),
                    images_per_s=float(row["images_per_s"]),
                    val_worst_cell_accuracy=float(worst) if worst else None,
                )
            )
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        return tuple(epochs), f"{path}:{len(epochs) + 2}: not an epoch: {error}"
    return tuple(epochs), "" if lines else f"{path}:1: the file is empty"


def scoreless(folder: Path, tests: tuple[Tested, ...]) -> tuple[str, ...]:
    """Return the metrics of tests that kept scores, where no score file is left."""
    there = {paths.metrics(folder, test.data).name for test in tests}
    gone = []
    records = ((folder / place).glob("*.json") for place in ("metrics", paths.CONDITIONS))
    for path in sorted(chain.from_iterable(records)):
        record = read_json(path) or {}
        settings = record.get("settings")
        recorded = settings if isinstance(settings, dict) else {}
        # a triggered test keeps its scores elsewhere; an attack that makes no sense has none
        if (
            path.name not in there
            and recorded.get("save_scores") is True
            and not recorded.get("trigger")
            and "reason" not in record
        ):
            gone.append(path.stem)
    return tuple(gone)


def mark_of(path: Path) -> str | None:
    """Return the SHA-256 of a file's bytes; None where it cannot be read."""
    try:
        return file_sha256(path)
    except OSError:
        return None


def _json_trouble(path: Path) -> str:
    if not path.exists():
        return ""
    try:
        document = json.loads(path.read_bytes())
    except json.JSONDecodeError as error:
        return f"{path}:{error.lineno}: {error.msg}"
    except (OSError, ValueError, RecursionError) as error:
        return f"{path}:1: {error}"
    return "" if isinstance(document, dict) else f"{path}:1: not a JSON object"


SEED = 42  # of the order in which test files are compared


@dataclass(slots=True, kw_only=True)
class Surveyor:
    """Looks at image files until its time is over; each set is looked at once."""

    seconds: float
    clock: Callable[[], float] = time.monotonic
    _spent: float = 0.0
    _digests: dict[str, str] = field(default_factory=dict)
    _looked: dict[str, tuple[tuple[Header, ...], int]] = field(default_factory=dict)
    _sizes: dict[str, Mapping[int, Sequence[str]]] = field(default_factory=dict)
    _compared: dict[tuple[str, tuple[str, ...]], tuple[tuple[tuple[str, str], ...], int]] = field(
        default_factory=dict
    )

    def survey(self, name: str, trained: Mapping[str, int], tested: Sequence[str]) -> Survey:
        """Return what the files tell.

        Args:
            name: of the training set; what was found of it once is told again.
            trained: training file → label.
            tested: test files.
        """
        if name not in self._looked:
            self._looked[name] = sample_headers(trained)
        looks, unreadable = self._looked[name]
        pair = name, tuple(tested)
        if pair not in self._compared:
            began = self.clock()
            self._compared[pair] = self._copies(name, trained, tested)
            self._spent += self.clock() - began
        copies, left = self._compared[pair]
        return Survey(
            looks=looks,
            unreadable=unreadable,
            copies=copies,
            trained=len(trained),
            tested=len(tested),
            left=left,
        )

    def _copies(
        self, name: str, trained: Mapping[str, int], tested: Sequence[str]
    ) -> tuple[tuple[tuple[str, str], ...], int]:
        """Return pairs of equal files, and how many test files were not compared."""
        until = self.clock() + self.seconds - self._spent
        if name not in self._sizes:
            sizes: dict[int, list[str]] = defaultdict(list)
            for file in trained:
                if self.clock() > until:
                    return (), len(tested)
                sizes[_size(file)].append(file)
            sizes.pop(-1, None)
            self._sizes[name] = sizes
        by_size = self._sizes[name]
        pairs: list[tuple[str, str]] = []
        # in an order of chance, so that those for which there is time are a fair sample
        order = random.Random(SEED).sample(list(tested), len(tested))
        for place, file in enumerate(order):
            if self.clock() > until:
                return tuple(sorted(pairs)), len(order) - place
            for other in by_size.get(_size(file), ()):
                if other != file and self._digest(other) == self._digest(file):
                    pairs.append((other, file))
                    break
        return tuple(sorted(pairs)), 0

    def _digest(self, file: str) -> str:
        if file not in self._digests:
            try:
                self._digests[file] = file_sha256(file)
            except OSError:
                self._digests[file] = f"unreadable {file}"  # equal to no other
        return self._digests[file]


def _size(file: str) -> int:
    try:
        return os.stat(file).st_size  # noqa: PTH116  # a Path for each of 200,000 files takes longer
    except OSError:
        return -1


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads runs; what a person gave comes before what the runs say of themselves."""

    data_root: Path | None = None
    split_path: Path | None = None
    seconds: float = 30.0  # for comparing files
    surveyor: Surveyor = field(init=False)
    _groups: GroupReader = field(init=False)
    _lists: dict[str, Lists] = field(default_factory=dict, init=False)
    _last: tuple[Image, ...] = field(default=(), init=False)  # of the model that is being read
    _images: dict[tuple[str, str, str], tuple[Image, ...]] = field(default_factory=dict, init=False)
    _files: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.surveyor = Surveyor(seconds=self.seconds)
        self._groups = GroupReader(data_root=self.data_root)

    def run(self, name: str) -> Run:
        """Return the facts of a run.

        Args:
            name: of a folder below runs/, or a path of a run's or a model's folder.

        Raises:
            UsageError: there is no such folder, or no model in it.
        """
        folder = found_folder(name)
        folders = model_folders(folder)
        if not folders:
            raise UsageError(f"no model in {folder}: give the folder of a run, runs/<name>")
        methods = {of: int(not names_real(key)) for key, of in SUBSETS.items()}
        models = tuple(self._model(path, methods) for path in folders)
        return Run(name=folder.name, folder=folder, models=models)

    def _model(self, folder: Path, methods: Mapping[str, int]) -> Model:
        name, provenance = model_name(folder), read_json(paths.provenance(folder))
        poison = poisoned(folder, name)
        vocabulary, lists = _vocabulary(folder, provenance), self._split(provenance)
        tests = tuple(self._tests(folder, name, provenance, vocabulary))
        conditioned = tuple(self._tests(folder, name, provenance, vocabulary, paths.CONDITIONS))
        images = _images(folder, name, provenance, vocabulary)
        survey, why = self._survey(provenance, images, vocabulary, tests)
        return Model(
            name=name,
            folder=folder,
            rate=poison.rate,
            kind=poison.kind,
            said_by=poison.said_by,
            unlearned=poison.unlearned,
            provenance=provenance,
            summary=read_json(paths.summary(folder)) or {},
            epochs=read_history(paths.history(folder))[0],
            record=poison.record,
            record_trouble=poison.trouble or f"no poison record in {folder}",
            lists=lists,
            tests=tests,
            survey=survey,
            survey_trouble=why,
            modifiers=None if images is None else _modifiers(images, vocabulary),
            weights_written=_written(paths.checkpoint(folder)),
            provenance_written=_written(paths.provenance(folder)),
            methods={**methods, **_seen(tests)},
            unlearning=legacy_runs.unlearning(folder)[0],
            bad_lists=_bad_lists(folder),
            record_sha256=mark_of(paths.poison_record(folder)),
            misplaced=misplaced(poison.record, self._last),
            damaged=tuple(damaged(folder, (*tests, *conditioned))),
            scoreless=scoreless(folder, (*tests, *conditioned)),
            base=base_of(folder, name, poison.rate, tests) if poison.unlearned else None,
            offset=legacy_runs.offset(folder),
            conditioned=conditioned,
            groups=self._groups.groups(
                folder.parent.parent.parent, provenance or {}, self._last, tests
            ),
        )

    def _split(self, provenance: Mapping[str, Json] | None) -> Lists:
        recorded = (provenance or {}).get("split_path")
        path = self.split_path or (Path(recorded) if isinstance(recorded, str) else None)
        return self._lists_of(path)

    def _split_of_test(
        self, folder: Path, provenance: Mapping[str, Json] | None, metrics: Mapping[str, Json]
    ) -> Lists:
        """Return the lists of a test: its own where it names another split than the training."""
        settings, trained = metrics.get("settings"), (provenance or {}).get("split_path")
        recorded = settings.get("split_path") if isinstance(settings, dict) else None
        if not isinstance(recorded, str) or not isinstance(trained, str):
            return self._split(provenance)
        path = folder.parent.parent.parent / recorded  # runs/ lies where relative paths begin
        if path.resolve() == Path(trained).resolve() or not path.exists():
            return self._split(provenance)
        return self._lists_of(path)

    def _lists_of(self, path: Path | None) -> Lists:
        if path is None:
            return Lists(path="", train=None, val=None, test=None)
        if str(path) not in self._lists:
            self._lists[str(path)] = read_lists(path)
        return self._lists[str(path)]

    def _tests(
        self,
        folder: Path,
        model: str,
        provenance: Mapping[str, Json] | None,
        vocabulary: Vocabulary,
        place: str = "scores",
    ) -> Iterator[Tested]:
        for path in score_paths(folder, place):
            data, scores, trouble = data_of(path, model), None, ""
            try:
                scores = score_tables.load(path)
            except DataError as error:
                trouble = str(error)
            metrics = read_json(paths.metrics(folder, data)) or {}
            lists = self._split_of_test(folder, provenance, metrics)
            yield Tested(
                data=data,
                modifiers=_modifiers(data_of_test(data), vocabulary),
                scores=scores,
                trouble=trouble,
                metrics=metrics,
                expected=_expected(data_of_test(data), lists, vocabulary),
                written=_written(path),
                lists=lists,
            )

    def _survey(
        self,
        provenance: Mapping[str, Json] | None,
        images: str | None,
        vocabulary: Vocabulary,
        tests: tuple[Tested, ...],
    ) -> tuple[Survey | None, str]:
        self._last = ()
        recorded, split = (provenance or {}).get("data_root"), (provenance or {}).get("split_path")
        root = self.data_root or (Path(recorded) if isinstance(recorded, str) else None)
        path = self.split_path or (Path(split) if isinstance(split, str) else None)
        if root is None or path is None or images is None:
            return None, "image files and lists are not known; give --data-root and --split-path"
        if not root.is_dir():
            return None, f"no data folder {root}; give --data-root"
        key = str(root), str(path), images
        try:
            if key not in self._files:
                split_of = load_split(path, "train")
                listed = split_images(
                    root, parse_data(images), split_of, vocabulary, missing="skip"
                )
                self._images[key] = tuple(listed)
                self._files[key] = {image.file: image.label for image in listed}
        except (UsageError, OSError) as error:
            return None, f"the training images cannot be listed: {error}"
        self._last = self._images[key]
        tested = {
            f"{root}/{name}"
            for test in tests
            if test.scores is not None and test.scores.names_images
            for name in test.scores.paths
        }
        there = sorted(file for file in tested if Path(file).is_file())
        return self.surveyor.survey("\0".join(key), self._files[key], there), ""


def read_lists(path: Path) -> Lists:
    """Return the lists of a split, as many of them as can be read."""
    lists: dict[str, frozenset[str] | None] = dict.fromkeys(NAMES)
    troubles = []
    for name in NAMES:
        try:
            lists[name] = load_split(path, name).keys
        except (DataError, OSError) as error:
            troubles.append(str(error))
    return Lists(path=str(path), **lists, trouble="; ".join(dict.fromkeys(troubles)))


def _seen(tests: tuple[Tested, ...]) -> Mapping[str, int]:
    """Return the class of each method folder, as the scores tell it."""
    return {
        key.partition("/")[0]: int(label)
        for test in tests
        if test.scores is not None
        for key, label in zip(test.scores.keys, test.scores.labels, strict=True)
        if "/" in key
    }


def _vocabulary(folder: Path, provenance: Mapping[str, Json] | None) -> Vocabulary:
    learned = image_lists.read_ancestry(folder)
    vocabulary = learned.lessons[-1].vocabulary if learned and learned.lessons else BUILT_IN
    settings = (provenance or {}).get("settings")
    how = settings.get("layout") if isinstance(settings, dict) else None
    return vocabulary.with_layout(how) if isinstance(how, str) else vocabulary


def _images(
    folder: Path, name: str, provenance: Mapping[str, Json] | None, vocabulary: Vocabulary
) -> str | None:
    """Return the data ID of a model's training images; None where nothing tells it."""
    recorded = (provenance or {}).get("images")
    if isinstance(recorded, str):
        return recorded
    legacy = legacy_runs.data_of(folder)
    with contextlib.suppress(UsageError):
        data = parse_data(legacy) if legacy else parse_model(name).last.data
        return str(vocabulary.images(data))
    return None


def _modifiers(data: str, vocabulary: Vocabulary) -> frozenset[str]:
    with contextlib.suppress(UsageError):
        keys = map(partial(_elementary, vocabulary), {part.modifier for part in parse_data(data)})
        return frozenset(key for group in keys for key in group)
    return frozenset({data})


def _elementary(vocabulary: Vocabulary, modifier: str) -> tuple[str, ...]:
    try:
        return vocabulary.modifier_keys(modifier)
    except UsageError:  # a word of the user's: taken as written
        return (modifier,)


def _expected(data: str, lists: Lists, vocabulary: Vocabulary) -> int | None:
    """Return how many images of `data` the test list names; None of shared ones: some are missing."""
    if lists.test is None or not _modifiers(data, vocabulary) <= UNSHARED:
        return None
    try:
        methods = [vocabulary.methods(part.subset) for part in parse_data(data)]
    except UsageError:
        return None
    return sum(any(method.holds(key.partition("/")[0]) for method in methods) for key in lists.test)


def _bad_lists(folder: Path) -> Mapping[str, int]:
    counts = {}
    for name in ("train", "val"):
        with contextlib.suppress(OSError):
            lines = paths.bad_images(folder, name).read_bytes().count(b"\n")
            counts[name] = max(lines - 1, 0)
    return counts


def _written(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
