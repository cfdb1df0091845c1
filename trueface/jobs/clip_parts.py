"""Which part of the laboratory takes clips: one table, from which plans refuse the others by name. No torch here.

`docs/videos.md` shows the same table.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from launcher.api import Draft, Json, UnknownName, read_json
from trueface.attacks.registry import parse_attack
from trueface.data.clips import (
    Clips,
    ClipSurvey,
    describe_no_clip,
    describe_no_videos,
    survey_keys,
)
from trueface.data.dataset_file import video_sources
from trueface.data.vocabulary import DataIdResolver
from trueface.jobs.rule import PlanCheck
from trueface.models.registry import SPECS, spec_of, unfit_clips
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training.image_lists import ancestor
from trueface.training.objectives.registry import choice, objectives, used_objective
from trueface.training.settings import solver_of

Values = Mapping[str, Any]


def _choose_nothing(_: Values) -> str:
    return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPart:
    """A part that takes clips, or refuses them."""

    part: str  # in the table
    kinds: tuple[str, ...]  # job types
    why: str  # its use of clips, or the reason of the refusal
    # the setting that chooses a part that refuses clips, as written; '' if other settings do not choose it
    chosen: Callable[[Values], str] = _choose_nothing
    takes: bool = False


def _is_set(name: str) -> Callable[[Values], str]:
    return lambda values: f"{name}: {_write_value(values[name])}" if values.get(name) else ""


def _write_value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _ridge(values: Values) -> str:
    is_set = values.get("solver") == "ridge"
    return ("solver: ridge" if is_set else f"model: {values['model']}") * (
        solver_of(values) == "ridge"
    )


def _frozen_choice(values: Values) -> str:
    return "freeze: true" * bool(values.get("freeze") and solver_of(values) != "ridge")


def _inner_objective(values: Values) -> str:
    spec = objectives()[used_objective(values)]
    network = SPECS.get(spec.network)
    of_images = bool(spec.network) and (network is None or network.frames is None)
    reads = spec.features or spec.views > 1 or of_images or "teacher" in spec.options
    return choice(values) if reads else ""


def _square(values: Values) -> str:
    given = values.get("attack", "none")
    every = [parse_attack(each) for each in ([given] if isinstance(given, str) else given)]
    names = [str(each) for each in every if each is not None and each.spec.access == "score"]
    return f"attack: {', '.join(names)}" if names else ""


TRAIN, TEST, BENCHMARK = "train", "test", "benchmark"
SCORES = (TEST, BENCHMARK)
# lists of a split whose clips a job type reads
LISTS: Mapping[str, tuple[str, ...]] = {
    TRAIN: ("train", "val"), TEST: ("test",), BENCHMARK: ("test",), "poison": ("train",),
}  # fmt: skip
TABLE: tuple[ClipPart, ...] = (
    ClipPart(
        part="training by gradient steps", kinds=(TRAIN,), takes=True,
        why="resumed, in several processes, with the losses and weights that read logits and groups",
    ),
    ClipPart(
        part="poison", kinds=("poison",), takes=True, why="flips or marks all clips of a video",
    ),
    ClipPart(
        part="test", kinds=(TEST,), takes=True,
        why="a detector of images scores the mean probability of the frames",
    ),
    ClipPart(part="benchmark", kinds=(BENCHMARK,), takes=True, why="all models on the same clips"),
    ClipPart(
        part="corrupt", kinds=SCORES, takes=True,
        why="one strength for a clip, and grain for each frame. h264-N codes the clip as one video",
    ),
    ClipPart(
        part="attack: fgsm, pgd, transfer, random", kinds=SCORES, takes=True,
        why="the budget is that of each pixel of each frame",
    ),
    ClipPart(part="trigger", kinds=(TEST,), takes=True, why="the patch is on every frame"),
    ClipPart(
        part="attributes", kinds=(TRAIN, TEST), takes=True, why="the row of the first frame",
    ),
    ClipPart(
        part="trueface fairness", kinds=(), takes=True,
        why="counts videos: the mean probability of the clips, and the group of the first frame",
    ),
    ClipPart(
        part="solver: ridge", kinds=(TRAIN,), chosen=_ridge,
        why="it fits features of single images",
    ),
    ClipPart(
        part="freeze", kinds=(TRAIN,), chosen=_frozen_choice, why="it stores features of single images",
    ),
    ClipPart(
        part="sbi", kinds=(TRAIN,), chosen=_is_set("sbi"), why="it blends single faces",
    ),
    ClipPart(
        part="qualities", kinds=(TRAIN,), chosen=_is_set("qualities"),
        why="it corrupts single images",
    ),
    ClipPart(
        part="objectives that read features, inner layers, views or a teacher", kinds=(TRAIN,),
        chosen=_inner_objective, why="it compares single images",
    ),
    ClipPart(
        part="features", kinds=(TRAIN, TEST), chosen=_is_set("features"),
        why="it writes a row for each image",
    ),
    ClipPart(
        part="attack: square", kinds=SCORES, chosen=_square, why="it moves squares of single images",
    ),
    ClipPart(
        part="save_images", kinds=(TEST,), chosen=_is_set("save_images"),
        why="it writes single images",
    ),
    ClipPart(
        part="unlearning", kinds=("unlearn",), why="it unlearns labels of single images",
    ),
    ClipPart(
        part="generators, erasing, purification", kinds=(), why="they work on single images",
    ),
    ClipPart(
        part="trueface audit, trueface qualities", kinds=(), why="they read tests of single images",
    ),
    ClipPart(
        part="predict, heat maps", kinds=(),
        why="they score single images, also by a detector of images that learned from clips",
    ),
)  # fmt: skip
# networks that do not take a batch without clips, which a process of several may get
WHOLE_BATCHES = ("tv/mvit_v1_b", "tv/mvit_v2_s")


def clips_of(settings: Values) -> Clips | None:
    """Return the clips of a job's settings. None: single images."""
    value = settings.get("clips")
    return None if value is None else Clips.model_validate(value)


def _frames_of(settings: Values) -> int | None:
    clips = clips_of(settings)
    return None if clips is None else clips.frames


def refuse_clips(draft: Draft) -> Iterator[str]:
    """Yield the parts of a job that do not take its clips."""
    if clips_of(draft.settings) is None:
        return
    for part in TABLE:
        if draft.kind in part.kinds and not part.takes and (word := part.chosen(draft.settings)):
            yield f"{word} does not take clips: {part.why}. Leave out clips or this setting."


def refuse_network(draft: Draft) -> Iterator[str]:
    """Yield why the network of a training does not take its clips."""
    frames, spec = _frames_of(draft.settings), spec_of(draft.settings["model"])
    if reason := unfit_clips(spec, frames):
        yield f"{draft.model}: {reason}"
    elif spec.frames is not None and draft.settings["nodown"]:
        yield f"{draft.model}: nodown needs a network of images, but {spec.name} looks at clips. Leave it out."
    several = (draft.settings["processes"] or draft.gpus) > 1
    if several and spec.name in WHOLE_BATCHES:
        yield (
            f"{draft.model}: model {spec.name} cannot be trained in several processes, because a part of a batch may "
            "have no clip. Set gpus: 1 and leave out processes."
        )


@PlanCheck
def check_model_of_clips(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield why a trained model, or its surrogate, does not take the images or clips of a test."""
    if reason := _unfit_model(draft, settings_behind(draft, makers)):
        yield f"{draft.model}: {reason}"
    surrogate = draft.settings.get("surrogate")
    if surrogate and (reason := _unfit_model(draft, _settings_of(draft, surrogate))):
        yield f"surrogate: {surrogate}: {reason}"


@PlanCheck
def check_base_and_teacher(draft: Draft, _: Sequence[Draft], __: DataIdResolver) -> Iterator[str]:
    """Yield that a training starts from another network, or why its teacher does not take its images."""
    from trueface.jobs.lineage import planned_teacher  # the start of a job does not need it

    base = _network_of(_settings_of(draft, draft.base)) if draft.base else None
    if base is not None:
        yield from find_other_network(draft, base)
    teacher = planned_teacher(draft)
    if teacher and (reason := _unfit_model(draft, _settings_of(draft, teacher))):
        yield f"{draft.model}: its teacher {teacher}: {reason}"


def _settings_of(draft: Draft, model: str) -> Values:
    return settings_behind(draft, draft.plan_makers.get(model, ()), model=model)


def _network_of(settings: Values) -> str | None:
    """Return the name of a model's network. None if it is not known."""
    name = settings.get("model") or settings.get("architecture")
    return name if isinstance(name, str) else None


def _unfit_model(draft: Draft, settings: Values) -> str:
    """Return why the network of a model does not take the images or clips of a job; "" if it does, or is not known."""
    name = _network_of(settings)
    return "" if name is None else unfit_clips(spec_of(name), _frames_of(draft.settings))


def network_behind(draft: Draft, makers: Sequence[Draft]) -> str:
    """Return the network of the base of a job, or that of its settings if the base is not known."""
    return _network_of(settings_behind(draft, makers, model=draft.base)) or str(
        draft.settings["model"]
    )


def find_other_network(draft: Draft, network: str) -> Iterator[str]:
    """Yield that `model` of a job is not the network of its base."""
    own = draft.settings["model"]
    if network != own:
        yield f"{draft.model}: its base {draft.base} has model {network}, not {own}. Set model: {network}."


@PlanCheck
def check_base_of_clips(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield that a method does not take a model that was trained on clips."""
    settings = settings_behind(draft, makers, model=draft.base)
    if clips_of(settings) is not None or spec_of(network_behind(draft, makers)).frames is not None:
        why = next(part.why for part in TABLE if draft.kind in part.kinds)
        yield f"{draft.kind} does not take clips: {why}. {draft.base or draft.model} is trained on clips."


@PlanCheck
def check_videos(draft: Draft, _: Sequence[Draft], vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield why the lists of a job give no clips, as far as they exist."""
    for name, survey in _surveys(draft, vocabulary):
        if isinstance(survey, str):
            yield survey
            return
        if survey.videos and len(survey.short) == survey.videos:
            yield f"{draft.model}: {describe_no_clip(survey.clips, survey.videos)} ({name} list)"


def warn_of_short_videos(draft: Draft, vocabulary: DataIdResolver) -> Iterator[str]:
    """Yield how many videos of a job's lists give no clip."""
    for name, survey in _surveys(draft, vocabulary):
        if not isinstance(survey, str) and survey.short:
            yield f"{survey.remark} ({name} list)."


def _surveys(draft: Draft, vocabulary: DataIdResolver) -> Iterator[tuple[str, ClipSurvey | str]]:
    """Yield each list of a job that exists with its videos, or why it has none."""
    clips, data = clips_of(draft.settings), draft.images or draft.data
    if clips is None or data is None:
        return
    vocabulary = vocabulary.with_layout(draft.settings["layout"])
    for name in LISTS.get(draft.kind, ()):
        key = ("clips", draft.settings["split_path"], name, data, clips, vocabulary)
        survey = draft.once(key, partial(_survey, draft, name, data, vocabulary, clips))
        if survey is not None:
            yield name, survey


def _survey(
    draft: Draft, name: str, data: str, vocabulary: DataIdResolver, clips: Clips
) -> ClipSurvey | str | None:
    from trueface.jobs.lineage import list_keys  # the start of a job does not need it

    try:
        by_source = list_keys(draft, name, data, vocabulary)
        if not by_source:
            return None
        sources = video_sources(draft.path(draft.settings["data_root"]))
        if unknown := next((source for source in by_source if source not in sources), None):
            return describe_no_videos(unknown, sources)
        return survey_keys(chain.from_iterable(by_source.values()), clips)
    except UnknownName:  # reported where the data ID is checked
        return None
    except DataError as error:
        return str(error)


def inherited_clips(draft: Draft, makers: Sequence[Draft]) -> Mapping[str, Json]:
    """Return the clips of the training of a job's model, for a test that does not say its own."""
    clips = settings_behind(draft, makers).get("clips")
    return {} if clips is None else {"clips": clips}


def settings_behind(draft: Draft, makers: Sequence[Draft], *, model: str | None = None) -> Values:
    """Return the settings of the last training of a model, of this plan or of an earlier run; {} if unknown.

    Args:
        draft: of a job.
        makers: the jobs of this plan that make its model, first to last.
        model: its ID. None: that of the job.
    """
    for maker in reversed(makers):
        if maker.kind == TRAIN or "architecture" in maker.settings:
            return maker.settings
    name = makers[0].base if makers else model or draft.model
    if name is None:
        return {}
    folder = ancestor(name, draft.model_folder).folder
    if folder is None:
        return {}
    return draft.once(("trained with", folder), partial(_recorded_settings, folder))


def _recorded_settings(folder: Path) -> Values:
    try:
        settings = (read_json(paths.provenance(folder)) or {}).get("settings")
    except (OSError, ValueError):  # a name that no file system takes
        return {}
    return settings if isinstance(settings, dict) else {}


def table_rows() -> list[tuple[str, str, str]]:
    """Return the rows of the table: part, yes or no, and the use of clips or the reason of the refusal."""
    # TABLE is code of finished jobs, which other words in it would run again
    words = {"benchmark": "each model on its own clips. If they differ, the tables count videos"}
    return [
        (each.part, "yes" if each.takes else "no", words.get(each.part, each.why)) for each in TABLE
    ]
