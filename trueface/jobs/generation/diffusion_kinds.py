"""The kinds `diffuser`, `erase`, `erased` and `revise`: diffusion models and concept erasing. Imports no torch."""

from collections.abc import Iterable, Iterator, Sequence

from launcher.api import Draft, Input, Role, UsageError, parse_model
from trueface.data.vocabulary import DataIdResolver
from trueface.diffusion.settings import DiffuserSettings, names_of_classes, training_folder
from trueface.erasing.registry import (
    METHODS,
    ErasedSettings,
    EraseSettings,
    ReviseSettings,
    unavailable_measures,
)
from trueface.jobs.job_kind import (
    GenerationKind,
    checkpoint_input,
    inputs_from_settings,
    model_files,
    model_of,
    output_folder_files,
)
from trueface.runtime import paths
from trueface.runtime.errors import UnknownName

_ASKED = {"diffuser": "the diffuser", "teacher": "the teacher", "classifier": "the classifier"}
CLASSES = "classes"  # the set of images that a class-conditional diffuser learns from


def _diffuser_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
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


def _unfit_diffuser(draft: Draft, *_: object) -> Iterator[str]:
    """Yield why a training makes no sense: settings that its images do not go with, too few classes."""
    model, settings = model_of(draft), draft.settings
    if draft.base is not None:
        yield f"{model}: a diffuser does not start from another model. Write model: null"
    if parse_model(model).last.poison is not None:
        yield f"{model}: diffuser does not support flipped labels. Leave out '%' in the ID."
    if settings["weights"]:
        return
    if not (draft.data or "").startswith(f"{CLASSES}:"):
        for name, without in (("drop", None), ("without", "")):
            if settings[name] != without:
                yield (
                    f"{model}: {name} needs classes, and {draft.data} has none. Leave it out, or write "
                    f"data: {CLASSES}:all"
                )
        return
    yield from _unfit_classes(draft)


def _unfit_classes(draft: Draft) -> Iterator[str]:
    """Yield the faults of class folders that already exist."""
    names = _names_of_classes(draft, draft.settings["data_root"])
    without = draft.settings["without"]
    if isinstance(names, str):
        yield names
    elif names and without and without not in names:
        yield str(UnknownName("class", without, names))
    elif without and len(names) == 2:
        yield f"{draft.model}: one class is left without {without}. A diffuser needs at least two."


def _erasing_inputs(draft: Draft, _: DataIdResolver) -> Iterator[Input]:
    if draft.base is not None:
        yield checkpoint_input(draft, draft.base, "the diffuser")
    if draft.settings["data_root"] and "images" in METHODS[draft.settings["method"]].needs:
        root = draft.path(draft.settings["data_root"])
        yield Input(path=root, what="the folder of the diffuser's training images")


def _unfit_erasing(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    settings, trained = draft.settings, makers[0].settings if makers else {}
    method = METHODS[settings["method"]]
    if draft.data is not None and not draft.data.startswith("classes:"):
        yield f"{draft.base} has no classes, and a concept is a class. Train it on classes:all"
        return
    if trained.get("drop") == 0 and ("null" in method.needs or _guides(settings)):
        yield (
            f"{draft.base} is trained with drop: 0, so it has no null token for guidance. "
            f"{method.name} needs one. Train it with drop above 0."
        )
    latest = trained.get("t_max")
    if latest and latest < trained.get("noise_steps", latest) and "guidance" in method.defaults:
        yield (
            f"{draft.base} is trained with t_max: {latest} and cannot draw images, as {method.name} "
            "needs. Train it with t_max: 0"
        )
    if trained.get("weights") and "images" in method.needs:
        yield f"{draft.base} is imported, not trained here. {method.name} cannot train it again."
    if trained.get("without") and trained["without"] == settings["concept"]:
        yield f"{draft.base} is trained without {settings['concept']}, so there is nothing to erase"
    root = settings["data_root"] or str(trained.get("data_root", ""))
    names = _names_of_classes(draft, root) if root and draft.data is not None else ()
    for name in filter(None, (settings["concept"], settings["anchor"])):
        # of folders that cannot be read the job asks the model
        if names and not isinstance(names, str) and name not in names:
            yield str(UnknownName("concept", name, names))


def _guides(settings: object) -> bool:
    options = EraseSettings.model_validate(settings)
    used = METHODS[options.method].defaults
    return "guidance" in used and options.options.guidance != 1


def _names_of_classes(draft: Draft, data_root: str) -> tuple[str, ...] | str:
    """Return the classes in a data folder, or its fault. There are none if it does not exist yet."""
    folder = training_folder(draft.path(data_root), draft.data or "")

    def names() -> tuple[str, ...] | str:
        if not folder.is_dir():
            return ()
        try:
            return names_of_classes(folder)
        except (UsageError, OSError) as error:
            return str(error)

    return draft.once(("class names", str(folder)), names)


def _unfit_measuring(draft: Draft, *_: object) -> Iterator[str]:
    """Yield which measures need packages that are not installed."""
    wanted = {name: bool(draft.settings[name]) for name in ("inception", "clip")}
    yield from (f"{draft.name}: {reason}" for reason in unavailable_measures(**wanted))


DIFFUSER = GenerationKind(
    name="diffuser",
    role=Role.TRAIN,
    summary="train a diffusion model",
    entry="trueface.jobs.generation.diffuser:train_diffuser",
    settings=DiffuserSettings,
    sets=("images", CLASSES),
    input_readers=(_diffuser_inputs,),
    list_outputs=model_files(paths.summary),
    refusal_checks=(_unfit_diffuser,),
)
ERASE = GenerationKind(
    name="erase",
    role=Role.METHOD,
    summary="erase a concept (a class) from a diffuser",
    entry="trueface.jobs.generation.erase:erase",
    settings=EraseSettings,
    sets=("classes",),
    input_readers=(_erasing_inputs,),
    list_outputs=model_files(paths.erasing),
    refusal_checks=(_unfit_erasing,),
)
ERASED = GenerationKind(
    name="erased",
    role=Role.FOLDER,
    summary="measure how well a concept is erased and can be recovered",
    entry="trueface.jobs.generation.erased:erased",
    settings=ErasedSettings,
    input_readers=(
        inputs_from_settings(
            {
                "data_root": "the folder of class folders",
                "inception": "InceptionV3's weights",
                "clip": "the folder of a CLIP model",
            },
            {**_ASKED, "never": "the diffuser that never saw the concept,"},
        ),
    ),
    list_outputs=output_folder_files(paths.METRICS),
    refusal_checks=(_unfit_measuring,),
    results="trueface.erasing.study:table",
)
REVISE = GenerationKind(
    name="revise",
    role=Role.FOLDER,
    summary="redraw real images with an edited diffuser (DDIM inversion)",
    entry="trueface.jobs.generation.erased:revise",
    settings=ReviseSettings,
    input_readers=(
        inputs_from_settings(
            {"source": "the folder of real images"}, {**_ASKED, "diffuser": "the edited diffuser"}
        ),
    ),
    list_outputs=output_folder_files(),
)
