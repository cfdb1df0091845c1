"""One kind of job as the launcher plans it: facts, a function for each question, and files that many kinds read.

No torch here.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from launcher.api import (
    DataId,
    Draft,
    Input,
    Json,
    Kind,
    Role,
    Settings,
    SharedWork,
    UsageError,
    Words,
    parse_data,
    parse_model,
)
from trueface.data.attributes import attribute_files
from trueface.data.folders import open_listing
from trueface.data.image_folders import list_image_folders
from trueface.data.index import link_fraction, parts_without_folder, sample_dangling
from trueface.data.splits.split_files import read_lists, split_files
from trueface.data.vocabulary import BUILT_IN, UNSHARED, DataIdResolver, has_originals, names_real
from trueface.jobs.clip_parts import warn_of_short_videos
from trueface.jobs.flags import words
from trueface.jobs.former_settings import DESCRIPTIONS
from trueface.jobs.lineage import count_images, find_unknown_origins, planned_teacher
from trueface.jobs.model_inputs import find_unlike_models
from trueface.jobs.rule import PlanCheck, Rule, published_root
from trueface.poisoning.poison_record import ONE_WAY, PATCH, count_of
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import link_target, read_json
from trueface.training.config import (
    eager_reason,
    explain_long_average,
    is_momentum_held,
    long_accumulation_reason,
)
from trueface.training.image_lists import ONLY_ORIGINALS, few_of_a_class, read_teacher_poison
from trueface.training.ineffective_settings import (
    EQUAL_VIEWS,
    has_equal_views,
    ineffective_on_reshared,
)
from trueface.training.objectives.registry import (
    EAGER_OBJECTIVE,
    choice,
    is_built_in,
    objectives,
    used_objective,
)
from trueface.training.settings import LearningSettings, solver_of

PROGRAM = ("python", "-m", "trueface")
# One list for all kinds, so that one fork server serves them all.
PRELOAD = (
    *(
        "torch",
        "torchvision",
        "torchvision.transforms.v2",
        "numpy",
        "PIL",
        "pydantic",
        "simplejpeg",
    ),
    # otherwise each job would import them again, which takes half a second
    *(f"sklearn.{part}" for part in ("linear_model", "metrics", "model_selection", "svm")),
    # the most frequent jobs; with them nearly all modules that other jobs import
    *(f"trueface.jobs.{part}" for part in ("testing", "training", "unlearning", "poisoning")),
)
LEARNING = ("train", "unlearn")  # kinds that read a train and a val list
EPOCHS = "trueface.training.history:epochs"
HELD_MOMENTUM = (
    "schedule: onecycle does not change the momentum here, because momentum is swept. A training without momentum "
    "lets it fall from 0.95 to 0.85 and rise again."
)


NO_TRIGGER = (
    "trigger: true adds a patch that the model was not trained with, so attack_success says nothing of a backdoor. "
    "Leave it out, or test a model of poison: patch-20."
)
# function that returns the inputs of a job
Reading = Callable[[Draft, DataIdResolver], Iterable[Input]]

# measured: 240 images of 64 pixels with slim18, 340 s instead of 1.4 s for an epoch
SLOW_FP16 = (
    "precision: fp16 is about 200 times slower than fp32 on the CPU. Use precision: fp32 on a "
    "machine without a GPU."
)
NO_FREE_CORES = "num_threads: 0 uses no free core. Use num_threads: auto to load images faster."
GRAPH_ON_CPU = "accelerate: graph has no effect on the CPU, where the steps run eagerly. Leave it out, or use a GPU."
GPU_DEVICES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")  # NVIDIA, WSL 2, AMD


def yield_nothing(*_: object) -> tuple[()]:
    """Return (), the default of each question about a job."""
    return ()


@dataclass(frozen=True, kw_only=True)
class JobKind:
    """One kind of job: facts, and functions for each question about its files and its line."""

    common_checks: ClassVar[tuple[PlanCheck, ...]] = ()  # checks of all such kinds
    name: str
    role: Role
    summary: str
    entry: str  # the function that does the work
    settings: type[Settings]
    # function that returns the meaning of a data ID for it
    resolve_data: Callable[[DataIdResolver, DataId], DataId] = DataIdResolver.test_data_id
    input_readers: tuple[Reading, ...] = ()
    list_outputs: Callable[[Draft], Iterable[Path]] = yield_nothing
    build_command: Callable[[Draft], Iterable[str]] = yield_nothing
    rules: Sequence[Rule | PlanCheck] = ()  # in the order in which their sentences are reported
    # settings that a job takes from the training of its model
    list_inherited: Callable[[Draft, Sequence[Draft]], Mapping[str, Json]] = lambda *_: {}
    results: str = ""
    epochs: str = ""
    sources: tuple[str, ...] = ()  # (): its entry imports all modules of its work
    preload: tuple[str, ...] = PRELOAD
    uses_several_gpus: bool = False  # its work among several GPUs; otherwise it uses one
    accepts_custom_words: bool = (
        True  # the user's words for sets of images; without them unions are kept as well
    )
    constants: ClassVar[Mapping[str, str]] = DESCRIPTIONS
    vocabulary: DataIdResolver = BUILT_IN
    # numbers on validation images in its results; None: not known
    reported_validation: frozenset[str] | None = None

    def images(self, data: DataId) -> DataId:
        """Return which images `data` means, real data added where it is implied."""
        return self.resolve_data(self.vocabulary, data)

    def elementary(self, data: DataId) -> DataId:
        """Return `data` with all unions expanded."""
        return (
            self.vocabulary.expand_unions(data) if self.accepts_custom_words else self.images(data)
        )

    def without_effect(self, values: Mapping[str, Any], images: DataId) -> Mapping[str, str]:
        """Return settings that have no effect on a job with these images, each with the reason."""
        find = self.settings.without_effect
        if not issubclass(self.settings, LearningSettings) or has_originals(
            images, self.vocabulary
        ):
            return find(values)
        return {**ineffective_on_reshared(values, find), **find(values)}

    def with_words(self, words: Words) -> Self:
        """Return this kind with user-defined words added, unless its sets of images cannot be user-defined.

        Raises:
            UsageError: a word that is known already, or a folder that cannot be one.
        """
        if not words or not self.accepts_custom_words:
            return self
        return replace(self, vocabulary=self.vocabulary.with_words(words))

    def validation_metrics(self, values: Mapping[str, Any]) -> Collection[str] | None:
        """Return the names of the numbers on validation images in its results, None if unknown."""
        if "objective" in values and not is_built_in(used_objective(values)):
            return None  # an objective of a plugin package may add numbers of its own
        return self.reported_validation

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why the job must not run, given the jobs that make its model."""
        idle = () if draft.gpus <= 1 or self.uses_several_gpus else (_idle_gpus(draft),)
        every = (
            rule.find(draft, makers, self.vocabulary)
            if isinstance(rule, PlanCheck)
            else rule(draft)
            for rule in (*self.common_checks, *self.rules)
        )
        return (*idle, *chain.from_iterable(every))

    def inherited_settings(self, draft: Draft, makers: Sequence[Draft]) -> Mapping[str, Json]:
        """Return values for settings that are not given, from the training of the job's model."""
        return self.list_inherited(draft, makers)

    def warnings(self, draft: Draft) -> tuple[str, ...]:
        """Return warnings on settings that make the job slow, that are ignored, or that may be forgotten."""
        half = draft.settings.get("precision") == "fp16"
        on_cpu = draft.device == "cpu" or (draft.device == "auto" and not _has_gpu_driver())
        slow = (SLOW_FP16,) if half and on_cpu else ()
        graph = draft.settings.get("accelerate") == "graph"
        eager = (GRAPH_ON_CPU if on_cpu else _eager_warning(draft),) if graph else ()
        idle = (NO_FREE_CORES,) if draft.settings.get("num_threads") == 0 else ()
        return tuple(
            filter(
                None,
                (
                    *(*slow, *idle, *eager, _idle_crops(draft)),
                    *(_large_patch(draft), *_long_steps(draft, self.vocabulary)),
                    *(
                        _swept_momentum(draft),
                        _untrained_trigger(draft),
                        _equal_views(draft),
                        *_one_class(draft, self.vocabulary),
                        _impossible_flips(draft, self.vocabulary),
                        *_models_with_other_inputs(draft),
                        *warn_of_short_videos(draft, self.vocabulary),
                    ),
                ),
            )
        )

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return every path that the job reads."""
        every = (reading(draft, self.vocabulary) for reading in self.input_readers)
        return tuple(chain.from_iterable(every))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return every path that proves the job done."""
        return tuple(self.list_outputs(draft))

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same."""
        return tuple(self.build_command(draft))


@dataclass(frozen=True, kw_only=True)
class LaboratoryKind(JobKind):
    """A kind of job about detectors, with hooks for results and for work that several jobs share."""

    list_shared_work: Callable[[Draft, Sequence[Draft]], Iterable[SharedWork]] = yield_nothing
    lower_is_better: frozenset[str] = frozenset()
    # columns of results → the part of a model's ID that each shows
    model_columns: ClassVar[Mapping[str, str]] = {
        "architecture": "", "training_data": "#", "poison": "%", "poison_kind": "%kind",
        "teacher_poison": "teacher%", "method": "~",
    }  # fmt: skip

    def recorded_labels(self, folder: Path, settings: Mapping[str, Any], name: str) -> float | None:
        """Return the percentage of flipped labels of the teacher that a training recorded."""
        try:
            record = read_json(paths.provenance(folder)) or {}
        except (OSError, ValueError):
            return None
        used = record.get("settings")
        if not isinstance(used, dict) or used.get(name) != settings.get(name):
            return None
        percent = record.get(f"{name}_poison")
        return float(percent) if isinstance(percent, int | float) else None

    def shared_work(self, draft: Draft, makers: Sequence[Draft]) -> tuple[SharedWork, ...]:
        """Return what of the job's work other jobs of a plan may repeat."""
        return tuple(self.list_shared_work(draft, makers))


def _eager_warning(draft: Draft) -> str:
    """Return a warning if other settings keep the steps of a training from being replayed, or ''."""
    settings = draft.settings
    reason = eager_reason(
        sam=settings.get("sam", 0.0),
        awp=settings.get("awp", 0.0),
        schedule=settings.get("schedule", ""),
        compiles=settings.get("compile", False),
        processes=settings.get("processes") or draft.gpus,
        accumulate=settings.get("accumulate", 1),
    )
    if not reason and "objective" in settings:
        objective = objectives()[used_objective(settings)]
        if not objective.capturable:
            reason = EAGER_OBJECTIVE.format(name=objective.name)
    return f"accelerate: graph has no effect: {reason}. The steps run eagerly." if reason else ""


def _idle_crops(draft: Draft) -> str:
    """Return a warning if a published model is tested with crops of the test's settings, or ''."""
    is_published = draft.model and published_root(draft.model) == draft.model
    if not (is_published and draft.settings.get("test_crops")):
        return ""
    return (
        f"test_crops and patch_size have no effect on {draft.model}, because a published model has its own "
        "preprocessing. Leave them out."
    )


def _equal_views(draft: Draft) -> str:
    """Return a warning if an objective compares views of an image that are equal, or ''."""
    if draft.kind not in LEARNING or not has_equal_views(draft.settings):
        return ""
    return (
        f"{draft.model}: {choice(draft.settings)} compares two views of each image, but {EQUAL_VIEWS}. Set flip_prob "
        "or another augmentation, or use another objective."
    )


def _large_patch(draft: Draft) -> str:
    """Return a warning if patches are larger than the images that they are cut from, or ''."""
    patch, side = draft.settings.get("patch_size", -1), draft.settings.get("resize_size", 0)
    uses_patches = "resize_prob" in draft.settings or draft.settings.get("test_crops")
    if not uses_patches or patch <= side:
        return ""
    return (
        f"patch_size: {patch} is larger than resize_size: {side}, so every image gets a black border. Set "
        f"patch_size to {side} or less."
    )


def _long_steps(draft: Draft, vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield warnings if a training is too short for its moving average, or an epoch for its steps.

    Images of later jobs are not counted.
    """
    settings, data = draft.settings, draft.images or draft.data
    if draft.kind != "train" or data is None or solver_of(settings) == "ridge":
        return
    ema, accumulate, batch = (settings[name] for name in ("ema", "accumulate", "batch_size"))
    if not ema and accumulate == 1:
        return
    try:
        images = count_images(draft, "train", data, vocabulary.with_layout(settings["layout"]))
    except (DataError, OSError):
        return
    if not images:
        return
    warmup, epochs = settings["ema_warmup"], settings["num_epochs"]
    rows = batch * accumulate
    if reason := explain_long_average(
        ema, warmup=warmup, images=images, rows_per_step=rows, epochs=epochs
    ):
        yield f"ema: {ema:g} is too long: {reason}."
    if reason := long_accumulation_reason(accumulate, images=images, rows_per_batch=batch):
        yield f"accumulate: {accumulate} is too many: {reason}."


def _one_class(draft: Draft, vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield warnings if a list lacks a class: the training refuses it, or validation cannot calibrate the model."""
    settings, data = draft.settings, draft.images or draft.data
    if draft.kind not in LEARNING or data is None:
        return
    vocabulary = vocabulary.with_layout(settings["layout"])
    trains = draft.kind == "train"
    real, fake, originals = _count_classes(draft, "train", data, vocabulary)
    blends = trains and settings["sbi"] and solver_of(settings) != "ridge"
    if trains and draft.base is None and bool(real) != bool(fake) and not (originals and blends):
        remedy = f"{ONLY_ORIGINALS}." if real and blends else "Make another split: trueface splits."
        yield (
            f"{draft.model}: the train list has no {'fake' if real else 'real'} images of {data}, so the training is "
            f"refused. {remedy}"
        )
    real, fake, _ = _count_classes(draft, "val", data, vocabulary)
    reason = few_of_a_class(real, fake, settings, unlearns=not trains) if real or fake else ""
    if reason:
        yield f"the val list has {real} real and {fake} fake images of {data}: {reason}."


def _impossible_flips(draft: Draft, vocabulary: DataIdResolver) -> str:
    """Return a warning if a poison flips no label or more than it can, or ''."""
    data = draft.images or draft.data
    if draft.kind != "poison" or draft.settings["poison_list"] or data is None or not draft.model:
        return ""
    poison = parse_model(draft.model).last.poison
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    real, fake, _ = _count_classes(draft, "train", data, vocabulary)
    total, one_way = real + fake, ONE_WAY.get((poison and poison.kind) or "")
    if poison is None or not total:
        return ""
    count, most = count_of(total, poison), total if one_way is None else (real, fake)[one_way]
    if 0 < count <= most:
        return ""
    remedy = f"Only {most} images can be chosen." if count else "Raise the poison."
    return f"poison {poison} of {total} images of {data} flips {count} labels, so the job is refused. {remedy}"


class _ClassCounts(NamedTuple):
    """The numbers of images of a list; 0 if they are not known yet."""

    real: int
    fake: int
    original_reals: int


def _count_classes(draft: Draft, name: str, data: str, vocabulary: DataIdResolver) -> _ClassCounts:
    key = ("classes", draft.settings["split_path"], name, data, vocabulary)
    return draft.once(key, lambda: _counted_classes(draft, name, data, vocabulary))


def _counted_classes(
    draft: Draft, name: str, data: str, vocabulary: DataIdResolver
) -> _ClassCounts:
    counts: Counter[tuple[bool, bool]] = Counter()  # by whether images are real, and original
    try:
        each = {  # parts may overlap
            f"{subset}:{modifier}": (names_real(subset), modifier in UNSHARED)
            for part in parse_data(data)
            for subset in vocabulary.subset_keys(part.subset)
            for modifier in vocabulary.modifier_keys(part.modifier)
        }
        for part, group in each.items():
            counts[group] += count_images(draft, name, part, vocabulary) or 0
    except (DataError, OSError):
        return _ClassCounts(0, 0, 0)
    originals = counts[True, True]
    fakes = counts[False, True] + counts[False, False]
    return _ClassCounts(originals + counts[True, False], fakes, originals)


def _models_with_other_inputs(draft: Draft) -> Iterator[str]:
    """Yield warnings of a training whose base or teacher had other settings, unknown images or flipped labels."""
    if draft.kind not in LEARNING:
        return
    yield from find_unlike_models(draft)
    if unknown := list(dict.fromkeys(find_unknown_origins(draft))):
        yield (
            f"{draft.model}: the training images of {'; '.join(unknown)} are not known. The plan cannot refuse tests "
            "on them, and benchmarks have the tier black."
        )
    teacher = planned_teacher(draft)
    if teacher and (percent := read_teacher_poison(teacher, draft.model_folder)):
        name = teacher.removeprefix(f"{draft.folder}/")
        yield (
            f"{draft.model}: flipped labels trained its teacher {name} ({percent:g} %). Results have them as "
            "teacher_poison, not as poison."
        )


def _swept_momentum(draft: Draft) -> str:
    """Return a warning if a sweep compares momenta that the cycle would move without them, or ''."""
    if draft.model is None or not is_momentum_held(draft.settings):
        return ""
    with suppress(UsageError):
        if "momentum" in dict(parse_model(draft.model).last.variant):
            return HELD_MOMENTUM
    return ""


def _untrained_trigger(draft: Draft) -> str:
    """Return a warning if a test adds the patch of a backdoor, but no model of the plan was trained with one, or ''.

    A clean model beside one with a backdoor is a control.
    """
    if not draft.settings.get("trigger") or draft.model is None:
        return ""
    with suppress(UsageError):
        in_plan = draft.once(
            "models with a trigger", lambda: any(map(_has_trigger, draft.plan_models))
        )
        if not in_plan and not _has_trigger(draft.model):
            return NO_TRIGGER
    return ""


def _has_trigger(model: str) -> bool:
    """Return whether a model was trained with the patch of a backdoor.

    Raises:
        UsageError: it has a name that is not an ID.
    """
    poisons = (stage.poison for stage in parse_model(model).stages)
    return any(poison is not None and poison.kind == PATCH for poison in poisons)


def _has_gpu_driver() -> bool:
    """Return whether a GPU's driver is loaded; torch is not imported while jobs are planned."""
    return any(os.path.exists(path) for path in GPU_DEVICES)  # noqa: PTH110  # fast


def command_line(
    draft: Draft, settings: type[Settings], *head: str, excluded_settings: Collection[str] = ()
) -> Iterator[str]:
    """Yield a command of `trueface`, with a flag for each setting that has another value than by default.

    Args:
        draft: of the job.
        settings: of its kind.
        head: the words behind `trueface`.
        excluded_settings: settings that the other words already contain.
    """

    def list_flags() -> tuple[str, ...]:
        own = {key: value for key, value in draft.settings.items() if key not in excluded_settings}
        return tuple(words(own, settings))

    yield from (*PROGRAM, *head)
    # jobs of one entry have their settings in common, and the plan holds them: their id() lasts
    yield from draft.once(("words", id(draft.settings), settings), list_flags)


def device_flag(draft: Draft) -> tuple[str, ...]:
    """Return the flag of the task file's device, or none to leave the choice to the command."""
    return () if draft.device == "auto" else ("--device", draft.device)


def _idle_gpus(draft: Draft) -> str:
    named = draft.model or draft.name or draft.kind
    return (
        f"{named}: this job type uses one GPU. {draft.gpus} GPUs would leave {draft.gpus - 1} idle."
    )


def refuse_unfit(kind: Kind, draft: Draft) -> None:
    """Refuse a job that lacks an input, or that a rule or a check refuses.

    Raises:
        UsageError: every reason, and every missing input.
    """
    missing = [item for item in kind.inputs(draft) if not os.path.exists(item.path)]  # noqa: PTH110  # takes any name
    reasons = [f"{item.path} is missing: {item.what}" for item in missing]
    reasons += dict.fromkeys(item.remedy for item in missing if item.remedy)
    if reasons := [*kind.refusals(draft, ()), *reasons]:
        raise UsageError("\n       ".join(reasons))


def model_of(draft: Draft) -> str:
    """Return the ID of the model that a job makes or tests."""
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


def folder_of(draft: Draft) -> Path:
    """Return the folder of that model."""
    return draft.model_folder(model_of(draft))


def checkpoint_input(draft: Draft, model: str, noun: str) -> Input:
    """Return the checkpoint of a model that a job reads; `noun` names it in messages."""
    return Input(path=paths.checkpoint(draft.model_folder(model)), what=f"{noun} {model}")


def base_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    """Yield the model from which a job starts, and the pretrained weights that it reads, if any."""
    if draft.base is not None:
        yield checkpoint_input(draft, draft.base, "the model")
    if (weights := draft.settings.get("weights", "none")) not in {"default", "none"}:
        is_word = weights.replace("-", "").replace("_", "").isalnum()  # no name of a file
        remedy = (
            "for the published weights write weights: default, for random ones none"
            if is_word
            else ""
        )
        yield Input(path=draft.path(weights), what="the file of pretrained weights", remedy=remedy)


def inputs_from_settings(
    places: Mapping[str, str], models: Mapping[str, str] | None = None
) -> Reading:
    """Return what a job reads: files and folders that settings name, and models, as far as they name one.

    Args:
        places: setting → description of the file or folder.
        models: setting → what its model is to the job.
    """

    def reads(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
        for setting, noun in places.items():
            if place := draft.settings[setting]:
                yield Input(path=draft.path(place), what=noun)
        for setting, noun in (models or {}).items():
            if model := draft.settings[setting]:
                yield checkpoint_input(draft, model, noun)

    return reads


def model_files(*further_files: Callable[[Path], Path]) -> Callable[[Draft], Iterator[Path]]:
    """Return the outputs of a job that produces a model: its checkpoint and accompanying files."""

    def makes(draft: Draft) -> Iterator[Path]:
        folder = folder_of(draft)
        yield paths.checkpoint(folder)
        yield from (file(folder) for file in further_files)

    return makes


def output_folder_files(*files: str) -> Callable[[Draft], Iterator[Path]]:
    """Return what a job of the role FOLDER makes: its folder, the record of it, and some files in it."""

    def makes(draft: Draft) -> Iterator[Path]:
        folder = draft.made_folder()
        yield folder
        yield from (folder / file for file in (paths.OUTPUT_RECORD, *files))

    return makes


def data_root_outputs(mark: str) -> Callable[[Draft], tuple[Path, ...]]:
    """Return what a job makes that makes a data root: the folder, and the mark in it, which is written last."""

    def makes(draft: Draft) -> tuple[Path, ...]:
        data_root = draft.path(draft.settings["data_root"])
        return data_root, data_root / mark

    return makes


def data_inputs(
    lists: tuple[str, ...], draft: Draft, vocabulary: DataIdResolver
) -> tuple[Input, ...]:
    """Return the data folder, those folders in it that are missing, files of a split, attributes."""
    data_root, split_path = draft.settings["data_root"], draft.settings["split_path"]
    images = draft.images or draft.data
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    attributes = draft.settings.get("attributes", "")
    missing = draft.settings["missing_images"]
    key = ("inputs", data_root, split_path, images, lists, vocabulary, attributes, missing)
    return draft.once(key, lambda: tuple(_data_inputs(draft, images, lists, vocabulary)))


def _data_inputs(
    draft: Draft, images: str | None, lists: tuple[str, ...], vocabulary: DataIdResolver
) -> Iterator[Input]:
    data_root = draft.path(draft.settings["data_root"])
    yield Input(path=data_root, what="the data folder")
    if images and os.path.exists(data_root):  # noqa: PTH110  # Path.exists refuses some; else it is said already, or an earlier job makes it
        for part, folder in parts_without_folder(data_root, parse_data(images), vocabulary):
            yield Input(path=folder, what=f"the folder of {part}")
        yield from _dangling_images(draft, parse_data(images), lists, vocabulary)
    remedy = _splitting(draft, data_root)
    for path in split_files(draft.path(draft.settings["split_path"]), lists):
        yield Input(path=path, what=f"the {path.stem} split", remedy=remedy)
    for path in attribute_files(draft.settings.get("attributes", ""), draft.path):
        yield Input(path=path, what="the table of the image attributes")


def _dangling_images(
    draft: Draft, data: DataId, lists: tuple[str, ...], vocabulary: DataIdResolver
) -> Iterator[Input]:
    """Yield an unshared image of the lists that is a link to nowhere, for all of them.

    Nothing if the job leaves such images out, and for what only the job reports.
    """
    if draft.settings["missing_images"] != "stop":
        return
    data_root = draft.path(draft.settings["data_root"])
    listing = draft.once(("listing", data_root), lambda: open_listing(data_root))
    dangling: dict[str, str] = {}
    try:
        linked = [
            folder
            for part in dict.fromkeys(data)
            for folder in list_image_folders(data_root, part, vocabulary, listing)
            if folder.links and folder.modifier in UNSHARED
        ]
        share = link_fraction(linked)
        for folder in linked:
            key = ("dangling", folder.path, folder.below, share)
            dangling |= draft.once(key, partial(sample_dangling, folder, share))
        listing.save_listing()
        named = read_lists(draft.path(draft.settings["split_path"])) if dangling else {}
    except (DataError, OSError):
        return
    keys = frozenset(chain.from_iterable(named.get(name, ()) for name in lists))
    if lost := [file for key, file in dangling.items() if key in keys]:
        # a sample of the files gives a lower bound
        number = str(len(lost)) if share == 1 else f"at least {len(lost)}"
        yield Input(
            path=Path(lost[0]),
            what=f"one of {number} images that are broken links",
            remedy=f"its target is {link_target(lost[0])}. Restore the targets, or skip these images: "
            "missing_images: skip",
        )


def _splitting(draft: Draft, data_root: Path) -> str:
    """Return the source of the image lists, or '' if no images are listed."""
    if not os.path.exists(data_root):  # noqa: PTH110  # as above
        return ""
    settings = draft.settings
    words = ["trueface", "splits", settings["data_root"], "--out", settings["split_path"]]
    if settings["layout"] != "auto":
        words += ["--layout", settings["layout"]]
    return f"to make the lists: {shlex.join(words)}"
