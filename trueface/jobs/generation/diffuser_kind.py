"""The kind `diffuser`: a training of a network that predicts noise. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role, UsageError, parse_model
from trueface.diffusion.class_names import names_of_classes, training_folder
from trueface.diffusion.settings import DiffuserSettings
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths
from trueface.runtime.errors import UnknownName

CLASSES = "classes"  # the set of images that a class-conditional diffuser learns from


def _model(draft: Draft) -> str:
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    return draft.model


def _inputs(draft: Draft) -> Iterator[Input]:
    """Yield the folder of images, or the weights that take their place."""
    weights = draft.settings["weights"]
    if weights:
        what = "the folder of a Stable Diffusion model, with model_index.json in it"
        yield Input(path=draft.path(weights), what=what)
        if draft.settings["prompts"]:
            yield Input(path=draft.path(draft.settings["prompts"]), what="the file of prompts")
        return
    root = draft.path(draft.settings["data_root"])
    yield Input(path=training_folder(root, draft.data or ""), what="the folder of images")


def _outputs(draft: Draft) -> Iterator[Path]:
    folder = draft.model_folder(_model(draft))
    yield paths.checkpoint(folder)
    yield paths.summary(folder)


def _unfit(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    """Yield why a training makes no sense: settings that its images do not go with, too few classes."""
    model, settings = _model(draft), draft.settings
    if draft.base is not None:
        yield f"{model}: diffuser begins anew and starts from no model; write model: null"
    if parse_model(model).last.poison is not None:
        yield f"{model}: diffuser learns images as they are; its ID says that some labels are wrong"
    if settings["weights"]:
        return
    if not (draft.data or "").startswith(f"{CLASSES}:"):
        for name, without in (("drop", None), ("without", "")):
            if settings[name] != without:
                yield (
                    f"{model}: {name} is about classes, and {draft.data} has none; leave it out, or "
                    f"write data: {CLASSES}:all"
                )
        return
    yield from _unfit_classes(draft)


def _unfit_classes(draft: Draft) -> Iterator[str]:
    """Yield what is wrong with the folders of classes, where they are there already."""
    folder = training_folder(draft.path(draft.settings["data_root"]), draft.data or "")

    def names() -> tuple[str, ...] | str:
        if not folder.is_dir():
            return ()
        try:
            return names_of_classes(folder)
        except (UsageError, OSError) as error:
            return str(error)

    names_there = draft.once(("class names", str(folder)), names)
    without = draft.settings["without"]
    if isinstance(names_there, str):
        yield names_there
    elif names_there and without and without not in names_there:
        yield str(UnknownName("class", without, names_there))
    elif without and len(names_there) == 2:
        yield f"{draft.model}: without {without} one class is left, and two at least are needed"


DIFFUSER = GenerationKind(
    name="diffuser",
    role=Role.TRAIN,
    summary="train a diffusion model: a network that predicts noise",
    entry="trueface.jobs.generation.diffuser:train_diffuser",
    settings=DiffuserSettings,
    sets=("images", CLASSES),
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
)
