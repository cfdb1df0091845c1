"""The kind `disrupt`: one job perturbs a folder's images against a generator. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.disruption.settings import DisruptSettings, needed
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.jobs.generation.purify_kind import unlearned_steps
from trueface.purification.grammar import parse_purifier
from trueface.runtime import paths

MADE = "made.json"
EXAMPLES = {"translator": "labelled:A", "diffuser": "images:A", "denoiser": "noisy:A"}


def _inputs(draft: Draft) -> Iterator[Input]:
    """Yield the folder, the generator, and the models of the purifier that the attack goes through."""
    settings = draft.settings
    yield Input(path=draft.path(settings["source"]), what="the folder of images to disrupt")
    for setting in ("translator", *needed(settings["purifier"])):
        if model := settings[setting]:
            path = paths.checkpoint(draft.model_folder(model))
            yield Input(path=path, what=f"the {setting} {model}")


def _outputs(draft: Draft) -> tuple[Path, ...]:
    folder = draft.made_folder()
    return folder, folder / MADE


def _unfit(draft: Draft, makers: Sequence[Draft]) -> Iterator[str]:
    """Yield why the attack cannot work: it lacks a model, or a diffuser did not learn its steps."""
    settings = draft.settings
    purifier = settings["purifier"]
    for setting in ("translator", *needed(purifier)):
        if not settings[setting]:
            yield (
                f"{draft.name}: disrupt needs a {setting}; write {setting}: and the ID of one, such as "
                f"{EXAMPLES[setting]}"
            )
    if purifier:
        yield from unlearned_steps(draft, parse_purifier(purifier), makers)


DISRUPT = GenerationKind(
    name="disrupt",
    role=Role.FOLDER,
    summary="perturb a folder's images so that a generator spoils them",
    entry="trueface.jobs.generation.disrupting.disrupt:disrupt",
    settings=DisruptSettings,
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
)
