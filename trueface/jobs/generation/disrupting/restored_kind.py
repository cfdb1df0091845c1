"""The kind `restored`: one job measures what a generator makes of purified images. No torch here."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from launcher.api import Draft, Input, Role
from trueface.disruption.settings import RANDOM, RestoredSettings
from trueface.jobs.generation.generation_kind import GenerationKind
from trueface.runtime import paths

MADE = "made.json"
METRICS = "metrics.json"


def _inputs(draft: Draft) -> Iterator[Input]:
    settings = draft.settings
    yield Input(path=draft.path(settings["source"]), what="the folder of purified images")
    if model := settings["translator"]:
        yield Input(
            path=paths.checkpoint(draft.model_folder(model)), what=f"the translator {model}"
        )
    if weights := settings["feature_weights"]:
        yield Input(path=draft.path(weights), what=f"the weights of {settings['features']}")


def _outputs(draft: Draft) -> tuple[Path, ...]:
    folder = draft.made_folder()
    return folder, folder / MADE, folder / METRICS


def _unfit(draft: Draft, _: Sequence[Draft]) -> Iterator[str]:
    settings = draft.settings
    if not settings["translator"]:
        yield (
            f"{draft.name}: restored needs a translator; write translator: and the ID of one, such as "
            "labelled:A"
        )
    if settings["features"] != RANDOM and not settings["feature_weights"]:
        yield (
            f"{draft.name}: features of {settings['features']} need a file of its weights; write "
            f"feature_weights: FILE, or features: {RANDOM}"
        )


RESTORED = GenerationKind(
    name="restored",
    role=Role.FOLDER,
    summary="measure what a generator makes of purified images, against what it makes of originals",
    entry="trueface.jobs.generation.disrupting.restored:restored",
    settings=RestoredSettings,
    reads=_inputs,
    makes=_outputs,
    refuses=_unfit,
    results="trueface.evaluation.restored:table",
)
