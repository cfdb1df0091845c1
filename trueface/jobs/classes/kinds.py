"""The kinds `classify` and `forget`, as the launcher plans them: no torch here."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher.api import DataId, Draft, Input, Role, Settings, UsageError, Words, parse_model
from trueface.data import class_folders
from trueface.jobs.flags import words
from trueface.jobs.kinds import EPOCHS, PRELOAD
from trueface.jobs.refusals.event_files import no_tensorboard
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.training.class_settings import ClassifySettings
from trueface.unlearning.applicability import Situation, refusal
from trueface.unlearning.class_settings import SINGLE, ForgetSettings, differences
from trueface.unlearning.registry import Goal

PROGRAM = ("python", "-m", "trueface")
UNKNOWN_CLASSES = 3  # of data that is not there yet: enough for every method


@dataclass(frozen=True, kw_only=True)
class ClassKind:
    """A kind of job about classifiers."""

    name: str
    role: Role
    summary: str
    entry: str  # the function that does the work
    settings: type[Settings]
    preload: tuple[str, ...] = PRELOAD
    results: str = ""
    epochs: str = ""
    sources: tuple[str, ...] = ()  # what the entry imports is all

    def images(self, data: DataId) -> DataId:
        """Return the data ID, its words checked.

        Raises:
            UnknownName: one of them is not known.
        """
        return class_folders.validated(data)

    def elementary(self, data: DataId) -> DataId:
        """Return the data ID as it is: there are no unions here."""
        return class_folders.validated(data)

    def with_words(self, words: Words) -> "ClassKind":  # noqa: ARG002  # the protocol's shape
        """Return this kind unchanged: its data sets cannot be user-defined."""
        return self

    def refusals(self, draft: Draft, makers: Sequence[Draft]) -> tuple[str, ...]:
        """Return why the job must not run, given the jobs that make its model."""
        reasons = _of_both(draft)
        more = _of_forgetting(draft, makers) if self.role is Role.METHOD else _of_training(draft)
        return (*reasons, *more)

    def inputs(self, draft: Draft) -> tuple[Input, ...]:
        """Return the data folder, and the model to start from."""
        return tuple(_inputs(draft))

    def outputs(self, draft: Draft) -> tuple[Path, ...]:
        """Return the checkpoint, and the record of how it was made."""
        folder = draft.model_folder(_model(draft))
        if self.role is Role.METHOD:
            return paths.checkpoint(folder), paths.unlearning(folder)
        return paths.checkpoint(folder), paths.history(folder)

    def argv(self, draft: Draft) -> tuple[str, ...]:
        """Return a command line that does the same."""
        shown = {key: value for key, value in draft.settings.items() if key != "method"}
        base = ("--base", draft.base) if draft.base else ()
        device = () if draft.device == "auto" else ("--device", draft.device)
        line = (*PROGRAM, self.name, _model(draft), "--name", draft.run, *base, *device)
        return (*line, *words(shown, self.settings))


def place_of(draft: Draft) -> class_folders.Place | None:
    """Return where a job's data set lies; None where it does not, or not yet.

    Raises:
        UsageError: its data ID names none.
    """
    root, sort = draft.path(draft.settings["data_root"]), class_folders.sort_of(draft.data or "")

    def find() -> class_folders.Place | None:
        try:
            return class_folders.find(sort, root)
        except (DataError, OSError):  # the job says why, if it is still so then
            return None

    return draft.once(("classes", sort, str(root)), find)


def _of_both(draft: Draft) -> Iterator[str]:
    if draft.gpus > 1:
        yield f"{draft.model}: this kind works on one GPU, {draft.gpus} would leave others idle"
    if parse_model(_model(draft)).last.poison is not None:
        yield f"{draft.model}: {draft.kind} learns true labels, and its ID says that some are wrong"
    try:
        class_folders.sort_of(draft.data or "")
    except UsageError as error:
        yield str(error)


def _of_training(draft: Draft) -> Iterator[str]:
    if draft.base is not None:
        yield f"{draft.model}: classify begins anew and starts from no model; write model: null"
    yield from no_tensorboard(draft)


def _of_forgetting(draft: Draft, makers: Sequence[Draft]) -> Iterator[str]:
    settings = draft.settings
    yield from _other_base(draft, makers)
    goal: Goal = "instances" if settings["forget_fraction"] else "class"
    if _again(settings, makers):
        yield SINGLE.format(base=draft.base)
        return
    try:
        place = place_of(draft)
        if place is not None and goal == "class":
            class_folders.number(place.names, settings["forget_class"])
    except UsageError as error:
        yield str(error)
        return
    classes = UNKNOWN_CLASSES if place is None else len(place.names)
    where = Situation(goal=goal, classes=classes)
    reason = refusal(settings["method"], where, force=settings["force"])
    if reason is not None:
        yield reason


def _again(settings: Mapping[str, Any], makers: Sequence[Draft]) -> bool:
    """Tell whether images shall be forgotten, or were, in one of several forgettings."""
    earlier = [maker.settings for maker in makers if maker.kind == "forget"]
    return bool(earlier) and any(maker.get("forget_fraction") for maker in (settings, *earlier))


def _other_base(draft: Draft, makers: Sequence[Draft]) -> Iterator[str]:
    """Refuse settings that differ from those of the base's training, which are the model's own."""
    if not makers:
        return
    trained = makers[0].settings
    for key in differences(trained, draft.settings):
        yield (
            f"{makers[0].model} is trained with {key}: {trained.get(key)}, and this forgetting has "
            f"{draft.settings[key]}; give both the same, such as below defaults"
        )


def _inputs(draft: Draft) -> Iterator[Input]:
    root = draft.path(draft.settings["data_root"])
    yield Input(path=root, what="the data folder")
    if draft.base is not None:
        path = paths.checkpoint(draft.model_folder(draft.base))
        yield Input(path=path, what=f"the model {draft.base}")


def _model(draft: Draft) -> str:
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


CLASSIFY = ClassKind(
    name="classify",
    role=Role.TRAIN,
    summary="train a classifier of image classes",
    entry="trueface.jobs.classes.classification:classify",
    settings=ClassifySettings,
    epochs=EPOCHS,
)
FORGET = ClassKind(
    name="forget",
    role=Role.METHOD,
    summary="make such a network forget a class, or some images",
    entry="trueface.jobs.classes.forgetting:forget",
    settings=ForgetSettings,
)
