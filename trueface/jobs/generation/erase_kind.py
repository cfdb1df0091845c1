"""The kind `erase`: a diffuser that does not draw one of its classes any more; no torch here."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role, UnknownName
from trueface.diffusion.class_names import names_of_classes, training_folder
from trueface.erasing.registry import METHODS
from trueface.erasing.settings import EraseSettings
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths
from trueface.runtime.errors import DataError


def _inputs(draft: Draft) -> Iterator[Input]:
    if draft.base is not None:
        path = paths.checkpoint(draft.model_folder(draft.base))
        yield Input(path=path, what=f"the diffuser {draft.base}")
    if draft.settings["data_root"] and "images" in METHODS[draft.settings["method"]].needs:
        root = draft.path(draft.settings["data_root"])
        yield Input(path=root, what="the folder of the diffuser's training images")


def _outputs(draft: Draft) -> Iterator[Path]:
    if draft.model is None:
        raise ValueError(f"a job of kind {draft.kind!r} has no model")
    folder = draft.model_folder(draft.model)
    yield paths.checkpoint(folder)
    yield paths.erasing(folder)


def _refusals(draft: Draft, makers: Sequence[Draft]) -> Iterable[str]:
    settings, trained = draft.settings, makers[0].settings if makers else {}
    method = METHODS[settings["method"]]
    if draft.data is not None and not draft.data.startswith("classes:"):
        yield f"{draft.base} knows no classes, and a concept is a class; train it on classes:all"
        return
    if trained.get("drop") == 0 and ("null" in method.needs or _guides(settings)):
        yield (
            f"{draft.base} is trained with drop: 0 and has no null token, which {method.name} needs: "
            "it cannot be guided; train it with drop above 0"
        )
    latest = trained.get("t_max")
    if latest and latest < trained.get("noise_steps", latest) and "guidance" in method.defaults:
        yield (
            f"{draft.base} is trained with t_max: {latest} and cannot draw, which {method.name} needs; "
            "train it with t_max: 0"
        )
    if trained.get("weights") and "images" in method.needs:
        yield f"{draft.base} is imported and not trained here: {method.name} cannot train it again"
    if trained.get("without") and trained["without"] == settings["concept"]:
        yield f"{draft.base} is trained without {settings['concept']}: there is nothing to erase"
    names = _names_of_classes(draft, settings["data_root"] or str(trained.get("data_root", "")))
    for name in filter(None, (settings["concept"], settings["anchor"])):
        if names and name not in names:
            yield str(UnknownName("concept", name, names))


def _guides(settings: object) -> bool:
    options = EraseSettings.model_validate(settings)
    used = METHODS[options.method].defaults
    return "guidance" in used and options.options.guidance != 1


def _names_of_classes(draft: Draft, data_root: str) -> tuple[str, ...]:
    """Return the classes in the data folder; none where it is not there yet: the job asks the model."""
    if not data_root or draft.data is None:
        return ()
    root, data = draft.path(data_root), draft.data

    def names() -> tuple[str, ...]:
        try:
            return names_of_classes(training_folder(root, data))
        except (DataError, OSError):
            return ()

    return draft.once(("concepts", str(root), data), names)


ERASE = GenerationKind(
    name="erase",
    role=Role.METHOD,
    summary="change a diffuser so that it does not draw one of its classes any more",
    entry="trueface.jobs.generation.erase:erase",
    settings=EraseSettings,
    sets=("classes",),
    reads=_inputs,
    makes=_outputs,
    refuses=_refusals,
)
