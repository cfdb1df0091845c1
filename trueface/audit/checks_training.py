"""Findings on the training itself: settings without effect, and a history that shows no learning."""

from collections.abc import Iterator, Mapping

from trueface.audit.check import check
from trueface.audit.finding import FAULT, WARNING, Finding, Gap, Outcome
from trueface.audit.run_facts import Model, read_mapping, read_number
from trueface.data.vocabulary import UNSHARED
from trueface.runtime.files import Json
from trueface.training.image_lists import validation_decides
from trueface.training.ineffective_settings import (
    ineffective_on_reshared,
    ineffective_settings,
    ineffective_views,
)
from trueface.training.settings import MOMENTUM, TrainSettings, solver_of

LEAST_FALL = 0.001  # fall of the loss, as a share; less is the noise of the last digits
LEAST_EPOCHS = 3  # epochs; the first of fewer is the best by mere chance
LIST_NAMES = {"train": "training", "val": "validation"}
HOPELESS = "about half of the labels are wrong, so little can be learned"


Settings = Mapping[str, Json]


def idle_settings(model: Model) -> Iterator[Outcome]:
    """Find settings of a training that could not do anything."""
    settings = model.settings
    if not settings:
        yield Gap("provenance.json is missing, so the settings of the training are unknown")
        return
    for flag, why in _find_idle_settings(settings, model.modifiers):
        yield Finding(
            WARNING,
            f"{flag} had no effect: {why}",
            "remove it, or change the settings that it needs",
            {flag: str(settings.get(flag))},
        )


@check("one-class-list", "a training or validation list of one class")
def one_class_list(model: Model) -> Iterator[Outcome]:
    """Find lists whose readable images are all real or all fake."""
    blends = _is_setting_above(model.settings, "sbi", 0) and solver_of(model.settings) != "ridge"
    for name, key in (("train", "train_sources"), ("val", "val_sources")):
        sources, list_name = read_mapping(model.provenance, key), LIST_NAMES[name]
        if not sources:
            yield Gap(f"provenance.json does not name the sources of the {list_name} images")
            continue
        bad = model.bad_lists.get(name, {})
        listed = [each for each in ("real", "fake") if any(s.startswith(each) for s in sources)]
        read = [each for each in listed if _count_of(sources, each) > bad.get(each, 0)]
        lacking = next((each for each in ("real", "fake") if each not in read), "")
        makes_fakes = blends and any(map(_is_original_real, sources))
        if not lacking or (name == "train" and makes_fakes and lacking == "fake"):
            continue
        remedy = "make a split with both classes"
        if lacking in listed:
            remedy = "restore the files listed in bad_images/"
        elif makes_fakes and lacking == "fake":  # no split has fakes if the data has none
            remedy = "add fake images to the data"
        harm = "" if name == "train" else f": {_harm_of_one_class(model)}"
        yield Finding(
            FAULT if name == "train" else WARNING,
            f"no {lacking} image was used for the {list_name}",
            f"{remedy}, and train again{harm}",
            {
                **{source: str(count) for source, count in sources.items()},
                **{f"{each} left out": count for each, count in sorted(bad.items()) if count},
            },
        )


def _is_original_real(source: str) -> bool:
    """Return whether a source, such as "real FFHQ pre", has real original images."""
    return source.startswith("real") and source.rpartition(" ")[2] in UNSHARED


def _count_of(sources: Mapping[str, Json], word: str) -> float:
    """Return the number of images of the sources of a class."""
    return sum(read_number(sources, each) or 0 for each in sources if each.startswith(word))


def _harm_of_one_class(model: Model) -> str:
    alone = validation_decides(model.settings, unlearns=model.poison.unlearned)
    chose = "one class alone chose the epoch, and " if alone else ""
    return f"{chose}temperature and threshold are not fitted"


@check("loss-not-falling", "a loss that does not fall")
def loss(model: Model) -> Iterator[Outcome]:
    """Find a training whose loss did not fall."""
    epochs = model.epochs
    if model.is_chance_expected:
        yield Gap(HOPELESS)
        return
    if len(epochs) < 2:
        yield Gap("fewer than two epochs in history.csv" if epochs else _no_history(model))
        return
    first, least = epochs[0].loss, min(epoch.loss for epoch in epochs[1:])
    if least > first * (1 - LEAST_FALL):
        yield Finding(
            WARNING,
            "the training loss did not fall",
            "use another lr, unfreeze more layers, or check labels and data",
            {
                "loss of the first epoch": round(first, 5),
                "least loss later": round(least, 5),
                "epochs": len(epochs),
            },
        )


@check("first-epoch-best", "a training that got worse after its first epoch")
def first_epoch(model: Model) -> Iterator[Outcome]:
    """Find a training whose first epoch was the best."""
    epochs = model.epochs
    if model.is_chance_expected:
        yield Gap(HOPELESS)
        return
    if len(epochs) < LEAST_EPOCHS:
        few = f"fewer than {LEAST_EPOCHS} epochs in history.csv"
        yield Gap(few if epochs else _no_history(model))
        return
    best = max(epochs, key=lambda epoch: epoch.selection_score)
    if best.epoch == epochs[0].epoch:
        yield Finding(
            WARNING,
            "the first epoch was the best on validation, and later epochs were worse",
            "use a lower lr, or check the training for errors",
            {
                "epochs": len(epochs),
                "validation accuracy of the first": round(best.val_accuracy, 4),
                "of the last": round(epochs[-1].val_accuracy, 4),
            },
        )


@check("bad-images", "more than 1 % of images left out")
def bad_images(model: Model) -> Iterator[Outcome]:
    """Find lists of which more than 1 % could not be decoded."""
    counts = [
        ("training", read_number(model.summary, "bad_images"), read_number(model.summary, "images"))
    ]
    if counts[0][1] is None and "train" in model.bad_lists:
        trained = read_number(model.provenance, "train_images")
        counts = [("training", float(sum(model.bad_lists["train"].values())), trained)]
    validated = read_number(model.provenance, "val_images")
    counts.append(("validation", float(sum(model.bad_lists.get("val", {}).values())), validated))
    for test in model.tests:
        left_out, seen = read_number(test.metrics, "bad_images"), read_number(test.metrics, "n")
        total = None if left_out is None or seen is None else left_out + seen
        counts.append((f"test {test.data}", left_out, total))
    complete = [(name, bad, total) for name, bad, total in counts if bad is not None and total]
    unknown = [name for name, bad, total in counts if bad is None or not total]
    if unknown:
        yield Gap(
            f"summary.json or metrics do not contain the number of bad images of {', '.join(unknown)}"
        )
    for name, bad, total in complete:
        if bad > total * 0.01:
            yield Finding(
                WARNING,
                f"more than 1 % of the {name} images could not be decoded",
                "fix or remove the files listed in bad_images/, and run the job again",
                {"left out": int(bad), "images": int(total)},
            )


def _find_idle_settings(
    settings: Settings, modifiers: frozenset[str] | None
) -> Iterator[tuple[str, str]]:
    """Yield settings without effect, each with why."""
    usual = {name: each.default for name, each in TrainSettings.model_fields.items()}
    idle = _without_effect(settings)
    if modifiers is not None and not modifiers & UNSHARED:
        idle = {**ineffective_on_reshared(settings, _without_effect), **idle}
    for flag, why in idle.items():
        if flag == "augment_seed":  # one seed may serve all studies
            continue
        value = settings.get(flag, usual[flag])
        if flag == "momentum" and value == MOMENTUM:  # the default, written out
            continue
        if (tuple(value) if isinstance(value, list) else value) != usual[flag]:
            yield flag, why


def _without_effect(settings: Settings) -> dict[str, str]:
    return {**ineffective_settings(settings), **ineffective_views(settings)}


def _no_history(model: Model) -> str:
    damaged = any(file == "history.csv" for file, _ in model.damaged)
    if damaged:
        return "history.csv cannot be read"
    if model.poison.unlearned:
        return "history.csv is missing, because the model was unlearned. The check needs that of the model before."
    return "history.csv is missing. Restore it, or train again."


def _is_setting_above(settings: Settings, key: str, least: float) -> bool:
    value = read_number(settings, key)
    return value is not None and value > least
