"""The kind `purify`: one job takes perturbations out of a folder's images. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.purification.grammar import PurifierName, parse_purifier, refuse_untrained
from trueface.purification.settings import PurifySettings
from trueface.runtime import paths


def _inputs(draft: Draft) -> Iterator[Input]:
    """Yield the folder, and the models that the purifier works with."""
    yield Input(path=draft.path(draft.settings["source"]), what="the folder of images to purify")
    for setting in parse_purifier(draft.settings["purifier"]).needs:
        model = draft.settings[setting]
        if model:
            yield Input(
                path=paths.checkpoint(draft.model_folder(model)), what=f"the {setting} {model}"
            )


def _outputs(draft: Draft) -> tuple[Path, ...]:
    folder = draft.made_folder()
    return folder, folder / "made.json"


def _unfit(draft: Draft, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield why the purifier cannot work: it lacks a model, or the model did not learn its steps."""
    name = parse_purifier(draft.settings["purifier"])
    for setting in name.needs:
        if not draft.settings[setting]:
            yield (
                f"{draft.name}: purifier {name.text} needs a {setting}; "
                f"write {setting}: and the ID of one, such as {_EXAMPLES[setting]}"
            )
    yield from unlearned_steps(draft, name, makers)


def unlearned_steps(draft: Draft, name: PurifierName, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield why a diffuser of this plan cannot do what a purifier asks for.

    Args:
        draft: with the setting `diffuser`.
        name: the purifier.
        makers: what makes the models of the draft.
    """
    diffuser = draft.settings["diffuser"]
    for maker in makers:
        learned = maker.settings.get("t_max") or maker.settings.get("noise_steps")
        if "diffuser" not in name.needs or maker.model != diffuser or learned is None:
            continue
        if not maker.settings.get("weights") and (
            reason := refuse_untrained(name, learned, diffuser)
        ):
            yield f"{draft.name}: {reason}"


_EXAMPLES = {"diffuser": "images:A", "denoiser": "noisy:A"}

PURIFY = GenerationKind(
    name="purify",
    role=Role.FOLDER,
    summary="take perturbations out of a folder's images",
    entry="trueface.jobs.generation.purify:purify",
    settings=PurifySettings,
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
)
