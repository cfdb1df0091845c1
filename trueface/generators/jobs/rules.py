"""The rules and checks of the job types of generators and of folders of images: no torch here.

See `trueface.jobs.rule`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from launcher.api import Draft, UsageError
from trueface.data.vocabulary import DataIdResolver
from trueface.generators.purification.disruption_settings import RANDOM, required_model_settings
from trueface.generators.purification.registry import PurifierName, parse_purifier, refuse_untrained
from trueface.jobs.rule import PlanCheck, Rule
from trueface.jobs.rules import refuse_flipped_labels
from trueface.runtime.errors import UnknownName

EXAMPLES = {"translator": "labelled:A", "diffuser": "images:A", "denoiser": "noisy:A"}
CLASSES = "classes"  # the set of images that a class-conditional diffuser learns from


# --- models that a job works with


def _find_missing_models(draft: Draft, needs: Sequence[str], who: str) -> Iterator[str]:
    """Yield which models are needed and not named."""
    for setting in needs:
        if not draft.settings[setting]:
            yield (
                f"{draft.name}: {who} needs a {setting}. Give the ID of one, such as "
                f"{setting}: {EXAMPLES[setting]}"
            )


def _purifier_models(draft: Draft) -> Iterator[str]:
    name = parse_purifier(draft.settings["purifier"])
    yield from _find_missing_models(draft, name.needs, f"purifier {name.text}")


def _disruption_models(draft: Draft) -> Iterator[str]:
    needs = ("translator", *required_model_settings(draft.settings["purifier"]))
    yield from _find_missing_models(draft, needs, "disrupt")


def _restored_models(draft: Draft) -> Iterator[str]:
    yield from _find_missing_models(draft, ("translator",), "restored")


def _refuse_no_translator(draft: Draft) -> Iterator[str]:
    """Refuse to translate without a translator."""
    if not draft.settings["translator"]:
        yield (
            f"{draft.name}: translate needs a translator. Give the ID of one, such as translator: "
            f"{EXAMPLES['translator']}"
        )


def _refuse_own_reference(draft: Draft) -> Iterator[str]:
    """Refuse the measured translator as the undefended one."""
    translator = draft.settings["translator"]
    if draft.settings["reference"] == (translator or None):
        yield (
            f"{draft.name}: reference and translator are both {translator}. Leave out reference, or name the "
            "translator that is the defence"
        )


def _refuse_features_without_weights(draft: Draft) -> Iterator[str]:
    """Refuse a network of features whose weights are not given."""
    features = draft.settings["features"]
    if features != RANDOM and not draft.settings["feature_weights"]:
        yield (
            f"{draft.name}: features of {features} need a file with its weights. Write feature_weights: FILE, or "
            f"features: {RANDOM}"
        )


@PlanCheck
def check_steps(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield the reasons why a diffuser of this plan does not fit the purifier, if there is one."""
    if draft.settings["purifier"]:
        yield from _unlearned_steps(draft, parse_purifier(draft.settings["purifier"]), makers)


def _unlearned_steps(draft: Draft, name: PurifierName, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield the reasons why a diffuser of this plan does not fit a purifier.

    Args:
        draft: with the setting `diffuser`.
        name: the purifier.
        makers: what makes the models of the draft.
    """
    diffuser = draft.settings["diffuser"]
    for maker in makers:
        trained_steps = maker.settings.get("t_max") or maker.settings.get("noise_steps")
        if "diffuser" not in name.needs or maker.model != diffuser or trained_steps is None:
            continue
        if not maker.settings.get("weights") and (
            reason := refuse_untrained(name, trained_steps, diffuser)
        ):
            yield f"{draft.name}: {reason}"


@PlanCheck
def check_reference(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield how the undefended translator of this plan differs from the translator in size or attributes."""
    names = draft.settings["reference"], draft.settings["translator"]
    trained = {each.model: each.settings for each in makers if not each.settings.get("weights")}
    if not draft.settings["reference"] or not all(name in trained for name in names):
        return
    for setting in ("size", "labels"):
        values = [trained[name].get(setting) for name in names]
        # without labels, a translator learns all of its table, which only the job reads
        if all(values) and values[0] != values[1]:
            yield (
                f"{draft.name}: {names[0]} has {setting} {values[0]}, but {names[1]} has {setting} {values[1]}. "
                "Use translators of the same images and attributes."
            )


# --- diffusers and erasing


def _has_classes(draft: Draft) -> bool:
    return (draft.data or "").startswith(f"{CLASSES}:")


@PlanCheck
def check_class_folders(draft: Draft, *_: object) -> Iterator[str]:
    """Yield the faults of class folders that already exist."""
    if draft.settings["weights"] or not _has_classes(draft):
        return
    names = _names_of_classes(draft, draft.settings["data_root"])
    without = draft.settings["without"]
    if isinstance(names, str):
        yield names
    elif names and without and without not in names:
        yield str(UnknownName("class", without, names))
    elif without and len(names) == 2:
        yield f"{draft.model}: one class is left without {without}. A diffuser needs at least two."


def _learned_no_classes(draft: Draft) -> bool:
    return draft.data is not None and not _has_classes(draft)


def _refuse_no_concepts(draft: Draft) -> Iterator[str]:
    """Refuse to erase a concept from a diffuser that learned no classes."""
    if _learned_no_classes(draft):
        yield f"{draft.base} has no classes, and a concept is a class. Train it on {CLASSES}:all"


@PlanCheck
def check_erasing(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterable[str]:
    """Yield why this method cannot erase a concept of the diffuser."""
    if _learned_no_classes(draft):
        return
    from trueface.generators.erasing.registry import (  # the start of a job needs neither
        METHODS,
        EraseSettings,
    )

    settings, trained = draft.settings, makers[0].settings if makers else {}
    method = METHODS[settings["method"]]
    has_guidance = "guidance" in method.defaults
    scope = settings["scope"]
    if trained.get("drop") == 0 and (
        "null" in method.needs
        or (has_guidance and EraseSettings.model_validate(settings).options.guidance != 1)
    ):
        yield (
            f"{draft.base} is trained with drop: 0, so it has no null token for guidance. "
            f"{method.name} needs one. Train it with drop above 0."
        )
    latest = trained.get("t_max")
    if latest and latest < trained.get("noise_steps", latest) and has_guidance:
        yield (
            f"{draft.base} is trained with t_max: {latest} and cannot draw images, as {method.name} "
            "needs. Train it with t_max: 0"
        )
    if trained.get("weights") == "" and ("text" in method.needs or scope == "attention"):
        what = f"scope: {scope}" if scope == "attention" else method.name
        yield (
            f"{draft.base} draws classes, but {what} needs a text-to-image model, in which an image attends to "
            "the words of a text. Import one with weights: FOLDER."
        )
    if trained.get("weights") and "images" in method.needs:
        yield f"{draft.base} is imported, not trained here. {method.name} cannot train it again."
    if trained.get("without") and trained["without"] == settings["concept"]:
        yield f"{draft.base} is trained without {settings['concept']}, so there is nothing to erase"
    root = settings["data_root"] or str(trained.get("data_root", ""))
    names = _names_of_classes(draft, root) if root and draft.data is not None else ()
    for name in filter(None, (settings["concept"], settings["anchor"])):
        # if the folders cannot be read, the job compares with the classes of the model
        if names and not isinstance(names, str) and name not in names:
            yield str(UnknownName("concept", name, names))


def _names_of_classes(draft: Draft, data_root: str) -> tuple[str, ...] | str:
    """Return the classes in a data folder, or its fault. There are none if it does not exist yet."""
    from trueface.generators.diffusion.settings import (  # the start of a job does not need them
        names_of_classes,
        training_folder,
    )

    folder = training_folder(draft.path(data_root), draft.data or "")

    def names() -> tuple[str, ...] | str:
        if not folder.is_dir():
            return ()
        try:
            return names_of_classes(folder)
        except (UsageError, OSError) as error:
            return str(error)

    return draft.once(("class names", str(folder)), names)


def _missing_packages_of_measures(draft: Draft) -> Iterator[str]:
    from trueface.generators.erasing.registry import (  # only `erased` needs them
        missing_detector,
        unavailable_measures,
    )

    requested = {name: bool(draft.settings[name]) for name in ("inception", "clip")}
    reasons = (*unavailable_measures(**requested), *missing_detector(draft.settings["detector"]))
    yield from (f"{draft.name}: {reason}" for reason in reasons)


@PlanCheck
def check_detector(draft: Draft, makers: Sequence[Draft], _: DataIdResolver) -> Iterator[str]:
    """Yield why the samples of this plan's models cannot show nudity."""
    teacher = draft.settings["teacher"]
    for maker in makers:
        if (
            draft.settings["detector"]
            and maker.model == teacher
            and maker.settings.get("weights") == ""
        ):
            yield (
                f"{draft.name}: detector: nudenet needs a text-to-image model, but {teacher} draws classes. Leave "
                "out detector, or import a model with weights: FOLDER."
            )


def _refuse_settings_of_classes(draft: Draft) -> Iterator[str]:
    """Refuse settings of a diffuser that work only with classes."""
    if draft.settings["weights"] or _has_classes(draft):
        return
    for setting, unset in (("drop", None), ("without", "")):
        if draft.settings[setting] != unset:
            yield (
                f"{draft.model}: {setting} needs classes, and {draft.data} has none. Leave it out, or write data: "
                f"{CLASSES}:all"
            )


def _refuse_base(draft: Draft) -> Iterator[str]:
    """Refuse a base model for the training of a generator."""
    if draft.base is not None:
        yield f"{draft.model}: a {draft.kind} does not start from another model. Write model: null"


RULES: Mapping[str, Sequence[Rule | PlanCheck]] = {
    "translator": (_refuse_base,),
    "translate": (_refuse_no_translator,),
    "purify": (_purifier_models, check_steps),
    "disrupt": (_disruption_models, check_steps),
    "restored": (
        _restored_models,
        _refuse_own_reference,
        _refuse_features_without_weights,
        check_reference,
    ),
    "diffuser": (
        _refuse_base,
        refuse_flipped_labels,
        _refuse_settings_of_classes,
        check_class_folders,
    ),
    "erase": (_refuse_no_concepts, check_erasing),
    "erased": (_missing_packages_of_measures, check_detector),
}
