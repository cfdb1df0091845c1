"""Reads a run folder of this or of the original system into the facts of an audit. Each file is read once."""

import contextlib
import csv
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.audit.image_reading import GroupReader, Surveyor
from trueface.audit.run_facts import (
    AuditedAncestor,
    AuditedTest,
    BaseModel,
    FileSurvey,
    FlipRecord,
    Model,
    Poisoning,
    Run,
    SplitKeys,
    read_mapping,
)
from trueface.audit.run_folders import (
    OldModel,
    data_of,
    model_folders,
    model_name,
    old_model,
    old_record,
    resolve_run_folder,
    score_paths,
)
from trueface.data.image_folders import CLASSES
from trueface.data.index import Image
from trueface.data.splits.split_files import NAMES, load_split, split_images
from trueface.data.vocabulary import BUILT_IN, SUBSETS, UNSHARED, DataIdResolver, names_real
from trueface.poisoning.poison_record import fingerprint, read_record
from trueface.predictions import tables
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import DataError, RecordError, UsageError
from trueface.runtime.files import Json, file_sha256, read_json
from trueface.runtime.ids import data_of_test, model_folder_name, parse_data, parse_model
from trueface.training import image_lists
from trueface.training.history import Epoch


class _Origin(NamedTuple):
    """The origin of a model, derived from its folder. Fields are None if unknown."""

    folder: Path
    name: str
    provenance: Mapping[str, Json]
    old: OldModel | None
    vocabulary: DataIdResolver
    root: Path | None  # folder of the images; like the next field, given by the user or recorded
    split: Path | None
    images: str | None  # data ID of the training

    @property
    def project_root(self) -> Path:
        """The folder that contains runs/, which relative paths in settings refer to."""
        return self.folder.parent.parent.parent


class _Trained(NamedTuple):
    """The training images of a model, or the reason why they are not known."""

    images: tuple[Image, ...] = ()
    labels: Mapping[str, int] = {}  # by file
    trouble: str = ""


@dataclass(slots=True, kw_only=True)
class Reader:
    """Reads runs. Paths given by the user take precedence over those in the runs."""

    data_root: Path | None = None
    split_path: Path | None = None
    seconds: float = 30.0  # for comparing files
    surveyor: Surveyor = field(init=False)
    _groups: GroupReader = field(init=False)
    # cached, because models share images and checking many thousand paths takes most of the time
    _is_file: Callable[[str], bool] = field(
        default_factory=lambda: cache(os.path.isfile), init=False
    )
    _lists: dict[Path, SplitKeys] = field(default_factory=dict, init=False)
    _scores: dict[Path, tuple[Predictions | None, str]] = field(default_factory=dict, init=False)
    _trained: dict[tuple[str, str, str], _Trained] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.surveyor = Surveyor(seconds=self.seconds)
        self._groups = GroupReader(data_root=self.data_root)

    def run(self, name: str) -> Run:
        """Return the facts of a run.

        Args:
            name: name of a folder in runs/, or path of the folder of a run or a model.

        Raises:
            UsageError: the folder does not exist, or contains no model.
        """
        folder = resolve_run_folder(name)
        folders = model_folders(folder)
        if not folders:
            raise UsageError(f"no model in {folder}. Name the folder of a run, runs/NAME.")
        methods = {method: int(not names_real(key)) for key, method in SUBSETS.items()}
        return Run(folder.name, folder, tuple(self._model(path, methods) for path in folders))

    def _model(self, folder: Path, methods: Mapping[str, int]) -> Model:
        provenance, damage = _document(paths.provenance(folder))
        damaged = [("provenance.json", damage)]
        origin = self._origin(folder, provenance)
        poison, damage = _poisoning(origin)
        damaged.append(("poison.json", damage))
        epochs, damage = _history(paths.history(folder))
        damaged.append(("history.csv", damage))
        metrics = {
            path: read_json(path) or {}
            for subfolder in ("metrics", paths.CONDITIONS)
            for path in sorted((folder / subfolder).glob("[!.]*.json"))
        }
        tests = tuple(self._tests(origin, metrics, "scores"))
        conditioned = tuple(self._tests(origin, metrics, paths.CONDITIONS))
        every = (*tests, *conditioned)
        damaged += [(f"the score file of {test.data}", test.trouble) for test in every]
        trained = self._training_images(origin)
        survey = None if trained.trouble else self._survey(origin, trained, tests)
        old = origin.old
        return Model(
            name=origin.name,
            folder=folder,
            poison=poison,
            provenance=provenance,
            summary=read_json(paths.summary(folder)) or {},
            epochs=epochs,
            lists=self._lists_of(origin.split),
            tests=tests,
            conditioned=conditioned,
            survey=survey,
            survey_trouble=trained.trouble,
            modifiers=None
            if origin.images is None
            else _modifiers(origin.images, origin.vocabulary),
            weights_written=_modification_time(paths.checkpoint(folder)),
            provenance_written=_modification_time(paths.provenance(folder)),
            methods={**methods, **_collect_folder_labels(tests)},
            unlearning={} if old is None else old.unlearning,
            offset=None if old is None else old.offset,
            bad_lists=_bad_lists(folder, _recorded_path(provenance, "data_root")),
            misplaced=_count_misplaced(poison.record, trained.images),
            damaged=tuple((file, trouble) for file, trouble in damaged if trouble),
            scoreless=tuple(_find_scoreless_metrics(folder, metrics, every)),
            base=self._base(origin, poison, tests) if poison.unlearned else None,
            groups=self._groups.groups(origin.project_root, provenance, trained.images, tests),
            ancestors=tuple(_ancestors(origin)),
        )

    def _origin(self, folder: Path, provenance: Mapping[str, Json]) -> _Origin:
        name, old = model_name(folder), old_model(folder)
        ancestry = image_lists.read_ancestry(folder)
        vocabulary = ancestry.lessons[-1].vocabulary if ancestry and ancestry.lessons else BUILT_IN
        layout = read_mapping(provenance, "settings").get("layout")
        if isinstance(layout, str):
            vocabulary = vocabulary.with_layout(layout)
        images = provenance.get("images")
        if not isinstance(images, str):
            images = None
            with contextlib.suppress(UsageError):
                data = parse_data(old.data) if old and old.data else parse_model(name).last.data
                images = str(vocabulary.training_data_id(data))
        return _Origin(
            folder=folder,
            name=name,
            provenance=provenance,
            old=old,
            vocabulary=vocabulary,
            root=self.data_root or _recorded_path(provenance, "data_root"),
            split=self.split_path or _recorded_path(provenance, "split_path"),
            images=images,
        )

    def _lists_of(self, path: Path | None) -> SplitKeys:
        if path is None:
            return SplitKeys()
        if path not in self._lists:
            self._lists[path] = read_lists(path)
        return self._lists[path]

    def _split_of_test(self, origin: _Origin, settings: Mapping[str, Json]) -> Path | None:
        """Return the split of a test: its own if that differs from the training's, otherwise the training's."""
        own, trained = settings.get("split_path"), _recorded_path(origin.provenance, "split_path")
        if not isinstance(own, str) or trained is None:
            return origin.split
        path = origin.project_root / own
        is_other = path.exists() and path.resolve() != trained.resolve()
        return path if is_other else origin.split

    def _tests(
        self, origin: _Origin, metrics: Mapping[Path, Mapping[str, Json]], subfolder: str
    ) -> Iterator[AuditedTest]:
        for path in score_paths(origin.folder, subfolder):
            data = data_of(path, origin.name)
            images = data_of_test(data)
            told = metrics.get(paths.metrics(origin.folder, data), {})
            lists = self._lists_of(self._split_of_test(origin, read_mapping(told, "settings")))
            scores, trouble = self._scores_of(path)
            yield AuditedTest(
                data=data,
                modifiers=_modifiers(images, origin.vocabulary),
                scores=scores,
                trouble=trouble,
                metrics=told,
                expected=_count_expected(images, lists, origin.vocabulary),
                written=_modification_time(path),
                lists=lists,
            )

    def _scores_of(self, path: Path) -> tuple[Predictions | None, str]:
        if path not in self._scores:
            try:
                self._scores[path] = tables.load(path, finite=False), ""
            except DataError as error:
                self._scores[path] = None, str(error)
        return self._scores[path]

    def _training_images(self, origin: _Origin) -> _Trained:
        root, split, images = origin.root, origin.split, origin.images
        if root is None or split is None or images is None:
            trouble = "image files and splits are unknown. Give --data-root and --split-path."
            return _Trained(trouble=trouble)
        if not root.is_dir():
            return _Trained(trouble=f"data folder {root} does not exist. Give --data-root.")
        key = str(root), str(split), images
        if key not in self._trained:
            try:
                keys, data = load_split(split, "train"), parse_data(images)
                listed = split_images(root, data, keys, origin.vocabulary, missing="keep")
            except (UsageError, OSError) as error:
                return _Trained(trouble=f"cannot list the training images: {error}")
            labels = {image.file: image.label for image in listed}
            self._trained[key] = _Trained(tuple(listed), labels)
        return self._trained[key]

    def _survey(
        self, origin: _Origin, training: _Trained, tests: tuple[AuditedTest, ...]
    ) -> FileSurvey:
        tables = [test.scores for test in tests if test.scores is not None]
        named = (table.ids for table in tables if table.names_images)
        tested = {f"{origin.root}/{name}" for name in chain.from_iterable(named)}
        there = sorted(filter(self._is_file, tested))
        name = f"{origin.root}\0{origin.split}\0{origin.images}"
        return self.surveyor.survey(name, training.labels, there, origin.root)

    def _base(
        self, origin: _Origin, poison: Poisoning, tests: tuple[AuditedTest, ...]
    ) -> BaseModel | None:
        """Return the facts on the base model of an unlearned model, or None if the base is unknown."""
        before = _base_folder(origin, poison.rate)
        if before is None:
            return None
        whose = model_name(before)
        files = {data_of(path, whose): path for path in score_paths(before)}
        if not files:
            return BaseModel(whose, f"{before} has no scores of the model before. Test it.")
        ours = {test.data: test.scores for test in tests}
        equal, compared, sizes = [], 0, [np.zeros(0)]
        trouble = ""
        for data, path in files.items():
            then, why = self._scores_of(path)
            if then is None:
                trouble = why
                continue
            sizes.append(np.abs(then.margin[np.isfinite(then.margin)]))
            now = ours.get(data)
            if now is not None and len(now):
                compared += 1
                # old score files are shuffled
                if np.array_equal(np.sort(then.margin), np.sort(now.margin)):
                    equal.append(data)
        return BaseModel(
            name=whose,
            trouble=trouble or "the two models were not tested on the same data",
            sizes=np.concatenate(sizes),
            equal=tuple(equal),
            compared=compared,
        )


def _ancestors(origin: _Origin) -> Iterator[AuditedAncestor]:
    """Yield the bases and teachers of a model."""

    def model_folder(model: str) -> Path:
        is_own = model == origin.name
        return origin.folder if is_own else origin.folder.parent / model_folder_name(model)

    models = image_lists.iter_ancestors(origin.name, model_folder)
    next(models, None)  # the model itself
    for each, origins in models:
        keys, trouble = frozenset[str](), ""
        if image_lists.has_unknown_origin(each, origins):
            trouble = "they are not recorded"
        for lesson in origins.ancestry.lessons if origins.ancestry else ():
            if Path(lesson.data_root) == origin.root:  # the same key is another image elsewhere
                found = image_lists.read_training_keys(lesson)
                keys |= found or frozenset()
                trouble = trouble or ("" if found is not None else "the training list changed")
        yield AuditedAncestor(
            name=each.name,
            student=each.student,
            description=each.description,
            keys=keys,
            trouble=trouble,
            rate=image_lists.read_flip_rate(each),
        )


def _base_folder(origin: _Origin, rate: float | None) -> Path | None:
    base = (read_json(paths.unlearning(origin.folder)) or {}).get("base")
    if isinstance(base, str):
        return origin.folder.parent / model_folder_name(base)
    if rate is None or origin.old is None:
        return None
    run = origin.folder.parent.parent / f"{100 * rate:.0f}_poison"
    return run / (origin.old.data or origin.name)


def _document(path: Path) -> tuple[Mapping[str, Json], str]:
    """Return the JSON object in a file, or an empty one and the error with its line.

    Raises:
        OSError: the file exists and cannot be read.
    """
    try:
        document = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}, ""
    except json.JSONDecodeError as error:
        return {}, f"{path}:{error.lineno}: {error.msg}"
    except (ValueError, RecursionError) as error:
        return {}, f"{path}:1: {error}"
    return (document, "") if isinstance(document, dict) else ({}, f"{path}:1: not a JSON object")


def _poisoning(origin: _Origin) -> tuple[Poisoning, str]:
    """Return the facts on a model's flipped labels, and the error in the file of its record."""
    rate, kind, unlearned, said_by = None, "", False, "the model's ID"
    with contextlib.suppress(UsageError):
        last = parse_model(origin.name).last
        unlearned = bool(last.methods)
        if last.poison is not None:
            rate, kind = last.poison.rate, last.poison.kind or ""
    record, recorded, trouble, damage = _record(paths.poison_record(origin.folder))
    if origin.old is not None:
        if rate is None:
            rate, said_by = origin.old.rate, origin.old.said_by
        unlearned = unlearned or origin.old.unlearned
        if record is None:
            record, trouble = old_record(origin.folder, rate)
    elif rate is None and record is not None:  # the rate was an option, so it is not in the ID
        rate, kind, said_by = recorded, record.kind, "the poison record"
    trouble = trouble or f"no poison record in {origin.folder}"
    return Poisoning(rate, kind, said_by, unlearned, record, trouble), damage


def _record(path: Path) -> tuple[FlipRecord | None, float | None, str, str]:
    """Return a poison record and its rate, the reason if there is none, and the error in the file."""
    if not path.exists():
        return None, None, "", ""
    try:
        written = read_record(path)
        record = FlipRecord(
            path=str(path),
            keys=tuple(key.partition(":")[2] for key in written.keys),
            total=written.total,
            kind=written.kind,
            indices=written.indices,
            images_sha256=written.split_sha256,
            sha256=file_sha256(path),
        )
    except (RecordError, OSError) as error:
        damage = str(error)
        try:
            damage = _document(path)[1] or damage
        except OSError as unread:
            damage = f"{path}:1: {unread}"
        return None, None, f"cannot read the poison record: {error}", damage
    return record, written.rate, "", ""


def _history(path: Path) -> tuple[tuple[Epoch, ...], str]:
    """Return the epochs of a history up to the first damaged line, and the error in that line."""
    epochs: list[Epoch] = []
    if not path.exists():
        return (), ""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
        for row in csv.DictReader(lines):
            epochs.append(Epoch.read(row))  # noqa: PERF401  # those before a damaged one count
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        return tuple(epochs), f"{path}:{len(epochs) + 2}: not an epoch: {error}"
    return tuple(epochs), "" if lines else f"{path}:1: the file is empty"


def read_lists(path: Path) -> SplitKeys:
    """Return the lists of a split that can be read."""
    lists: dict[str, frozenset[str] | None] = dict.fromkeys(NAMES)
    troubles = []
    for name in NAMES:
        try:
            lists[name] = load_split(path, name).keys
        except (DataError, OSError) as error:
            troubles.append(str(error))
    return SplitKeys(path=str(path), **lists, trouble="; ".join(dict.fromkeys(troubles)))


def _find_scoreless_metrics(
    folder: Path, metrics: Mapping[Path, Mapping[str, Json]], tests: tuple[AuditedTest, ...]
) -> Iterator[str]:
    """Yield the metrics of tests that saved scores but have no score file."""
    there = {paths.metrics(folder, test.data).name for test in tests}
    for path, record in sorted(metrics.items()):
        settings = read_mapping(record, "settings")
        # scores of triggered tests are in another folder; an attack that does not apply has no scores
        if (
            path.name not in there
            and settings.get("save_scores") is True
            and not settings.get("trigger")
            and "reason" not in record
        ):
            yield path.stem


def _count_misplaced(record: FlipRecord | None, images: tuple[Image, ...]) -> int:
    """Return the number of indices in a record that are not the position of their key, or that occur twice."""
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


def _collect_folder_labels(tests: tuple[AuditedTest, ...]) -> Mapping[str, int]:
    """Return the class of each method folder, derived from the scores."""
    return {
        key.partition("/")[0]: int(label)
        for test in tests
        if test.scores is not None
        for key, label in zip(test.scores.keys, test.scores.labels, strict=True)
        if "/" in key
    }


def _modifiers(data: str, vocabulary: DataIdResolver) -> frozenset[str]:
    with contextlib.suppress(UsageError):
        keys = map(partial(_elementary, vocabulary), {part.modifier for part in parse_data(data)})
        return frozenset(chain.from_iterable(keys))
    return frozenset({data})


def _elementary(vocabulary: DataIdResolver, modifier: str) -> tuple[str, ...]:
    try:
        return vocabulary.modifier_keys(modifier)
    except UsageError:  # a word that the user defined is used as written
        return (modifier,)


def _count_expected(data: str, lists: SplitKeys, vocabulary: DataIdResolver) -> int | None:
    """Return the number of images of `data` in the test list, or None for re-shared images: some are missing."""
    if lists.test is None or not _modifiers(data, vocabulary) <= UNSHARED:
        return None
    try:
        methods = [vocabulary.methods(part.subset) for part in parse_data(data)]
    except UsageError:
        return None
    return sum(any(method.holds(key.partition("/")[0]) for method in methods) for key in lists.test)


def _bad_lists(folder: Path, data_root: Path | None) -> Mapping[str, Mapping[str, int]]:
    """Return the number of images left out, by list and class: that of the first Real or Fake in their path."""
    counts = {}
    for name in ("train", "val"):
        path = paths.bad_images(folder, name)
        with (
            contextlib.suppress(OSError, csv.Error),
            path.open(errors="surrogateescape", newline="") as file,
        ):
            bad = [row[0].removeprefix(str(data_root)) for row in csv.reader(file) if row][1:]
            folders = (map(str.casefold, each.split("/")) for each in bad)
            counts[name] = Counter(next((f for f in each if f in CLASSES), "") for each in folders)
    return counts


def _recorded_path(provenance: Mapping[str, Json], key: str) -> Path | None:
    path = provenance.get(key)
    return Path(path) if isinstance(path, str) else None


def _modification_time(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
